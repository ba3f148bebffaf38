//! The log of events: keeps what was published, so that a connection can be given it later.
//!
//! The shard is synchronous and never waits, so it talks to the log by values ([`LogRequest`], [`LogReply`]) over a port of its own.
//! Each log keeps the same laws; `laws.rs` tests them, and every log must pass.
//!
//! - *Answered once.* Each request has exactly its answer, or the port is [`Busy`] and gives it back. `Unfollow`, `Cancel`, `Progress` and
//!   `Forget` are never busy. Only a follow may end by [`LogReply::Interrupted`].
//! - *Kept.* After `Appended` with a position, everybody reads the event there until it is trimmed, through what
//!   [`LogPort::promise`] names. After [`NotAppended::Refused`](crate::model::log::NotAppended::Refused) it never appears; after `Unknown` it appears whole or never.
//! - *Order.* Drafts of one request and one gateway keep their order, and so do appends of one kind, bulk or not. A request that is submitted after another's `Appended` gets higher
//!   positions.
//! - *One name, one event.* A position names one event for ever.
//! - *Live.* After `Following`, `Live` brings every event behind the begin, once, in order, until `Interrupted` or `Unfollow`, and
//!   none before it is kept.
//! - *Past.* A `Chunk` has the events behind `after`, in order, none left out, within its room; one always fits.
//! - *Progress.* `Following` tells how far the gateway has processed: what the steps before it give, in its epoch and never above its head.
//!   It may be older after a crash. `Forget` removes it, and it outlives a new epoch.
//! - *Bounded.* A port that is not drained holds up no other port, and its queues have a bound.
//! - *Trimming* takes from the front only. [`Head::first`](crate::model::log::Head::first) never falls; a head outlives its events, and only `Forget` removes it.

#[cfg(test)]
pub(crate) mod laws;
mod memory;
mod progress;
mod sqlite;

pub use memory::{MemoryLog, MemorySettings};
pub use sqlite::{
    Damage, GatewayStatus, LastRun, LogStatus, LogSync, OfflineLog, SqliteLog, SqliteLogSettings, Verified, forget_mark,
};

pub use crate::model::{COMMIT_LATENCY_BUCKETS_US, LogStats, Trimmed};

use crate::model::log::{Busy, LogReply, LogRequest, Promise};
use std::sync::Arc;

/// Called by a log when a port has something to drain, at most once a commit.
pub type Waker = Box<dyn Fn() + Send + Sync>;

/// Keeps events. There is one in a process.
pub trait EventLog: Send {
    /// One port for each shard, in the order of the wakers. Called once.
    fn ports(&mut self, wakers: Vec<Waker>) -> Vec<Box<dyn LogPort>>;

    /// Takes no more requests. What it holds is answered, at the latest as [`NotAppended::Unknown`](crate::model::log::NotAppended::Unknown).
    fn stop(&self);

    /// Waits until everything is written.
    fn join(self: Box<Self>);

    /// Counters for metrics.
    fn stats(&self) -> Arc<LogStats>;
}

/// One shard's end of the log. No call waits.
pub trait LogPort: Send {
    /// Asks. A log in memory answers into `out` at once.
    ///
    /// # Errors
    /// Gives the request back where too much waits for its answer.
    fn submit(&mut self, request: LogRequest, out: &mut Vec<LogReply>) -> Result<(), Busy<LogRequest>>;

    /// Takes answers that have come, of about `bytes_max` bytes of events; one always fits. The waker is not called again for those
    /// that are left, so whoever was given some drains again until there are none.
    fn drain(&mut self, bytes_max: usize, out: &mut Vec<LogReply>);

    /// What an acknowledged event survives.
    fn promise(&self) -> Promise;
}
