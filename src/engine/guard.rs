//! Where a panic ends only one connection: session, API and message parsing run inside of [`guarded`].

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `what`; returns `None` if it panicked. `what` must change nothing that outlives the connection: a half-changed
/// shard is worse than a restart, so panics in shard and loop are not caught here but end the process.
pub(super) fn guarded<T>(what: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(what)).ok()
}
