//! Why a configuration was rejected: the key, the value, where it was set and what was expected.

use std::{fmt, path::PathBuf};

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Not set anywhere: the default applies.
    Default,
    /// In this file, on this line (the first is 1).
    File(PathBuf, usize),
    /// By the environment variable with this name.
    Environment(String),
    /// By this command-line flag, with its dashes.
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

/// Why a configuration was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error message.
        why: String,
    },
    /// The file is not TOML.
    NotToml {
        /// The file and line of the error.
        origin: Origin,
        /// The parser's error message.
        why: String,
    },
    /// No key has this name.
    UnknownKey {
        /// The unknown name.
        key: String,
        /// Where it was set.
        origin: Origin,
        /// The key with the most similar name, if one is similar enough to suggest.
        nearest: Option<&'static str>,
    },
    /// A key of an earlier version.
    RetiredKey {
        /// The key.
        key: String,
        /// Where it was set.
        origin: Origin,
        /// What to do instead.
        advice: &'static str,
    },
    /// The key does not take this value.
    InvalidValue {
        /// The key.
        key: &'static str,
        /// The value as it was written.
        value: String,
        /// Where it was set.
        origin: Origin,
        /// The values that the key takes, in words.
        expected: String,
    },
    /// Each value is valid, but not together with the others. The sentence names the keys and where they were set.
    Conflict(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, why } => {
                write!(f, "cannot read the configuration file {}: {why}", path.display())
            }
            Self::NotToml { origin, why } => write!(f, "invalid TOML ({origin}): {why}"),
            Self::UnknownKey { key, origin, nearest } => {
                write!(f, "unknown key `{key}` ({origin})")?;
                nearest.map_or(Ok(()), |nearest| write!(f, ": did you mean `{nearest}`?"))
            }
            Self::RetiredKey { key, origin, advice } => {
                write!(f, "`{key}` ({origin}) does not exist any more: {advice}")
            }
            // The origin is part of every message: with three sources, the value that the operator sees in one of them
            // is often not the one in force.
            Self::InvalidValue { key, value, origin, expected } => {
                write!(f, "invalid `{key}` = {value} ({origin}): expected {expected}")
            }
            Self::Conflict(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for ConfigError {}
