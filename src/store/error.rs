//! Why the store of a data directory does not start, in words that let the operator mend it.

use super::trouble::Trouble;
use std::{fmt, path::PathBuf};

/// A store that cannot be opened, read or given its thread.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The data directory cannot be made.
    Directory {
        /// Which directory.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The lock file in it cannot be used.
    Lock {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// Another hub holds the lock.
    InUse {
        /// Which directory.
        path: PathBuf,
        /// The other hub's process, if it has left its id.
        pid: Option<u32>,
    },
    /// The file cannot be opened, or is not what a hub has written.
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        trouble: Trouble,
    },
    /// The system gives no thread.
    Thread {
        /// What it says.
        why: String,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path, why } => write!(f, "{} cannot be made: {why}", path.display()),
            Self::Lock { path, why } => write!(f, "{} cannot be locked: {why}", path.display()),
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
            Self::Thread { why } => write!(f, "the store's thread cannot be started: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}
