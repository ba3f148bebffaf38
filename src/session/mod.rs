//! One connection's life, byte in to byte out; pure, so that a whole life runs in a test without a socket.
//!
//! ```text
//!   accept ─▶ Exchange (TLS, HTTP requests) ─▶ Admission (waits for its verdict) ─▶ Streaming ─▶ Lingering ─▶ over
//!                  └──────────── one answer that closes ───────────────────────────────────────────▲
//! ```
//!
//! After each `handle_*` the caller drains [`Session::poll_effect`], writes what [`Session::poll_transmit`] gives, and
//! calls [`Session::handle_timeout`] when [`Session::poll_timeout`] has come.

mod admission;
mod admitted;
mod effect;
mod ending;
mod exchange;
mod heartbeat;
mod lingering;
mod refusal;
mod settings;
mod streaming;
mod transitions;
mod transmit;
mod waiting;

pub use admitted::Admitted;
pub use effect::{Effect, End};
pub use exchange::Request;
pub use settings::{Heartbeat, Settings};
pub use transmit::{Filled, NoEvents, Scratch, Source};

use crate::{
    model::{CloseReason, Instant, Now},
    wire::{http::Response, tls::Security},
};
use exchange::Exchange;
use lingering::Lingering;
use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};
use streaming::Streaming;
use transmit::Transmit;
use waiting::Waiting;

/// One connection.
pub struct Session {
    settings: Arc<Settings>,
    peer: SocketAddr,
    security: Security,
    transmit: Transmit,
    stage: Stage,
    effects: VecDeque<Effect>,
    /// There may be a gateway's key in the bytes that came last.
    secret: bool,
    /// When the connection is torn down, however far it has come: its key was revoked.
    abort_at: Option<Instant>,
    /// That time has come.
    aborted: bool,
}

enum Stage {
    /// HTTP requests and their answers.
    Exchange(Box<Exchange>),
    /// An upgrade waits for its verdict; nothing is read meanwhile. With what the peer sent too early.
    Admission(Box<Waiting>),
    /// A gateway gets its events.
    Streaming(Box<Streaming>),
    /// Nothing more will be said; what is still to be sent is sent.
    Lingering(Lingering),
    /// The socket can go.
    Over,
}

impl Session {
    /// A connection that was accepted at `now`.
    pub fn new(now: Now, settings: Arc<Settings>, security: Security, peer: SocketAddr) -> Self {
        let stage = Stage::Exchange(Box::new(Exchange::new(now.attended + settings.handshake_deadline)));
        Self {
            settings,
            peer,
            security,
            transmit: Transmit::default(),
            stage,
            effects: VecDeque::new(),
            secret: false,
            abort_at: None,
            aborted: false,
        }
    }

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether there may be a gateway's key in the bytes that came last: whoever holds a buffer with them overwrites it. Without TLS no
    /// copy of a key stays in memory that the hub has allocated.
    pub fn had_secret(&self) -> bool {
        self.secret
    }

    /// Whether a gateway's events go over it.
    pub fn is_streaming(&self) -> bool {
        matches!(self.stage, Stage::Streaming(_))
    }

    /// Whether plain bytes can be sent: TLS has finished its handshake, or there is none.
    pub fn is_established(&self) -> bool {
        self.security.established()
    }

    /// The request that [`Effect::Route`] or [`Effect::Call`] is about.
    pub fn request(&self) -> Option<&Request> {
        match &self.stage {
            Stage::Exchange(exchange) => exchange.request(),
            _ => None,
        }
    }

    /// Whether bytes from the peer are welcome now. While they are not, they wait in the kernel.
    pub fn wants_read(&self) -> bool {
        match &self.stage {
            Stage::Exchange(exchange) => exchange.wants_read() && !self.transmit.is_congested(),
            Stage::Streaming(streaming) => streaming.wants_read() && !self.transmit.is_congested(),
            Stage::Lingering(lingering) => lingering.wants_read(),
            Stage::Admission(_) | Stage::Over => false,
        }
    }

