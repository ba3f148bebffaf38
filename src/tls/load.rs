//! Reads certificate and key from their files into the rustls configuration that all cores share.

use super::{TlsError, validity};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, ProducesTickets},
};
use std::{path::Path, sync::Arc};

/// Creates the key that encrypts session tickets. All cores share it, because a client's next connection may be
/// accepted by another core. It is kept when the certificate changes, so that clients can still resume.
pub(super) fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    ring::Ticketer::new().map_err(|error| TlsError::Tickets { why: error.to_string() })
}

/// Reads certificate and key into a configuration whose session tickets are encrypted by `ticketer`.
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
    // rustls sends two by default. One is enough to resume, and each costs bytes on every connection.
    config.send_tls13_tickets = 1;
    // Sessions are resumed by tickets alone: a session store would be state that all cores share behind a lock.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Checks that a hub can start with these two files.
///
/// # Errors
/// If a file cannot be read or is not PEM, if the certificate has expired, or if the key does not belong to it.
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
    // rustls does not check the dates of the server's own certificate. Without this check, the hub would start and
    // every client would refuse it.
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
