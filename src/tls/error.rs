//! Errors of the TLS certificate. Each names the file, so that the operator knows what to repair.

use crate::model::Timestamp;
use std::{fmt, path::PathBuf};

/// Why the hub cannot offer TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// A self-signed certificate cannot be created.
    Generate {
        /// The library's error.
        why: String,
    },
    /// The self-signed certificate or its key cannot be written.
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        why: String,
    },
    /// The certificate's file cannot be read.
    UnreadableCertificate {
        /// The file.
        path: PathBuf,
        /// The error of the system or of the PEM parser.
        why: String,
    },
    /// The certificate's file can be read, but holds no certificate.
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The certificate is no longer valid.
    Expired {
        /// The file.
        path: PathBuf,
        /// The end of its validity.
        end: Timestamp,
    },
    /// The private key's file cannot be read.
    UnreadableKey {
        /// The file.
        path: PathBuf,
        /// The error of the system or of the PEM parser.
        why: String,
    },
    /// The private key does not belong to the certificate.
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The library's error.
        why: String,
    },
    /// The TLS library cannot be set up.
    Setup {
        /// The library's error.
        why: String,
    },
    /// The key for session tickets cannot be created.
    Tickets {
        /// The library's error.
        why: String,
    },
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generate { why } => write!(f, "cannot create a self-signed certificate: {why}"),
            Self::Unwritable { path, why } => write!(f, "{} cannot be written: {why}", path.display()),
            Self::UnreadableCertificate { path, why } => {
                write!(f, "the certificate {} cannot be read: {why}", path.display())
            }
            Self::NoCertificate { path } => {
                write!(f, "{} holds no certificate: expected one or more in PEM form", path.display())
            }
            Self::Expired { path, end } => {
                write!(f, "the certificate {} has expired at {end}: renew it", path.display())
            }
            Self::UnreadableKey { path, why } => write!(f, "the private key {} cannot be read: {why}", path.display()),
            Self::Mismatch { cert, key, why } => {
                write!(
                    f,
                    "the private key {} does not belong to the certificate {}: {why}",
                    key.display(),
                    cert.display()
                )
            }
            Self::Setup { why } => write!(f, "cannot set up TLS: {why}"),
            Self::Tickets { why } => write!(f, "cannot create the key for TLS session tickets: {why}"),
        }
    }
}

impl std::error::Error for TlsError {}
