//! Strict HTTP/1.1 over bytes: heads and bodies in, responses out (RFC 9110, RFC 9112).
//!
//! `httparse` finds the tokens. Input that it accepts but that two parsers could read in two ways is refused here: a
//! hub behind a proxy must never see another request than the proxy saw.
//!
//! ```text
//! bytes ─ HeadParser ─► Head ─ check_length, BodyDecoder ─► body ─► Response::encode ─► bytes
//!             └───────────────────── Refusal ──────────────────────────────┘
//! ```

mod body;
mod fields;
mod framing;
mod head;
mod method;
mod parser;
mod query;
mod refusal;
mod request_line;
mod response;
#[cfg(test)]
mod tests;

pub use body::BodyDecoder;
pub use framing::{Framing, check_length};
pub use head::Head;
pub use method::{Method, Version};
pub use parser::HeadParser;
pub use query::{BadParameter, parameter};
pub use refusal::Refusal;
pub use response::{CONTINUE, Response, reason_phrase};
