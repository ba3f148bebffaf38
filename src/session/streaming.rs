//! A gateway's connection after its 101: events out, messages in, heartbeat, and how it closes.

use super::{
    Admitted,
    effect::Effect,
    heartbeat::{Beat, Heartbeat},
    settings::Settings,
    transmit::Source,
};
use crate::{
    limits,
    model::{CloseReason, Instant, Now},
    transport::{Inbound, Transport, WebSocket},
    wire::envelope,
};
use std::{collections::VecDeque, time::Duration};

/// The stage of one connection.
pub(super) struct Streaming {
    transport: WebSocket,
    heartbeat: Heartbeat,
    flood: Flood,
    closing: Option<Closing>,
}

struct Closing {
    reason: CloseReason,
    /// The close frame is on its way.
    told: bool,
    /// What the peer still says is not listened to.
    deaf: bool,
    deadline: Instant,
}

impl Streaming {
    /// Begins: the ack goes first.
    pub(super) fn open(now: Now, settings: &Settings, admitted: Admitted, out: &mut Vec<u8>) -> Self {
        let mut transport = WebSocket::new(settings.inbound_message_bytes_max);
        let ack = envelope::connection_ack(admitted.gateway, admitted.connection, admitted.position, now.wall);
        transport.open(&ack, out);
        Self {
            transport,
            heartbeat: Heartbeat::new(settings.heartbeat, now.instant, admitted.connection),
            flood: Flood::default(),
            closing: None,
        }
    }

    /// Why it closes, once it does.
    pub(super) fn reason(&self) -> Option<CloseReason> {
        self.closing.as_ref().map(|closing| closing.reason)
    }

    /// Bytes from the gateway.
    pub(super) fn handle_bytes(
        &mut self,
        now: Instant,
        plain: &[u8],
        inbound: &mut Vec<Inbound>,
        out: &mut Vec<u8>,
        effects: &mut VecDeque<Effect>,
    ) {
        if plain.is_empty() || self.closing.as_ref().is_some_and(|closing| closing.deaf) {
            return;
        }
        self.heartbeat.handle_life(now);
        let result = self.transport.handle_bytes(plain, inbound, out);
        let mut round_trip = None;
        for message in inbound.drain(..) {
            match message {
                Inbound::Pong => round_trip = self.heartbeat.handle_pong(now).or(round_trip),
                Inbound::Ping => {}
                Inbound::Text(text) if self.closing.is_none() => effects.push_back(Effect::Message(text)),
                Inbound::Text(_) | Inbound::Binary => effects.push_back(Effect::Ignored),
                Inbound::Close(code) => self.handle_close(now, code, effects),
            }
        }
        effects.push_back(Effect::Life(round_trip));
        match result {
            Err(reason) => self.refuse(now, reason, effects),
            Ok(controls) if self.flood.is_over(now, controls) => self.refuse(now, CloseReason::Flood, effects),
            Ok(_) => {}
        }
    }

    /// Begins to close. The first reason stays, but for a shutdown that still waits for its events: whatever else ends the
    /// connection ends the waiting, too.
    pub(super) fn close(&mut self, now: Instant, reason: CloseReason, effects: &mut VecDeque<Effect>) {
        let waits = |closing: &Closing| closing.reason == CloseReason::Shutdown && !closing.told;
        if self.closing.as_ref().is_some_and(|closing| !waits(closing) || reason == CloseReason::Shutdown) {
            return;
        }
        let patience = match reason {
            // Whoever is dead does not answer.
            CloseReason::HeartbeatTimeout => Duration::ZERO,
            // The queued events go first; the hub's own drain bounds it.
            CloseReason::Shutdown => limits::HTTP_IDLE_DEADLINE,
            _ => limits::CLOSE_DEADLINE,
        };
        self.closing = Some(Closing { reason, told: false, deaf: false, deadline: now + patience });
        if reason != CloseReason::Shutdown {
            effects.push_back(Effect::Closing(reason));
        }
    }

    /// The kernel's word about a silent peer.
    pub(super) fn handle_peer_state(&mut self, now: Instant, reachable: bool) {
        self.heartbeat.handle_peer_state(now, reachable);
    }

