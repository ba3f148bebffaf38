//! Tests over the wire: real sockets, real TLS and a client of our own against a hub in this process.
//!
//! ```text
//! harness ── starts hubs, calls the platform's side ──┐
//! peer ───── a gateway: frames by hand ───────────────┼── request (HTTP by hand) ── socket (TCP, TLS, how it ended)
//! ```
//!
//! Each of the other modules tests one subject of the contract. Each connection comes from an address of its own in
//! 127.0.0.0/8, so that tests that run at the same time do not share a rate limit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot continue fails by panicking")]

mod harness;
mod peer;
mod request;
mod socket;

mod admission;
mod closing;
mod delivery;
mod events;
mod heartbeat;
mod http;
mod inbound;
mod metrics;
mod platform;
mod processed;
mod resume;
mod sides;
mod slow;
mod stats;
mod store;
mod storm;
mod tls;
mod upgrade;
mod waits;
