//! Ends that come from the hub: a close with its reason, an answer in the place of a request's rest, a teardown; and
//! what is still under way before them.

use super::{End, Session, Stage};
use crate::{
    limits,
    model::{CloseReason, Now},
    wire::http::Response,
};

impl Session {
    /// Whether a request has begun to come, is being answered, or its answer is not out.
    pub fn is_busy(&self) -> bool {
        match &self.stage {
            Stage::Exchange(exchange) => exchange.has_begun() || self.has_output(),
            Stage::Admission(_) => true,
            Stage::Lingering(_) => self.has_output(),
            Stage::Streaming(_) | Stage::Over => false,
        }
    }

    /// Whether a request's body is here, or on its way.
    pub fn has_body(&self) -> bool {
        matches!(&self.stage, Stage::Exchange(exchange) if exchange.has_body())
    }

    /// Ends a request that is not whole, and with it the connection, by this answer.
    pub fn abandon(&mut self, now: Now, response: Response) {
        if matches!(&self.stage, Stage::Exchange(exchange) if !exchange.is_answering()) {
            response.closing().encode(now.wall, false, false, self.transmit.plain());
            self.linger(now, End::Answered);
        }
    }

    /// Ends the connection for a reason of the hub's. A shutdown lets the queued events out first.
    pub fn close(&mut self, now: Now, reason: CloseReason) {
        if matches!(reason, CloseReason::KeyRevoked | CloseReason::GatewayDeleted) {
            self.abort_at.get_or_insert(now.attended + limits::REVOKED_PATIENCE);
        }
        match &mut self.stage {
            Stage::Streaming(streaming) => streaming.close(now.attended, reason, &mut self.effects),
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

    /// Whether the socket is to be torn down: what the kernel still holds for a revoked peer must not reach it.
    pub fn is_aborted(&self) -> bool {
        self.aborted
    }
}
