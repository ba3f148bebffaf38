//! Why a configuration was refused, in words that let the operator mend it.

use std::{fmt, path::PathBuf};

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In a file, on this line (counted from 1).
    File(PathBuf, usize),
    /// By an environment variable of this name.
    Environment(String),
    /// By this command-line flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// A configuration that the hub will not start with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The file is not TOML.
    NotToml {
        /// Where.
        origin: Origin,
        /// What the parser says.
        why: String,
    },
    /// There is no such key.
    UnknownKey {
        /// What was written.
        key: String,
        /// Where.
        origin: Origin,
        /// A key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The value is not one of those that are allowed.
    InvalidValue {
        /// The key.
        key: &'static str,
        /// The value, as it was written.
        value: String,
        /// Where.
        origin: Origin,
        /// What would do.
        expected: String,
    },
    /// Each value is expected, but not together; the sentence names the keys and where they were set.
    Conflict(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, why } => {
                write!(f, "the configuration file {} cannot be read: {why}", path.display())
            }
            Self::NotToml { origin, why } => write!(f, "{origin}: this is not TOML: {why}"),
            Self::UnknownKey { key, origin, nearest } => {
                write!(f, "unknown key {key} ({origin})")?;
                nearest.map_or(Ok(()), |nearest| write!(f, ": did you mean {nearest}?"))
            }
            Self::InvalidValue { key, value, origin, expected } => {
                write!(f, "{key} = {value} ({origin}) is not possible: allowed is {expected}")
            }
            Self::Conflict(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for ConfigError {}
