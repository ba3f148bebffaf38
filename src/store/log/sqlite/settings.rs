//! What a log in SQLite is made with.

use crate::{
    model::{
        Life,
        log::{Promise, Why},
    },
    store::Generation,
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// What an event counts as in the bounds besides its payload: its other columns and its place in the index.
pub(super) const EVENT_OVERHEAD_BYTES: u64 = 128;

/// The shortest time between two commits of progress without events. Gateways report it at moments of their own; with a commit for
/// each report, a thousand of them would keep the disk busy with syncs, and events would wait for these.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// When a commit is synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogSync {
    /// Before it is answered: it survives a loss of power.
    Power,
    /// Some time later: it survives the end of the process. After a loss of power the log gets a new epoch.
    Process,
}

impl LogSync {
    pub(super) fn promise(self) -> Promise {
        match self {
            Self::Power => Promise::Power,
            Self::Process => Promise::Process,
        }
    }
}

/// What a log in SQLite is made with. Bytes of events are those of their payloads and 128 more for each event, so that
/// the bounds hold for small events, too.
#[derive(Clone, Debug)]
pub struct SqliteLogSettings {
    /// The directory of the data, in which the log has `log.db`, `log.mark` and `log.ballast`. Whoever opens the log
    /// holds the directory's lock, as an open [`crate::store::Sqlite`] does.
    pub dir: PathBuf,
    /// When a commit is synced.
    pub sync: LogSync,
    /// How long events are kept, in time for which the hub ran: a wrong wall clock trims nothing.
    pub retention_age: Duration,
    /// How long events whose payload carries secrets are kept (types that begin with `apikey.` or `subscription.`),
    /// and with them everything of their gateway before them.
    pub secret_age: Duration,
    /// Bytes of events of one gateway. Over it: its oldest events go; the last one stays.
    pub gateway_bytes_max: u64,
    /// Bytes of events of all gateways. Over it: the gateway that has the most loses its oldest.
    pub total_bytes_max: u64,
    /// Bytes of the disk that are left to others: with less free space the log refuses events.
    pub reserve_bytes: u64,
    /// Bytes of the file that is removed when a trim needs room on a full disk.
    pub ballast_bytes: u64,
    /// The gateways that exist. The events of others are removed.
    pub lives: Vec<Life>,
    /// The generation of the store that has them; `None` if no store is open.
    pub store_generation: Option<Generation>,
    /// What tests replace.
    pub(super) tuning: Tuning,
}

impl SqliteLogSettings {
    /// The defaults, for a log in this directory and for these gateways.
    pub fn new(dir: &Path, lives: Vec<Life>) -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            dir: dir.to_owned(),
            sync: LogSync::Power,
            retention_age: Duration::from_secs(24 * 3_600),
            secret_age: Duration::from_secs(3_600),
            gateway_bytes_max: 64 * MIB,
            total_bytes_max: 1_024 * MIB,
            reserve_bytes: 64 * MIB,
            ballast_bytes: 16 * MIB,
            lives,
            store_generation: None,
            tuning: Tuning::default(),
        }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.dir.join("log.db")
    }

    pub(super) fn mark(&self) -> PathBuf {
        self.dir.join("log.mark")
    }

    pub(super) fn ballast(&self) -> PathBuf {
        self.dir.join("log.ballast")
    }
}

/// Where an artificial fault strikes a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CommitFault {
    /// The commit is not made, and reported as failed.
    Lost,
    /// The commit is made, and reported as failed in its sync.
    Unsynced,
    /// The disk is full: the commit is not made, and the file stays open.
    Full,
}

/// What tests replace: clocks, the machine's identity, and faults of the disk.
#[derive(Clone)]
pub(super) struct Tuning {
    /// Time for which the hub has run.
    pub uptime: Arc<dyn Fn() -> Duration + Send + Sync>,
    /// The longest time that the writer sleeps.
    pub tick: Duration,
    /// The shortest time between two commits of progress without events.
    pub progress_interval: Duration,
    /// Bytes of live events that a port may leave.
    pub live_bytes_max: usize,
    /// The id of this boot of the machine; `None` asks the kernel.
    pub boot: Option<[u8; 16]>,
    /// Asked before each commit of events or of progress.
    pub commit_fault: Arc<dyn Fn() -> Option<CommitFault> + Send + Sync>,
    /// Free bytes of the disk; `None` asks the system.
    pub free_bytes: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
}

impl Default for Tuning {
    fn default() -> Self {
        let started = Instant::now();
        Self {
            uptime: Arc::new(move || started.elapsed()),
            tick: Duration::from_secs(1),
            progress_interval: PROGRESS_INTERVAL,
            live_bytes_max: crate::limits::EVENT_LOG_LIVE_BYTES_MAX,
            boot: None,
            commit_fault: Arc::new(|| None),
            free_bytes: Arc::new(|| None),
        }
    }
}

impl fmt::Debug for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tuning").field("tick", &self.tick).finish_non_exhaustive()
    }
}

/// What a port tells of trouble.
pub(super) fn why(trouble: &crate::store::Trouble) -> Why {
    use crate::store::Trouble;
    match trouble {
        Trouble::Busy => Why::Locked,
        Trouble::Full => Why::Full,
        Trouble::ReadOnly => Why::ReadOnly,
        Trouble::Failing(_) => Why::Io,
        Trouble::Damaged(_) => Why::Damaged,
    }
}
