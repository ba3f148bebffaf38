//! The store in one SQLite file: what is acknowledged survives a kill and a power loss; what is not, did not happen.
//!
//! ```text
//!            a job fails: I/O, read-only            reopened and checked
//!   open ───────────────────────────────► closed ─────────────────────────► open
//!    ▲ │ busy, full: answer 503, stay open   │ damaged
//!    └─┘                                     └─────────► damaged: every job 503 until the operator acts
//! ```

use super::{Store, StoreError, disk, lock::DirLock, queries, schema, trouble::Trouble};
use crate::{
    limits::{STORE_LOCK_WAIT, STORE_OPEN_LOCK_WAIT},
    model::{Change, Kept, StoreOp, StoreOutcome},
};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Gateways, tokens and manifests in a SQLite file of mode 0600.
pub struct Sqlite {
    path: PathBuf,
    /// `None` after a failure: the next job opens the file again.
    connection: Option<Connection>,
    /// What the job that failed, or panicked, would have changed: the disk may show it or not.
    doubt: Option<Change>,
    /// What was wrong last, until the store has settled. Reads may work all the same, and now and then a write.
    trouble: Option<Trouble>,
    /// Found on reopening; there is no way back from it.
    damaged: Option<Trouble>,
    /// The write-ahead log may hold something.
    unsettled: bool,
    /// Device and inode of the file that the hub's cores know the content of.
    identity: (u64, u64),
    _lock: DirLock,
}

impl Sqlite {
    /// Opens the file at `path`, or makes it and its directory. Everything in it is read and checked. The directory is
    /// this store's alone as long as it lives.
    ///
    /// # Errors
    /// Where another hub is there, or the file is damaged, locked, read-only or of a newer version. A file that is damaged
    /// or cut, to nothing even, is never taken for an empty one.
    pub fn open(path: &Path) -> Result<Sqlite, StoreError> {
        let lock = DirLock::take(disk::dir_of(path))?;
        let connected =
            create_if_missing(path).and_then(|()| Ok((connect(path, STORE_OPEN_LOCK_WAIT)?, identity(path)?)));
        let (connection, identity) =
            connected.map_err(|trouble| StoreError::File { path: path.to_owned(), trouble })?;
        Ok(Sqlite {
            path: path.to_owned(),
            connection: Some(connection),
            doubt: None,
            trouble: None,
            damaged: None,
            unsettled: true,
            identity,
            _lock: lock,
        })
    }

    /// Opens the file again where that is needed. Gives the change that was in doubt, if the disk shows it.
    fn reopen_if_closed(&mut self) -> Result<Option<Change>, Trouble> {
        if self.connection.is_some() && self.doubt.is_none() {
            return Ok(None);
        }
        if let Some(damage) = &self.damaged {
            return Err(damage.clone());
        }
        // SQLite discards a failed commit's frames only when it closes the write-ahead log itself.
        self.connection = None;
        check_identity(&self.path, self.identity)?;
        let connection = connect(&self.path, Duration::ZERO).inspect_err(|trouble| {
            if matches!(trouble, Trouble::Damaged(_)) {
                self.damaged = Some(trouble.clone());
            }
        })?;
        let late = match self.doubt {
            Some(change) if queries::happened(&connection, change)? => Some(change),
            _ => None,
        };
        self.doubt = None;
        self.connection = Some(connection);
        Ok(late)
    }

    fn attempt(&mut self, op: StoreOp) -> Result<(StoreOutcome, Option<Change>), Failed> {
        let writes = !matches!(op, StoreOp::Gateway(_) | StoreOp::Gateways { .. } | StoreOp::Tokens(_));
        let connection = opened(&mut self.connection)?;
        if !writes {
            return Ok(queries::run(connection, op)?);
        }
        // SQLite would go on writing into a file that has lost its name, and acknowledge what nobody finds again.
        check_identity(&self.path, self.identity)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (outcome, change) = match queries::run(&transaction, op) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                (StoreOutcome::Conflict("it breaks a rule of the store".to_owned()), None)
            }
            ran => ran?,
        };
        if matches!(outcome, StoreOutcome::Conflict(_) | StoreOutcome::NotFound(_) | StoreOutcome::Unavailable(..)) {
            return Ok((outcome, None));
        }
        self.doubt = change;
        transaction.commit().map_err(Failed::in_commit)?;
        self.doubt = None;
        self.unsettled = true;
        Ok((outcome, change))
    }

    fn try_settle(&mut self) -> Result<Option<Change>, Trouble> {
        let late = self.reopen_if_closed()?;
        if late.is_some() {
            return Ok(late);
        }
        if self.trouble.is_some() {
            schema::probe(opened(&mut self.connection)?)?;
            self.unsettled = true;
        }
        if self.unsettled {
            self.unsettled = !checkpoint(opened(&mut self.connection)?)?;
        }
        self.note_health();
        Ok(None)
    }

    /// Called only when everything is on the disk and in its place, so that a store on the brink does not fill the log.
    fn note_health(&mut self) {
        let Some(trouble) = self.trouble.take() else { return };
        tracing::info!(%trouble, "the store works again");
        self.wait_for_locks(STORE_LOCK_WAIT);
    }

    /// What was in doubt stays so until the file is open again; SQLite has undone a job that found it locked or full.
    /// While a lock lasts only its first job waits for it: with a full queue the last would wait for minutes.
    fn note_trouble(&mut self, trouble: &Trouble) {
        if trouble.ends_connection() {
            self.connection = None;
        } else if self.connection.is_some() {
            self.doubt = None;
            self.wait_for_locks(Duration::ZERO);
        }
        let known = self.trouble.as_ref().map(std::mem::discriminant);
        if known != Some(std::mem::discriminant(trouble)) {
            tracing::error!(%trouble, "the store is in trouble");
        }
        self.trouble = Some(trouble.clone());
    }

    fn wait_for_locks(&self, wait: Duration) {
        if let Some(Err(error)) = self.connection.as_ref().map(|connection| connection.busy_timeout(wait)) {
            tracing::error!(%error, "the store's lock wait cannot be set");
        }
    }
}

