//! Gatecast: the event hub between an API platform and its fleet of gateways.
//!
//! ```text
//! model, limits ← (wire ∥ shard) ← transport ← session ∥ api ← (driver ∥ store) ← server ← cli
//! ```
//!
//! Every core runs one executor and owns one shard; protocols and policy are pure state machines; only `driver` and
//! `store` do I/O.

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
#[cfg(test)]
mod sim;
pub mod store;
#[cfg(test)]
mod tidy;
pub mod transport;
pub mod wire;

pub use config::Config;
pub use server::Hub;
