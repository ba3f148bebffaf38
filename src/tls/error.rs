//! Why a certificate cannot be made or used, in words that let the operator mend it.

use crate::model::Timestamp;
use std::{fmt, path::PathBuf};

/// A certificate that TLS cannot be offered with.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// The hub cannot make a certificate of its own.
    Generate {
        /// What the library says.
        why: String,
    },
    /// The hub's own certificate or key cannot be written.
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The certificate's file cannot be read.
    UnreadableCertificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The certificate's file can be read, and there is no certificate in it.
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// The certificate is no longer valid.
    Expired {
        /// Which file.
        path: PathBuf,
        /// Since when.
        end: Timestamp,
    },
    /// The private key's file cannot be read.
    UnreadableKey {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and private key are not a pair.
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the library says.
        why: String,
    },
    /// The TLS library refuses to be set up.
    Setup {
        /// What it says.
        why: String,
    },
    /// No key for session tickets can be made.
    Tickets {
        /// What the library says.
        why: String,
    },
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generate { why } => write!(f, "a certificate cannot be made: {why}"),
            Self::Unwritable { path, why } => write!(f, "{} cannot be written: {why}", path.display()),
            Self::UnreadableCertificate { path, why } => {
                write!(f, "the certificate {} cannot be read: {why}", path.display())
            }
            Self::NoCertificate { path } => write!(f, "{} holds no certificate in PEM form", path.display()),
            Self::Expired { path, end } => write!(f, "the certificate {} has expired at {end}", path.display()),
            Self::UnreadableKey { path, why } => write!(f, "the private key {} cannot be read: {why}", path.display()),
            Self::Mismatch { cert, key, why } => {
                write!(f, "{} and {} do not go together: {why}", cert.display(), key.display())
            }
            Self::Setup { why } => write!(f, "TLS cannot be set up: {why}"),
            Self::Tickets { why } => write!(f, "no key for TLS tickets: {why}"),
        }
    }
}

impl std::error::Error for TlsError {}
