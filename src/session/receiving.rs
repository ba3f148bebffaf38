//! What comes from the peer: bytes, the end of its stream, or the failure of its socket.

use super::{End, Scratch, Session, Stage};
use crate::{
    model::{CloseReason, Now},
    wire::tls::Security,
};

impl Session {
    /// Handles bytes from the socket.
    pub fn handle_received(&mut self, now: Now, bytes: &mut [u8], scratch: &mut Scratch) {
        debug_assert!(!self.is_over(), "a session that is over reads nothing");
        // Discarded bytes may be a request with a key. Only without TLS are they readable.
        self.secret = matches!((&self.stage, &self.security), (Stage::Lingering(_), Security::Plain));
        if let Stage::Lingering(lingering) = &mut self.stage {
            if lingering.discard(bytes.len()) {
                let end = lingering.end();
                self.end(end);
            }
            return;
        }
        scratch.clear();
        let most = bytes.len() + self.security.held_bytes();
        let plain = match &mut self.stage {
            Stage::Exchange(exchange) => exchange.receive(most, &mut scratch.spare),
            _ => &mut scratch.plain,
        };
        let before = plain.len();
        let opened = self.security.open(bytes, plain, self.transmit.sealed());
        let new = plain.len() - before;
        if new > 0 {
            self.handle_plain(now, new, scratch);
        }
        // Only now: the records before a broken one, or before close_notify, were intact.
        match opened {
            Err(error) => self.linger(now, End::Tls(error.0)),
            Ok(()) if self.security.peer_closed() => self.handle_end(now),
            Ok(()) => {}
        }
    }

    /// Gives the core back the buffer that it lent for received bytes. To be called at the end of a visit that has read.
    pub fn put_aside(&mut self, scratch: &mut Scratch) {
        if let Stage::Exchange(exchange) = &mut self.stage {
            exchange.put_aside(self.secret, &mut scratch.spare);
        }
    }

    /// Handles the end of the peer's stream: its FIN, or TLS's close_notify. It ends one direction only: a client that
    /// half-closes after a request or a close frame still gets the whole response.
    pub fn handle_end(&mut self, now: Now) {
        let unsent = !self.transmit.is_empty();
        if let Stage::Exchange(exchange) = &mut self.stage {
            if exchange.is_answering() {
                return exchange.handle_end();
            }
            // Earlier responses still wait for the socket.
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
            // Nothing is owed to the peer, and it will request nothing more.
            _ => self.handle_broken(),
        }
    }

    /// Ends the session at once: the socket has failed, or nothing more may reach the peer.
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

    /// Passes the `new` last bytes of its input to the HTTP stage, or `scratch.plain` to another one.
    pub(super) fn handle_plain(&mut self, now: Now, new: usize, scratch: &mut Scratch) {
        match &mut self.stage {
            Stage::Exchange(exchange) => {
                let progress = exchange.handle_bytes(now, new, &self.settings, self.transmit.plain());
                self.secret = exchange.is_secret();
                self.follow(now, progress);
            }
            Stage::Streaming(streaming) => {
                let (plain, reading) = (&scratch.plain, &mut scratch.reading);
                streaming.handle_bytes(now.attended, plain, reading, self.transmit.plain(), &mut self.effects);
            }
            Stage::Admission(pending) => pending.early_bytes.extend_from_slice(&scratch.plain),
            Stage::Lingering(_) | Stage::Over => {}
        }
    }
}
