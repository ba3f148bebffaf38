//! The hub's TLS certificate: creates a self-signed one if none is configured, checks it, loads it into rustls, and
//! reloads it when its files change.

mod certificate;
mod error;
mod load;
mod self_signed;
mod validity;

pub(crate) use certificate::{Certificate, watch};
pub use error::TlsError;
pub(crate) use load::check;
pub(crate) use self_signed::CERT_FILE;
#[cfg(test)]
pub(crate) use self_signed::self_signed;
