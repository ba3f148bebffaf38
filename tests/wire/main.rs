//! What the wire must show: real sockets, real TLS and our own client against a hub in this process.
//!
//! ```text
//! harness ── starts hubs, calls the platform's side ──┐
//! peer ───── a gateway: frames by hand ───────────────┼── request (HTTP by hand) ── socket (TCP, TLS, how it ended)
//! ```
//!
//! Every other module is a subject of the contract; its tests are named after what they claim. Each connection comes
//! from an address of its own in 127.0.0.0/8, so that tests running side by side do not share a rate limit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]

mod harness;
mod peer;
mod request;
mod socket;

mod admission;
mod closing;
mod delivery;
mod heartbeat;
mod http;
mod inbound;
mod metrics;
mod platform;
mod slow;
mod stats;
mod store;
mod storm;
mod tls;
mod upgrade;
