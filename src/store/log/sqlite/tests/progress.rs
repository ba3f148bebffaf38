//! How far gateways have processed: what of it outlives the process, a conversion, damage and a new epoch.

use super::{
    super::{LogSync, OfflineLog, mark, rows, schema},
    fixture::*,
};
use crate::model::{
    GatewayId, Life, Position,
    log::{End, Progress, ProgressStep},
};
use rusqlite::Connection;
use std::{path::Path, time::Duration};

/// A log with 100 events of a gateway that has processed those up to `processed`.
fn processed_up_to(sync: LogSync, processed: u64) -> (Fixture, Life, Open, Position) {
    let mut fixture = Fixture::new(sync);
    let life = fixture.life();
    let mut log = fixture.open();
    log.step(life, ProgressStep::Begin);
    let last = log.fill(life, 100, 50);
    log.reach(life, Position { offset: processed, ..last });
    log.settle(life);
    (fixture, life, log, last)
}

/// The log of one gateway is closed, changed and opened again.
fn changed(processed: u64, change: impl FnOnce(&Path)) -> (Fixture, Life, Open, Position) {
    let (fixture, life, log, last) = processed_up_to(LogSync::Power, processed);
    log.close();
    change(&fixture.path("log.db"));
    let log = fixture.open();
    (fixture, life, log, last)
}

