//! The state machine of one connection. It is pure: bytes, verdicts and the time come in, bytes and effects go out, so
//! a test runs a connection's whole life without a socket.
//!
//! ```text
//!   accept ─▶ Exchange (TLS, HTTP requests) ─▶ Admission (awaits the verdict) ─▶ Streaming ─▶ Lingering ─▶ Over
//!                  └──────────── a response that closes the connection ───────────────────────▲
//! ```
//!
//! After each `handle_*` the caller drains [`Session::poll_effect`], writes what [`Session::poll_transmit`] gives, and
//! calls [`Session::handle_timeout`] when [`Session::poll_timeout`] has come. Effects are queued, not called back: to
//! carry one out, the caller needs the session again.

mod admission;
mod admitted;
mod effect;
mod effects;
mod ending;
mod exchange;
mod heartbeat;
mod input;
mod lingering;
mod pending_upgrade;
mod processing;
mod proofs;
mod receiving;
mod refusal;
mod settings;
mod streaming;
mod transitions;
mod transmit;

pub use admitted::Admitted;
pub use effect::{Effect, End, Presented};
pub use exchange::Request;
pub use proofs::PongOutcome;
pub use settings::{Heartbeat, Settings};
pub use transmit::{Filled, NoEvents, Scratch, Source};

use crate::{
    model::{Instant, Now},
    wire::{http::Response, tls::Security},
};
use effects::Effects;
use exchange::Exchange;
use lingering::Lingering;
use pending_upgrade::PendingUpgrade;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use streaming::Streaming;
use transmit::Transmit;

/// One connection.
pub struct Session {
    settings: Arc<Settings>,
    peer: SocketAddr,
    security: Security,
    transmit: Transmit,
    stage: Stage,
    effects: Effects,
    /// The bytes that were received last may contain a gateway's key.
    secret: bool,
    /// When the socket is aborted, in whatever stage: set once the token is revoked or the gateway deleted.
    abort_at: Option<Instant>,
    /// `abort_at` has passed.
    aborted: bool,
}

// The large stages are boxed: a gateway's connection, of which there are many, must not keep room for the state of
// HTTP.
enum Stage {
    /// HTTP requests and their responses.
    Exchange(Box<Exchange>),
    /// An upgrade awaits its verdict. Nothing is read meanwhile.
    Admission(Box<PendingUpgrade>),
    /// A gateway receives its events.
    Streaming(Box<Streaming>),
    /// Nothing new is produced. The output that waits is sent, then the transport is closed.
    Lingering(Box<Lingering>),
    /// The socket can be closed.
    Over,
}

impl Session {
    /// Creates the session of a connection that was accepted at `now`.
    pub fn new(now: Now, settings: Arc<Settings>, security: Security, peer: SocketAddr) -> Self {
        let stage = Stage::Exchange(Box::new(Exchange::new(now.attended + settings.handshake_deadline)));
        Self {
            settings,
            peer,
            security,
            transmit: Transmit::default(),
            stage,
            effects: Effects::default(),
            secret: false,
            abort_at: None,
            aborted: false,
        }
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the bytes that were received last may contain a gateway's key. The caller then overwrites its copy, so that no copy of a
    /// key stays in memory that the hub has allocated, also without TLS.
    pub fn had_secret(&self) -> bool {
        self.secret
    }

    /// Whether it carries a gateway's events.
    pub fn is_streaming(&self) -> bool {
        matches!(self.stage, Stage::Streaming(_))
    }

    /// Whether plain bytes can be sent: TLS has finished its handshake, or there is none.
    pub fn is_established(&self) -> bool {
        self.security.established()
    }

    /// The request that [`Effect::Route`] or [`Effect::Call`] is about.
    pub fn request(&self) -> Option<Request<'_>> {
        match &self.stage {
            Stage::Exchange(exchange) => exchange.request(),
            _ => None,
        }
    }

    /// Whether to read from the socket now. While not, the peer's bytes wait in the kernel.
    pub fn wants_read(&self) -> bool {
        match &self.stage {
            // A peer that sends requests or pings and reads no responses or pongs would make them pile up here.
            Stage::Exchange(exchange) => exchange.wants_read() && !self.transmit.is_congested(),
            Stage::Streaming(streaming) => streaming.wants_read() && !self.transmit.is_congested(),
            Stage::Lingering(lingering) => lingering.wants_read(),
            Stage::Admission(_) | Stage::Over => false,
        }
    }

