//! A panic in what touches one connection alone costs that connection: session, API and message parsing run in here.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `what`; `None` where it panicked. Nothing that outlives the connection may be left half changed by it.
pub(super) fn guarded<T>(what: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(what)).ok()
}
