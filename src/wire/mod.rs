//! Parsing and encoding: TLS, HTTP, the WebSocket upgrade, frames, the event's envelope, gateways' messages. Nothing
//! here knows sockets, the clock or the hub's state.

pub mod envelope;
pub mod frames;
pub mod http;
pub mod message;
pub mod origin;
pub mod sealed;
pub mod tls;
pub mod token_text;
pub mod upgrade;
