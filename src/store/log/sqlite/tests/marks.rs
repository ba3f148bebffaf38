//! What a start finds: each way in which commits may be lost gives a new epoch, and none other does.

use super::{super::LogSync, fixture::*};
use crate::{
    model::{
        Life, Position,
        log::{End, NotAppended},
    },
    store::{Generation, log::OfflineLog},
};
use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

/// A log with 100 events whose process was killed: its files as they were while it was open.
fn killed(sync: LogSync) -> (Fixture, Life, Position) {
    let mut running = Fixture::new(sync);
    let life = running.life();
    let mut log = running.open();
    let position = log.fill(life, 100, 300);
    let crashed = running.copy();
    log.close();
    (crashed, life, position)
}

/// Opens it: the last event is at its position, or the position is of another epoch and the next offset is a new name.
fn check(fixture: &Fixture, life: Life, last: Position, same_epoch: bool) {
    let mut log = fixture.open();
    let head = log.head(life);
    let (records, end) = log.read(life, Position { offset: last.offset - 1, ..last });
    if same_epoch {
        assert_eq!((head.epoch, head.last, records.len(), end), (last.epoch, last.offset, 1, End::Reached { head }));
    } else {
        assert_eq!((end, records.len()), (End::OtherEpoch { head }, 0));
        assert_ne!(head.epoch, last.epoch);
        assert_eq!((head.first, head.base), (head.last + 1, head.last), "nothing of the new epoch yet");
        assert_eq!(log.stats().new_epochs(), 1);
    }
    let next = log.fill(life, 1, 10);
    assert_eq!(next, Position { epoch: head.epoch, offset: head.last + 1 });
    log.close();
    // It was closed cleanly, so the next start changes nothing.
    let mut log = fixture.open();
    assert_eq!((log.head(life).epoch, log.head(life).last), (next.epoch, next.offset));
    assert_eq!(log.stats().new_epochs(), 0);
    log.close();
}

fn truncate(path: &Path, bytes: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 1;
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&bytes).unwrap();
}

#[test]
fn a_killed_process_loses_nothing() {
    for sync in [LogSync::Process, LogSync::Power] {
        let (fixture, life, last) = killed(sync);
        check(&fixture, life, last, true);
    }
}

#[test]
fn a_log_that_lost_its_end_has_a_new_epoch() {
    for sync in [LogSync::Process, LogSync::Power] {
        let strike = |fault: fn(&Path)| {
            let (fixture, life, last) = killed(sync);
            fault(&fixture.path("log.db-wal"));
            check(&fixture, life, last, false);
        };
        strike(|wal| truncate(wal, fs::metadata(wal).unwrap().len() / 2));
        strike(|wal| flip(wal, fs::metadata(wal).unwrap().len() - 100));
        // The whole of it: the file itself has only what a checkpoint moved.
        strike(|wal| truncate(wal, 0));
        strike(|wal| fs::remove_file(wal).unwrap());
    }
}

#[test]
fn an_older_copy_in_its_place_has_a_new_epoch() {
    let mut fixture = Fixture::new(LogSync::Power);
    let life = fixture.life();
    let mut log = fixture.open();
    log.fill(life, 10, 10);
    log.close();
    let copy = fs::read(fixture.path("log.db")).unwrap();
    let mut log = fixture.open();
    let last = log.fill(life, 1, 10);
    log.close();
    // Into the same file, so that only the number of commits tells.
    fs::write(fixture.path("log.db"), copy).unwrap();
    check(&fixture, life, last, false);
}

#[test]
fn a_log_without_its_mark_or_with_another_inode_has_a_new_epoch() {
    let (fixture, life, last) = killed(LogSync::Power);
    fs::remove_file(fixture.path("log.mark")).unwrap();
    check(&fixture, life, last, false);

    let (fixture, life, last) = killed(LogSync::Power);
    fs::copy(fixture.path("log.db"), fixture.path("copy")).unwrap();
    fs::rename(fixture.path("copy"), fixture.path("log.db")).unwrap();
    check(&fixture, life, last, false);
}

/// A gateway that was deleted and exists again has the same incarnation, but the log has forgotten it: its next position has offset 1.
#[test]
fn a_store_that_lacks_a_deletion_has_a_new_epoch() {
    for (lacks, by_tool) in [(0, false), (0, true), (1, false), (1, true), (5, false)] {
        let (mut fixture, store) = (Fixture::new(LogSync::Power), Generation::default());
        let (life, deleted) = (fixture.life(), fixture.life());
        fixture.settings.store_generation = Some(store.clone());
        let mut log = fixture.open();
        assert_eq!(log.fill(deleted, 1, 300).offset, 1);
        let last = log.fill(life, 100, 300);
        store.raise(store.get() + 5);
        log.forget(deleted).unwrap();
        log.close();
        if by_tool {
            // It knows no store, and keeps what the log has noted.
            OfflineLog::open(fixture.dir.path()).unwrap().trim(Some(life.gateway), 10).unwrap();
        }
        let found = Generation::default();
        found.raise(store.get() - lacks);
        fixture.settings.store_generation = Some(found.clone());
        check(&fixture, life, last, lacks == 0);
        // No other copy of before passes as one of now.
        assert_eq!(found.get() > store.get() + 1_000, lacks > 0);
        fixture.settings.store_generation = Some(store);
        let log = fixture.open();
        assert_eq!(log.stats().new_epochs(), u64::from(lacks > 0));
        log.close();
    }
}

