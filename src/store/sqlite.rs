//! The store in one SQLite file. An acknowledged change survives a kill and a power loss. A change that may or may not
//! have been made is announced as soon as the file shows that it was.
//!
//! ```text
//!            a job fails: I/O, read-only            reopened and checked
//!   open ───────────────────────────────► closed ─────────────────────────► open
//!    ▲ │ busy, full: answer 503, stay open   │ damaged
//!    └─┘                                     └─────────► damaged: every job 503 until the operator acts
//! ```

use super::{Generation, Store, StoreError, disk, lock::DirLock, queries, schema, trouble::Trouble};
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
    /// `None` after a failure; the next job reopens the file.
    connection: Option<Connection>,
    /// The change of a job that failed in its commit or panicked. The file may contain it or not.
    unconfirmed: Option<Change>,
    /// The last trouble, until the store has settled. Jobs may succeed before that.
    trouble: Option<Trouble>,
    /// Damage that was found on reopening. Every job fails from then on.
    damaged: Option<Trouble>,
    /// The write-ahead log may not be empty.
    unsettled: bool,
    /// Device and inode of the file from which the cores' directories were filled.
    identity: (u64, u64),
    generation: Generation,
    _lock: DirLock,
}

impl Sqlite {
    /// Opens and checks the file at `path`, or creates it and its directory. No other store can open the directory
    /// until this one is dropped.
    ///
    /// # Errors
    /// If another hub uses the directory, or the file is damaged, locked, read-only or of a newer version. A damaged or
    /// truncated file, even one of 0 bytes, is never taken for a new store.
    pub fn open(path: &Path) -> Result<Sqlite, StoreError> {
        let lock = DirLock::take(disk::dir_of(path))?;
        let connected =
            create_if_missing(path).and_then(|()| Ok((connect(path, STORE_OPEN_LOCK_WAIT)?, identity(path)?)));
        let (connection, identity) =
            connected.map_err(|trouble| StoreError::File { path: path.to_owned(), trouble })?;
        let generation = Generation::default();
        let found = schema::generation(&connection);
        generation.raise(found.map_err(|trouble| StoreError::File { path: path.to_owned(), trouble })?);
        Ok(Sqlite {
            path: path.to_owned(),
            connection: Some(connection),
            unconfirmed: None,
            trouble: None,
            damaged: None,
            unsettled: true,
            identity,
            generation,
            _lock: lock,
        })
    }

    /// The store's generation, which the event log notes.
    pub fn generation(&self) -> Generation {
        self.generation.clone()
    }

    /// Writes the generation to the file if the log has raised it at its opening. Called before the first job.
    ///
    /// # Errors
    /// If the file cannot be written. Then the next start finds a store that seems to have been put back.
    pub fn keep_generation(&mut self) -> Result<(), StoreError> {
        let generation = self.generation.get();
        let kept = opened(&mut self.connection).and_then(|connection| {
            if schema::generation(connection)? < generation {
                schema::set_generation(connection, generation)?;
            }
            Ok(())
        });
        kept.map_err(|trouble| StoreError::File { path: self.path.clone(), trouble })
    }

    /// Reopens the file if needed. Returns the unconfirmed change if the file contains it.
    fn reopen_if_closed(&mut self) -> Result<Option<Change>, Trouble> {
        if self.connection.is_some() && self.unconfirmed.is_none() {
            return Ok(None);
        }
        if let Some(damage) = &self.damaged {
            return Err(damage.clone());
        }
        // Dropped before the file is opened again: SQLite discards the frames of a failed commit only when it closes the
        // write-ahead log.
        self.connection = None;
        check_identity(&self.path, self.identity)?;
        // Without a wait for locks: the job that brought us here must not hold up the queue behind it.
        let connection = connect(&self.path, Duration::ZERO).inspect_err(|trouble| {
            if matches!(trouble, Trouble::Damaged(_)) {
                self.damaged = Some(trouble.clone());
            }
        })?;
        let confirmed = match self.unconfirmed {
            Some(change) if queries::is_applied(&connection, change)? => Some(change),
            _ => None,
        };
        self.generation.raise(schema::generation(&connection)?);
        self.unconfirmed = None;
        self.connection = Some(connection);
        Ok(confirmed)
    }

