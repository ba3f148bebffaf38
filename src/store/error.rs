//! Why the store cannot start, with what the operator can do about it.

use super::trouble::Trouble;
use std::{fmt, path::PathBuf};

/// An error at the start of the store.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The data directory cannot be created.
    Directory {
        /// The data directory.
        path: PathBuf,
        /// The system's error.
        why: String,
    },
    /// The lock file cannot be opened or locked.
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's error.
        why: String,
    },
    /// Another hub uses the data directory.
    InUse {
        /// The data directory.
        path: PathBuf,
        /// The process id of the other hub, if the lock file contains it.
        pid: Option<u32>,
    },
    /// The database file cannot be opened, or is damaged.
    File {
        /// The database file.
        path: PathBuf,
        /// The problem with it.
        trouble: Trouble,
    },
    /// There is no event log in the data directory.
    NoLog {
        /// Where its file would be.
        path: PathBuf,
    },
    /// The store's thread cannot be started.
    Thread {
        /// The system's error.
        why: String,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path, why } => write!(
                f,
                "the data directory {} cannot be created: {why}; create it or choose another one",
                path.display()
            ),
            Self::Lock { path, why } => {
                write!(f, "{} cannot be locked: {why}; make it writable for the hub's user", path.display())
            }
            Self::InUse { path, pid } => {
                let pid = pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
                let path = path.display();
                write!(f, "{path} is used by another hub (pid {pid}); stop it or choose another data directory")
            }
            Self::File { path, trouble } => {
                write!(f, "{} cannot be used: {trouble}", path.display())?;
                match trouble {
                    Trouble::Damaged(_) => {
                        f.write_str(". Nothing was changed; put a backup in its place, or move it away to start empty")
                    }
                    _ => Ok(()),
                }
            }
            Self::NoLog { path } => write!(
                f,
                "there is no event log {}: expected the data directory of a hub that keeps events on disk",
                path.display()
            ),
            Self::Thread { why } => write!(f, "the store's thread cannot be started: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}
