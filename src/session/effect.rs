//! The effects that a session asks its caller to carry out, and the ways in which it can end.

use crate::model::{CloseReason, KeyHash, Position};
use bytes::Bytes;
use std::time::Duration;

/// An effect for the caller to carry out. What is rare and large is boxed, because every connection has room for two.
#[derive(Debug)]
pub enum Effect {
    /// A request's head is complete: look up its route, and call [`super::Session::handle_route`] or
    /// [`super::Session::handle_upgrade`].
    Route,
    /// A request is complete: answer it by [`super::Session::handle_response`].
    Call,
    /// A gateway wants to connect: answer by [`super::Session::handle_admitted`] or
    /// [`super::Session::handle_refusal`].
    Admit(Box<Presented>),
    /// Bytes came from the gateway; with the round-trip time if they answered a ping.
    Life(Option<Duration>),
    /// A pong came that names this position, or one that no ping of the hub can have named: answer by
    /// [`super::Session::handle_proof`].
    Pong(Option<Position>),
    /// A text message from the gateway.
    Message(Box<Bytes>),
    /// A message was ignored: it was binary, or came after the connection had begun to close.
    Ignored,
    /// The peer is silent: tell [`super::Session::handle_peer_state`] whether its kernel still acknowledges bytes.
    Probe,
    /// The socket has taken nothing for the write deadline: say by [`super::Session::handle_stall`] whether the peer
    /// has acknowledged anything meanwhile.
    Stalled,
    /// The connection begins to close: it gets no more events, and its undelivered ones have failed for this reason.
    Closing(CloseReason),
    /// Send a FIN, and go on reading.
    ShutdownWrite,
    /// The session has ended, and the socket can be closed.
    Over(Box<End>),
}

/// What a gateway presents to connect.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Presented {
    /// The hash of its key; `None` without one.
    pub key: Option<KeyHash>,
    /// The position behind which it asks to go on; [`Position::UNKNOWN`] if what it sent is none of ours.
    pub resume: Option<Position>,
    /// It asks that its pongs prove nothing: the connection is one beside those of the gateway.
    pub written_only: bool,
}

/// How a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The peer ended the connection, or the hub did before there was a request to answer.
    Gone,
    /// After a response, which was the last.
    Answered,
    /// A request was invalid; with the metric label.
    BadRequest(&'static str),
    /// An upgrade came from an origin that is not allowed; with the origin, for the log.
    Origin(String),
    /// An upgrade was refused; with the metric label.
    Refused(&'static str),
    /// TLS failed; with the error, for the log.
    Tls(String),
    /// Handshake, head or body did not arrive in time.
    TimedOut,
    /// The socket took nothing for the write deadline.
    Stalled,
    /// A gateway's connection closed for this reason.
    Closed(CloseReason),
}
