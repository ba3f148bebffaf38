//! The open file of the log: decides at each opening whether it needs a new epoch, and makes numbered commits.

use super::{
    mark::{self, Mark, MarkFile},
    recovery,
    rows::{self, Meta},
    schema,
    settings::{CommitFault, LogSync, SqliteLogSettings},
};
use crate::{
    limits::EVENT_LOG_LOCK_WAIT,
    store::{Generation, Trouble, disk, log::progress::Kept},
};
use rusqlite::{Connection, config::DbConfig, ffi};
use std::{path::PathBuf, time::Duration};

/// Why a write failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub trouble: Trouble,
    /// Whether the file may contain it all the same.
    pub unknown: bool,
    /// Whether a sync failed, after which the file is not written again: a copy takes its place.
    pub unsynced: bool,
}

impl Failed {
    /// The failure of a commit or a checkpoint.
    pub fn in_commit(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error().map_or(0, |error| error.extended_code);
        let unsynced = matches!(code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC);
        let trouble = Trouble::from(error);
        // SQLite rolls back a commit that found the file locked or full. After any other failure the commit record may be
        // on the disk.
        Self { unknown: trouble.ends_connection(), unsynced, trouble }
    }

    /// The trouble of which nothing else is known, in what may be a commit.
    pub fn unknown(why: &str) -> Self {
        Self { trouble: Trouble::Failing(why.to_owned()), unknown: true, unsynced: false }
    }
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self { trouble, unknown: false, unsynced: false }
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Trouble::from(error).into()
    }
}

/// The open file. While it is, nothing else opens `log.db` or its `-shm` by another way than SQLite: a descriptor of them that is closed
/// takes along the POSIX locks that SQLite holds in this process.
pub(super) struct LogFile {
    pub connection: Connection,
    pub meta: Meta,
    /// The `seq` of the last event.
    pub seq: u64,
    path: PathBuf,
    inode: u64,
    store_generation: Option<Generation>,
    /// `log_time` less the uptime, both at the opening.
    log_time_ahead: u64,
    opened_at: Duration,
}

impl LogFile {
    /// Opens the log, or makes an empty one. `known` is the mark that this process wrote last; `None` at the start of the hub,
    /// which reads it. The log has a new epoch where commits may be lost; that is on the disk before this returns.
    pub fn open(
        settings: &SqliteLogSettings,
        known: Option<Mark>,
        lock_wait: Duration,
    ) -> Result<(Self, MarkFile, Option<&'static str>), Trouble> {
        let (path, from_io) = (settings.file(), |error: std::io::Error| Trouble::from_io(&error));
        let boot = settings.tuning.boot.map_or_else(mark::boot, Ok).map_err(from_io)?;
        let is_reopened = known.is_some();
        recovery::finish(&path, &settings.mark())?;
        let known = match known {
            Some(mark) => Some(mark),
            None => mark::read(&settings.mark()).map_err(from_io)?,
        };
        let created = !path.try_exists().map_err(from_io)?;
        if created && is_reopened && !settings.mark().try_exists().map_err(from_io)? {
            // Without the mark it is probably the directory that has gone, perhaps for a while.
            return Err(Trouble::Failing("its file and its mark are missing".to_owned()));
        }
        if created {
            schema::create(&path, random()?)?;
        }
        let connection = schema::connect(&path, settings.sync, lock_wait)?;
        let (meta, inode) = (rows::meta(&connection)?, schema::inode(&path)?);
        let lost = match (created, known) {
            (true, None) => None,
            (true, Some(_)) => Some("its file is missing"),
            (false, None) => Some("its mark is missing"),
            (false, Some(mark)) => mark.lost(meta.commits, inode, boot),
        };
        let store = settings.store_generation.as_ref();
        let is_put_back = store.is_some_and(|store| store.get() < meta.generation);
        let lost = lost.or(is_put_back.then_some("the store was put back from a backup"));
        if let Some(store) = store
            && !is_reopened
            && (created || lost.is_some())
        {
            store.begin_line(meta.generation);
        }
        let opened_at = (settings.tuning.uptime)();
        let mut file = Self {
            seq: rows::last_seq(&connection)?,
            connection,
            meta,
            path,
            inode,
            store_generation: settings.store_generation.clone(),
            log_time_ahead: meta.log_time,
            opened_at,
        };
        if lost.is_some() && !created {
            file.begin_epoch(known.map_or(0, |mark| mark.commits), settings.sync)?;
        }
        let mark = Mark { boot, commits: file.meta.commits, inode, clean: false, sync: settings.sync };
        let mark = MarkFile::create(&settings.mark(), mark).map_err(from_io)?;
        file.connection.busy_timeout(EVENT_LOG_LOCK_WAIT)?;
        Ok((file, mark, lost))
    }

