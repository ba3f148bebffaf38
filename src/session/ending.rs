//! Endings that the hub causes: a close with a reason, a response to an incomplete request, an abort; and the queries
//! that decide when to cause them.

use super::{End, Session, Stage};
use crate::{
    limits,
    model::{CloseReason, Now},
    wire::http::Response,
};

impl Session {
    /// Whether a request has begun to arrive or its response is not in the socket yet. A drain waits for these.
    pub fn is_busy(&self) -> bool {
        match &self.stage {
            Stage::Exchange(exchange) => exchange.has_begun() || self.has_output(),
            Stage::Admission(_) => true,
            Stage::Lingering(_) => self.has_output(),
            Stage::Streaming(_) | Stage::Over => false,
        }
    }

    /// Whether a request's body is being received or held: its memory is still reserved.
    pub fn has_body(&self) -> bool {
        matches!(&self.stage, Stage::Exchange(exchange) if exchange.has_body())
    }

    /// Answers an incomplete request with this response, which ends the connection.
    pub fn abandon(&mut self, now: Now, response: Response) {
        if matches!(&self.stage, Stage::Exchange(exchange) if !exchange.is_answering()) {
            response.closing().encode(now.wall, false, false, self.transmit.plain());
            self.linger(now, End::Answered);
        }
    }

    /// Begins to close the connection for this reason. With [`CloseReason::Shutdown`] the queued events go out first.
    pub fn close(&mut self, now: Now, reason: CloseReason) {
        // The peer has lost the right to what is on its way to it, so it cannot delay its end by reading nothing.
        if matches!(reason, CloseReason::KeyRevoked | CloseReason::GatewayDeleted) {
            self.abort_at.get_or_insert(now.attended + limits::REVOKED_PATIENCE);
        }
        match &mut self.stage {
            Stage::Streaming(streaming) => streaming.close(now.attended, reason, &mut self.effects),
            // The request is complete and may have changed something: its response goes out, with `Connection: close`.
            Stage::Exchange(exchange) if exchange.is_answering() => exchange.handle_drain(),
            Stage::Exchange(exchange) => {
                if exchange.has_begun() && self.security.established() {
                    return self.abandon(now, Response::error(503, "the hub is draining").with("Retry-After", "5"));
                }
                self.linger(now, End::Answered);
            }
            Stage::Admission(_) => self.end(End::Gone),
            Stage::Lingering(_) | Stage::Over => {}
        }
    }

    /// Whether to abort the socket: bytes that the kernel still holds must not reach a peer whose token was revoked.
    pub fn is_aborted(&self) -> bool {
        self.aborted
    }
}
