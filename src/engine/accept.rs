//! New connections: taken from the kernel a few at a time, and left with it while the core cannot take more.

use super::{
    core::Engine,
    io::{Accepted, Io},
    link::Link,
    notice::Notice,
    schedule::Visit,
};
use crate::{
    limits,
    model::{Instant, Now},
    session::Session,
    wire::tls::Security,
};
use std::{sync::Arc, time::Duration};

/// Whether connections wait, and since when the kernel gives none.
#[derive(Default)]
pub(super) struct Acceptor {
    ready: bool,
    retry: Option<Instant>,
    /// How long the last refusal was waited out.
    backoff: Duration,
}

const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

impl Acceptor {
    pub(super) fn handle_ready(&mut self) {
        self.ready = true;
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.retry.is_some_and(|at| now >= at) {
            self.retry = None;
            self.ready = true;
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.retry
    }

    /// The kernel gave none; returns whether this is worth a line in the log: the first time, and when it lasts.
    fn back_off(&mut self, now: Instant) -> bool {
        self.ready = false;
        self.backoff = if self.backoff.is_zero() { BACKOFF } else { (self.backoff * 2).min(BACKOFF_MAX) };
        self.retry = Some(now + self.backoff);
        self.backoff == BACKOFF || self.backoff == BACKOFF_MAX
    }
}

impl<I: Io> Engine<I> {
    pub(super) fn accept(&mut self, io: &mut I, now: Now) -> Visit {
        if !self.acceptor.ready || self.acceptor.retry.is_some() {
            return Visit::Idle;
        }
        match io.accept() {
            Accepted::Socket { socket, peer, side } => {
                self.acceptor.backoff = Duration::ZERO;
                let transients_max = limits::TRANSIENT_SOCKETS_MAX / usize::from(self.hub.placement.shards());
                let security = match &self.tls {
                    None => Ok(Security::Plain),
                    Some(config) => Security::tls(Arc::clone(config)),
                };
                match security {
                    Ok(security) if self.transients() < transients_max => {
                        let session = Session::new(now, Arc::clone(&self.hub.session), security, peer);
                        self.insert(io, Link::new(session, socket, side));
                    }
                    Ok(_) => io.close(socket),
                    Err(error) => {
                        io.notice(now, Notice::TlsFailed { address: peer, error: &error.0 });
                        io.close(socket);
                    }
                }
                Visit::Large
            }
            Accepted::Blocked => {
                self.acceptor.ready = false;
                Visit::Idle
            }
            Accepted::Failed(error) => {
                if self.acceptor.back_off(now.instant) {
                    io.notice(now, Notice::CannotAccept(&error));
                }
                Visit::Small
            }
        }
    }
}