fn run(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn progress_outlives_a_killed_process_and_is_never_above_what_was_told() {
    for sync in [LogSync::Process, LogSync::Power] {
        let (running, life, mut log, last) = processed_up_to(sync, 40);
        for offset in 41..=80 {
            let told = Progress { position: Position { offset, ..last }, attempts: 2, attempts_ms: 700 };
            log.step(life, ProgressStep::Reach(told));
            if offset % 10 == 0 {
                let mut copy = running.copy().open();
                let found = copy.progress(life).unwrap();
                assert!((40..=offset).contains(&found.position.offset), "{found:?} while {offset} was told");
                copy.close();
            }
        }
        log.settle(life);
        let mut copy = running.copy().open();
        let expected = Progress { position: Position { offset: 80, ..last }, attempts: 2, attempts_ms: 700 };
        assert_eq!(copy.progress(life), Some(expected));
        copy.close();
        log.close();
    }
}

#[test]
fn progress_that_begins_is_in_the_file_with_the_next_event() {
    let mut running = Fixture::new(LogSync::Process);
    let life = running.life();
    let mut log = running.open();
    for restarted in [1, 2, 3] {
        log.fill(life, 1, 10);
        log.step(life, ProgressStep::Restart);
        // Not a follow in between: the answer to the append is all that is waited for.
        let last = log.fill(life, 1, 10);
        let mut copy = running.copy().open();
        assert_eq!((copy.processed(life), last.offset), (Some(restarted * 2 - 1), restarted * 2));
        copy.close();
    }
    log.close();
}

#[test]
fn a_clean_end_writes_the_last_step_of_each_gateway() {
    let mut fixture = Fixture::new(LogSync::Power);
    let lives: Vec<_> = (0..5).map(|_| fixture.life()).collect();
    let mut log = fixture.open();
    let last = log.fill(lives[0], 9, 10);
    lives.iter().for_each(|life| log.step(*life, ProgressStep::Begin));
    log.step(lives[1], ProgressStep::End);
    log.step(lives[2], ProgressStep::Reach(Progress { position: last, attempts: 1, attempts_ms: 1 }));
    log.close();
    let mut log = fixture.open();
    let found: Vec<_> = lives.iter().map(|life| log.processed(*life)).collect();
    assert_eq!(found, [Some(9), None, Some(0), Some(0), Some(0)], "also of gateways without events");
    log.step(lives[3], ProgressStep::End);
    log.close();
    let mut log = fixture.open();
    assert_eq!(log.processed(lives[3]), None);
    log.close();
}

#[test]
fn the_progress_of_many_gateways_is_written_in_few_commits() {
    const MANY: u64 = 300;
    let mut fixture = Fixture::new(LogSync::Power);
    let lives: Vec<_> = (0..MANY).map(|_| fixture.life()).collect();
    let mut log = fixture.open();
    let commits = || mark::read(&fixture.path("log.mark")).unwrap().unwrap().commits;
    let before = commits();
    lives.iter().for_each(|life| log.step(*life, ProgressStep::Begin));
    log.settle(lives[0]);
    let made = commits() - before;
    assert!((1..MANY / 3).contains(&made), "{made}");
    log.close();
}

#[test]
fn progress_without_events_is_written_once_an_interval() {
    let (mut fixture, life, log, last) = processed_up_to(LogSync::Power, 10);
    log.close();
    fixture.settings.tuning.progress_interval = Duration::from_millis(100);
    let mut log = fixture.open();
    let commits = || mark::read(&fixture.path("log.mark")).unwrap().unwrap().commits;
    log.reach(life, Position { offset: 11, ..last });
    log.settle(life);
    let before = commits();
    for offset in 12..30 {
        log.reach(life, Position { offset, ..last });
        log.settle(life);
    }
    assert_eq!((commits(), log.processed(life)), (before, Some(29)), "told at once, and written later");
    fixture.advance(Duration::from_millis(100));
    log.wait_until(|_| commits() > before);
    log.settle(life);
    assert_eq!(commits(), before + 1);
    log.reach(life, Position { offset: 30, ..last });
    log.fill(life, 1, 10);
    let mut copy = fixture.copy().open();
    assert_eq!(copy.processed(life), Some(30), "events take it along");
    copy.close();
    log.reach(life, Position { offset: 31, ..last });
    log.close();
    let mut log = fixture.open();
    assert_eq!(log.processed(life), Some(31), "a clean end does not wait");
    log.close();
}

#[test]
fn forgotten_gateways_and_older_incarnations_leave_no_progress() {
    let (fixture, life, mut log, _) = processed_up_to(LogSync::Power, 40);
    log.forget(life).unwrap();
    assert_eq!(log.processed(life), None);
    log.step(life, ProgressStep::Begin);
    assert_eq!(log.processed(life), Some(0));
    let newer = Life { incarnation: 1_000, ..life };
    log.fill(life, 5, 10);
    log.step(newer, ProgressStep::End);
    assert_eq!(log.processed(life), Some(0), "a step that changes nothing makes no gateway");
    log.step(newer, ProgressStep::Begin);
    let last = log.fill(newer, 2, 10);
    log.reach(newer, last);
    log.step(life, ProgressStep::End);
    assert_eq!(log.processed(newer), Some(2));
    log.settle(newer);
    let numbers = rows::progress(&Connection::open(fixture.path("log.db")).unwrap()).unwrap();
    assert_eq!(numbers.len(), 1, "{numbers:?}");
    log.close();
}

#[test]
fn a_trim_leaves_the_progress_where_it_is() {
    let (fixture, life, log, last) = processed_up_to(LogSync::Power, 40);
    log.close();
    OfflineLog::open(fixture.dir.path()).unwrap().trim(None, 10).unwrap();
    let mut log = fixture.open();
    assert_eq!((log.processed(life), log.head(life).first), (Some(40), 91));
    let (_, end) = log.follow(life, Some(Position { offset: 40, ..last }));
    assert!(matches!(end, Err(End::Gone { .. })), "{end:?}");
    log.close();
    OfflineLog::open(fixture.dir.path()).unwrap().new_epoch().unwrap();
    let mut log = fixture.open();
    let (progress, head) = (log.progress(life).unwrap(), log.head(life));
    assert_eq!((progress.position.offset, head.first, head.base, head.last), (40, 91, 100, 100));
    let (_, end) = log.follow(life, Some(progress.position));
    assert!(matches!(end, Err(End::Gone { .. })), "it has missed something: {end:?}");
    log.close();
}

#[test]
fn a_log_of_the_version_before_is_converted_when_it_is_opened() {
    const OLDER: &str = "DROP TABLE progress; PRAGMA user_version = 2";
    let (fixture, life, log, last) = processed_up_to(LogSync::Power, 40);
    log.close();
    run(&fixture.path("log.db"), OLDER);
    let offline = OfflineLog::open(fixture.dir.path()).unwrap();
    assert_eq!(offline.status().unwrap().gateways[0].processed, None);
    assert_eq!(offline.verify().unwrap().damages_total, 0);
    drop(offline);
    let mut log = fixture.open();
    assert_eq!((log.stats().new_epochs(), log.processed(life), log.head(life).last), (0, None, 100));
    log.step(life, ProgressStep::Begin);
    log.close();
    assert!(schema::connect_reader(&fixture.path("log.db")).is_ok());
    let mut log = fixture.open();
    assert_eq!(log.progress(life).map(|it| it.position), Some(last));
    log.close();

    run(&fixture.path("log.db"), OLDER);
    let offline = OfflineLog::open(fixture.dir.path()).unwrap();
    assert_eq!(offline.trim(None, 10).unwrap(), 90);
    run(&fixture.path("log.db"), OLDER);
    OfflineLog::open(fixture.dir.path()).unwrap().new_epoch().unwrap();
    let mut log = fixture.open();
    assert_eq!((log.head(life).first, log.processed(life)), (101, None));
    log.close();
}

#[test]
fn a_damaged_progress_delivers_again_what_is_kept() {
    for damage in ["offset = offset + 7", "attempts = 5", "attempts = -1", "attempts_ms = 9", "sum = 0"] {
        let (fixture, life, mut log, last) =
            changed(40, |path| run(path, &format!("UPDATE progress SET {damage} WHERE number = 1")));
        assert_eq!(log.progress(life).map(|it| it.position), Some(Position { offset: 0, ..last }), "{damage}");
        assert_eq!(log.stats().damaged_rows(), 1);
        assert_eq!(log.fill(life, 1, 10).offset, 101, "the log is usable");
        log.close();
        let mut log = fixture.open();
        assert_eq!((log.stats().damaged_rows(), log.processed(life)), (0, Some(0)), "it was written again");
        log.close();
    }
}

#[test]
fn a_damaged_progress_keeps_the_events_in_a_new_epoch() {
    let (_, life, mut log, _) = changed(100, |path| {
        run(path, "UPDATE progress SET offset = 99");
        std::fs::remove_file(path.with_extension("mark")).unwrap();
    });
    let head = log.head(life);
    assert_eq!((log.stats().new_epochs(), head.base, head.first, log.processed(life)), (1, 100, 1, Some(0)));
    log.close();
}

#[test]
fn a_progress_of_no_gateway_is_removed_and_no_later_gateway_has_it() {
    let (mut fixture, life, mut log, _) = changed(40, |path| {
        run(path, "INSERT INTO progress SELECT number + 1, offset, attempts, attempts_ms, sum FROM progress");
    });
    assert_eq!((log.stats().damaged_rows(), log.processed(life)), (1, Some(40)));
    let other = Life { gateway: GatewayId::random(), incarnation: 77 };
    fixture.settings.lives.push(other);
    log.fill(other, 1, 10);
    log.settle(other);
    log.close();
    let mut log = fixture.open();
    assert_eq!((log.processed(other), log.head(other).last, log.stats().damaged_rows()), (None, 1, 0));
    log.close();
}

#[test]
fn verify_names_a_damaged_progress_and_status_shows_where_it_begins_again() {
    let (fixture, life, log, _) = processed_up_to(LogSync::Power, 40);
    log.close();
    let offline = || OfflineLog::open(fixture.dir.path()).unwrap();
    assert_eq!(offline().status().unwrap().gateways[0].processed, Some(40));
    assert_eq!(offline().verify().unwrap().damages_total, 0);
    let check = |sql: &str, expected: &str| {
        run(&fixture.path("log.db"), sql);
        let verified = offline().verify().unwrap();
        assert_eq!((verified.damages_total, verified.events), (1, 100));
        let damage = &verified.damages[0];
        assert!(damage.what.contains(expected) && damage.heals && damage.event.is_none(), "{damage:?}");
    };
    check("UPDATE progress SET offset = 41", &format!("{} does not match its checksum", life.gateway));
    assert_eq!(offline().status().unwrap().gateways[0].processed, Some(0));
    check("UPDATE progress SET offset = 40, number = 9", "number 9 belongs to no gateway");
}

#[test]
fn a_deleted_gateway_that_is_not_swept_to_its_end_is_no_damage() {
    let (fixture, _, log, _) = processed_up_to(LogSync::Power, 40);
    log.close();
    let connection = Connection::open(fixture.path("log.db")).unwrap();
    let head = rows::heads(&connection).unwrap().pop().unwrap();
    rows::update_head(&connection, &rows::HeadRow { dead: true, ..head }).unwrap();
    // The last slice of its events went with one commit, and its rows go with the next.
    connection.execute_batch("DELETE FROM event").unwrap();
    drop(connection);
    let verified = OfflineLog::open(fixture.dir.path()).unwrap().verify().unwrap();
    assert_eq!(verified.damages_total, 0, "{:?}", verified.damages);
}

#[test]
fn a_new_epoch_keeps_the_events_that_a_gateway_has_not_processed() {
    let (fixture, life, log, last) = processed_up_to(LogSync::Power, 40);
    log.close();
    OfflineLog::open(fixture.dir.path()).unwrap().new_epoch().unwrap();
    let mut log = fixture.open();
    let (head, progress) = (log.head(life), log.progress(life).unwrap());
    assert_eq!((head.base, head.last, head.bytes), (100, 100, 5_000));
    assert_eq!(progress.position, Position { epoch: head.epoch, offset: 40 });
    assert_ne!(head.epoch, last.epoch);
    // Under their new names, by a read and by a follow; the old names are no positions any more.
    let (records, end) = log.read(life, progress.position);
    assert_eq!((records.len(), records[0].position.offset, end), (60, 41, End::Reached { head }));
    let (key, answer) = log.follow(life, Some(Position { offset: 98, epoch: head.epoch }));
    assert_eq!(answer, Ok(head));
    let live: Vec<_> = log.live(key, 2).iter().map(|record| record.position).collect();
    assert_eq!(live, [99, 100].map(|offset| Position { epoch: head.epoch, offset }));
    for offset in [40, 99, 100] {
        assert_eq!(log.read(life, Position { offset, ..last }).1, End::OtherEpoch { head });
    }
    // It goes on, and what it has processed by then is not given again by the next epoch.
    assert_eq!(log.fill(life, 1, 10), Position { epoch: head.epoch, offset: 101 });
    log.reach(life, last);
    log.reach(life, Position { epoch: head.epoch, offset: 101 });
    assert_eq!(log.processed(life), Some(101));
    log.close();
    let offline = OfflineLog::open(fixture.dir.path()).unwrap();
    assert_eq!(offline.verify().unwrap().damages_total, 0);
    offline.new_epoch().unwrap();
    let mut log = fixture.open();
    assert_eq!((log.head(life).first, log.head(life).base, log.processed(life)), (102, 101, Some(101)));
    log.close();
}

#[test]
fn a_log_that_lost_its_end_tells_no_progress_above_it() {
    let (running, life, log, last) = processed_up_to(LogSync::Power, 90);
    log.close();
    let before = std::fs::read(running.path("log.db")).unwrap();
    let mut log = running.open();
    log.fill(life, 50, 10);
    log.close();
    // The file of before, with a progress that only the lost commits had.
    std::fs::write(running.path("log.db"), before).unwrap();
    let connection = Connection::open(running.path("log.db")).unwrap();
    rows::put_progress(&connection, 1, crate::store::log::progress::Kept::at(120)).unwrap();
    drop(connection);
    OfflineLog::open(running.dir.path()).unwrap().new_epoch().unwrap();
    assert_eq!(OfflineLog::open(running.dir.path()).unwrap().verify().unwrap().damages_total, 0);
    let mut log = running.open();
    let head = log.head(life);
    assert_ne!(head.epoch, last.epoch);
    assert_eq!((head.first, head.base, log.processed(life)), (101, 100, Some(100)));
    log.close();
}

#[test]
fn retention_trims_events_that_a_new_epoch_has_kept() {
    let (mut fixture, life, log, _) = processed_up_to(LogSync::Power, 40);
    log.close();
    OfflineLog::open(fixture.dir.path()).unwrap().new_epoch().unwrap();
    fixture.settings.gateway_bytes_max = 20 * 178;
    let mut log = fixture.open();
    let last = log.fill(life, 10, 50);
    log.wait_until(|log| log.head(life).first > 90);
    assert!(log.head(life).first <= last.offset);
    log.wait_until(|log| log.stats().retained_events() <= 20);
    log.close();
    assert_eq!(OfflineLog::open(fixture.dir.path()).unwrap().verify().unwrap().damages_total, 0);
}
