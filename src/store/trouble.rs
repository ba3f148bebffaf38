//! The kinds of trouble with the database file, by what has to be done about each.

use rusqlite::{Error, ErrorCode, ffi};
use std::fmt;

/// Why a job failed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// Another process has locked the file. Ends by itself.
    Busy,
    /// The disk is full. Ends once there is space.
    Full,
    /// The file cannot be written. It must be reopened.
    ReadOnly,
    /// The file system or SQLite failed, so the content of the disk is unknown. The file must be reopened and checked.
    Failing(String),
    /// The file is damaged or is not a store. Only the operator can repair that.
    Damaged(String),
}

impl Trouble {
    /// The trouble behind an error of the file system.
    pub(super) fn from_io(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Trouble::Full,
            std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => Trouble::ReadOnly,
            _ => Trouble::Failing(error.to_string()),
        }
    }

    /// Whether the database connection must be closed.
    pub(super) fn ends_connection(&self) -> bool {
        !matches!(self, Trouble::Busy | Trouble::Full)
    }

    /// What is wrong with this file: "the store" or "the event log".
    pub(super) fn text(&self, file: &str) -> String {
        match self {
            Trouble::Busy => format!("{file} is locked by another process"),
            Trouble::Full => format!("{file}'s disk is full"),
            Trouble::ReadOnly => format!("{file} is read-only"),
            Trouble::Failing(why) => format!("{file} is failing: {why}"),
            Trouble::Damaged(why) => format!("{file} is damaged: {why}"),
        }
    }

    /// The text for the caller of a job. The error of the file system may name paths, so it is only logged.
    pub(super) fn answer(&self) -> String {
        match self {
            Trouble::Failing(_) => "the store is failing; the hub's log says why".to_owned(),
            Trouble::Damaged(_) => "the store is damaged; the hub's log says how".to_owned(),
            passing => passing.to_string(),
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::Busy,
            Some(ErrorCode::DiskFull) => Trouble::Full,
            Some(ErrorCode::ReadOnly) => Trouble::ReadOnly,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Trouble::Damaged(error.to_string()),
            // Out of memory is among these, and a failed sync: after it the kernel may have dropped dirty pages, so
            // only reading the file again shows what it contains.
            Some(_) => Trouble::Failing(with_code(&error)),
            None => Trouble::Failing(error.to_string()),
        }
    }
}

/// The error with its extended code: SQLite's text is the same for a failed read and a failed sync.
fn with_code(error: &Error) -> String {
    match error.sqlite_error().map_or(0, |error| error.extended_code) {
        ffi::SQLITE_IOERR_SHMSIZE => "there is no room for its shared memory; is the disk full?".to_owned(),
        code => format!("{error} (SQLite result code {code})"),
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text("the store"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_the_file() {
        assert_eq!(Trouble::Full.to_string(), "the store's disk is full");
        assert_eq!(Trouble::Full.text("the event log"), "the event log's disk is full");
        assert_eq!(Trouble::Damaged("x".to_owned()).text("the event log"), "the event log is damaged: x");
    }

    #[test]
    fn result_codes_map_to_kinds_of_trouble() {
        let check = |code: i32, expected: Trouble, ends_connection: bool| {
            let trouble = Trouble::from(Error::SqliteFailure(ffi::Error::new(code), None));
            assert_eq!(std::mem::discriminant(&trouble), std::mem::discriminant(&expected), "{code}");
            assert_eq!(trouble.ends_connection(), ends_connection, "{code}");
        };
        check(ffi::SQLITE_BUSY, Trouble::Busy, false);
        check(ffi::SQLITE_BUSY_RECOVERY, Trouble::Busy, false);
        check(ffi::SQLITE_LOCKED, Trouble::Busy, false);
        check(ffi::SQLITE_FULL, Trouble::Full, false);
        check(ffi::SQLITE_READONLY, Trouble::ReadOnly, true);
        check(ffi::SQLITE_READONLY_DBMOVED, Trouble::ReadOnly, true);
        check(ffi::SQLITE_IOERR, Trouble::Failing(String::new()), true);
        check(ffi::SQLITE_IOERR_FSYNC, Trouble::Failing(String::new()), true);
        check(ffi::SQLITE_CORRUPT, Trouble::Damaged(String::new()), true);
        check(ffi::SQLITE_NOTADB, Trouble::Damaged(String::new()), true);
        check(ffi::SQLITE_NOMEM, Trouble::Failing(String::new()), true);
    }
}
