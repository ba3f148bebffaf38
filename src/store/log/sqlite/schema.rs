//! The tables of the log's file, and how the file is opened.

use super::settings::LogSync;
use crate::store::{Trouble, disk};
use rusqlite::{Connection, OpenFlags};
use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

/// `PRAGMA application_id` of a log: "GCLG".
const APPLICATION_ID: i64 = 0x4743_4c47;

/// `PRAGMA user_version`.
const VERSION: i64 = 3;

/// The version without the table `progress`. It is converted when a hub opens it.
const VERSION_WITHOUT_PROGRESS: i64 = 2;

/// - `meta` has one row. `generation` is the store's at the last commit.
/// - `head` has one row for each gateway. There is no write to it at an append: the last event of a gateway is the one
///   with the greatest offset, and where none is left, `first - 1`. `trimmed_bytes` is the `bytes` of the event before
///   `first`. Events below `first`, and all of a `dead` gateway, are being removed.
/// - `event` has the events in the order of their commits; `logged` is in log time (milliseconds for which the hub
///   ran).
/// - `progress` has a row for each gateway of which is kept how far it has processed: see [`PROGRESS`].
const TABLES: &str = "
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        epoch INTEGER NOT NULL,
        commits INTEGER NOT NULL,
        log_time INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        sum INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE head (
        number INTEGER PRIMARY KEY,
        gateway BLOB NOT NULL,
        incarnation INTEGER NOT NULL,
        base INTEGER NOT NULL,
        first INTEGER NOT NULL,
        trimmed_bytes INTEGER NOT NULL,
        dead INTEGER NOT NULL,
        sum INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX living ON head (gateway) WHERE NOT dead;
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY,
        number INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        accepted INTEGER NOT NULL,
        logged INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        kind TEXT NOT NULL,
        correlation BLOB NOT NULL,
        given INTEGER NOT NULL,
        secret INTEGER NOT NULL,
        user TEXT,
        payload BLOB NOT NULL,
        sum INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX place ON event (number, offset);
    CREATE INDEX secret ON event (seq) WHERE secret;
";

/// How far gateways have processed their events. The offset may be below the gateway's `first - 1`: a trim does not change it.
const PROGRESS: &str = "
    CREATE TABLE progress (
        number INTEGER PRIMARY KEY,
        offset INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        attempts_ms INTEGER NOT NULL,
        sum INTEGER NOT NULL
    ) STRICT;
";

/// Creates a log with this epoch under another name until it is complete, so that a crash never leaves half of one.
pub(super) fn create(path: &Path, epoch: u64) -> Result<(), Trouble> {
    let failing = |error: std::io::Error| Trouble::from_io(&error);
    let unfinished = disk::beside(path, ".new");
    for suffix in ["", "-journal", "-wal", "-shm"] {
        disk::remove(&disk::beside(&unfinished, suffix)).map_err(failing)?;
    }
    disk::create_private(&unfinished).map_err(failing)?;
    let connection = open_file(&unfinished)?;
    // So that a full disk gets back what was trimmed. It must be set before anything is written.
    connection.pragma_update(None, "auto_vacuum", "incremental")?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    connection.execute_batch(TABLES)?;
    connection.execute_batch(PROGRESS)?;
    super::rows::insert_meta(&connection, super::rows::Meta { epoch, commits: 1, log_time: 0, generation: 0 })?;
    connection.pragma_update(None, "user_version", VERSION)?;
    connection.execute_batch("COMMIT")?;
    drop(connection);
    // What is left of the log that was here before would be replayed into this one.
    for suffix in ["-wal", "-shm", "-journal"] {
        disk::remove(&disk::beside(path, suffix)).map_err(failing)?;
    }
    disk::publish(&unfinished, path).map_err(failing)
}

/// Opens an existing log for writing.
pub(super) fn connect(path: &Path, sync: LogSync, lock_wait: Duration) -> Result<Connection, Trouble> {
    for suffix in ["", "-wal", "-shm"] {
        disk::make_private(&disk::beside(path, suffix)).map_err(|error| Trouble::from_io(&error))?;
    }
    let connection = open_file(path)?;
    connection.busy_timeout(lock_wait)?;
    if connection.is_readonly("main")? {
        return Err(Trouble::ReadOnly);
    }
    let version = check_version(&connection)?;
    let journal: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if journal != "wal" {
        return Err(Trouble::Failing("its file system has no shared memory, which a write-ahead log needs".to_owned()));
    }
    set_sync(&connection, sync)?;
    prepare(&connection)?;
    // The reader's thread does it, so that an append never waits for it.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // Erased events are overwritten with zeros.
    connection.pragma_update(None, "secure_delete", true)?;
    if version == VERSION_WITHOUT_PROGRESS {
        convert(&connection)?;
    }
    Ok(connection)
}

/// Gives a log of the version before its new table, or changes nothing.
fn convert(connection: &Connection) -> Result<(), Trouble> {
    let converted = connection.execute_batch("BEGIN IMMEDIATE").and_then(|()| {
        connection.execute_batch(PROGRESS)?;
        connection.pragma_update(None, "user_version", VERSION)?;
        connection.execute_batch("COMMIT")
    });
    if converted.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    converted?;
    tracing::info!(version = VERSION, "the event log was converted; an older Gatecast does not open it any more");
    Ok(())
}

/// Opens an existing log for reading, and for checkpoints.
pub(super) fn connect_reader(path: &Path) -> Result<Connection, Trouble> {
    let connection = open_file(path)?;
    connection.busy_timeout(Duration::ZERO)?;
    check_version(&connection)?;
    prepare(&connection)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}

/// Shortens the file by pages that no row uses; the next checkpoint does it. Run in a transaction.
pub(super) fn give_back_pages(connection: &Connection, pages: u32) -> Result<(), Trouble> {
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut steps = statement.query([])?;
    // Each step gives back one page.
    while steps.next()?.is_some() {}
    Ok(())
}

/// Sets when commits of a connection are synced.
pub(super) fn set_sync(connection: &Connection, sync: LogSync) -> Result<(), Trouble> {
    // With a write-ahead log only FULL syncs each commit.
    let synchronous = if sync == LogSync::Power { "FULL" } else { "NORMAL" };
    Ok(connection.pragma_update(None, "synchronous", synchronous)?)
}

fn prepare(connection: &Connection) -> Result<(), Trouble> {
    connection.set_prepared_statement_cache_capacity(64);
    // The file may be damaged, so SQLite is to check more of it, and to run no functions that its schema names.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    // In KiB where it is negative.
    Ok(connection.pragma_update(None, "cache_size", -16_384)?)
}

/// Returns the version, which is this one's or the one before.
fn check_version(connection: &Connection) -> Result<i64, Trouble> {
    // Checked before anything is written: switching to a write-ahead log would already change another program's file.
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if pragma("application_id")? != APPLICATION_ID {
        return Err(Trouble::Damaged("it is not an event log of Gatecast".to_owned()));
    }
    match pragma("user_version")? {
        known @ (VERSION | VERSION_WITHOUT_PROGRESS) => Ok(known),
        newer if newer > VERSION => Err(Trouble::Damaged(format!(
            "it was written by a newer Gatecast (schema {newer}, this one knows up to {VERSION}); start that version"
        ))),
        other => Err(Trouble::Damaged(format!("its schema version is {other}, expected {VERSION}"))),
    }
}

fn open_file(path: &Path) -> Result<Connection, Trouble> {
    // Without CREATE, so that a missing file is an error. Without a mutex: each connection has one user at a time.
    Ok(Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?)
}

/// The inode of a file.
pub(super) fn inode(path: &Path) -> Result<u64, Trouble> {
    Ok(fs::metadata(path).map_err(|error| Trouble::from_io(&error))?.ino())
}
