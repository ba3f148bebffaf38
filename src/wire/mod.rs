//! Bytes and meaning: TLS, HTTP, the upgrade, the event's envelope, gateways' messages. No clock, no socket, no hub.

pub mod envelope;
pub mod frames;
pub mod http;
pub mod message;
pub mod origin;
pub mod tls;
pub mod upgrade;
