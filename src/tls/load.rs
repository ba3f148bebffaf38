//! Reads certificate and key from their files into the rustls configuration that all cores share.

use super::{TlsError, validity};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, ParsedCertificate, ProducesTickets},
};
use std::{path::Path, sync::Arc};

const NOT_A_FILE: &str = "expected a regular file";

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
    // Opening a FIFO would wait for a writer, and stop every later reload.
    let is_other = |path: &Path| path.metadata().is_ok_and(|metadata| !metadata.is_file());
    if is_other(cert) {
        return Err(TlsError::UnreadableCertificate { path: cert.to_owned(), why: NOT_A_FILE.to_owned() });
    }
    if is_other(key) {
        return Err(TlsError::UnreadableKey { path: key.to_owned(), why: NOT_A_FILE.to_owned() });
    }
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::UnreadableCertificate { path: cert.to_owned(), why: error.to_string() })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: cert.to_owned() });
    }
    // rustls parses the first certificate only. A client refuses a chain with a damaged one.
    for (number, der) in (1..).zip(&chain) {
        ParsedCertificate::try_from(der).map_err(|error| TlsError::UnreadableCertificate {
            path: cert.to_owned(),
            why: format!("block {number} is not a valid certificate: {error}"),
        })?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_damaged_certificate_anywhere_in_the_chain_and_other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::write(&cert, made.cert.pem().repeat(2)).unwrap();
        check(&cert, &key).expect("a chain of two");
        let damaged = "-----BEGIN CERTIFICATE-----\nAAECAwQFBgcICQoLDA0ODw==\n-----END CERTIFICATE-----\n";
        fs::write(&cert, made.cert.pem() + damaged).unwrap();
        let error = check(&cert, &key).expect_err("damaged").to_string();
        assert!(error.contains("block 2 is not a valid certificate"), "{error}");
        fs::remove_file(&cert).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &cert, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        let error = check(&cert, &key).expect_err("a FIFO").to_string();
        assert!(error.contains(NOT_A_FILE), "{error}");
    }
}
