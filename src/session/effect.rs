//! What a session asks of its driver.

use crate::model::{CloseReason, KeyHash};
use bytes::Bytes;
use std::{collections::VecDeque, time::Duration};

/// Something for the driver to carry out.
#[derive(Debug)]
pub enum Effect {
    /// A request's head is there: say what it becomes, by [`super::Session::handle_route`] or
    /// [`super::Session::handle_upgrade`].
    Route,
    /// A request is there: answer it, by [`super::Session::handle_response`].
    Call,
    /// A gateway wants to connect with this key: answer by [`super::Session::handle_admitted`] or
    /// [`super::Session::handle_refusal`].
    Admit(Option<KeyHash>),
    /// The peer is alive; an answered ping took so long.
    Life(Option<Duration>),
    /// A text message from the gateway.
    Message(Bytes),
    /// A message that nobody asked for, which is ignored.
    Ignored,
    /// The peer is silent: say by [`super::Session::handle_peer_state`] whether its kernel is there.
    Probe,
    /// The socket has taken nothing for the write deadline: say by [`super::Session::handle_stall`] whether the peer
    /// has acknowledged anything meanwhile.
    Stalled,
    /// The connection gets no more events.
    Closing(CloseReason),
    /// Send a FIN; go on reading.
    ShutdownWrite,
    /// The socket can go.
    Over(End),
}

/// How a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The peer went away, or was sent away before it said anything.
    Gone,
    /// The last answer was given.
    Answered,
    /// A request could not be served; the metric label.
    BadRequest(&'static str),
    /// An upgrade came from an origin that may not connect; the origin, for the log.
    Origin(String),
    /// A gateway was not let in; the metric label.
    Refused(&'static str),
    /// TLS broke; for the log.
    Tls(String),
    /// The deadline for handshake, head or body passed.
    TimedOut,
    /// The socket took nothing for the write deadline.
    Stalled,
    /// A gateway's connection came to its end.
    Closed(CloseReason),
}

/// Takes the next effect. A burst of small messages makes the queue grow; once it is empty, it gives the memory back.
pub(super) fn pop(effects: &mut VecDeque<Effect>) -> Option<Effect> {
    let effect = effects.pop_front();
    if effect.is_none() && effects.capacity() > ROOM_KEPT {
        *effects = VecDeque::new();
    }
    effect
}

const ROOM_KEPT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let mut effects: VecDeque<_> = (0..10_000).map(|_| Effect::Ignored).collect();
        while pop(&mut effects).is_some() {}
        assert!(effects.capacity() <= ROOM_KEPT, "{} places", effects.capacity());
    }
}
