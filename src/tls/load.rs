//! Certificate and key, read from their files into the rustls configuration that every core uses.

use super::{TlsError, validity};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, ProducesTickets},
};
use std::{path::Path, sync::Arc};

/// The key of resumption tickets, which all cores share and which outlives a change of the certificate.
pub(super) fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    ring::Ticketer::new().map_err(|error| TlsError::Tickets { why: error.to_string() })
}

/// Reads certificate and key into a configuration that issues tickets of `ticketer`.
///
/// # Errors
/// As [`check`].
pub(super) fn server_config(
    cert: &Path,
    key: &Path,
    ticketer: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = read(cert, key)?;
    config.ticketer = ticketer;
    config.send_tls13_tickets = 1;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Whether a hub could start with these two files.
///
/// # Errors
/// Which file is wrong, and how: unreadable, not PEM, expired, or not a pair.
pub(crate) fn check(cert: &Path, key: &Path) -> Result<(), TlsError> {
    read(cert, key).map(drop)
}

fn read(cert: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::UnreadableCertificate { path: cert.to_owned(), why: error.to_string() })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: cert.to_owned() });
    }
    validity::check(&chain[0]).map_err(|end| TlsError::Expired { path: cert.to_owned(), end })?;
    let key_der = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| TlsError::UnreadableKey { path: key.to_owned(), why: error.to_string() })?;
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup { why: error.to_string() })?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(|error| TlsError::Mismatch { cert: cert.to_owned(), key: key.to_owned(), why: error.to_string() })
}
