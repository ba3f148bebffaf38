//! The world without sockets: real sessions and real shards, simulated time, cores, sockets and peers, all from one seed.
//!
//! ```text
//!   peer ⇄ pipe ⇄ core (Session, Shard) ⇄ mesh ⇄ core …        oracle sees every command and every byte
//! ```
//!
//! [`core`] and [`calls`] do what `driver` does; what they do differently hides bugs, so keep them alike.

mod asks;
mod calls;
mod client;
mod core;
mod dice;
mod faults;
mod flush;
mod hub;
mod invariants;
mod ledger;
mod oracle;
mod peer;
mod pipe;
mod scenario;
mod story;
mod tests;
mod tls;
mod world;
