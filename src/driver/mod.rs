//! The only code that knows glommio, flume, sockets and the clock: it carries out what the pure machines ask for.
//!
//! ```text
//!   socket ─▶ pump ─▶ Session ─▶ effects ─┐                       ┌─▶ socket
//!   other cores ─▶ mesh ─▶ ───────────────┼─▶ worker: turn ─▶ serve ─▶ flush
//!   wheel (timeouts) ─▶ ──────────────────┘      ▲    │
//!                                  Shard effects ┘    └─▶ asks: to shards and to the store
//! ```
//!
//! One [`worker`] per core, single-threaded: `RefCell`s are borrowed for one step and never across another's.

mod admit;
mod asks;
pub(crate) mod calls;
pub(crate) mod clock;
mod drain;
mod effects;
#[cfg(test)]
mod faults;
mod flush;
mod handoff;
mod link;
pub(crate) mod listener;
pub(crate) mod mesh;
mod pump;
mod quiet;
pub(crate) mod shared;
pub(crate) mod slots;
mod socket;
mod tasks;
mod turn;
pub(crate) mod watchdog;
pub(crate) mod wheel;
pub(crate) mod worker;

#[cfg(test)]
mod tests;
