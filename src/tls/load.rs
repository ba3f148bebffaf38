//! Certificate and key, read from their files into the rustls configuration that every core uses.

use super::validity;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, ProducesTickets},
};
use std::{path::Path, sync::Arc};

/// The key of resumption tickets, which all cores share and which outlives a change of the certificate.
pub(super) fn ticketer() -> Result<Arc<dyn ProducesTickets>, String> {
    ring::Ticketer::new().map_err(|error| format!("no key for TLS tickets: {error}"))
}

/// Reads certificate and key into a configuration that issues tickets of `ticketer`.
///
/// # Errors
/// As [`check`].
pub(super) fn server_config(
    cert: &Path,
    key: &Path,
    ticketer: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, String> {
    let mut config = read(cert, key)?;
    config.ticketer = ticketer;
    config.send_tls13_tickets = 1;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Whether a hub could start with these two files.
///
/// # Errors
/// A sentence that names the file and what is wrong with it: unreadable, not PEM, expired, or not a pair.
pub(crate) fn check(cert: &Path, key: &Path) -> Result<(), String> {
    read(cert, key).map(drop)
}

fn read(cert: &Path, key: &Path) -> Result<ServerConfig, String> {
    let show = |path: &Path| path.display().to_string();
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("the certificate {} cannot be read: {error}", show(cert)))?;
    if chain.is_empty() {
        return Err(format!("{} holds no certificate in PEM form", show(cert)));
    }
    validity::check(&chain[0]).map_err(|why| format!("the certificate {} {why}", show(cert)))?;
    let key_der = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("the private key {} cannot be read: {error}", show(key)))?;
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(|error| format!("{} and {} do not go together: {error}", show(cert), show(key)))
}
