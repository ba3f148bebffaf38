//! What follows a failed sync: the file is copied into a new one, which takes its place.
//!
//! After a failed sync the kernel may call the pages clean that it could not write. A later sync succeeds, over a hole.
//! A copy is made of what can be read, and all of it is written anew.

use super::schema;
use crate::store::{Trouble, disk};
use rusqlite::config::DbConfig;
use std::{io, path::Path};

/// Copies the log that no connection has open, and puts the copy in its place.
pub(super) fn replace_by_copy(path: &Path) -> Result<(), Trouble> {
    let unfinished = disk::beside(path, ".new");
    let from_io = |error: io::Error| Trouble::from_io(&error);
    for suffix in ["", "-journal", "-wal", "-shm"] {
        disk::remove(&disk::beside(&unfinished, suffix)).map_err(from_io)?;
    }
    // SQLite takes an existing file if it is empty, and keeps its mode.
    disk::create_private(&unfinished).map_err(from_io)?;
    let connection = schema::connect_reader(path)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let name = unfinished.to_str().ok_or_else(|| Trouble::Failing("its path is not UTF-8".to_owned()))?;
    connection.execute("VACUUM INTO ?1", [name])?;
    drop(connection);
    disk::publish(&unfinished, &copied(path)).map_err(from_io)?;
    finish(path).map_err(from_io)
}

/// Puts a finished copy in the log's place. A crash before its end is made good by the next call, at the next start.
pub(super) fn finish(path: &Path) -> io::Result<()> {
    let copied = copied(path);
    if !copied.try_exists()? {
        return Ok(());
    }
    // The write-ahead log is in the copy already. SQLite would replay it into the copy, which has other pages.
    for suffix in ["-wal", "-shm"] {
        disk::remove(&disk::beside(path, suffix))?;
    }
    disk::publish(&copied, path)
}

/// The copy once it is complete.
fn copied(path: &Path) -> std::path::PathBuf {
    disk::beside(path, ".copied")
}
