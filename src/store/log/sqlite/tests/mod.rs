//! Tests of the log in SQLite.

mod erasing;
mod fixture;
mod flips;
mod forgets;
mod full_disk;
mod marks;
mod order;
mod progress;
mod progress_troubles;
mod retention;
mod tools;
mod troubles;

use super::{super::laws, *};
use std::cell::RefCell;

fn settings(dir: &tempfile::TempDir, sync: LogSync) -> SqliteLogSettings {
    SqliteLogSettings { sync, ..SqliteLogSettings::new(dir.path(), Vec::new()) }
}

#[test]
fn the_log_in_sqlite_keeps_the_laws() {
    for sync in [LogSync::Process, LogSync::Power] {
        let dirs = RefCell::new(Vec::new());
        laws::hold(5, || {
            let dir = tempfile::tempdir().unwrap();
            let log = SqliteLog::open(settings(&dir, sync)).unwrap();
            dirs.borrow_mut().push(dir);
            Box::new(log)
        });
    }
}

#[test]
fn the_log_in_sqlite_keeps_the_laws_while_it_trims() {
    let dirs = RefCell::new(Vec::new());
    laws::hold(10, || {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, LogSync::Process);
        let settings = SqliteLogSettings { gateway_bytes_max: 3_000, total_bytes_max: 8_000, ..settings };
        dirs.borrow_mut().push(dir);
        Box::new(SqliteLog::open(settings).unwrap())
    });
}

#[test]
fn the_log_in_sqlite_keeps_the_laws_over_restarts() {
    for sync in [LogSync::Process, LogSync::Power] {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        laws::hold_over_restarts(3, 3, |seed, lives| {
            let settings = SqliteLogSettings { lives, ..settings(&dirs[seed as usize], sync) };
            Box::new(SqliteLog::open(settings).unwrap())
        });
    }
}
