//! A gateway's connection after its 101: events out, messages in, heartbeat, close handshake.

use super::{
    Admitted,
    effect::Effect,
    effects::Effects,
    heartbeat::{Beat, Heartbeat},
    proofs::{PongOutcome, Proofs},
    settings::Settings,
    transmit::Source,
};
use crate::{
    limits,
    model::{CloseReason, Instant, Now, Position, Proof},
    transport::{Inbound, Reading, Transport, WebSocket},
    wire::envelope,
};
use std::time::Duration;

/// The stage in which a connection carries events.
pub(super) struct Streaming {
    transport: WebSocket,
    heartbeat: Heartbeat,
    /// Its pings name positions; `None` for the delivery `written`.
    proofs: Option<Box<Proofs>>,
    /// The rate of control frames from the gateway.
    controls: Budget,
    /// The rate of messages from the gateway.
    messages: Budget,
    /// The gateway exceeds the rate of messages. Boxed, because hardly any does.
    flood: Option<Box<Flood>>,
    closing: Option<Closing>,
    /// A ping is due and not sent yet.
    ping: bool,
    /// The peer has ended its stream, and is still owed a close frame.
    ended: bool,
}

struct Flood {
    /// The first read beyond the burst since it was below the rate.
    since: Instant,
    /// Nothing is read until then.
    paused_until: Option<Instant>,
}

struct Closing {
    reason: CloseReason,
    /// Our close frame is in the output.
    close_sent: bool,
    /// Bytes from the peer are discarded.
    discards_input: bool,
    deadline: Instant,
}

impl Streaming {
    /// Begins the stage by writing the ack.
    pub(super) fn open(now: Now, settings: &Settings, admitted: Admitted, out: &mut Vec<u8>) -> Self {
        let mut transport = WebSocket::new(settings.inbound_message_bytes_max);
        let Admitted { gateway, connection, position, resumed, proves, place } = admitted;
        let ack = envelope::connection_ack(gateway, connection, position, resumed, now.wall);
        transport.open(&ack, out);
        Self {
            transport,
            heartbeat: Heartbeat::new(&settings.heartbeat, now, place),
            proofs: proves.then(|| Box::new(Proofs::new(settings.processing_timeout))),
            controls: Budget::default(),
            messages: Budget::default(),
            flood: None,
            closing: None,
            ping: false,
            ended: false,
        }
    }

    /// The reason for closing, once it closes.
    pub(super) fn reason(&self) -> Option<CloseReason> {
        self.closing.as_ref().map(|closing| closing.reason)
    }

    /// Handles bytes from the gateway.
    pub(super) fn handle_bytes(
        &mut self,
        now: Instant,
        plain: &[u8],
        reading: &mut Reading,
        out: &mut Vec<u8>,
        effects: &mut Effects,
    ) {
        if plain.is_empty() || self.closing.as_ref().is_some_and(|closing| closing.discards_input) {
            return;
        }
        self.heartbeat.handle_life(now);
        // Not returned at once on an error: the messages before the invalid frame were valid and are handled.
        let result = self.transport.handle_bytes(plain, reading, out);
        let (mut round_trip, mut proofs) = (None, 0);
        let messages = reading.inbound.iter().filter(|it| matches!(it, Inbound::Text(_) | Inbound::Binary)).count();
        let floods = self.limit_messages(now, u32::try_from(messages).unwrap_or(u32::MAX));
        for message in reading.inbound.drain(..) {
            match message {
                Inbound::Pong(payload) if self.proofs.is_some() && !payload.is_empty() => {
                    let position = std::str::from_utf8(&payload).ok().and_then(Position::parse);
                    // Judged by the shard, and then counted if no ping asked for it.
                    proofs += u32::from(position.is_some());
                    effects.push(Effect::Pong(position));
                }
                Inbound::Pong(_) => round_trip = self.heartbeat.handle_pong(now).or(round_trip),
                Inbound::Ping => {}
                Inbound::Text(text) if self.closing.is_none() => effects.push(Effect::Message(Box::new(text))),
                Inbound::Text(_) | Inbound::Binary => effects.push(Effect::Ignored),
                Inbound::Close(code) => self.handle_close(now, code, effects),
            }
        }
        effects.push(Effect::Life(round_trip));
        match result {
            Err(reason) => self.close_for_violation(now, reason, effects),
            Ok(controls) => {
                if self.spend_controls(now, controls.saturating_sub(proofs)) || floods {
                    self.close_for_violation(now, CloseReason::Flood, effects);
                }
            }
        }
    }

    /// Counts control frames of the gateway; returns whether they are a flood.
    fn spend_controls(&mut self, now: Instant, controls: u32) -> bool {
        self.controls.spend(now, controls, limits::INBOUND_CONTROL_PER_SECOND_MAX) > FLOOD_AHEAD
    }

