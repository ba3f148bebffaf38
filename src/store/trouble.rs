//! What can be wrong with the store, told apart by what has to happen next.

use rusqlite::{Error, ErrorCode, ffi};
use std::fmt;

/// Why a job cannot be done now.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// Somebody else has locked the file; passes by itself.
    Busy,
    /// No room; passes when there is room again.
    Full,
    /// The file cannot be written; it must be opened anew.
    ReadOnly,
    /// The file system or SQLite failed, and what is on the disk is not known; it must be opened and checked anew.
    Failing(String),
    /// Not what the hub has written. No way out but the operator's.
    Damaged(String),
}

impl Trouble {
    /// Whether the connection must not be used any more.
    pub(super) fn ends_connection(&self) -> bool {
        !matches!(self, Trouble::Busy | Trouble::Full)
    }

    /// What a caller is told; what the file system said is for the log only.
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
            Some(_) => Trouble::Failing(with_code(&error)),
            None => Trouble::Failing(error.to_string()),
        }
    }
}

/// The sentence alone does not tell a failed read from a failed sync.
fn with_code(error: &Error) -> String {
    match error.sqlite_error().map_or(0, |error| error.extended_code) {
        ffi::SQLITE_IOERR_SHMSIZE => "there is no room for its shared memory; is the disk full?".to_owned(),
        code => format!("{error} (SQLite result code {code})"),
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Busy => f.write_str("the store is locked by another process"),
            Trouble::Full => f.write_str("the store's disk is full"),
            Trouble::ReadOnly => f.write_str("the store is read-only"),
            Trouble::Failing(why) => write!(f, "the store is failing: {why}"),
            Trouble::Damaged(why) => write!(f, "the store is damaged: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_happens_next() {
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
