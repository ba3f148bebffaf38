//! The persistent state: gateways, tokens and manifests. It is on a thread of its own, because its files block.
//!
//! Cores never ask the store whether a key is good. Each has a copy of the set in memory, which [`Store::snapshot`]
//! fills at start and every [`Change`] updates. So a slow or full disk delays changes, but no connect and no event.

mod disk;
mod error;
mod generation;
mod lock;
pub mod log;
mod queries;
mod row;
mod schema;
mod secret;
mod sqlite;
mod thread;
mod trouble;

pub use error::StoreError;
pub use generation::Generation;
pub use secret::{AdminTokenError, Secret, admin_token};
pub use sqlite::Sqlite;
pub use thread::{Reply, Settled, StoreHandle, StoreThread};
pub use trouble::Trouble;

use crate::model::{Change, StoreOp, StoreOutcome};

/// A store of gateways, tokens and manifests.
pub trait Store: Send {
    /// Runs one job. A returned change is committed.
    fn execute(&mut self, op: StoreOp) -> (StoreOutcome, Option<Change>);

    /// All gateways and tokens, as the changes that would create them.
    ///
    /// # Errors
    /// If they cannot be read.
    fn snapshot(&mut self) -> Result<Vec<Change>, StoreError>;

    /// Does deferred work, and tries to recover from trouble. Called when no job waits, and every
    /// [`crate::limits::STORE_PROBE_INTERVAL`] while the store is in trouble. A returned change was committed, although
    /// the job that asked for it was answered that this is unknown.
    ///
    /// # Errors
    /// The trouble that remains.
    fn settle(&mut self) -> Result<Option<Change>, Trouble> {
        Ok(None)
    }
}
