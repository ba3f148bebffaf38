//! What survives a restart: gateways, tokens and manifests, on a thread of its own.

mod disk;
mod error;
mod lock;
mod queries;
mod row;
mod schema;
mod secret;
mod sqlite;
mod thread;
mod trouble;

pub use error::StoreError;
pub use secret::{AdminTokenError, Secret, admin_token};
pub use sqlite::Sqlite;
pub use thread::{Reply, Settled, StoreHandle, StoreThread};
pub use trouble::Trouble;

use crate::model::{Change, StoreOp, StoreOutcome};

/// Somewhere that gateways and tokens are kept.
pub trait Store: Send {
    /// Does one job. A change that is returned has been committed.
    fn execute(&mut self, op: StoreOp) -> (StoreOutcome, Option<Change>);

    /// All that there is, as the changes that would make it.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn snapshot(&mut self) -> Result<Vec<Change>, StoreError>;

    /// Called when no job waits, and every [`crate::limits::STORE_PROBE_INTERVAL`] while the store is in trouble: does
    /// what can wait, and tries to get out of the trouble. A change that comes back was committed although the job
    /// that asked for it could not be told so.
    ///
    /// # Errors
    /// What the trouble is.
    fn settle(&mut self) -> Result<Option<Change>, Trouble> {
        Ok(None)
    }
}
