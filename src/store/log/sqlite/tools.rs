//! What an operator does with the log of a hub that does not run: look at it, check all of it, trim it, and give it a new epoch.

use super::{
    file::{LogFile, sizes},
    mark, past,
    rows::{self, Meta},
    schema,
    settings::{LogSync, SqliteLogSettings},
};
use crate::{
    model::{GatewayId, Life, Position, log::Head},
    store::{StoreError, Trouble, lock::DirLock},
};
use rusqlite::{Connection, config::DbConfig};
use std::{path::Path, time::Duration};

/// The log of one gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GatewayStatus {
    /// The gateway, and which one of that id.
    pub life: Life,
    /// The ends of its log.
    pub head: Head,
    /// Bytes of payloads that are kept.
    pub payload_bytes: u64,
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
    /// Why the next start will give it a new epoch; `None` if it will not.
    pub lost: Option<&'static str>,
    /// Bytes of the file, and of its write-ahead log.
    pub bytes: (u64, u64),
    /// Each gateway that has events or had some.
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
        let lock = DirLock::take(dir)?;
        let settings = SqliteLogSettings::new(dir, Vec::new());
        let failed = |trouble| StoreError::File { path: settings.file(), trouble };
        let connection = schema::connect_reader(&settings.file()).map_err(failed)?;
        // What a killed hub has left in the write-ahead log stays there: it is moved into the file by a hub.
        let set = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, sizes(&settings).1 > 0);
        set.map_err(|error| failed(error.into()))?;
        Ok(Self { settings, connection, _lock: lock })
    }

    /// What the log holds.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn status(&self) -> Result<LogStatus, StoreError> {
        self.file_error(self.read_status())
    }

    /// Reads everything and checks it: pages, indexes, and the checksum of each row. Returns the number of events.
    ///
    /// # Errors
    /// The first damage.
    pub fn verify(&self) -> Result<u64, StoreError> {
        self.file_error(self.check())
    }

    /// Removes the events of one gateway, or of all, up to those that are `keep` or less from the end. Returns their number.
    ///
    /// # Errors
    /// If the file cannot be written; then nothing was removed.
    pub fn trim(self, gateway: Option<GatewayId>, keep: u64) -> Result<u64, StoreError> {
        let path = self.settings.file();
        self.change(|connection| {
            let mut removed = 0;
            let heads = rows::heads(connection)?;
            for mut row in heads.into_iter().filter(|row| !row.dead && gateway.is_none_or(|id| row.life.gateway == id))
            {
                let (last, _) = rows::last_of(connection, &row)?;
                let first = (last + 1).saturating_sub(keep).max(row.first);
                let sql = "SELECT bytes FROM event WHERE number = ?1 AND offset = ?2";
                let before = (row.number, (first - 1).cast_signed());
                if first == row.first {
                    continue;
                }
                row.trimmed_bytes = connection.prepare_cached(sql)?.query_row(before, |row| rows::number(row, 0))?;
                removed += first - row.first;
                row.first = first;
                rows::update_head(connection, &row)?;
                let sql = "DELETE FROM event WHERE number = ?1 AND offset < ?2";
                connection.prepare_cached(sql)?.execute((row.number, first.cast_signed()))?;
            }
            schema::give_back_pages(connection, u32::MAX >> 1)?;
            Ok(removed)
        })
        .map_err(|trouble| StoreError::File { path, trouble })
    }

    /// Gives the log a new epoch, as after a snapshot of the machine was put back: no position of before is one any more.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn new_epoch(self) -> Result<(), StoreError> {
        let path = self.settings.file();
        let removed = std::fs::remove_file(self.settings.mark()).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        });
        let failed = |trouble| StoreError::File { path, trouble };
        if let Err(error) = removed {
            return Err(failed(Trouble::from_io(&error)));
        }
        // A log without its mark gets one.
        self.change(|_| Ok(())).map_err(failed)
    }

    fn file_error<T>(&self, result: Result<T, Trouble>) -> Result<T, StoreError> {
        result.map_err(|trouble| StoreError::File { path: self.settings.file(), trouble })
    }

    fn read_status(&self) -> Result<LogStatus, Trouble> {
        let transaction = self.connection.unchecked_transaction()?;
        let Meta { epoch, commits, log_time } = rows::meta(&transaction)?;
        let from_io = |error: std::io::Error| Trouble::from_io(&error);
        let mark = mark::read(&self.settings.mark()).map_err(from_io)?;
        let (inode, boot) = (schema::inode(&self.settings.file())?, mark::boot().map_err(from_io)?);
        let lost = mark.map_or(Some("its mark is missing"), |mark| mark.lost(commits, inode, boot));
        let mut gateways = Vec::new();
        for row in rows::heads(&transaction)?.into_iter().filter(|row| !row.dead) {
            let head = past::head(&row, rows::last_of(&transaction, &row)?, epoch);
            gateways.push(GatewayStatus { life: row.life, head, payload_bytes: head.bytes - row.trimmed_bytes });
        }
        let (bytes, uptime) = (sizes(&self.settings), Duration::from_millis(log_time));
        Ok(LogStatus { epoch, commits, uptime, lost, bytes, gateways })
    }

    fn check(&self) -> Result<u64, Trouble> {
        let transaction = self.connection.unchecked_transaction()?;
        let report: String = transaction.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if report != "ok" {
            return Err(Trouble::Damaged(report));
        }
        let epoch = rows::meta(&transaction)?.epoch;
        let mut events = 0;
        for row in rows::heads(&transaction)?.into_iter().filter(|row| !row.dead) {
            let head = past::head(&row, rows::last_of(&transaction, &row)?, epoch);
            let mut after = Position { epoch: head.epoch, offset: head.first - 1 };
            let room = crate::model::log::Room { records: 1_000, bytes: 16 << 20 };
            while after.offset < head.last {
                let (records, _) = past::read(&transaction, row.number, row.life, after, head.last, room)?;
                events += records.len() as u64;
                after.offset += records.len() as u64;
            }
        }
        Ok(events)
    }

    /// Opens the log as a hub does, and makes one synced commit.
    fn change<T>(self, change: impl FnOnce(&Connection) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let Self { mut settings, connection, _lock } = self;
        drop(connection);
        settings.sync = LogSync::Power;
        let (mut file, mut mark, _) = LogFile::open(&settings, None, crate::limits::STORE_OPEN_LOCK_WAIT)?;
        let mut changed = None;
        let written = file.write(file.opened_at(), &mut mark, |connection| {
            changed = Some(change(connection)?);
            Ok(())
        });
        written.map_err(|failed| failed.trouble)?;
        if file.close()? {
            mark.end().map_err(|error| Trouble::from_io(&error))?;
        }
        changed.ok_or_else(|| Trouble::Failing("nothing was changed".to_owned()))
    }
}