    /// Answers [`Effect::Route`]: the largest body in bytes that the route accepts, or a response already.
    pub fn handle_route(&mut self, now: Now, verdict: Result<usize, Response>) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        debug_assert!(exchange.request().is_some(), "a route is given to a request that waits for one");
        let progress = exchange.handle_route(now, verdict, &self.settings, self.transmit.plain());
        self.follow(now, progress);
    }

    /// Answers [`Effect::Route`]: the request is for the connect path.
    pub fn handle_upgrade(&mut self, now: Now) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        debug_assert!(exchange.request().is_some(), "a route is given to a request that waits for one");
        let progress = exchange.handle_upgrade(now, &self.settings, self.security.is_tls(), self.transmit.plain());
        self.follow(now, progress);
    }

    /// The response to [`Effect::Call`] does not depend on the request's body any more.
    pub fn release_body(&mut self) {
        if let Stage::Exchange(exchange) = &mut self.stage {
            exchange.release_body();
        }
    }

    /// Answers [`Effect::Call`] with its response.
    pub fn handle_response(&mut self, now: Now, response: &Response, scratch: &Scratch) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        debug_assert!(exchange.is_answering(), "a response is given to a request that waits for one");
        self.transmit.lend(&scratch.buffers, response.reuses);
        let progress = exchange.handle_response(now, response, &self.settings, self.transmit.plain());
        self.follow(now, progress);
    }

    /// Answers [`Effect::Stalled`]: whether the peer's kernel has acknowledged anything since the socket last took
    /// bytes, and whether it is alive.
    pub fn handle_stall(&mut self, now: Now, acknowledged: bool, alive: bool) {
        // A gateway that is at work on an event reads nothing. It has the processing timeout for that.
        let is_at_work = alive && self.is_processing();
        if acknowledged || is_at_work { self.transmit.restart_stall(now.attended) } else { self.end_stalled(now) }
    }

    /// Answers [`Effect::Probe`]: whether the silent peer's kernel still acknowledges our bytes.
    pub fn handle_peer_state(&mut self, now: Now, reachable: bool) {
        if let Stage::Streaming(streaming) = &mut self.stage {
            streaming.handle_peer_state(now.attended, reachable);
        }
    }

    /// The core did not run for the time `lost`, which [`Now::attended`] leaves out.
    pub fn handle_lost(&mut self, lost: Duration) {
        if let Stage::Streaming(streaming) = &mut self.stage {
            streaming.handle_lost(lost);
        }
    }

    /// The connection has moved to another core. The same moment is `from` in the attended time of the core it left,
    /// and `to` in that of this core.
    pub fn handle_moved(&mut self, from: Instant, to: Instant) {
        debug_assert!(matches!(self.stage, Stage::Admission(_)), "a connection moves while it awaits its verdict");
        // This stage has no deadline of its own, so the stall is the only time to convert.
        self.transmit.handle_moved(from, to);
    }

    /// Handles the deadlines that have passed.
    pub fn handle_timeout(&mut self, now: Now) {
        // First, because no other deadline may prolong the connection of a revoked token.
        if self.abort_at.is_some_and(|at| now.attended >= at) && !self.is_over() {
            self.handle_broken();
            self.aborted = true;
            return;
        }
        if self.transmit.poll_stall(self.settings.write_deadline).is_some_and(|deadline| now.attended >= deadline) {
            // Not ended here: only the kernel knows whether the peer has acknowledged bytes meanwhile.
            self.effects.push(Effect::Stalled);
            return;
        }
        match &mut self.stage {
            Stage::Exchange(exchange) => {
                let progress = exchange.handle_timeout(now, self.security.established(), self.transmit.plain());
                self.follow(now, progress);
            }
            Stage::Streaming(streaming) => {
                let over = streaming.handle_timeout(now.attended, &self.settings, &mut self.effects);
                if let Some(reason) = over {
                    self.end(End::Closed(reason));
                }
            }
            Stage::Lingering(lingering) if now.attended >= lingering.deadline() => {
                let end = lingering.end();
                self.end(end);
            }
            Stage::Admission(_) | Stage::Lingering(_) | Stage::Over => {}
        }
    }

    /// When [`Session::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stage = match &self.stage {
            Stage::Exchange(exchange) => exchange.poll_timeout(),
            Stage::Streaming(streaming) => Some(streaming.poll_timeout(&self.settings)),
            Stage::Lingering(lingering) => Some(lingering.deadline()),
            Stage::Admission(_) | Stage::Over => None,
        };
        let stall = self.transmit.poll_stall(self.settings.write_deadline);
        [stage, stall, self.abort_at.filter(|_| !self.is_over())].into_iter().flatten().min()
    }

    /// Takes the next effect for the caller to carry out.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop()
    }

    /// Whether an effect is queued.
    pub fn has_effect(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Ends the session at once, without output and without effects: its code has panicked and cannot be trusted, or
    /// its descriptor is needed for another connection.
    pub fn break_off(&mut self) {
        self.stage = Stage::Over;
        self.effects.clear();
    }

    /// Whether the socket can be closed.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Puts the next bytes for the socket into `scratch.wire`. Events are copied from `source`, which the caller then
    /// advances by [`Filled::event_bytes`], and calls [`Session::handle_sent`]. `None` if there is nothing to send, or
    /// if the [`Session::backlog`] has to be sent first.
    pub fn poll_transmit(&mut self, now: Now, source: &impl Source, scratch: &mut Scratch) -> Option<Filled> {
        if !self.transmit.backlog().is_empty() || self.is_over() {
            return None;
        }
        scratch.clear();
        // All responses are in the socket, so a pipelined request that was paused for them continues.
        if let Stage::Exchange(exchange) = &mut self.stage
            && self.transmit.is_empty()
        {
            let progress = exchange.handle_drained(now, &self.settings, self.transmit.plain());
            self.follow(now, progress);
        }
        let event_bytes = match &mut self.stage {
            Stage::Streaming(streaming) => {
                // In this order: no frame may follow a close frame (RFC 6455 section 5.5.1), and both go before the
                // events that wait, at the next frame boundary.
                streaming.send_ping(now.attended, source, self.transmit.plain(), &mut scratch.plain);
                streaming.before_transmit(now, source, self.transmit.plain(), &mut self.effects);
                self.transmit.fill(source, &mut scratch.plain, &scratch.buffers)
            }
            _ => self.transmit.fill_own(&mut scratch.plain, &scratch.buffers),
        };
        if !scratch.plain.is_empty() {
            if let Err(error) = self.security.seal(&scratch.plain, &mut scratch.wire) {
                self.end(End::Tls(error.0));
                return None;
            }
            return Some(Filled { event_bytes });
        }
        // With nothing left to seal, the ending goes on; TLS's close_notify goes into `wire`, a record already.
        self.handle_drained(now, scratch);
        (!scratch.wire.is_empty()).then_some(Filled { event_bytes: 0 })
    }

    /// The socket took the first `sent` bytes of `scratch.wire`. The others become the backlog, which is sent first.
    pub fn handle_sent(&mut self, now: Now, sent: usize, scratch: &Scratch) {
        debug_assert!(sent <= scratch.wire.len(), "a socket takes at most what it is offered");
        self.transmit.handle_sent(now.attended, sent, &scratch.wire);
        debug_assert_eq!(self.backlog().len(), scratch.wire.len() - sent, "unsent bytes are kept");
    }

    /// Whether a write would send something, or lead to the next step of an end. Events do not count.
    pub fn wants_write(&self) -> bool {
        let waits = match &self.stage {
            Stage::Exchange(exchange) => exchange.is_paused(),
            Stage::Streaming(streaming) => streaming.wants_write(),
            Stage::Lingering(_) => true,
            Stage::Admission(_) | Stage::Over => false,
        };
        waits || !self.transmit.is_empty()
    }

    /// Whether output of its own (responses, pongs, a close frame) waits for the socket. Events do not count.
    pub fn has_output(&self) -> bool {
        !self.transmit.is_empty() || matches!(&self.stage, Stage::Streaming(streaming) if streaming.owes_close())
    }

    /// Sealed bytes that the socket has not taken yet.
    pub fn backlog(&self) -> &[u8] {
        self.transmit.backlog()
    }

    /// Bytes that wait for the socket, sealed or not, and bytes of incomplete requests.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> (usize, usize) {
        let unfinished = match &self.stage {
            Stage::Exchange(exchange) => exchange.held_bytes(),
            _ => 0,
        };
        (self.transmit.held_bytes(), unfinished)
    }

    /// The socket took the first `sent` bytes of the backlog.
    pub fn handle_backlog_sent(&mut self, now: Now, sent: usize) {
        debug_assert!(sent <= self.backlog().len(), "a socket takes at most what it is offered");
        self.transmit.handle_backlog_sent(now.attended, sent);
    }
}

#[cfg(test)]
mod tests;
