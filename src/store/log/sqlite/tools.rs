//! What an operator does with the log of a hub that does not run: look at it, check all of it, trim it, and give it a new epoch.

mod trim;
mod verify;

pub use verify::{Damage, Verified};

use super::{
    file::{LogFile, sizes},
    mark, past,
    rows::{self, Meta},
    schema,
    settings::{EVENT_OVERHEAD_BYTES, LogSync, SqliteLogSettings},
};
use crate::{
    limits::STORE_OPEN_LOCK_WAIT,
    model::{GatewayId, Life, log::Head},
    store::{StoreError, Trouble, disk, lock::DirLock},
};
use rusqlite::{Connection, config::DbConfig};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The log of one gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GatewayStatus {
    /// The gateway, and which one of that id.
    pub life: Life,
    /// The ends of its log.
    pub head: Head,
    /// Bytes of payloads that are kept.
    pub payload_bytes: u64,
    /// The offset up to which the gateway has processed its events; `None` if that is not kept.
    pub processed: Option<u64>,
    /// Time for which hubs have run since its oldest event; `None` if it has no event.
    pub oldest: Option<Duration>,
}

impl GatewayStatus {
    /// Number of events that are kept.
    pub fn events(&self) -> u64 {
        self.head.last + 1 - self.head.first
    }

    /// Number of kept events that are read under new names after a new epoch: all, if the gateway has not processed them all.
    pub fn events_in_new_epoch(&self) -> u64 {
        if self.processed.is_some_and(|offset| offset < self.head.last) { self.events() } else { 0 }
    }

    /// Bytes as the bounds of the log count them.
    pub fn bytes(&self) -> u64 {
        self.payload_bytes + EVENT_OVERHEAD_BYTES * self.events()
    }
}

/// How the last process that wrote to a log did so, and how it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastRun {
    /// When it synced its commits.
    pub sync: LogSync,
    /// Whether it synced and closed the log at its end.
    pub clean: bool,
}

/// What a log holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogStatus {
    /// The name of the log, from which the epochs of positions are made.
    pub epoch: u64,
    /// Commits since it was created.
    pub commits: u64,
    /// Time for which hubs have run with it.
    pub uptime: Duration,
    /// The last process that wrote to it; `None` if its mark is missing.
    pub last_run: Option<LastRun>,
    /// Why the next start will give it a new epoch; `None` if it will not.
    pub lost: Option<&'static str>,
    /// Bytes of the file, and of its write-ahead log.
    pub bytes: (u64, u64),
    /// Each gateway that has events or had some, or whose progress is kept.
    pub gateways: Vec<GatewayStatus>,
}

/// A log that no hub has open; it has the lock of its directory.
pub struct OfflineLog {
    settings: SqliteLogSettings,
    connection: Connection,
    _lock: DirLock,
}

