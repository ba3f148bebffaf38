//! Progress while the file cannot be written: it is told at once, and written once the file heals.

use super::{
    super::{LogSync, settings::CommitFault},
    fixture::*,
};
use crate::{
    limits::EVENT_LOG_PROBE_INTERVAL,
    model::{
        Life, Position,
        log::{NotAppended, ProgressStep, Why},
    },
};
use std::{
    fs,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A log with ten events of a gateway that has processed four.
fn opened(sync: LogSync) -> (Fixture, Life, Open, Position) {
    let mut fixture = Fixture::new(sync);
    let life = fixture.life();
    let mut log = fixture.open();
    log.step(life, ProgressStep::Begin);
    let last = log.fill(life, 10, 10);
    log.reach(life, Position { offset: 4, ..last });
    log.settle(life);
    (fixture, life, log, last)
}

fn heal(fixture: &Fixture, log: &mut Open) {
    log.wait_until(|log| {
        fixture.advance(EVENT_LOG_PROBE_INTERVAL / 4);
        log.stats().health().is_empty()
    });
}

/// What the file of a killed process says.
fn kept(fixture: &Fixture, life: Life) -> Option<u64> {
    let mut copy = fixture.copy().open();
    let kept = copy.processed(life);
    copy.close();
    kept
}

#[test]
fn progress_whose_commit_failed_is_told_and_written_once_the_log_heals() {
    for fault in [CommitFault::Lost, CommitFault::Unsynced, CommitFault::Full] {
        let (mut fixture, life, mut log, last) = opened(LogSync::Power);
        let others = [fixture.life(), fixture.life()];
        fixture.fail_commit(fault);
        log.reach(life, Position { offset: 7, ..last });
        log.wait_until(|log| !log.stats().health().is_empty());
        // While the file is closed.
        log.step(others[0], ProgressStep::Begin);
        log.reach(life, Position { offset: 8, ..last });
        assert_eq!((log.processed(life), log.processed(others[0])), (Some(8), Some(0)));
        heal(&fixture, &mut log);
        log.settle(life);
        assert_eq!((log.processed(life), log.processed(others[0]), log.processed(others[1])), (Some(8), Some(0), None));
        assert_eq!((kept(&fixture, life), kept(&fixture, others[0])), (Some(8), Some(0)));
        log.close();
    }
}

#[test]
fn progress_in_a_group_that_failed_is_written_with_the_next() {
    let (fixture, life, mut log, last) = opened(LogSync::Power);
    for (fault, offset) in [(CommitFault::Lost, 6), (CommitFault::Full, 7), (CommitFault::Unsynced, 9)] {
        fixture.fail_commit(fault);
        log.reach(life, Position { offset, ..last });
        log.append(vec![draft(life, "t", 10)]).pop().unwrap().ok();
        log.step(life, ProgressStep::Begin);
        heal(&fixture, &mut log);
        log.settle(life);
        assert_eq!((log.processed(life), kept(&fixture, life)), (Some(offset), Some(offset)));
    }
    log.close();
}

#[test]
fn progress_in_a_group_that_found_the_disk_full_is_written_with_the_next() {
    let (mut fixture, life, log, last) = opened(LogSync::Power);
    log.close();
    // The first commit waits, so that what comes next is one group; that one finds the disk full.
    let (gate, commits) = (Arc::new(Barrier::new(2)), AtomicU64::new(0));
    let writer = Arc::clone(&gate);
    fixture.settings.tuning.commit_fault = Arc::new(move || match commits.fetch_add(1, Ordering::SeqCst) {
        0 => {
            writer.wait();
            writer.wait();
            None
        }
        1 => Some(CommitFault::Full),
        _ => None,
    });
    let mut log = fixture.open();
    let first = log.send_append(vec![draft(life, "t", 10)]);
    gate.wait();
    log.reach(life, Position { offset: 9, ..last });
    let second = log.send_append(vec![draft(life, "t", 10)]);
    gate.wait();
    assert!(log.appended(first)[0].is_ok());
    assert_eq!(log.appended(second), [Err(NotAppended::Refused(Why::Full))]);
    heal(&fixture, &mut log);
    log.settle(life);
    assert_eq!((log.processed(life), kept(&fixture, life)), (Some(9), Some(9)));
    log.close();
}

#[test]
fn progress_that_ends_while_the_log_is_closed_does_not_come_back() {
    let (fixture, life, mut log, _) = opened(LogSync::Power);
    fixture.fail_commit(CommitFault::Lost);
    log.append(vec![draft(life, "t", 10)])[0].as_ref().unwrap_err();
    log.step(life, ProgressStep::End);
    heal(&fixture, &mut log);
    log.settle(life);
    assert_eq!((log.processed(life), kept(&fixture, life)), (None, None));
    log.close();
}

#[test]
fn progress_is_written_on_a_disk_that_is_too_full_for_events() {
    let (fixture, life, mut log, last) = opened(LogSync::Power);
    fixture.free.store(1_000_000, Ordering::SeqCst);
    fixture.advance(Duration::from_secs(1));
    let refused = log.append(vec![draft(life, "t", 10)]);
    assert_eq!(refused, [Err(NotAppended::Refused(Why::Full))]);
    log.reach(life, Position { offset: 9, ..last });
    fixture.advance(EVENT_LOG_PROBE_INTERVAL);
    log.settle(life);
    log.wait_until(|_| kept(&fixture, life) == Some(9));
    log.close();
}

#[test]
fn a_locked_log_writes_its_progress_at_the_end() {
    let (fixture, life, mut log, last) = opened(LogSync::Process);
    let other = rusqlite::Connection::open(fixture.path("log.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    log.reach(life, Position { offset: 9, ..last });
    log.wait_until(|log| !log.stats().health().is_empty());
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    // Its clock stands still, so it would not try again by itself.
    log.close();
    let mut log = fixture.open();
    assert_eq!(log.processed(life), Some(9));
    log.close();
}

#[test]
fn a_log_that_is_made_anew_begins_what_was_kept_and_nothing_else() {
    let (mut fixture, life, mut log, last) = opened(LogSync::Power);
    let other = fixture.life();
    log.fill(other, 3, 10);
    fs::remove_file(fixture.path("log.db")).unwrap();
    log.append(vec![draft(life, "t", 10)])[0].as_ref().unwrap_err();
    log.reach(life, last);
    heal(&fixture, &mut log);
    let progress = log.progress(life).unwrap();
    assert_eq!((progress.position.offset, log.processed(other)), (0, None));
    assert_ne!(progress.position.epoch, last.epoch);
    assert_eq!(log.fill(life, 1, 10), Position { offset: 1, ..progress.position });
    log.close();
    let mut log = fixture.open();
    assert_eq!(log.processed(life), Some(0));
    log.close();
}

#[test]
fn a_backup_in_its_place_delivers_again_what_is_behind_its_own_progress() {
    let (fixture, life, mut log, last) = opened(LogSync::Power);
    let backup = fixture.copy();
    backup.open().close();
    log.reach(life, Position { offset: 8, ..last });
    log.settle(life);
    fs::copy(backup.path("log.db"), fixture.path("restored")).unwrap();
    // It would be replayed into the backup.
    fs::remove_file(fixture.path("log.db-wal")).unwrap();
    fs::rename(fixture.path("restored"), fixture.path("log.db")).unwrap();
    log.append(vec![draft(life, "t", 10)])[0].as_ref().unwrap_err();
    heal(&fixture, &mut log);
    let (head, progress) = (log.head(life), log.progress(life).unwrap());
    assert_ne!(head.epoch, last.epoch);
    assert_eq!((progress.position.offset, head.base), (4, 10));
    assert_eq!(log.read(life, progress.position).0.len(), 6);
    log.close();
}

#[test]
fn progress_begins_although_the_older_incarnation_cannot_be_forgotten_yet() {
    let (mut fixture, life, mut log, _) = opened(LogSync::Process);
    let other = rusqlite::Connection::open(fixture.path("log.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let newer = Life { incarnation: 1_000, ..life };
    fixture.settings.lives = vec![newer];
    log.step(newer, ProgressStep::Begin);
    log.wait_until(|log| !log.stats().health().is_empty());
    let refused = log.append(vec![draft(newer, "t", 10)]);
    assert_eq!(refused, [Err(NotAppended::Refused(Why::Locked))]);
    other.execute_batch("COMMIT").unwrap();
    heal(&fixture, &mut log);
    assert_eq!(log.fill(newer, 1, 10).offset, 1);
    assert_eq!((log.processed(newer), kept(&fixture, newer)), (Some(0), Some(0)));
    log.close();
}
