//! Trouble with the file: what is answered, what is told, and that it heals without a restart.

use super::{
    super::{LogSync, settings::CommitFault},
    fixture::*,
};
use crate::{
    limits::EVENT_LOG_PROBE_INTERVAL,
    model::{
        Life, Position,
        log::{End, Health, LogReply, NotAppended, Why},
    },
};
use std::{fs, sync::atomic::Ordering, time::Duration};

/// A log with one event and a follow of its gateway.
fn opened(sync: LogSync) -> (Fixture, Life, Open, Position, crate::model::log::FollowKey) {
    let mut fixture = Fixture::new(sync);
    let life = fixture.life();
    let mut log = fixture.open();
    let first = log.fill(life, 1, 10);
    let (key, _) = log.follow(life, None);
    (fixture, life, log, first, key)
}

fn append_one(log: &mut Open, life: Life) -> Result<Position, NotAppended> {
    log.append(vec![draft(life, "t", 10)]).pop().unwrap()
}

fn health(append: Result<(), Why>) -> Health {
    Health { append, read: Ok(()) }
}

/// The trouble ends; the log notices it at its next try, and appends again.
fn check_heals(fixture: &Fixture, log: &mut Open, life: Life) -> Position {
    fixture.advance(EVENT_LOG_PROBE_INTERVAL);
    assert_eq!(log.health(), health(Ok(())));
    assert_eq!(log.stats().health(), "");
    append_one(log, life).unwrap()
}

