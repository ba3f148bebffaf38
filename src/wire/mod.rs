//! Bytes and meaning: TLS, HTTP, the upgrade, the event's envelope. No clock, no socket, no hub.

pub mod http;
pub mod upgrade;
