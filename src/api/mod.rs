//! HTTP calls to commands, replies to answers; pure, so that every row of the route table is tested without a socket.
//!
//! ```text
//! head ── route_request ──> a WebSocket, or a call with the bound of its body, or the refusal
//! call ── handle ─────> Respond
//!                  └──> Ask + Pending ── handle_answers ──> Respond, or one more Ask
//!                  └──> Slice + Pending ── handle_more ───> the next slice of something long, or Ask
//! ```

mod answer;
mod auth;
mod batch;
mod body;
mod call;
mod deploy;
mod gateways;
mod health;
mod manifest;
mod metrics;
mod params;
mod publish;
mod query;
mod routes;
mod spread;
mod stats;
mod tokens;

pub use call::{Answer, Ask, Call, Pending, Phase, Step, View};
pub use routes::{CONNECT_PATH, Matched, Routed, handle, route_request};

#[cfg(test)]
mod tests;