#[test]
fn a_locked_log_refuses_and_heals() {
    let (fixture, life, mut log, first, key) = opened(LogSync::Process);
    let other = rusqlite::Connection::open(fixture.path("log.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(append_one(&mut log, life), Err(NotAppended::Refused(Why::Locked)));
    assert_eq!(log.health(), health(Err(Why::Locked)));
    assert!(
        matches!(log.read(life, Position { offset: 0, ..first }).1, End::Reached { .. }),
        "it is read all the same"
    );
    assert_eq!(log.head(life).last, 1);
    fixture.advance(EVENT_LOG_PROBE_INTERVAL);
    assert_eq!(append_one(&mut log, life), Err(NotAppended::Refused(Why::Locked)));
    other.execute_batch("COMMIT").unwrap();
    let next = check_heals(&fixture, &mut log, life);
    assert_eq!(next, Position { offset: 2, ..first }, "what was refused has no position");
    assert_eq!(log.live(key, 1)[0].position, next, "the follow goes on");
    log.close();
}

#[test]
fn a_commit_that_failed_is_unknown_and_appears_whole_or_never() {
    for (fault, appears) in [(CommitFault::Lost, false), (CommitFault::Unsynced, true)] {
        let (fixture, life, mut log, first, key) = opened(LogSync::Power);
        let inode = super::super::schema::inode(&fixture.path("log.db")).unwrap();
        fixture.fail_commit(fault);
        let results = log.append((0..3).map(|_| draft(life, "t", 10)).collect());
        assert_eq!(results, vec![Err(NotAppended::Unknown(Why::Io)); 3]);
        assert_eq!(log.health(), health(Err(Why::Io)));
        assert_eq!(log.head(life).last, 1, "nothing is told that is not known");
        let next = check_heals(&fixture, &mut log, life);
        assert_eq!(next, Position { offset: if appears { 5 } else { 2 }, ..first });
        // What was unknown is told before what comes behind it.
        let live: Vec<_> = log.live(key, if appears { 4 } else { 1 }).iter().map(|it| it.position.offset).collect();
        assert_eq!(live, (2..=next.offset).collect::<Vec<_>>());
        let now = super::super::schema::inode(&fixture.path("log.db")).unwrap();
        assert_eq!(now != inode, appears, "after a failed sync a copy takes the file's place");
        assert!(!fixture.path("log.db.copied").exists() && !fixture.path("log.db.new").exists());
        assert_eq!(log.read(life, Position { offset: 0, ..first }).0.len() as u64, next.offset);
        log.close();

        let mut log = fixture.open();
        assert_eq!((log.head(life).epoch, log.head(life).last), (first.epoch, next.offset));
        log.close();
    }
}

#[test]
fn a_copy_that_was_not_put_in_place_is_at_the_next_start() {
    let (fixture, life, mut log, first, _) = opened(LogSync::Power);
    log.close();
    // Another inode than the one that the mark names.
    fs::copy(fixture.path("log.db"), fixture.path("log.db.copied")).unwrap();
    fs::write(fixture.path("log.db"), "the file whose sync failed").unwrap();
    fs::write(fixture.path("log.db-wal"), "its write-ahead log").unwrap();
    log = fixture.open();
    assert_eq!(log.read(life, Position { offset: 0, ..first }).0.len(), 1);
    assert_eq!(log.stats().new_epochs(), 0, "the copy is this log");
    log.close();
}

#[test]
fn a_panic_hangs_nobody() {
    let (mut fixture, life, log, first, _) = opened(LogSync::Process);
    log.close();
    let panics = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let armed = std::sync::Arc::clone(&panics);
    fixture.settings.tuning.commit_fault = std::sync::Arc::new(move || {
        assert!(!armed.swap(false, Ordering::SeqCst), "artificial");
        None
    });
    let mut log = fixture.open();
    assert_eq!(append_one(&mut log, life), Err(NotAppended::Unknown(Why::Io)));
    assert_eq!(log.health(), health(Err(Why::Io)));
    assert_eq!(check_heals(&fixture, &mut log, life), Position { offset: 2, ..first });
    log.close();
}

#[test]
fn a_removed_log_is_made_anew_and_follows_are_interrupted() {
    let (fixture, life, mut log, first, key) = opened(LogSync::Power);
    fs::remove_file(fixture.path("log.db")).unwrap();
    assert_eq!(append_one(&mut log, life), Err(NotAppended::Refused(Why::Io)));
    assert_eq!(log.health(), health(Err(Why::Io)));
    let next = check_heals(&fixture, &mut log, life);
    assert_ne!(next.epoch, first.epoch);
    log.wait(|reply| matches!(reply, LogReply::Interrupted(of) if *of == key).then_some(()));
    let (_, answer) = log.follow(life, Some(first));
    let Err(End::OtherEpoch { head }) = answer else { panic!("{answer:?}") };
    assert_eq!((head.epoch, head.base, head.last), (next.epoch, 0, 1));
    log.close();
}

#[test]
fn a_directory_that_is_away_for_a_while_heals_as_it_was() {
    let (fixture, life, mut log, first, key) = opened(LogSync::Power);
    let away = fixture.dir.path().with_extension("away");
    fs::rename(fixture.dir.path(), &away).unwrap();
    assert_eq!(append_one(&mut log, life), Err(NotAppended::Refused(Why::Io)));
    fs::create_dir(fixture.dir.path()).unwrap();
    fixture.advance(EVENT_LOG_PROBE_INTERVAL);
    assert_eq!(append_one(&mut log, life), Err(NotAppended::Refused(Why::Io)), "no other log is begun");
    fs::remove_dir(fixture.dir.path()).unwrap();
    fs::rename(&away, fixture.dir.path()).unwrap();
    assert_eq!(log.health(), health(Err(Why::Io)));
    let next = check_heals(&fixture, &mut log, life);
    assert_eq!(next, Position { offset: 2, ..first });
    assert_eq!(log.live(key, 1)[0].position, next);
    log.close();
}

#[test]
fn another_file_in_its_place_has_a_new_epoch() {
    let (fixture, life, mut log, first, _) = opened(LogSync::Power);
    let backup = fixture.copy();
    fs::copy(backup.path("log.db"), fixture.path("restored")).unwrap();
    fs::rename(fixture.path("restored"), fixture.path("log.db")).unwrap();
    assert_eq!(append_one(&mut log, life), Err(NotAppended::Refused(Why::Io)));
    assert_eq!(log.health(), health(Err(Why::Io)));
    let next = check_heals(&fixture, &mut log, life);
    assert_ne!(next.epoch, first.epoch);
    assert_eq!(log.stats().new_epochs(), 1);
    log.close();
}

#[test]
fn a_truncated_log_refuses_and_heals_when_it_is_put_back() {
    let (fixture, life, mut log, first, _) = opened(LogSync::Power);
    log.fill(life, 500, 100);
    log.close();
    let whole = fs::read(fixture.path("log.db")).unwrap();
    // Not in the cache of a connection that was just opened.
    let mut log = fixture.open();
    fs::OpenOptions::new().write(true).open(fixture.path("log.db")).unwrap().set_len(8_192).unwrap();
    assert_eq!(log.read(life, Position { offset: 0, ..first }).1, End::Failed(Why::Damaged));
    assert_eq!(append_one(&mut log, life), Err(NotAppended::Refused(Why::Damaged)));
    assert_eq!(log.health(), health(Err(Why::Damaged)));
    fs::write(fixture.path("log.db"), whole).unwrap();
    let next = check_heals(&fixture, &mut log, life);
    assert_eq!(next, Position { offset: 502, ..first });
    assert_eq!(log.read(life, Position { offset: 0, ..first }).0.len(), 502);
    log.close();
}

#[test]
fn too_little_free_space_refuses_events_and_heals() {
    let (fixture, life, mut log, first, key) = opened(LogSync::Process);
    fixture.free.store(1_000_000, Ordering::SeqCst);
    fixture.advance(Duration::from_secs(1));
    assert_eq!(append_one(&mut log, life), Err(NotAppended::Refused(Why::Full)));
    assert_eq!(log.health(), health(Err(Why::Full)));
    assert_eq!(log.read(life, Position { offset: 0, ..first }).0.len(), 1);
    // A gateway is deleted all the same, and that does not call the disk free.
    let other = Life { gateway: crate::model::GatewayId::random(), incarnation: 1 };
    log.forget(other).unwrap();
    fixture.advance(Duration::from_secs(1));
    assert_eq!(append_one(&mut log, life), Err(NotAppended::Refused(Why::Full)));
    fixture.free.store(u64::MAX, Ordering::SeqCst);
    let next = check_heals(&fixture, &mut log, life);
    assert_eq!(log.live(key, 1)[0].position, next);
    log.close();
}
