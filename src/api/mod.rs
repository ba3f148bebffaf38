//! Turns HTTP calls into commands for shards and jobs for the store, and their replies into HTTP responses. It does no
//! I/O, so every row of the route table is tested without a socket.
//!
//! ```text
//! head ── route_request ──> a WebSocket, or a call and the maximum size of its body, or an error response
//! call ── handle ─────> Respond
//!                  └──> Ask + Pending ── handle_answers ──> Respond, or one more Ask
//!                  └──> Slice + Pending ── handle_more ───> the next slice of a long call, or Ask
//! ```

mod answer;
mod auth;
mod batch;
mod body;
mod call;
mod deploy;
mod events;
mod gateways;
mod health;
mod json;
mod log_metrics;
mod manifest;
mod metrics;
mod outcome;
mod params;
mod publish;
mod query;
mod resend;
mod routes;
mod spread;
mod stats;
mod tokens;
mod wait;

pub use call::{Answer, Answers, Ask, Asks, Call, Pending, Phase, Step, View};
pub use routes::{CONNECT_PATH, Matched, Routed, handle, route_request};
pub use wait::wait_time;

#[cfg(test)]
mod tests;
