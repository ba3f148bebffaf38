//! What follows a failed sync: the file is copied into a new one, which takes its place.
//!
//! After a failed sync the kernel may call the pages clean that it could not write. A later sync succeeds, over a hole.
//! A copy is made of what can be read, and all of it is written anew.

use super::{
    mark::{self, Mark, MarkFile},
    schema,
};
use crate::store::{Trouble, disk};
use rusqlite::config::DbConfig;
use std::{io, path::Path};

/// Copies the log that no connection has open, and puts the copy in its place. The mark then names the copy.
pub(super) fn replace_by_copy(path: &Path, mark: &Path) -> Result<(), Trouble> {
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
    finish(path, mark)
}

/// Puts a finished copy in the log's place. A crash before its end is made good by the next call, at the next start.
pub(super) fn finish(path: &Path, mark: &Path) -> Result<(), Trouble> {
    let from_io = |error: io::Error| Trouble::from_io(&error);
    let copied = copied(path);
    if !copied.try_exists().map_err(from_io)? {
        return Ok(());
    }
    // The copy is this log, though its inode is another. The mark says so before the copy has the log's name, or a crash in between
    // would look like an exchanged file.
    if let Some(known) = mark::read(mark).map_err(from_io)? {
        MarkFile::create(mark, Mark { inode: schema::inode(&copied)?, ..known }).map_err(from_io)?;
    }
    // The write-ahead log is in the copy already. SQLite would replay it into the copy, which has other pages.
    for suffix in ["-wal", "-shm"] {
        disk::remove(&disk::beside(path, suffix)).map_err(from_io)?;
    }
    disk::publish(&copied, path).map_err(from_io)
}

/// The copy once it is complete.
fn copied(path: &Path) -> std::path::PathBuf {
    disk::beside(path, ".copied")
}
