//! Strict HTTP/1.1 over bytes: heads and bodies in, responses out (RFC 9110, RFC 9112).

mod response;

pub use response::Response;
