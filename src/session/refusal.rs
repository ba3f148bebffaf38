//! The response to a refused upgrade (contract section 1).

use crate::{model::Refused, wire::http::Response};

/// The response for this reason. It closes the connection.
pub(super) fn response(refused: Refused) -> Response {
    let description = match refused {
        Refused::RateLimited { .. } => "Too many connection attempts from this address.",
        Refused::Unauthorized => "The api-key is missing or not valid.",
        Refused::CapacityExceeded => "Connection capacity exceeded.",
        Refused::Unavailable => "The hub cannot accept the connection right now.",
        Refused::Draining => "The hub is shutting down.",
    };
    let mut response = Response::error(refused.status(), description).closing();
    if refused == Refused::Unauthorized {
        // A 401 has to name a scheme (RFC 9110 section 15.5.2): clients with an authenticator do not show one without.
        response = response.with("WWW-Authenticate", "ApiKey");
    }
    match refused.retry_after() {
        Some(seconds) => response.with("Retry-After", seconds.to_string()),
        None => response,
    }
}
