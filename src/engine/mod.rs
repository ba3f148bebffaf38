//! All decisions of one core, without I/O. The driver, the simulation, the benches and the tests run the same engine.
//!
//! ```text
//!               ┌──────────────────────── Engine (one core) ────────────────────────┐
//!  Io::take ───▶│ inbox ─────────────▶ shard ──▶ dirty ──▶ writers ──▶ write        │──▶ Io::send
//!  handle_ready▶│ readers ──▶ read ──▶ session ──▶ effects ──▶ calls, connect       │──▶ Io::request, reply, store
//!  Io::now ────▶│ timer_wheel ─────────▲                        pending_requests    │──▶ Io::notice
//!               └────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The caller only reports which links are ready ([`Engine::handle_ready`]). [`Engine::pass`] does all work and pulls
//! its inputs through [`Io`], in the order and amounts that `schedule` gives. If the driver pushed bytes and messages
//! instead, it would decide the order of work, and the simulation would not test that order.

mod acceptor;
mod bodies;
mod calls;
mod connect;
mod core;
mod descriptors;
mod drain;
#[cfg(test)]
pub(crate) mod faults;
mod guard;
mod hub;
mod inbox;
#[cfg(test)]
mod inspect;
mod io;
mod link;
mod link_key;
mod live_tokens;
mod log;
mod lost_time;
mod notice;
mod pending_requests;
mod read;
mod schedule;
mod shutdown;
mod slots;
mod timer_wheel;
mod unauthenticated;
mod write;

pub use self::core::{Engine, EngineSettings, Rest};
pub use hub::{HubSettings, HubState};
#[cfg(test)]
pub(crate) use inspect::Held;
pub use io::{Accepted, Credentials, Ending, Handoff, Incoming, Io, Lane, PeerState, Ready, Received, Request, Sent};
pub use link::LinkKey;
pub use live_tokens::LiveTokens;
pub use lost_time::WAKE_INTERVAL;
pub use notice::Notice;