    /// The shard has judged a pong that names this offset. One that no ping asked for counts as other control frames do.
    pub(super) fn handle_proof(
        &mut self,
        now: Instant,
        offset: u64,
        proof: Proof,
        effects: &mut Effects,
    ) -> PongOutcome {
        let unexpected = PongOutcome { expected: false, round_trip: None };
        let outcome = self.proofs.as_mut().map_or(unexpected, |proofs| proofs.handle_pong(now, offset, proof));
        if !outcome.expected && self.spend_controls(now, 1) {
            self.close_for_violation(now, CloseReason::Flood, effects);
        }
        outcome
    }

    /// The first event that the gateway has and has not processed.
    pub(super) fn set_first(&mut self, now: Instant, first: Option<u64>) {
        if let Some(proofs) = &mut self.proofs {
            proofs.set_first(now, first);
        }
    }

    /// When the gateway has processed an event for too long.
    fn busy_until(&self) -> Option<Instant> {
        self.proofs.as_ref().and_then(|proofs| proofs.deadline())
    }

    /// Whether the gateway is at work on an event.
    pub(super) fn is_processing(&self) -> bool {
        self.busy_until().is_some()
    }

    /// Whether to read from the socket now.
    pub(super) fn wants_read(&self) -> bool {
        self.paused_until().is_none() && !self.ended
    }

    /// The peer has ended its stream. Returns whether the connection stays until our close frame is sent, after the
    /// frame that is being sent: a close frame must be answered (RFC 6455 section 5.5.1), and TLS's `close_notify` ends
    /// only one direction (RFC 8446 section 6.1).
    pub(super) fn handle_end(&mut self) -> bool {
        self.ended |= self.owes_close() || self.is_finished();
        if let Some(closing) = self.closing.as_mut().filter(|_| self.ended) {
            closing.discards_input = true;
        }
        self.ended
    }