    /// Bytes from the socket.
    pub fn handle_received(&mut self, now: Now, bytes: &mut [u8], scratch: &mut Scratch) {
        debug_assert!(!self.is_over(), "nothing is read for who is over");
        // What is thrown away unseen may be a request with a key; only as plain text does that matter.
        self.secret = matches!((&self.stage, &self.security), (Stage::Lingering(_), Security::Plain));
        if let Stage::Lingering(lingering) = &mut self.stage {
            if lingering.discard(bytes.len()) {
                let end = lingering.end();
                self.end(end);
            }
            return;
        }
        scratch.clear();
        let opened = self.security.open(bytes, &mut scratch.plain, self.transmit.sealed());
        if !scratch.plain.is_empty() {
            self.handle_plain(now, scratch);
        }
        match opened {
            Err(error) => self.linger(now, End::Tls(error.0)),
            Ok(()) if self.security.peer_closed() => self.handle_end(now),
            Ok(()) => {}
        }
    }

    /// The peer sends no more. A client may half-close behind its request or its close frame, and still gets the whole answer.
    pub fn handle_end(&mut self, now: Now) {
        let unsent = !self.transmit.is_empty();
        if let Stage::Exchange(exchange) = &mut self.stage {
            if exchange.is_answering() {
                return exchange.handle_end();
            }
            if unsent {
                self.linger(now, End::Answered);
            }
        }
        match &mut self.stage {
            Stage::Lingering(lingering) if unsent => lingering.handle_end(),
            Stage::Streaming(streaming) => {
                if !streaming.handle_end() {
                    self.handle_broken();
                }
            }
            _ => self.handle_broken(),
        }
    }

    /// The socket is broken: nothing reaches the peer any more.
    pub fn handle_broken(&mut self) {
        match &mut self.stage {
            Stage::Streaming(streaming) => {
                let reason = streaming.reason().unwrap_or(CloseReason::GatewayGone);
                self.end(End::Closed(reason));
            }
            Stage::Exchange(_) | Stage::Admission(_) => self.end(End::Gone),
            Stage::Lingering(lingering) => {
                let end = lingering.end();
                self.end(end);
            }
            Stage::Over => {}
        }
    }

