//! The log in one SQLite file: what is acknowledged survives the process, or a loss of power.
//!
//! ```text
//!  shard ── port ──► queue ──► writer ──► log.db-wal ──► log.db      one commit for all that waits
//!    ▲        │                  │  │                      ▲
//!    │        └──────► queue ──► reader (reads, checkpoints)
//!    └──── answers ◄─────────────┴──┘  └──► log.mark                  how far the log is, for the next start
//! ```
//!
//! Nothing here reads the wall clock, and no append reads from the file.

mod backlog;
mod erasing;
mod file;
mod follows;
mod group;
mod heads;
mod mark;
mod past;
mod port;
mod progress;
mod queue;
mod reader;
mod recovery;
mod retention;
mod rows;
mod schema;
mod settings;
mod space;
mod sum;
mod tools;
mod trouble;
mod writer;

pub use settings::{LogSync, SqliteLogSettings};
pub use tools::{Damage, GatewayStatus, LastRun, LogStatus, OfflineLog, Verified, forget_mark};

use super::{EventLog, LogPort, LogStats, Waker};
use crate::{
    limits::STORE_OPEN_LOCK_WAIT,
    model::log::LogReply,
    store::{StoreError, Trouble, disk},
};
use file::{LogFile, sizes};
use heads::Heads;
use port::SqlitePort;
use queue::{Answer, PortShared, Shared};
use reader::Reader;
use std::{
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};
use writer::Writer;

/// A log in a SQLite file, with its two threads.
pub struct SqliteLog {
    shared: Arc<Shared>,
    sync: LogSync,
    writer: Option<JoinHandle<()>>,
}

impl SqliteLog {
    /// Opens the log, or makes an empty one, and starts its threads.
    ///
    /// # Errors
    /// If the file is damaged, locked, read-only or of a newer version, or a thread cannot be started.
    pub fn open(settings: SqliteLogSettings) -> Result<Self, StoreError> {
        disk::make_dir(&settings.dir)
            .map_err(|error| StoreError::Directory { path: settings.dir.clone(), why: error.to_string() })?;
        let shared = Arc::new(Shared::new(settings.tuning.clone(), Arc::default()));
        let writer =
            open_writer(&settings, &shared).map_err(|trouble| StoreError::File { path: settings.file(), trouble })?;
        let sync = settings.sync;
        let writer = start(settings, &shared, writer).map_err(|error| StoreError::Thread { why: error.to_string() })?;
        Ok(Self { shared, sync, writer: Some(writer) })
    }
}

fn open_writer(settings: &SqliteLogSettings, shared: &Arc<Shared>) -> Result<Writer, Trouble> {
    let (file, mark, lost) = LogFile::open(settings, None, STORE_OPEN_LOCK_WAIT)?;
    let mut heads = Heads::default();
    let loaded = heads.load(&file.connection, file.meta.epoch)?;
    let stats = &shared.stats;
    (0..loaded.damaged).for_each(|_| stats.count_damaged_row());
    if let Some(why) = lost {
        tracing::warn!(why, "the event log has a new epoch: events may have been lost");
        stats.count_new_epoch();
    }
    stats.set_epoch(file.meta.epoch);
    stats.set_promise(settings.sync.promise());
    let (file_bytes, wal_bytes) = sizes(settings);
    stats.set_file_bytes(file_bytes);
    stats.set_wal_bytes(wal_bytes);
    let mut writer = Writer {
        shared: Arc::clone(shared),
        settings: settings.clone(),
        file: Some(file),
        mark,
        heads,
        backlog: Default::default(),
        forgets: Vec::new(),
        parts: Vec::new(),
        answers: Vec::new(),
        trouble: None,
        progress_at: Duration::ZERO,
        tried_at: shared.now(),
        space: Default::default(),
        retention: Default::default(),
        unsynced: false,
        reader: None,
    };
    writer.forget_orphans()?;
    writer.space.check(settings, shared.now()).unwrap_or_default();
    writer.space.make_ballast(settings);
    Ok(writer)
}

fn start(
    settings: SqliteLogSettings,
    shared: &Arc<Shared>,
    mut writer: Writer,
) -> Result<JoinHandle<()>, std::io::Error> {
    let reader = Reader { shared: Arc::clone(shared), settings, backlog: Vec::new() };
    let reader = thread::Builder::new().name("event-log-read".to_owned()).spawn(move || reader.run())?;
    let _ = shared.reader.set(reader.thread().clone());
    writer.reader = Some(reader);
    let started = thread::Builder::new().name("event-log".to_owned()).spawn(move || writer.run());
    if started.is_err() {
        // The reader ends by itself.
        shared.stopped.store(true, Ordering::Release);
        shared.wake(queue::Lane::Read);
    }
    let writer = started?;
    let _ = shared.writer.set(writer.thread().clone());
    Ok(writer)
}

impl Drop for SqliteLog {
    /// Stops the log if nobody has, without a wait for its end.
    fn drop(&mut self) {
        self.stop();
    }
}

impl EventLog for SqliteLog {
    fn ports(&mut self, wakers: Vec<Waker>) -> Vec<Box<dyn LogPort>> {
        let count = wakers.len();
        let ports = wakers.into_iter().map(PortShared::new).collect();
        assert!(self.shared.ports.set(ports).is_ok(), "the ports of a log are made once");
        // Not the log itself, which holds its counters.
        let shared = Arc::downgrade(&self.shared);
        self.shared.stats.set_waits(move || shared.upgrade().map_or_else(Default::default, |shared| shared.waits()));
        let health = self.shared.health();
        for port in self.shared.ports() {
            if health.append.is_err() || health.read.is_err() {
                port.answer(&mut vec![Answer::told(LogReply::Health(health))]);
            }
        }
        (0..count).map(|index| Box::new(SqlitePort::new(Arc::clone(&self.shared), index, self.sync)) as _).collect()
    }

    fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.wake(queue::Lane::Write);
        self.shared.wake(queue::Lane::Read);
    }

    fn join(mut self: Box<Self>) {
        self.stop();
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the event log's thread has panicked");
        }
    }

    fn stats(&self) -> Arc<LogStats> {
        Arc::clone(&self.shared.stats)
    }
}

#[cfg(test)]
mod tests;