impl OfflineLog {
    /// Opens the log in a directory. Nothing is changed by that.
    ///
    /// # Errors
    /// If a hub runs in the directory, there is no log, or it cannot be opened.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let settings = SqliteLogSettings::new(dir, Vec::new());
        // Looked for before the lock is taken, which would make the directory.
        if let Err(error) = std::fs::metadata(settings.file()) {
            return Err(match error.kind() {
                std::io::ErrorKind::NotFound => StoreError::NoLog { path: settings.file() },
                _ => file_error(&settings, Trouble::from_io(&error)),
            });
        }
        let lock = DirLock::take(dir)?;
        let failed = |trouble| file_error(&settings, trouble);
        let connection = schema::connect_reader(&settings.file()).map_err(failed)?;
        // What a killed hub has left in the write-ahead log stays there: it is moved into the file by a hub.
        let set = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, sizes(&settings).1 > 0);
        set.map_err(|error| failed(error.into()))?;
        Ok(Self { settings, connection, _lock: lock })
    }

    /// Opens the log to trim it. If the disk has no room even for that, its ballast is given up.
    ///
    /// # Errors
    /// As for [`OfflineLog::open`].
    pub fn open_to_trim(dir: &Path) -> Result<Self, StoreError> {
        let ballast = SqliteLogSettings::new(dir, Vec::new()).ballast();
        match Self::open(dir) {
            // SQLite calls it a failure if there is no room for the memory that its processes share.
            Err(StoreError::File { trouble: Trouble::Full | Trouble::Failing(_), .. }) if ballast.exists() => {
                disk::remove(&ballast)
                    .map_err(|error| StoreError::File { path: ballast, trouble: Trouble::from_io(&error) })?;
                Self::open(dir)
            }
            opened => opened,
        }
    }

    /// The file of the log.
    pub fn path(&self) -> PathBuf {
        self.settings.file()
    }

    /// What the log holds.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn status(&self) -> Result<LogStatus, StoreError> {
        self.read_status().map_err(|trouble| file_error(&self.settings, trouble))
    }

    /// Reads everything and checks it: pages, indexes, the checksum of each row, and the order of each gateway's events.
    ///
    /// # Errors
    /// If it cannot be read. Damage is no error: it is in the result.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        verify::check(&self.connection).map_err(|trouble| file_error(&self.settings, trouble))
    }

    /// Removes the events of one gateway, or of all, up to those that are `keep` or less from the end. Returns their number.
    /// On a full disk the ballast is given up for it.
    ///
    /// # Errors
    /// If the file cannot be written. Then some events may have been removed, from the front only.
    pub fn trim(self, gateway: Option<GatewayId>, keep: u64) -> Result<u64, StoreError> {
        self.change(|file, mark, settings| trim::trim(file, mark, settings, gateway, keep))
    }

    /// Gives the log a new epoch, as after a snapshot of the machine was put back: no position of before is one any more. A gateway that
    /// has not processed all of its events keeps them, under new positions.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn new_epoch(self) -> Result<(), StoreError> {
        forget_mark(&self.settings.dir)?;
        // A log without its mark gets one, and with it a new epoch.
        self.change(|_, _, _| Ok(()))
    }

    fn read_status(&self) -> Result<LogStatus, Trouble> {
        let transaction = self.connection.unchecked_transaction()?;
        let Meta { epoch, commits, log_time, .. } = rows::meta(&transaction)?;
        let from_io = |error: std::io::Error| Trouble::from_io(&error);
        let mark = mark::read(&self.settings.mark()).map_err(from_io)?;
        let (inode, boot) = (schema::inode(&self.settings.file())?, mark::boot().map_err(from_io)?);
        let lost = mark.map_or(Some("its mark is missing"), |mark| mark.lost(commits, inode, boot));
        let last_run = mark.map(|mark| LastRun { sync: mark.sync, clean: mark.clean });
        let (mut gateways, progress) = (Vec::new(), rows::progress(&transaction)?);
        for row in rows::heads(&transaction)?.into_iter().filter(|row| !row.dead) {
            let head = past::head(&row, rows::last_of(&transaction, &row)?, epoch);
            let logged = rows::logged_at(&transaction, row.number, head.first)?;
            let oldest = logged.map(|logged| Duration::from_millis(log_time.saturating_sub(logged)));
            let payload_bytes = head.bytes.saturating_sub(row.trimmed_bytes);
            // A damaged row is what a hub makes of it.
            let kept = progress.get(&row.number).map(|kept| kept.map_or(row.first - 1, |kept| kept.offset));
            let processed = kept.map(|offset| offset.min(head.last));
            gateways.push(GatewayStatus { life: row.life, head, payload_bytes, processed, oldest });
        }
        let (bytes, uptime) = (sizes(&self.settings), Duration::from_millis(log_time));
        Ok(LogStatus { epoch, commits, uptime, last_run, lost, bytes, gateways })
    }

    /// Opens the log as a hub does, changes it, and closes it cleanly.
    fn change<T>(
        self,
        change: impl FnOnce(&mut LogFile, &mut mark::MarkFile, &SqliteLogSettings) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        let Self { mut settings, connection, _lock } = self;
        drop(connection);
        settings.sync = LogSync::Power;
        let changed = run(&settings, change).map_err(|trouble| file_error(&settings, trouble));
        // Also if it failed: the hub must be able to open what this process has made.
        let own = [settings.mark(), disk::beside(&settings.file(), "-wal"), disk::beside(&settings.file(), "-shm")];
        disk::give_to_owner_of(&settings.file(), &own)
            .map_err(|error| file_error(&settings, Trouble::from_io(&error)))?;
        changed
    }
}

fn run<T>(
    settings: &SqliteLogSettings,
    change: impl FnOnce(&mut LogFile, &mut mark::MarkFile, &SqliteLogSettings) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let (mut file, mut mark, _) = LogFile::open(settings, None, STORE_OPEN_LOCK_WAIT)?;
    let changed = change(&mut file, &mut mark, settings)?;
    if file.close()? {
        mark.end().map_err(|error| Trouble::from_io(&error))?;
    }
    Ok(changed)
}

fn file_error(settings: &SqliteLogSettings, trouble: Trouble) -> StoreError {
    StoreError::File { path: settings.file(), trouble }
}

/// Removes the mark of the log in a directory, if there is one, so that the log has a new epoch when it is opened next. The caller has the
/// directory's lock.
///
/// # Errors
/// If it cannot be removed.
pub fn forget_mark(dir: &Path) -> Result<(), StoreError> {
    let settings = SqliteLogSettings::new(dir, Vec::new());
    if !settings.mark().exists() {
        return Ok(());
    }
    disk::remove_durably(&settings.mark()).map_err(|error| file_error(&settings, Trouble::from_io(&error)))
}