    /// The route of [`Effect::Route`]'s request: the bound of its body, or the answer already.
    pub fn handle_route(&mut self, now: Now, verdict: Result<usize, Response>) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        debug_assert!(exchange.request().is_some(), "a route is given to a request that waits for one");
        let progress = exchange.handle_route(now, verdict, &self.settings, self.transmit.plain());
        self.follow(now, progress);
    }

    /// The route of [`Effect::Route`]'s request is the connect path.
    pub fn handle_upgrade(&mut self, now: Now) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        debug_assert!(exchange.request().is_some(), "a route is given to a request that waits for one");
        let progress = exchange.handle_upgrade(now, &self.settings, self.security.is_tls(), self.transmit.plain());
        self.follow(now, progress);
    }

    /// The answer to the call.
    pub fn handle_response(&mut self, now: Now, response: &Response) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        debug_assert!(exchange.is_answering(), "an answer is given to a request that waits for one");
        let progress = exchange.handle_response(now, response, &self.settings, self.transmit.plain());
        self.follow(now, progress);
    }

    /// Answers [`Effect::Stalled`]: whether the peer's kernel has acknowledged anything since the socket last took bytes.
    pub fn handle_stall(&mut self, now: Now, acknowledged: bool) {
        if acknowledged { self.transmit.restart_stall(now.attended) } else { self.end_stalled(now) }
    }

    /// What the kernel knows about a silent peer: whether it still acknowledges our bytes.
    pub fn handle_peer_state(&mut self, now: Now, reachable: bool) {
        if let Stage::Streaming(streaming) = &mut self.stage {
            streaming.handle_peer_state(now.attended, reachable);
        }
    }

    /// The core did not run for a while, which its attended time leaves out.
    pub fn handle_lost(&mut self, lost: Duration) {
        if let Stage::Streaming(streaming) = &mut self.stage {
            streaming.handle_lost(lost);
        }
    }

    /// The connection has come to another core, whose attended time is `to` where that of the first was `from`.
    pub fn handle_moved(&mut self, from: Instant, to: Instant) {
        debug_assert!(matches!(self.stage, Stage::Admission(_)), "a connection moves while it waits for its verdict");
        self.transmit.handle_moved(from, to);
    }

    /// A deadline may have come.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.abort_at.is_some_and(|at| now.attended >= at) && !self.is_over() {
            self.handle_broken();
            self.aborted = true;
            return;
        }
        if self.transmit.poll_stall(self.settings.write_deadline).is_some_and(|deadline| now.attended >= deadline) {
            self.effects.push_back(Effect::Stalled);
            return;
        }
        match &mut self.stage {
            Stage::Exchange(exchange) => {
                let progress = exchange.handle_timeout(now, self.security.established(), self.transmit.plain());
                self.follow(now, progress);
            }
            Stage::Streaming(streaming) => {
                let over = streaming.handle_timeout(now.attended, &mut self.effects);
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
            Stage::Streaming(streaming) => Some(streaming.poll_timeout()),
            Stage::Lingering(lingering) => Some(lingering.deadline()),
            Stage::Admission(_) | Stage::Over => None,
        };
        let stall = self.transmit.poll_stall(self.settings.write_deadline);
        [stage, stall, self.abort_at.filter(|_| !self.is_over())].into_iter().flatten().min()
    }

    /// The next thing for the caller to carry out.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        effect::pop(&mut self.effects)
    }

    /// Whether [`Session::poll_effect`] has something.
    pub fn has_effect(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Ends it as it is, without a word to anybody: its own code cannot be trusted any more.
    pub fn break_off(&mut self) {
        self.stage = Stage::Over;
        self.effects.clear();
    }

    /// Whether the socket can go.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Puts the next bytes for the socket into `scratch.wire`, unless the socket still owes the [`Session::backlog`].
    /// Events are copied from `source`, which the caller then advances by [`Filled::event_bytes`]. `None` where there is
    /// nothing to send; else [`Session::handle_sent`] has to follow.
    pub fn poll_transmit(&mut self, now: Now, source: &impl Source, scratch: &mut Scratch) -> Option<Filled> {
        if !self.transmit.backlog().is_empty() || self.is_over() {
            return None;
        }
        scratch.clear();
        if let Stage::Exchange(exchange) = &mut self.stage
            && self.transmit.is_empty()
        {
            let progress = exchange.handle_drained(now, &self.settings, self.transmit.plain());
            self.follow(now, progress);
        }
        let event_bytes = match &mut self.stage {
            Stage::Streaming(streaming) => {
                streaming.send_ping(source, self.transmit.plain(), &mut scratch.plain);
                streaming.before_transmit(now, source, self.transmit.plain(), &mut self.effects);
                self.transmit.fill(source, &mut scratch.plain)
            }
            _ => self.transmit.fill_own(&mut scratch.plain),
        };
        if !scratch.plain.is_empty() {
            if let Err(error) = self.security.seal(&scratch.plain, &mut scratch.wire) {
                self.end(End::Tls(error.0));
                return None;
            }
            return Some(Filled { event_bytes });
        }
        self.handle_drained(now, scratch);
        (!scratch.wire.is_empty()).then_some(Filled { event_bytes: 0 })
    }

    /// The socket took the first `sent` bytes of `scratch.wire`; the rest is kept and goes out first.
    pub fn handle_sent(&mut self, now: Now, sent: usize, scratch: &Scratch) {
        debug_assert!(sent <= scratch.wire.len(), "a socket takes at most what it is offered");
        self.transmit.handle_sent(now.attended, sent, &scratch.wire);
        debug_assert_eq!(self.backlog().len(), scratch.wire.len() - sent, "what was not taken is kept");
    }

    /// Whether something of its own waits for the socket; events apart.
    pub fn has_output(&self) -> bool {
        !self.transmit.is_empty() || matches!(&self.stage, Stage::Streaming(streaming) if streaming.owes_close())
    }

    /// Sealed bytes that the socket did not take yet.
    pub fn backlog(&self) -> &[u8] {
        self.transmit.backlog()
    }

    /// Bytes that wait for the socket in here, sealed or not, and bytes of requests that are not whole.
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
