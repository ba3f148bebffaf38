//! Counters of a log of events, for metrics. The log's threads write them; anyone may read them at any time.

use super::log::Promise;
use crate::limits::EVENT_LOG_OLDEST_MAX;
use std::{
    fmt,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Upper ends of the buckets of [`LogStats::commit_latency`], in microseconds. Longer commits are in one more bucket.
pub const COMMIT_LATENCY_BUCKETS_US: [u64; 12] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000];

/// Why events were trimmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trimmed {
    /// They were older than the log keeps events.
    Age,
    /// Their gateway had too many bytes.
    GatewayBytes,
    /// All gateways together had too many bytes, and theirs had the most.
    TotalBytes,
    /// They stood before an event that carried a secret and was old enough to be erased, or were that event.
    Secret,
}

/// What a log has done, and what it holds.
#[derive(Debug, Default)]
pub struct LogStats {
    commits: AtomicU64,
    commit_latency: [AtomicU64; COMMIT_LATENCY_BUCKETS_US.len() + 1],
    commit_us: AtomicU64,
    commit_events: AtomicU64,
    wal_bytes: AtomicU64,
    file_bytes: AtomicU64,
    retained_events: AtomicU64,
    retained_bytes: AtomicU64,
    trimmed: [AtomicU64; 4],
    epoch: AtomicU64,
    new_epochs: AtomicU64,
    damaged_rows: AtomicU64,
    promise: AtomicU8,
    free_bytes: AtomicU64,
    health: Mutex<String>,
    waits: OnceLock<Waits>,
}

/// Tells for how long the oldest append and the oldest read have waited. It is asked and not told: a thread that is stuck
/// tells nothing.
struct Waits(Box<dyn Fn() -> [Duration; 2] + Send + Sync>);

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waits")
    }
}

macro_rules! gauges {
    ($($(#[$doc:meta])* $name:ident, $set:ident;)*) => {
        impl LogStats {
            $($(#[$doc])*
            pub fn $name(&self) -> u64 {
                self.$name.load(Relaxed)
            }

            /// Sets it.
            pub fn $set(&self, value: u64) {
                self.$name.store(value, Relaxed);
            }
            )*
        }
    };
}

gauges! {
    /// Bytes of the write-ahead log.
    wal_bytes, set_wal_bytes;
    /// Bytes of the file, without its write-ahead log.
    file_bytes, set_file_bytes;
    /// Events that can be read.
    retained_events, set_retained_events;
    /// Bytes that those events count as in the bounds.
    retained_bytes, set_retained_bytes;
    /// The name of this log, from which the epochs of positions are made.
    epoch, set_epoch;
    /// Bytes that are free on the log's disk.
    free_bytes, set_free_bytes;
}

impl LogStats {
    /// Groups of events that were committed.
    pub fn commits(&self) -> u64 {
        self.commits.load(Relaxed)
    }

    /// Events in those groups.
    pub fn commit_events(&self) -> u64 {
        self.commit_events.load(Relaxed)
    }

    /// Time in all commits together.
    pub fn commit_time(&self) -> Duration {
        Duration::from_micros(self.commit_us.load(Relaxed))
    }

    /// Commits by how long they took; see [`COMMIT_LATENCY_BUCKETS_US`]. Not cumulative.
    pub fn commit_latency(&self) -> [u64; COMMIT_LATENCY_BUCKETS_US.len() + 1] {
        self.commit_latency.each_ref().map(|bucket| bucket.load(Relaxed))
    }

    /// Events that were trimmed for one reason.
    pub fn trimmed(&self, why: Trimmed) -> u64 {
        self.trimmed[why as usize].load(Relaxed)
    }

    /// How often the log got a new epoch since it was opened, because events may have been lost.
    pub fn new_epochs(&self) -> u64 {
        self.new_epochs.load(Relaxed)
    }

    /// Rows that did not match their checksum when they were read.
    pub fn damaged_rows(&self) -> u64 {
        self.damaged_rows.load(Relaxed)
    }

    /// What an acknowledged event survives.
    pub fn promise(&self) -> Promise {
        match self.promise.load(Relaxed) {
            0 => Promise::Nothing,
            1 => Promise::Process,
            _ => Promise::Power,
        }
    }

    /// What is wrong with the log, for people; empty if nothing is.
    pub fn health(&self) -> String {
        let told = self.health.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        // What it is told of may be from before.
        let waits = self.waits.get().map_or_else(Default::default, |waits| (waits.0)());
        match waits.map(|wait| wait > EVENT_LOG_OLDEST_MAX) {
            _ if !told.is_empty() => told,
            [false, false] => told,
            [true, _] => "the event log does not answer to appends".to_owned(),
            [false, true] => "the event log does not answer to reads".to_owned(),
        }
    }

    /// How long the oldest append has waited.
    pub fn queue_age(&self) -> Duration {
        self.waits.get().map_or(Duration::ZERO, |waits| (waits.0)()[0])
    }

    /// Sets what tells for how long the oldest append and the oldest read have waited.
    pub fn set_waits(&self, waits: impl Fn() -> [Duration; 2] + Send + Sync + 'static) {
        let set = self.waits.set(Waits(Box::new(waits)));
        debug_assert!(set.is_ok(), "a log has its ports once");
    }

    /// Counts a commit and how long it took.
    pub fn count_commit(&self, events: u64, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = COMMIT_LATENCY_BUCKETS_US.partition_point(|end| *end < micros);
        self.commit_latency[bucket].fetch_add(1, Relaxed);
        self.commit_us.fetch_add(micros, Relaxed);
        self.commit_events.fetch_add(events, Relaxed);
        self.commits.fetch_add(1, Relaxed);
    }

    /// Counts events that can be read from now on.
    pub fn add_retained(&self, events: u64, bytes: u64) {
        self.retained_events.fetch_add(events, Relaxed);
        self.retained_bytes.fetch_add(bytes, Relaxed);
    }

    /// Counts events that cannot be read any more.
    pub fn remove_retained(&self, events: u64, bytes: u64) {
        self.retained_events.fetch_sub(events, Relaxed);
        self.retained_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Counts events that were trimmed.
    pub fn count_trimmed(&self, why: Trimmed, events: u64) {
        self.trimmed[why as usize].fetch_add(events, Relaxed);
    }

    /// Counts a new epoch.
    pub fn count_new_epoch(&self) {
        self.new_epochs.fetch_add(1, Relaxed);
    }

    /// Counts a row that did not match its checksum.
    pub fn count_damaged_row(&self) {
        self.damaged_rows.fetch_add(1, Relaxed);
    }

    /// Sets what an acknowledged event survives.
    pub fn set_promise(&self, promise: Promise) {
        self.promise.store(promise as u8, Relaxed);
    }

    /// Says what is wrong; empty if nothing is.
    pub fn set_health(&self, text: String) {
        *self.health.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted_in_the_bucket_of_their_latency() {
        let check = |micros, bucket: usize| {
            let stats = LogStats::default();
            stats.count_commit(3, Duration::from_micros(micros));
            assert_eq!(stats.commit_latency()[bucket], 1, "{micros} µs");
            assert_eq!((stats.commits(), stats.commit_events()), (1, 3));
        };
        check(0, 0);
        check(50, 0);
        check(51, 1);
        check(1_000_000, 11);
        check(1_000_001, 12);
    }
}
