//! The reader's thread: answers reads of the past, one of each port in turn, and moves the write-ahead log into the file.

use super::{
    file::{Failed, sizes},
    past,
    queue::{Answer, Lane, Queued, Shared, lock},
    rows, schema,
    settings::{SqliteLogSettings, why},
};
use crate::{
    limits::{EVENT_LOG_CHECKPOINT_BYTES, EVENT_LOG_WAL_BYTES_MAX},
    model::log::{End, LogReply, LogRequest, ReadKey, Why},
    store::Trouble,
};
use rusqlite::{Connection, config::DbConfig};
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    thread,
};

/// Bytes of a page in the write-ahead log, with its frame header.
const FRAME_BYTES: u64 = 4_096 + 24;

/// The reader.
pub(super) struct Reader {
    pub shared: Arc<Shared>,
    pub settings: SqliteLogSettings,
    /// Requests that were taken, for each port.
    pub backlog: Vec<VecDeque<Queued>>,
}

impl Reader {
    /// Runs until the log is stopped.
    pub fn run(mut self) {
        loop {
            // Read before the queues, so that nothing is queued behind the last look at them.
            let stopped = self.shared.is_stopped();
            self.fill_backlog();
            let read = self.read_one_of_each_port();
            self.checkpoint_if_due();
            self.probe();
            match (read, stopped) {
                (false, true) => break,
                (false, false) => thread::park_timeout(self.shared.tuning.tick),
                (true, _) => {}
            }
        }
        for port in self.shared.ports() {
            let left = port.close(Lane::Read, Why::Stopping);
            let mut answers = left.into_iter().filter_map(|queued| failed(&queued, Why::Stopping)).collect();
            port.answer(&mut answers);
        }
    }

    fn fill_backlog(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.backlog.resize_with(shared.ports().len(), VecDeque::new);
        for (port, backlog) in shared.ports().iter().zip(&mut self.backlog) {
            let before = backlog.len();
            port.take(Lane::Read, backlog);
            if backlog.len() > before {
                let mut answers = drop_cancelled(backlog);
                port.note_oldest(Lane::Read, backlog.front().map(|queued| queued.at));
                port.answer(&mut answers);
            }
        }
    }

    /// Returns whether there was one.
    fn read_one_of_each_port(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.backlog.len() {
            let Some(queued) = self.backlog[index].pop_front() else { continue };
            any = true;
            let answered = catch_unwind(AssertUnwindSafe(|| self.answer(&queued)));
            let answer = answered.unwrap_or_else(|_| {
                tracing::error!("a read of the event log panicked");
                failed(&queued, Why::Io)
            });
            let port = &self.shared.ports()[index];
            port.note_oldest(Lane::Read, self.backlog[index].front().map(|queued| queued.at));
            port.answer(&mut answer.into_iter().collect());
        }
        any
    }

    fn answer(&self, queued: &Queued) -> Option<Answer> {
        let LogRequest::Read { key, life, from, upto, room } = queued.request else { return None };
        let read = self.with_connection(|connection| past::chunk(connection, life, from, upto, room));
        Some(match read {
            Ok((records, end)) => {
                self.shared.report(Lane::Read, Ok(()), "");
                Answer::to(Lane::Read, room.bytes, LogReply::Chunk { key, records, end })
            }
            Err(trouble) => {
                self.handle_trouble(&trouble);
                chunk_failed(key, room.bytes, why(&trouble))
            }
        })
    }

    /// Opens the file if it is not open. It is closed after trouble.
    fn with_connection<T>(&self, run: impl FnOnce(&Connection) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let mut connection = lock(&self.shared.read_connection);
        let opened = match connection.take() {
            Some(opened) => opened,
            None => {
                let opened = schema::connect_reader(&self.settings.file())?;
                // Whether the write-ahead log may be moved into the file at the end, the writer decides.
                opened.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
                opened
            }
        };
        let done = run(&opened);
        let keep = match &done {
            Err(trouble) => !trouble.ends_connection(),
            Ok(_) => true,
        };
        *connection = Some(opened).filter(|_| keep);
        done
    }

