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
    controls: Budget,
    messages: Budget,
    /// Nothing is read until then: it sends more than it may.
    paused_until: Option<Instant>,
    /// Since when it has sent more than it may, without a moment in which it had not.
    flooding_since: Option<Instant>,
    closing: Option<Closing>,
    /// A ping is due and not yet on its way.
    ping: bool,
    /// The peer sends no more, and gets the close frame that it is owed.
    ended: bool,
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
            heartbeat: Heartbeat::new(settings.heartbeat, now.attended, admitted.connection),
            controls: Budget::default(),
            messages: Budget::default(),
            paused_until: None,
            flooding_since: None,
            closing: None,
            ping: false,
            ended: false,
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
        let messages = inbound.iter().filter(|it| matches!(it, Inbound::Text(_) | Inbound::Binary)).count();
        let floods = self.pace(now, u32::try_from(messages).unwrap_or(u32::MAX));
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
            Ok(controls) => {
                let ahead = self.controls.spend(now, controls, limits::INBOUND_CONTROL_PER_SECOND_MAX);
                if ahead > FLOOD_AHEAD || floods {
                    self.refuse(now, CloseReason::Flood, effects);
                }
            }
        }
    }

    /// Whether bytes from the gateway are welcome.
    pub(super) fn wants_read(&self) -> bool {
        self.paused_until.is_none() && !self.ended
    }

    /// The peer sends no more. Returns whether the connection goes on until the close frame that the peer is owed has
    /// gone out, behind the frame that is begun: a close frame is answered (RFC 6455 section 5.5.1), and TLS's
    /// `close_notify` ends one direction only (RFC 8446 section 6.1).
    pub(super) fn handle_end(&mut self) -> bool {
        self.ended |= self.owes_close() || self.is_finished();
        if let Some(closing) = self.closing.as_mut().filter(|_| self.ended) {
            closing.deaf = true;
        }
        self.ended
    }

    /// Whether the peer sends no more.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether its close frame is due and not said. That of a shutdown waits for the events.
    pub(super) fn owes_close(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| !closing.told && closing.reason != CloseReason::Shutdown)
    }

    /// Begins to close. The first reason stays, but for a shutdown that still waits for its events: whatever else ends
    /// the connection ends the waiting, too.
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

    /// See [`Heartbeat::handle_lost`].
    pub(super) fn handle_lost(&mut self, lost: Duration) {
        self.heartbeat.handle_lost(lost);
    }

    /// The kernel's word about a silent peer.
    pub(super) fn handle_peer_state(&mut self, now: Instant, reachable: bool) {
        self.heartbeat.handle_peer_state(now, reachable);
    }

    /// Deadlines. Returns the reason once the socket is to be closed as it is.
    pub(super) fn handle_timeout(&mut self, now: Instant, effects: &mut VecDeque<Effect>) -> Option<CloseReason> {
        self.paused_until = self.paused_until.filter(|until| now < *until);
        if let Some(closing) = &self.closing {
            return (now >= closing.deadline).then_some(closing.reason);
        }
        match self.heartbeat.handle_timeout(now) {
            Beat::Nothing => {}
            Beat::Ping => self.ping = true,
            Beat::Probe => effects.push_back(Effect::Probe),
            Beat::Dead => self.close(now, CloseReason::HeartbeatTimeout, effects),
        }
        None
    }

    /// When [`Streaming::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Instant {
        let due = self.closing.as_ref().map_or_else(|| self.heartbeat.poll_timeout(), |closing| closing.deadline);
        self.paused_until.map_or(due, |until| until.min(due))
    }

    /// Sends a ping that is due. Nearly always nothing waits that it would have to stay behind, and it goes into
    /// `next`, which costs no memory; else into `waiting`, what waits for the next frame boundary.
    pub(super) fn send_ping(&mut self, source: &impl Source, waiting: &mut Vec<u8>, next: &mut Vec<u8>) {
        // Behind a close frame nothing may follow.
        if std::mem::take(&mut self.ping) && self.closing.is_none() {
            self.transport.ping(if waiting.is_empty() && source.at_boundary() { next } else { waiting });
        }
    }

    /// Puts the close frame behind the last event that is to go out.
    pub(super) fn before_transmit(
        &mut self,
        now: Now,
        source: &impl Source,
        out: &mut Vec<u8>,
        effects: &mut VecDeque<Effect>,
    ) {
        let Some(closing) = &mut self.closing else { return };
        let shutdown = closing.reason == CloseReason::Shutdown;
        if closing.told || (shutdown && !source.is_drained()) {
            return;
        }
        debug_assert!(source.is_drained() || !shutdown, "a shutdown lets the events out first");
        closing.told = true;
        self.transport.close(closing.reason, out);
        if shutdown {
            closing.deadline = now.attended + limits::CLOSE_DEADLINE;
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

    /// Lets a gateway that sends more messages than it may wait, so that those who share its core do not. Returns
    /// whether it has done so for too long.
    fn pace(&mut self, now: Instant, messages: u32) -> bool {
        if self.messages.is_unused(now) {
            self.flooding_since = None;
        }
        let ahead = self.messages.spend(now, messages, limits::INBOUND_MESSAGES_PER_SECOND_MAX);
        if ahead <= BURST_AHEAD {
            return false;
        }
        self.paused_until = Some(now + (ahead - BURST_AHEAD));
        now.since(*self.flooding_since.get_or_insert(now)) >= limits::FLOOD_PATIENCE
    }

    /// The gateway broke a rule: it is told so, and not listened to any more.
    fn refuse(&mut self, now: Instant, reason: CloseReason, effects: &mut VecDeque<Effect>) {
        self.close(now, reason, effects);
        if let Some(closing) = &mut self.closing {
            closing.deaf = true;
        }
    }
}

/// What a gateway may send: each thing uses up some time of its own, and it may be so much ahead of the clock.
#[derive(Default)]
struct Budget {
    used_until: Instant,
}

impl Budget {
    /// Whether it is not ahead of the clock at all.
    fn is_unused(&self, now: Instant) -> bool {
        self.used_until <= now
    }

    /// Uses up `count` things' time; returns how far ahead it is now.
    fn spend(&mut self, now: Instant, count: u32, per_second: u32) -> Duration {
        let cost = u64::from(count) * 1_000_000 / u64::from(per_second);
        self.used_until = self.used_until.max(now) + Duration::from_micros(cost);
        self.used_until.since(now)
    }
}

/// Control frames: so far ahead is a flood.
const FLOOD_AHEAD: Duration = Duration::from_secs(10);
/// Messages: so far ahead is a burst, and beyond it reading pauses.
const BURST_AHEAD: Duration = Duration::from_secs(1);