impl Store for Sqlite {
    fn execute(&mut self, op: StoreOp) -> (StoreOutcome, Option<Change>) {
        let done = match self.reopen_if_closed() {
            Ok(None) => self.attempt(op),
            Ok(late) => {
                let answer = "the store has just been opened again; try once more".to_owned();
                Ok((StoreOutcome::Unavailable(answer, Kept::No), late))
            }
            Err(trouble) => Err(trouble.into()),
        };
        done.unwrap_or_else(|Failed { trouble, kept }| {
            self.note_trouble(&trouble);
            (StoreOutcome::Unavailable(trouble.answer(), kept), None)
        })
    }

    fn snapshot(&mut self) -> Result<Vec<Change>, StoreError> {
        let read = opened(&mut self.connection).and_then(|connection| Ok(queries::snapshot(connection)?));
        read.map_err(|trouble| StoreError::File { path: self.path.clone(), trouble })
    }

    fn settle(&mut self) -> Result<Option<Change>, Trouble> {
        self.try_settle().inspect_err(|trouble| self.note_trouble(trouble))
    }
}

/// Why a job was not done, and whether the file may show it all the same.
struct Failed {
    trouble: Trouble,
    kept: Kept,
}

impl Failed {
    /// The commit itself failed. SQLite undoes one that found the file locked or full. After any other failure the commit record may
    /// be on the disk, and then the job is there once the file is read again.
    fn in_commit(error: rusqlite::Error) -> Self {
        let trouble = Trouble::from(error);
        let kept = if trouble.ends_connection() { Kept::Unknown } else { Kept::No };
        Self { trouble, kept }
    }
}

impl<T: Into<Trouble>> From<T> for Failed {
    fn from(before_commit: T) -> Self {
        Self { trouble: before_commit.into(), kept: Kept::No }
    }
}

fn opened(connection: &mut Option<Connection>) -> Result<&mut Connection, Trouble> {
    connection.as_mut().ok_or_else(|| Trouble::Failing("its file is closed".to_owned()))
}

/// Makes a new store under another name first, so that a crash never leaves a file that is there but empty.
fn create_if_missing(path: &Path) -> Result<(), Trouble> {
    let failing = |error: std::io::Error| Trouble::Failing(error.to_string());
    if path.try_exists().map_err(failing)? {
        return Ok(());
    }
    for suffix in ["-wal", "-journal"] {
        if fs::metadata(disk::beside(path, suffix)).is_ok_and(|found| found.len() > 0) {
            return Err(Trouble::Damaged(format!("it is missing, but its {suffix} file is there")));
        }
    }
    let unfinished = disk::beside(path, ".new");
    for suffix in ["", "-journal", "-wal", "-shm"] {
        disk::remove(&disk::beside(&unfinished, suffix)).map_err(failing)?;
    }
    disk::create_private(&unfinished).map_err(failing)?;
    let mut connection = open_file(&unfinished)?;
    schema::create(&mut connection, schema::VERSION)?;
    drop(connection);
    disk::publish(&unfinished, path).map_err(failing)
}

fn connect(path: &Path, lock_wait: Duration) -> Result<Connection, Trouble> {
    for suffix in ["", "-wal", "-shm"] {
        disk::make_private(&disk::beside(path, suffix)).map_err(|error| Trouble::Failing(error.to_string()))?;
    }
    let mut connection = open_file(path)?;
    connection.busy_timeout(lock_wait)?;
    connection.set_prepared_statement_cache_capacity(32);
    if connection.is_readonly("main")? {
        return Err(Trouble::ReadOnly);
    }
    let version = schema::version(&connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    let journal: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if journal != "wal" {
        return Err(Trouble::Failing("its file system has no shared memory, which a write-ahead log needs".to_owned()));
    }
    schema::migrate(&mut connection, version)?;
    schema::verify(&connection)?;
    connection.busy_timeout(STORE_LOCK_WAIT)?;
    Ok(connection)
}

fn open_file(path: &Path) -> Result<Connection, Trouble> {
    Ok(Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?)
}

/// Moves the write-ahead log into the file and empties it: recovery stops silently at the first damaged frame, so the
/// log is kept as short as can be. `false` where a reader elsewhere prevents it now.
fn checkpoint(connection: &Connection) -> Result<bool, Trouble> {
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(busy == 0)
}

fn identity(path: &Path) -> Result<(u64, u64), Trouble> {
    let found = fs::metadata(path).map_err(|error| Trouble::Failing(error.to_string()))?;
    Ok((found.dev(), found.ino()))
}

fn check_identity(path: &Path, expected: (u64, u64)) -> Result<(), Trouble> {
    match identity(path)? == expected {
        true => Ok(()),
        false => Err(Trouble::Failing("its file was replaced while the hub runs; start the hub again".to_owned())),
    }
}

#[cfg(test)]
mod tests;