    fn handle_trouble(&self, trouble: &Trouble) {
        if let Trouble::Damaged(why) = trouble {
            // Of one row or page: others may be read all the same, so the log as a whole is not called unreadable.
            self.shared.stats.count_damaged_row();
            return tracing::error!(why, "a part of the event log is damaged");
        }
        self.shared.report(Lane::Read, Err(why(trouble)), &trouble.text("the event log"));
    }

    /// Tries to read again where that failed. A shard may ask for nothing while it is told that the log cannot be read.
    fn probe(&self) {
        if self.shared.health().read.is_err() && self.with_connection(rows::meta).is_ok() {
            self.shared.report(Lane::Read, Ok(()), "");
        }
    }

    fn checkpoint_if_due(&self) {
        let is_due = self.shared.wal_pending.load(Ordering::Relaxed) >= EVENT_LOG_CHECKPOINT_BYTES;
        // While the writer begins it anew, a checkpoint here would be in its way.
        if !is_due || self.shared.wal_restart.load(Ordering::Acquire) {
            return;
        }
        self.shared.wal_pending.store(0, Ordering::Relaxed);
        // Passive: it moves what it can without making the writer or a reader wait.
        let moved = self.with_connection(|connection| {
            let sql = "PRAGMA wal_checkpoint(PASSIVE)";
            let moved = connection.query_row(sql, [], |row| row.get::<_, i64>(1));
            moved.map_err(|error| {
                let failed = Failed::in_commit(error);
                if failed.unsynced {
                    self.shared.unsynced.store(true, Ordering::Relaxed);
                    self.shared.wake(Lane::Write);
                }
                failed.trouble
            })
        });
        match moved {
            Ok(frames) => {
                let bytes = u64::try_from(frames).unwrap_or(0) * FRAME_BYTES;
                if bytes > EVENT_LOG_WAL_BYTES_MAX {
                    self.shared.wal_restart.store(true, Ordering::Release);
                    self.shared.wake(Lane::Write);
                }
            }
            // It is tried again once more was written; until then the write-ahead log grows.
            Err(trouble) => {
                tracing::warn!(
                    trouble = trouble.text("the event log"),
                    "the write-ahead log of the event log cannot be moved into its file"
                )
            }
        }
        let (file_bytes, wal_bytes) = sizes(&self.settings);
        self.shared.stats.set_file_bytes(file_bytes);
        self.shared.stats.set_wal_bytes(wal_bytes);
    }
}

/// Removes cancelled reads, and the cancels. Returns what the port needs to count them as done.
fn drop_cancelled(backlog: &mut VecDeque<Queued>) -> Vec<Answer> {
    let is_cancel = |queued: &Queued| match queued.request {
        LogRequest::Cancel(key) => Some(key),
        _ => None,
    };
    let cancelled: Vec<ReadKey> = backlog.iter().filter_map(is_cancel).collect();
    let mut answers = Vec::new();
    if !cancelled.is_empty() {
        backlog.retain(|queued| match &queued.request {
            LogRequest::Read { key, room, .. } if cancelled.contains(key) => {
                let freed = super::queue::Freed { lane: Lane::Read, requests: 1, bytes: room.bytes };
                answers.push(Answer { reply: None, freed: Some(freed) });
                false
            }
            LogRequest::Cancel(_) => false,
            _ => true,
        });
    }
    answers
}

fn failed(queued: &Queued, why: Why) -> Option<Answer> {
    match &queued.request {
        LogRequest::Read { key, room, .. } => Some(chunk_failed(*key, room.bytes, why)),
        _ => None,
    }
}

fn chunk_failed(key: ReadKey, bytes: usize, why: Why) -> Answer {
    Answer::to(Lane::Read, bytes, LogReply::Chunk { key, records: Vec::new(), end: End::Failed(why) })
}
