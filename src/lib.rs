//! Gatecast: the event hub between an API platform and its fleet of gateways.
//!
//! ```text
//! limits, model ← config ∥ wire ∥ shard ← transport ← session ∥ api ∥ store ∥ tls ← engine ← driver ← server ← cli
//! ```
//!
//! Every core runs one executor and one engine, which owns one shard; protocols and policy are pure state machines; only
//! `driver` does I/O for connections, and only `config`, `store`, `tls`, `server` and `cli` touch files.
//!
//! A program that embeds a hub needs [`Config`], [`Hub`] and [`HubHandle`]. The feature `internals` opens the rooms of the
//! crate to its own tests and benches; nothing in there is stable.

#![cfg_attr(
    not(feature = "internals"),
    allow(dead_code, unused_imports, reason = "the crate's own tests and benches use more than the program does")
)]

mod cli;
pub mod config;
mod driver;
mod server;
#[cfg(test)]
#[allow(
    clippy::result_large_err,
    reason = "a message that found no room goes back to its sender, as in the engine's `Io`"
)]
mod sim;
#[cfg(test)]
mod tidy;
mod tls;

pub use config::Config;
pub use limits::PAYLOAD_BYTES_MAX;
pub use model::{ApiDeployed, ApiUndeployed, EventType, GatewayConfigUpdated};
pub use server::{Hub, HubHandle, RunError, StartError, TlsError};
pub use store::{AdminTokenError, StoreError};

/// Runs the `gatecast` program.
#[doc(hidden)]
pub use cli::run as run_program;

#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod api;
#[cfg(not(feature = "internals"))]
mod api;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod engine;
#[cfg(not(feature = "internals"))]
mod engine;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod limits;
#[cfg(not(feature = "internals"))]
mod limits;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod model;
#[cfg(not(feature = "internals"))]
mod model;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod session;
#[cfg(not(feature = "internals"))]
mod session;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod shard;
#[cfg(not(feature = "internals"))]
mod shard;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod store;
#[cfg(not(feature = "internals"))]
mod store;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod transport;
#[cfg(not(feature = "internals"))]
mod transport;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod wire;
#[cfg(not(feature = "internals"))]
mod wire;
