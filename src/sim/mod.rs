//! Whole hubs in virtual time, each from a seed: real engines over a simulated world, judged by an oracle.
//!
//! ```text
//!   World ── events by time ──▶ Peer (gateway, platform) ── bytes ──▶ Socket ◀── bytes ── SimIo ◀── Engine, one a core
//!                                     │                                 │                  │ lanes, store, clock
//!                                     └─── bytes sent ────▶ Oracle ◀──── bytes taken ───────┘
//! ```
//!
//! The engine is the one that the driver runs; each of its `Io` calls costs simulated time. The oracle knows which
//! bytes the peers have sent and which bytes the simulated kernels took, and derives from these two what must have
//! happened.

mod answers;
mod at_the_end;
mod awaited;
mod behaviour;
mod client;
mod deadlines;
mod fairness;
mod fleet;
mod frames;
mod handling;
mod hardships;
mod io;
mod lanes;
mod ledger;
mod log;
mod members;
mod memory;
mod net;
mod notices;
mod opening;
mod oracle;
mod peer;
mod processed;
mod proving;
mod read_loop;
mod requests;
mod rng;
mod roster;
mod scenario;
mod socket;
mod store;
mod successors;
mod testing;
mod tests;
mod tls;
mod trace;
mod world;