    /// Gives the log a new name. The events so far have no position in it: each gateway's log goes on with an empty past. But a gateway
    /// that has not processed all of them keeps them, under new names, and is given them from its progress on.
    fn begin_epoch(&mut self, commits: u64, sync: LogSync) -> Result<(), Trouble> {
        // Synced in any mode, before a position of the new epoch is told.
        schema::set_sync(&self.connection, LogSync::Power)?;
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let progress = rows::progress(&self.connection)?;
        for mut row in rows::heads(&self.connection)?.into_iter().filter(|row| !row.dead) {
            let (last, bytes) = rows::last_of(&self.connection, &row)?;
            // A damaged row counts as the begin: everything that is retained is delivered again.
            let kept = progress.get(&row.number).map(|kept| kept.unwrap_or(Kept::at(row.first - 1)));
            if let Some(kept) = kept
                && kept.offset > last
            {
                // Of events that were lost.
                rows::put_progress(&self.connection, row.number, kept.capped(last))?;
            }
            row.base = last;
            if kept.is_none_or(|kept| kept.offset >= last) {
                (row.first, row.trimmed_bytes) = (last + 1, bytes);
            }
            rows::update_head(&self.connection, &row)?;
        }
        let meta = Meta { epoch: random()?, commits: commits.max(self.meta.commits) + 1, ..self.next_meta() };
        rows::update_meta(&self.connection, meta)?;
        self.connection.execute_batch("COMMIT")?;
        self.meta = meta;
        schema::set_sync(&self.connection, sync)
    }

    /// The row of `meta` with the store's generation as it is now.
    fn next_meta(&self) -> Meta {
        let generation = self.store_generation.as_ref().map_or(self.meta.generation, Generation::get);
        Meta { generation, ..self.meta }
    }

    /// The uptime at the opening.
    pub fn opened_at(&self) -> Duration {
        self.opened_at
    }

    /// Log time in milliseconds.
    pub fn log_time(&self, now: Duration) -> u64 {
        let ran = now.saturating_sub(self.opened_at);
        self.log_time_ahead + u64::try_from(ran.as_millis()).unwrap_or(0)
    }

    /// Begins a transaction.
    pub fn begin(&self) -> Result<(), Failed> {
        // SQLite would go on writing to a file that was removed or replaced, and acknowledge events that are lost.
        if schema::inode(&self.path).ok() != Some(self.inode) {
            return Err(Trouble::Failing("its file was removed or replaced".to_owned()).into());
        }
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    /// Ends a transaction without its writes.
    pub fn roll_back(&self) {
        // SQLite has rolled back already after some errors.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction of the event log cannot be rolled back");
        }
    }

    /// Commits a transaction under the next number, and notes that in the mark.
    pub fn commit(&mut self, now: Duration, mark: &mut MarkFile, fault: Option<CommitFault>) -> Result<(), Failed> {
        let meta = Meta { commits: self.meta.commits + 1, log_time: self.log_time(now), ..self.next_meta() };
        if let Err(trouble) = rows::update_meta(&self.connection, meta) {
            self.roll_back();
            return Err(trouble.into());
        }
        if fault == Some(CommitFault::Lost) {
            self.roll_back();
            return Err(Failed::unknown("artificial: lost"));
        }
        if fault == Some(CommitFault::Full) {
            self.roll_back();
            return Err(Trouble::Full.into());
        }
        let committed = self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
        if let Err(error) = committed {
            self.roll_back();
            return Err(Failed::in_commit(error));
        }
        if fault == Some(CommitFault::Unsynced) {
            return Err(Failed { unsynced: true, ..Failed::unknown("artificial: not synced") });
        }
        self.meta = meta;
        if let Err(error) = mark.note(meta.commits) {
            // Without it only a loss of the log's end by other means than a loss of power would go unnoticed.
            tracing::warn!(%error, "the mark of the event log cannot be written");
        }
        Ok(())
    }

    /// Runs one write in a transaction of its own.
    pub fn write(
        &mut self,
        now: Duration,
        mark: &mut MarkFile,
        write: impl FnOnce(&Connection) -> Result<(), Trouble>,
    ) -> Result<(), Failed> {
        self.write_with(now, mark, write, || None)
    }

    /// The same, with what goes wrong at the commit.
    pub fn write_with(
        &mut self,
        now: Duration,
        mark: &mut MarkFile,
        write: impl FnOnce(&Connection) -> Result<(), Trouble>,
        fault: impl FnOnce() -> Option<CommitFault>,
    ) -> Result<(), Failed> {
        self.begin()?;
        if let Err(trouble) = write(&self.connection) {
            self.roll_back();
            return Err(trouble.into());
        }
        self.commit(now, mark, fault())
    }

    /// Moves the write-ahead log into the file and begins it anew. A no-op while a reader is in the way.
    pub fn restart_wal(&self) -> Result<(), Failed> {
        self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).map_err(Failed::in_commit)
    }

    /// Closes the file after trouble, without the checkpoint that SQLite makes at the last close: after a failed sync it would move
    /// pages into the file that may not be on the disk.
    pub fn abandon(self) {
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }

    /// Moves everything into the file, syncs it and closes it. Returns whether that was done.
    pub fn close(self) -> Result<bool, Trouble> {
        schema::set_sync(&self.connection, LogSync::Power)?;
        let busy: i64 = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        self.connection.close().map_err(|(_, error)| Trouble::from(error))?;
        Ok(busy == 0)
    }
}

/// A random number: no other log ever has it as its name.
fn random() -> Result<u64, Trouble> {
    getrandom::u64().map_err(|error| Trouble::Failing(format!("the system provides no random numbers: {error}")))
}

/// The bytes of the file and of its write-ahead log.
pub(super) fn sizes(settings: &SqliteLogSettings) -> (u64, u64) {
    let bytes = |path: PathBuf| std::fs::metadata(path).map_or(0, |found| found.len());
    (bytes(settings.file()), bytes(disk::beside(&settings.file(), "-wal")))
}