#[test]
fn deletions_that_the_log_was_not_told_of_cost_nothing() {
    let (mut fixture, store) = (Fixture::new(LogSync::Power), Generation::default());
    let life = fixture.life();
    fixture.settings.store_generation = Some(store.clone());
    let mut log = fixture.open();
    let last = log.fill(life, 100, 300);
    log.close();
    store.raise(store.get() + 3);
    check(&fixture, life, last, true);
}

#[test]
fn a_restart_of_the_machine_costs_the_epoch_only_what_was_not_synced() {
    for (sync, same_epoch) in [(LogSync::Process, false), (LogSync::Power, true)] {
        let (mut fixture, life, last) = killed(sync);
        fixture.settings.tuning.boot = Some([1; 16]);
        check(&fixture, life, last, same_epoch);
        // The mode of the run that ended counts, not that of the next one; and it ended cleanly.
        fixture.settings.sync = LogSync::Power;
        fixture.settings.tuning.boot = Some([2; 16]);
        let mut log = fixture.open();
        assert_eq!(log.head(life).last, last.offset + 1);
        assert_eq!(log.stats().new_epochs(), 0);
        log.close();
    }
}

#[test]
fn a_lost_log_begins_anew() {
    let (fixture, life, last) = killed(LogSync::Power);
    fs::remove_file(fixture.path("log.db")).unwrap();
    let mut log = fixture.open();
    let head = log.head(life);
    assert_ne!(head.epoch, last.epoch);
    assert_eq!((head.base, head.last), (0, 0), "its write-ahead log is not replayed");
    log.close();
}

#[test]
fn copies_at_random_moments_hold_everything_that_was_acknowledged() {
    let mut running = Fixture::new(LogSync::Process);
    let lives = [running.life(), running.life()];
    let mut log = running.open();
    // Too little for a checkpoint: in a copy that is made while pages are moved, file and write-ahead log would not fit together.
    for round in 0..8 {
        let (mut acknowledged, mut sent) = ([None; 2], Vec::new());
        for (index, life) in lives.iter().enumerate() {
            acknowledged[index] = Some(log.fill(*life, 5, 500));
            sent.push(log.send_append((0..200).map(|_| draft(*life, "t", 200)).collect()));
        }
        // While the writer writes.
        std::thread::sleep(Duration::from_micros(500 * round));
        let crashed = running.copy();
        let mut copy = crashed.open();
        assert_eq!(copy.stats().new_epochs(), 0);
        for (life, acknowledged) in lives.iter().zip(acknowledged) {
            let (acknowledged, head) = (acknowledged.unwrap(), copy.head(*life));
            assert!(head.last >= acknowledged.offset && head.epoch == acknowledged.epoch, "{acknowledged} {head:?}");
            let (records, end) = copy.read(*life, Position { offset: 0, ..acknowledged });
            assert_eq!((records.len() as u64, end), (head.last, End::Reached { head }));
        }
        copy.close();
        for key in sent {
            assert!(log.appended(key).iter().all(Result::is_ok));
        }
    }
    log.close();
}

#[test]
fn a_damaged_row_is_not_read_and_others_are() {
    let mut fixture = Fixture::new(LogSync::Power);
    let life = fixture.life();
    let mut log = fixture.open();
    let last = log.fill(life, 20, 300);
    log.close();
    let path = fixture.path("log.db");
    let bytes = fs::read(&path).unwrap();
    // Within the payload of some event.
    let at = bytes.windows(200).position(|window| window.iter().all(|byte| *byte == b'x')).unwrap();
    flip(&path, at as u64 + 50);
    let mut log = fixture.open();
    let whole = log.read(life, Position { offset: 0, ..last });
    assert_eq!(whole.1, End::Failed(crate::model::log::Why::Damaged));
    let ends: Vec<_> = (0..20).map(|offset| log.read_one(life, Position { offset, ..last })).collect();
    assert_eq!(ends.iter().filter(|readable| **readable).count(), 19);
    assert_eq!(log.stats().damaged_rows(), 2);
    let appended = log.append(vec![draft(life, "t", 10)]);
    assert!(!matches!(appended[0], Err(NotAppended::Unknown(_))), "{appended:?}");
    log.close();
}

#[test]
fn a_file_that_is_not_a_log_is_refused() {
    let check = |change: fn(&Path), expected: &str| {
        let fixture = Fixture::new(LogSync::Power);
        fixture.open().close();
        let path = fixture.path("log.db");
        change(&path);
        let before = fs::read(&path).unwrap();
        let error = fixture.try_open().err().unwrap().to_string();
        assert!(error.contains("log.db cannot be used") && error.contains(expected), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before, "it is not changed");
    };
    check(|path| run(path, "PRAGMA user_version = 4"), "newer Gatecast (schema 4, this one knows up to 3)");
    check(|path| run(path, "PRAGMA user_version = 1"), "its schema version is 1, expected 3");
    check(|path| run(path, "PRAGMA application_id = 5"), "not an event log");
    check(|path| fs::write(path, vec![7; 8_192]).unwrap(), "not a database");
    check(|path| fs::write(path, "").unwrap(), "not an event log");
    check(|path| truncate(path, fs::metadata(path).unwrap().len() / 2), "malformed");
    check(|path| run(path, "UPDATE meta SET epoch = epoch + 1"), "does not match its checksum");
}

fn run(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}