    /// Whether the peer has ended its stream.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether a close frame is due that is not in the output yet. That of a shutdown is due only after the events.
    pub(super) fn owes_close(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| !closing.close_sent && closing.reason != CloseReason::Shutdown)
    }

    /// Begins to close. The first reason stays. The exception is a shutdown that still waits for its events to go out:
    /// any other reason replaces it, and does not wait for them.
    pub(super) fn close(&mut self, now: Instant, reason: CloseReason, effects: &mut Effects) {
        let waits = |closing: &Closing| closing.reason == CloseReason::Shutdown && !closing.close_sent;
        if self.closing.as_ref().is_some_and(|closing| !waits(closing) || reason == CloseReason::Shutdown) {
            return;
        }
        let timeout = match reason {
            // A dead peer does not answer. The close frame is sent all the same, for one that only did not answer
            // pings.
            CloseReason::HeartbeatTimeout => Duration::ZERO,
            // The queued events go out first. The drain has a deadline of its own for them.
            CloseReason::Shutdown => limits::HTTP_IDLE_DEADLINE,
            _ => limits::CLOSE_DEADLINE,
        };
        self.closing = Some(Closing { reason, close_sent: false, discards_input: false, deadline: now + timeout });
        // The shard drops the connection's events on this effect, so that of a shutdown comes after they are sent.
        if reason != CloseReason::Shutdown {
            effects.push(Effect::Closing(reason));
        }
    }

    /// See [`Heartbeat::handle_lost`].
    pub(super) fn handle_lost(&mut self, lost: Duration) {
        self.heartbeat.handle_lost(lost);
    }

    /// See [`Heartbeat::handle_peer_state`].
    pub(super) fn handle_peer_state(&mut self, now: Instant, reachable: bool) {
        self.heartbeat.handle_peer_state(now, reachable);
    }

    /// Handles deadlines. Returns the reason if the connection ends now, without waiting for the peer.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        settings: &Settings,
        effects: &mut Effects,
    ) -> Option<CloseReason> {
        if let Some(flood) = &mut self.flood {
            flood.paused_until = flood.paused_until.filter(|until| now < *until);
        }
        if let Some(closing) = &self.closing {
            return (now >= closing.deadline).then_some(closing.reason);
        }
        match self.heartbeat.handle_timeout(now, &settings.heartbeat, self.busy_until()) {
            Beat::Nothing => {}
            Beat::Ping => self.ping = true,
            Beat::Probe => effects.push(Effect::Probe),
            Beat::Dead => self.close(now, CloseReason::HeartbeatTimeout, effects),
            Beat::Overdue => self.close(now, CloseReason::ProcessingTimeout, effects),
        }
        None
    }

    /// When [`Streaming::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self, settings: &Settings) -> Instant {
        let due = match &self.closing {
            Some(closing) => closing.deadline,
            None => self.heartbeat.poll_timeout(&settings.heartbeat, self.busy_until()),
        };
        self.paused_until().map_or(due, |until| until.min(due))
    }

    fn paused_until(&self) -> Option<Instant> {
        self.flood.as_ref().and_then(|flood| flood.paused_until)
    }

    /// Whether a ping is due, or the connection is closing.
    pub(super) fn wants_write(&self) -> bool {
        self.ping || self.closing.is_some()
    }

    /// Sends a ping that is due. Usually nothing waits before it, and it goes straight into `next`, the shared buffer
    /// of this write. Otherwise it goes into `waiting`, the connection's queue for the next frame boundary, which needs
    /// memory.
    pub(super) fn send_ping(&mut self, now: Instant, source: &impl Source, waiting: &mut Vec<u8>, next: &mut Vec<u8>) {
        let asks_first = self.proofs.as_ref().is_some_and(|proofs| source.begins_event() && proofs.asks_first(now));
        // No frame may follow a close frame.
        if !(std::mem::take(&mut self.ping) || asks_first) || self.closing.is_some() {
            return;
        }
        let position = self.proofs.as_mut().and_then(|proofs| {
            let position = source.ping_position()?;
            proofs.handle_ping(now, position.offset, !source.is_processing());
            Some(position)
        });
        self.transport.ping(position, if waiting.is_empty() && source.at_boundary() { next } else { waiting });
    }

    /// Puts the close frame into the output, once the events that go before it are sent.
    pub(super) fn before_transmit(&mut self, now: Now, source: &impl Source, out: &mut Vec<u8>, effects: &mut Effects) {
        let Some(closing) = &mut self.closing else { return };
        let shutdown = closing.reason == CloseReason::Shutdown;
        if closing.close_sent || (shutdown && !source.is_drained()) {
            return;
        }
        debug_assert!(source.is_drained() || !shutdown, "a shutdown sends the events first");
        closing.close_sent = true;
        self.transport.close(closing.reason, out);
        // The deadline so far was for the events; now the peer has the usual time to answer.
        if shutdown {
            closing.deadline = now.attended + limits::CLOSE_DEADLINE;
            effects.push(Effect::Closing(CloseReason::Shutdown));
        }
    }

    /// Whether the close handshake is complete, or not awaited, once all output is sent.
    pub(super) fn is_finished(&self) -> bool {
        self.closing
            .as_ref()
            .is_some_and(|closing| closing.close_sent && (closing.discards_input || self.transport.closed()))
    }

    fn handle_close(&mut self, now: Instant, code: u16, effects: &mut Effects) {
        self.close(now, CloseReason::GatewayAsked(code), effects);
        if let Some(closing) = &mut self.closing {
            // The transport has put the answering close frame into the output already.
            closing.close_sent = true;
        }
    }

    /// Pauses reading from a gateway that exceeds the rate of messages, so that it does not delay others on its core.
    /// Returns whether it has exceeded the rate for too long.
    fn limit_messages(&mut self, now: Instant, messages: u32) -> bool {
        // Only a gateway that uses up all of its time for that long floods; one that catches up in between does not.
        if self.messages.is_unused(now) {
            self.flood = None;
        }
        let ahead = self.messages.spend(now, messages, limits::INBOUND_MESSAGES_PER_SECOND_MAX);
        if ahead <= BURST_AHEAD {
            return false;
        }
        let flood = self.flood.get_or_insert_with(|| Box::new(Flood { since: now, paused_until: None }));
        flood.paused_until = Some(now + (ahead - BURST_AHEAD));
        now.since(flood.since) >= limits::FLOOD_PATIENCE
    }

    /// Closes the connection of a gateway that violated the protocol or a limit. Its further bytes are discarded: after
    /// an invalid frame it is not known where the next one begins.
    fn close_for_violation(&mut self, now: Instant, reason: CloseReason, effects: &mut Effects) {
        self.close(now, reason, effects);
        if let Some(closing) = &mut self.closing {
            closing.discards_input = true;
        }
    }
}

/// A rate limit: each item moves `used_until` forward by the time that the rate gives it. The caller bounds how far
/// `used_until` may be ahead of the clock, which is the permitted burst. One instant is all the state that it needs.
#[derive(Default)]
struct Budget {
    used_until: Instant,
}

impl Budget {
    /// Whether no time is used in advance.
    fn is_unused(&self, now: Instant) -> bool {
        self.used_until <= now
    }

    /// Counts `count` items; returns how far `used_until` is ahead of the clock.
    fn spend(&mut self, now: Instant, count: u32, per_second: u32) -> Duration {
        let cost = u64::from(count) * 1_000_000 / u64::from(per_second);
        self.used_until = self.used_until.max(now) + Duration::from_micros(cost);
        self.used_until.since(now)
    }
}

/// Control frames this far ahead of their rate are a flood.
const FLOOD_AHEAD: Duration = Duration::from_secs(10);
/// Messages this far ahead of their rate are a permitted burst; beyond it reading pauses.
const BURST_AHEAD: Duration = Duration::from_secs(1);