    /// Runs a job on the open file.
    fn attempt(&mut self, op: StoreOp) -> Result<(StoreOutcome, Option<Change>), Failed> {
        let writes = !matches!(op, StoreOp::Gateway(_) | StoreOp::Gateways { .. } | StoreOp::Tokens(_));
        let connection = opened(&mut self.connection)?;
        if !writes {
            return Ok(queries::run(connection, op)?);
        }
        // SQLite would go on writing to a file that was removed or replaced, and acknowledge changes that are lost.
        check_identity(&self.path, self.identity)?;
        // Immediate takes the write lock at once. A deferred transaction could fail as busy in the middle of the job.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (outcome, change) = match queries::run(&transaction, op) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                (StoreOutcome::Conflict("it violates a constraint of the store".to_owned()), None)
            }
            ran => ran?,
        };
        if matches!(outcome, StoreOutcome::Conflict(_) | StoreOutcome::NotFound(_) | StoreOutcome::Unavailable(..)) {
            return Ok((outcome, None));
        }
        let generation = self.generation.get() + u64::from(matches!(change, Some(Change::GatewayDeleted(_))));
        if generation > self.generation.get() {
            schema::set_generation(&transaction, generation)?;
        }
        // Set before the commit, so that it is still known after a panic in it.
        self.unconfirmed = change;
        transaction.commit().map_err(Failed::in_commit)?;
        self.unconfirmed = None;
        self.unsettled = true;
        // Before the change is announced: the log that forgets the gateway must note it.
        self.generation.raise(generation);
        Ok((outcome, change))
    }

    /// Reopens the file, tests a write after trouble, and empties the write-ahead log.
    fn try_settle(&mut self) -> Result<Option<Change>, Trouble> {
        let confirmed = self.reopen_if_closed()?;
        if confirmed.is_some() {
            return Ok(confirmed);
        }
        if self.trouble.is_some() {
            schema::probe(opened(&mut self.connection)?)?;
            self.unsettled = true;
        }
        if self.unsettled {
            self.unsettled = !checkpoint(opened(&mut self.connection)?)?;
        }
        self.handle_recovery();
        Ok(None)
    }

    /// Ends the trouble. Called only after a write and a checkpoint, so that a disk that is nearly full does not log a
    /// recovery and a new failure each second.
    fn handle_recovery(&mut self) {
        let Some(trouble) = self.trouble.take() else { return };
        tracing::info!(%trouble, "the store works again");
        self.wait_for_locks(STORE_LOCK_WAIT);
    }

    /// Records and logs trouble, and closes the file if it must be reopened.
    fn handle_trouble(&mut self, trouble: &Trouble) {
        if trouble.ends_connection() {
            // `unconfirmed` stays: the reopened file shows whether the commit was made.
            self.connection = None;
        } else if self.connection.is_some() {
            // SQLite has rolled back a job that found the file locked or full.
            self.unconfirmed = None;
            // Only the first job waits for a lock. If each did, the last of a full queue would wait for minutes.
            self.wait_for_locks(Duration::ZERO);
        }
        // Logged once for each kind: jobs and probes would repeat it every second.
        let known = self.trouble.as_ref().map(std::mem::discriminant);
        if known != Some(std::mem::discriminant(trouble)) {
            tracing::error!(%trouble, "the store is in trouble");
        }
        self.trouble = Some(trouble.clone());
    }

    fn wait_for_locks(&self, wait: Duration) {
        if let Some(Err(error)) = self.connection.as_ref().map(|connection| connection.busy_timeout(wait)) {
            tracing::error!(%error, "the store's time limit for locks cannot be set");
        }
    }
}

impl Store for Sqlite {
    fn execute(&mut self, op: StoreOp) -> (StoreOutcome, Option<Change>) {
        let done = match self.reopen_if_closed() {
            Ok(None) => self.attempt(op),
            // One job returns one change, and this one is an earlier job's. So the job itself is not run; its caller
            // tries again.
            Ok(confirmed) => {
                let answer = "the store was just reopened; try again".to_owned();
                Ok((StoreOutcome::Unavailable(answer, Kept::No), confirmed))
            }
            Err(trouble) => Err(trouble.into()),
        };
        done.unwrap_or_else(|Failed { trouble, kept }| {
            self.handle_trouble(&trouble);
            (StoreOutcome::Unavailable(trouble.answer(), kept), None)
        })
    }

    fn snapshot(&mut self) -> Result<Vec<Change>, StoreError> {
        let read = opened(&mut self.connection).and_then(|connection| Ok(queries::snapshot(connection)?));
        read.map_err(|trouble| StoreError::File { path: self.path.clone(), trouble })
    }

    fn settle(&mut self) -> Result<Option<Change>, Trouble> {
        self.try_settle().inspect_err(|trouble| self.handle_trouble(trouble))
    }
}

/// Why a job failed, and whether the file may contain its change.
struct Failed {
    trouble: Trouble,
    kept: Kept,
}

impl Failed {
    /// The failure of the commit itself. SQLite rolls back a commit that found the file locked or full. After any other
    /// failure the commit record may be on the disk, and then the file contains the change when it is read again.
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

/// Creates a new store if there is no file at `path`.
fn create_if_missing(path: &Path) -> Result<(), Trouble> {
    let failing = |error: std::io::Error| Trouble::Failing(error.to_string());
    if path.try_exists().map_err(failing)? {
        return Ok(());
    }
    // A log without its database is what is left of a lost store. A new store would replay it or delete it.
    for suffix in ["-wal", "-journal"] {
        if fs::metadata(disk::beside(path, suffix)).is_ok_and(|found| found.len() > 0) {
            return Err(Trouble::Damaged(format!("it is missing, but its {suffix} file exists")));
        }
    }
    // Under another name until it is complete, so that a crash never leaves an empty store.
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

/// Opens, migrates and checks an existing file.
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
    // With a write-ahead log only FULL syncs each commit: NORMAL may lose acknowledged changes in a power loss.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // The file may be damaged, so SQLite is to check more of it, and to run no functions that its schema names.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    let journal: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    // SQLite does not fail where it cannot use a write-ahead log. It returns the mode that it keeps.
    if journal != "wal" {
        return Err(Trouble::Failing("its file system has no shared memory, which a write-ahead log needs".to_owned()));
    }
    schema::migrate(&mut connection, version)?;
    schema::verify(&connection)?;
    connection.busy_timeout(STORE_LOCK_WAIT)?;
    Ok(connection)
}

fn open_file(path: &Path) -> Result<Connection, Trouble> {
    // Without CREATE, so that a missing file is an error. Without a mutex, because only the store's thread uses it.
    Ok(Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?)
}

/// Moves the write-ahead log into the file and empties it. Returns `false` if a reader in another process prevents that
/// now.
fn checkpoint(connection: &Connection) -> Result<bool, Trouble> {
    // The log is kept short because recovery ends silently at its first damaged frame, and loses the changes behind it.
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
        false => Err(Trouble::Failing("its file was replaced while the hub was running; restart the hub".to_owned())),
    }
}

#[cfg(test)]
mod tests;
