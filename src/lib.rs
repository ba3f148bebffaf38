//! Gatecast: the event hub between an API platform and its fleet of gateways.
//!
//! ```text
//! limits, model ← config ∥ wire ∥ shard ← transport ← session ∥ api ∥ store ∥ tls ← driver ← server ← cli
//! ```
//!
//! Every core runs one executor and owns one shard; protocols and policy are pure state machines; only `driver` does
//! I/O for connections, and only `config`, `store`, `tls`, `server` and `cli` touch files.

pub mod api;
pub mod cli;
pub mod config;
mod driver;
pub mod engine;
pub mod limits;
pub mod model;
pub mod server;
pub mod session;
pub mod shard;
pub mod store;
#[cfg(test)]
mod tidy;
mod tls;
pub mod transport;
pub mod wire;

pub use config::Config;
pub use server::Hub;
