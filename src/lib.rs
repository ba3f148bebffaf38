//! Gatecast: the event hub between an API platform and its fleet of gateways.
//!
//! ```text
//! limits, model ← config ∥ wire ∥ shard ← transport ← session ∥ api ∥ store ∥ tls ← engine ← driver ← server ← cli
//! ```
//!
//! Each core runs one executor with one engine, and the engine owns one shard. Protocols and policy are pure state
//! machines. Only `driver` does I/O for connections, and only `config`, `store`, `tls`, `server` and `cli` touch files.
//!
//! A program that embeds a hub needs [`Config`], [`Hub`] and [`HubHandle`]. The feature `internals` makes the other
//! modules public for the crate's own tests and benches; they have no stable interface.

#![cfg_attr(
    not(feature = "internals"),
    allow(
        dead_code,
        unused_imports,
        reason = "without the feature, nothing uses what is there for tests and benches alone"
    )
)]

mod cli;
pub mod config;
mod driver;
mod server;
#[cfg(test)]
#[allow(
    clippy::result_large_err,
    reason = "a message that does not fit a full queue is returned to its sender as the error, as in the engine's `Io`"
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

// A visibility cannot depend on a feature, so each of these modules is declared twice.
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