    /// Deadlines. Returns the reason once the socket is to be closed as it is.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
        effects: &mut VecDeque<Effect>,
    ) -> Option<CloseReason> {
        if let Some(closing) = &self.closing {
            return (now >= closing.deadline).then_some(closing.reason);
        }
        match self.heartbeat.handle_timeout(now) {
            Beat::Nothing => {}
            Beat::Ping => self.transport.ping(out),
            Beat::Probe => effects.push_back(Effect::Probe),
            Beat::Dead => self.close(now, CloseReason::HeartbeatTimeout, effects),
        }
        None
    }

    /// When [`Streaming::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.closing.as_ref().map_or_else(|| self.heartbeat.poll_timeout(), |closing| closing.deadline)
    }

    /// Puts the close frame behind the last event that is to go out.
    pub(super) fn before_transmit(
        &mut self,
        now: Now,
        source: &dyn Source,
        out: &mut Vec<u8>,
        effects: &mut VecDeque<Effect>,
    ) {
        let Some(closing) = &mut self.closing else { return };
        let shutdown = closing.reason == CloseReason::Shutdown;
        if closing.told || (shutdown && !source.is_drained()) {
            return;
        }
        closing.told = true;
        self.transport.close(closing.reason, out);
        if shutdown {
            closing.deadline = now.instant + limits::CLOSE_DEADLINE;
            effects.push_back(Effect::Closing(CloseReason::Shutdown));
        }
    }

    /// Whether, with everything sent, nothing more is to be said or heard.
    pub(super) fn is_finished(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.told && (closing.deaf || self.transport.closed()))
    }

    fn handle_close(&mut self, now: Instant, code: u16, effects: &mut VecDeque<Effect>) {
        self.close(now, CloseReason::GatewayAsked(code), effects);
        if let Some(closing) = &mut self.closing {
            // The transport has answered already.
            closing.told = true;
        }
    }

    /// The gateway broke a rule: it is told so, and not listened to any more.
    fn refuse(&mut self, now: Instant, reason: CloseReason, effects: &mut VecDeque<Effect>) {
        self.close(now, reason, effects);
        if let Some(closing) = &mut self.closing {
            closing.deaf = true;
        }
    }
}

/// How many control frames a gateway may still send: each uses up some time of its own, and it may be ten seconds ahead.
#[derive(Default)]
struct Flood {
    used_until: Instant,
}

impl Flood {
    fn is_over(&mut self, now: Instant, controls: u32) -> bool {
        let cost = 1_000_000 / u64::from(limits::INBOUND_CONTROL_PER_SECOND_MAX) * u64::from(controls);
        self.used_until = self.used_until.max(now) + Duration::from_micros(cost);
        self.used_until.since(now) > FLOOD_WINDOW
    }
}

const FLOOD_WINDOW: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        limits,
        model::{ConnectionId, GatewayId, Position},
        session::settings,
    };

    fn settings() -> Settings {
        Settings {
            origins: Vec::new(),
            handshake_deadline: limits::HANDSHAKE_DEADLINE,
            heartbeat: settings::Heartbeat {
                interval: limits::HEARTBEAT_INTERVAL,
                timeout: limits::HEARTBEAT_TIMEOUT,
                busy_grace: Duration::ZERO,
            },
            write_deadline: limits::WRITE_DEADLINE,
            inbound_message_bytes_max: limits::INBOUND_MESSAGE_BYTES_MAX,
        }
    }

    /// A connection whose shutdown waits for its events.
    fn waiting() -> Streaming {
        let (gateway, connection) = (GatewayId::random(), ConnectionId::random());
        let admitted = Admitted { gateway, connection, position: Position { epoch: 0, offset: 0 } };
        let mut effects = VecDeque::new();
        let mut streaming = Streaming::open(Now::default(), &settings(), admitted, &mut Vec::new());
        streaming.close(Instant(1), CloseReason::Shutdown, &mut effects);
        assert!(effects.is_empty(), "a shutdown lets the queued events out first");
        streaming
    }

    #[test]
    fn a_gateway_that_closes_during_a_drain_gets_no_more_events() {
        let mut streaming = waiting();
        let (mut out, mut effects) = (Vec::new(), VecDeque::new());
        let close = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
        streaming.handle_bytes(Instant(2), &close, &mut Vec::new(), &mut out, &mut effects);
        assert_eq!(out, [0x88, 0x02, 0x03, 0xe8], "it is answered at once");
        let closing = |effect: &&Effect| matches!(effect, Effect::Closing(CloseReason::GatewayAsked(1000)));
        assert_eq!(effects.iter().filter(closing).count(), 1, "nothing may follow the answer");
        assert!(streaming.is_finished());
    }

    #[test]
    fn a_key_that_is_revoked_during_a_drain_ends_the_events() {
        let mut streaming = waiting();
        let mut effects = VecDeque::new();
        streaming.close(Instant(2), CloseReason::KeyRevoked, &mut effects);
        streaming.close(Instant(3), CloseReason::Shutdown, &mut effects);
        assert!(matches!(effects.make_contiguous(), [Effect::Closing(CloseReason::KeyRevoked)]));
        assert_eq!(streaming.reason(), Some(CloseReason::KeyRevoked));
    }
}
