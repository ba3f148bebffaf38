//! Order, bounds, interruptions, and the end of a log.

use super::{super::LogSync, fixture::*};
use crate::{
    limits::{EVENT_LOG_OLDEST_MAX, EVENT_LOG_REQUESTS_MAX, EVENT_LOG_SLICE_EVENTS_MAX, EVENT_LOG_WAL_BYTES_MAX},
    model::{
        Position,
        log::{AppendKey, End, FollowKey, LogReply, LogRequest, NotAppended, ReadFrom, ReadKey, Room, Why},
    },
};
use std::time::Duration;

#[test]
fn a_long_request_delays_no_short_one() {
    let mut fixture = Fixture::new(LogSync::Process);
    let life = fixture.life();
    let mut log = fixture.open();
    let long = log.send_bulk((0..5_000).map(|_| draft(life, "t", 10)).collect());
    let short = log.send_append(vec![draft(life, "t", 10)]);
    log.appended(short)[0].as_ref().unwrap();
    let parts = log.replies.iter().filter(|it| matches!(it, LogReply::Appended { key, .. } if *key == long)).count();
    let ended = log.replies.iter().any(|it| matches!(it, LogReply::Appended { key, last: true, .. } if *key == long));
    assert!(!ended || parts < 5_000 / EVENT_LOG_SLICE_EVENTS_MAX, "the short one came last");
    let offsets: Vec<_> = log.appended(long).into_iter().map(|it| it.unwrap().offset).collect();
    assert!(offsets.is_sorted() && offsets.len() == 5_000);
    log.close();
}

#[test]
fn appends_of_one_kind_keep_their_order_however_long_they_are() {
    let mut fixture = Fixture::new(LogSync::Process);
    let life = fixture.life();
    let mut log = fixture.open();
    // More than one slice each, so that turns would mix them.
    let requests: Vec<_> = (0..6).map(|_| log.send_bulk((0..600).map(|_| draft(life, "t", 10)).collect())).collect();
    let offsets: Vec<_> = requests
        .into_iter()
        .flat_map(|request| log.appended(request).into_iter().map(|it| it.unwrap().offset).collect::<Vec<_>>())
        .collect();
    assert!(offsets.is_sorted() && offsets.len() == 3_600);
    log.close();
}

#[test]
fn appended_comes_before_live_and_live_is_gathered() {
    let mut fixture = Fixture::new(LogSync::Process);
    let (one, two) = (fixture.life(), fixture.life());
    let mut log = fixture.open();
    let (first, _) = log.follow(one, None);
    let (second, _) = log.follow(two, None);
    let key = AppendKey(log.key());
    let drafts = [one, two, one, two, one].map(|life| draft(life, "t", 10));
    log.submit(LogRequest::Append { key, drafts: drafts.to_vec(), bulk: false });
    log.wait_until(|log| log.replies.len() >= 3);
    let told = log.replies.iter().map(|reply| match reply {
        LogReply::Appended { .. } => (None, 5),
        LogReply::Live { key, records } => (Some(*key), records.len()),
        other => panic!("{other:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), [(None, 5), (Some(first), 3), (Some(second), 2)]);
    log.close();
}

#[test]
fn a_port_is_busy_when_its_bounds_are_reached() {
    let mut fixture = Fixture::new(LogSync::Process);
    let life = fixture.life();
    let mut log = fixture.open();
    // Answers count until they are drained.
    let mut out = Vec::new();
    let read = |n: u64| LogRequest::Read {
        key: ReadKey(n),
        life,
        from: ReadFrom::Oldest,
        upto: None,
        room: Room { records: 1, bytes: 1 },
    };
    for n in 0..EVENT_LOG_REQUESTS_MAX as u64 {
        log.port.submit(read(n), &mut out).unwrap();
    }
    assert!(log.port.submit(read(9_999_999), &mut out).is_err(), "too many reads");
    let big = draft(life, "t", 1_000_000);
    let mut accepted = 0;
    while log
        .port
        .submit(LogRequest::Append { key: AppendKey(accepted), drafts: vec![big.clone(); 8], bulk: false }, &mut out)
        .is_ok()
    {
        accepted += 1;
    }
    assert_eq!(accepted, 4, "appends are bounded in bytes, apart from reads");
    for key in 0..10 {
        log.port.submit(LogRequest::Unfollow(FollowKey(key)), &mut out).unwrap();
        log.port.submit(LogRequest::Cancel(ReadKey(1_000_000 + key)), &mut out).unwrap();
    }
    for key in 0..accepted {
        assert_eq!(log.appended(AppendKey(key)).len(), 8);
    }
    let key = log.send_append(vec![big]);
    assert!(log.appended(key)[0].is_ok(), "it has room again");
    log.close();
}

#[test]
fn a_port_is_busy_while_its_oldest_request_is_stuck() {
    let mut fixture = Fixture::new(LogSync::Process);
    let life = fixture.life();
    let mut log = fixture.open();
    let position = log.fill(life, 1, 10);
    // A commit that does not end until the test lets it.
    let (hold, held) =
        (std::sync::Arc::new(std::sync::Barrier::new(2)), std::sync::Arc::new(std::sync::Barrier::new(2)));
    log.close();
    let (enter, leave) = (hold.clone(), held.clone());
    fixture.settings.tuning.commit_fault = std::sync::Arc::new(move || {
        enter.wait();
        leave.wait();
        None
    });
    let mut log = fixture.open();
    let key = log.send_append(vec![draft(life, "t", 10)]);
    hold.wait();
    let mut out = Vec::new();
    let follow = |key| LogRequest::Follow { key: FollowKey(key), life, behind: None };
    log.port.submit(follow(100), &mut out).unwrap();
    fixture.advance(EVENT_LOG_OLDEST_MAX + Duration::from_millis(1));
    assert!(log.port.submit(follow(101), &mut out).is_err(), "the oldest request waits for too long");
    let age = log.stats().queue_age();
    assert!(age > EVENT_LOG_OLDEST_MAX, "a thread that is stuck cannot tell it: {age:?}");
    assert_eq!(log.stats().health(), "the event log does not answer to appends");
    assert!(matches!(log.read(life, position).1, End::Reached { .. }), "reads are answered by the other thread");
    held.wait();
    assert_eq!(log.appended(key).len(), 1);
    log.wait_until(|log| log.replies.iter().any(|it| matches!(it, LogReply::Following { .. })));
    log.wait_until(|log| log.port.submit(follow(102), &mut Vec::new()).is_ok());
    log.wait_until(|log| log.stats().health().is_empty());
    log.close();
}

#[test]
fn a_slow_port_is_interrupted_and_follows_again_from_its_cursor() {
    let mut fixture = Fixture::new(LogSync::Process);
    fixture.settings.tuning.live_bytes_max = 25_000;
    let life = fixture.life();
    let mut log = fixture.open();
    let (key, _) = log.follow(life, None);
    let (mut appends, stats) = (Vec::new(), log.stats());
    for count in 0..50 {
        appends.push(AppendKey(log.key()));
        let request =
            LogRequest::Append { key: *appends.last().unwrap(), drafts: vec![draft(life, "t", 1_000)], bulk: false };
        log.port.submit(request, &mut Vec::new()).unwrap();
        // Each is a group of its own, and none is drained.
        while stats.retained_events() <= count {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for append in appends {
        assert!(log.appended(append)[0].is_ok(), "only live events are bounded by the port");
    }
    let mut seen = 0;
    log.wait(|reply| match reply {
        LogReply::Interrupted(of) if *of == key => Some(()),
        LogReply::Live { records, .. } => {
            seen = records.last().unwrap().position.offset;
            None
        }
        _ => None,
    });
    assert!((1..50).contains(&seen), "{seen} events came before");
    log.replies.clear();

    // The past is longer than what the port may leave, so it comes as the port takes it.
    let epoch = log.head(life).epoch;
    let (key, head) = log.follow(life, Some(Position { epoch, offset: seen }));
    assert_eq!(head.unwrap().last, 50);
    let offsets: Vec<_> = log.live(key, 50 - seen as usize).iter().map(|record| record.position.offset).collect();
    assert_eq!(offsets, (seen + 1..=50).collect::<Vec<_>>());
    log.fill(life, 1, 10);
    assert_eq!(log.live(key, 1)[0].position.offset, 51);
    log.close();
}

#[test]
fn after_unfollow_and_after_stop_nothing_more_comes() {
    let mut fixture = Fixture::new(LogSync::Process);
    let life = fixture.life();
    let mut log = fixture.open();
    let (key, _) = log.follow(life, None);
    let append = log.send_append(vec![draft(life, "t", 10)]);
    log.submit(LogRequest::Unfollow(key));
    log.appended(append)[0].as_ref().unwrap();
    log.drain();
    assert!(log.replies.is_empty(), "{:?}", log.replies);

    let queued: Vec<_> = (0..5).map(|_| log.send_append(vec![draft(life, "t", 10)])).collect();
    log.stop();
    for key in queued {
        log.appended(key)[0].as_ref().unwrap();
    }
    assert_eq!(log.append(vec![draft(life, "t", 1)]), [Err(NotAppended::Refused(Why::Stopping))]);
    assert_eq!(log.follow(life, None).1, Err(End::Failed(Why::Stopping)));
    assert_eq!(log.forget(life), Err(Why::Stopping));
    log.close();
}

#[test]
fn a_gateway_that_is_made_again_has_no_past() {
    let mut fixture = Fixture::new(LogSync::Process);
    let life = fixture.life();
    let mut log = fixture.open();
    let position = log.fill(life, 600, 10);
    let again = crate::model::Life { incarnation: life.incarnation + 1, ..life };
    // Nobody forgot the older one.
    let appended = log.append(vec![draft(again, "t", 10)]);
    assert_eq!(appended[0].as_ref().unwrap().offset, 1);
    assert!(matches!(log.read(again, position).1, End::OtherEpoch { head } if head.last == 1));
    let stats = log.stats();
    log.wait_until(|_| stats.retained_events() == 1);
    log.forget(again).unwrap();
    let head = log.head(again);
    assert_eq!((head.first, head.last), (1, 0));
    // Everything of both is removed from the file, and orphans are at the next start.
    let orphan = crate::model::Life { incarnation: 99, ..life };
    log.fill(orphan, 3, 10);
    log.close();
    let mut log = fixture.open();
    assert_eq!(log.stats().retained_events(), 0);
    let file = rusqlite::Connection::open(fixture.path("log.db")).unwrap();
    let count = |table: &str| file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
    log.wait_until(|_| count("event").unwrap() == 0 && count("head").unwrap() == 0);
    log.close();
}

#[test]
fn the_write_ahead_log_stays_short_while_events_are_appended() {
    let mut fixture = Fixture::new(LogSync::Process);
    let life = fixture.life();
    let mut log = fixture.open();
    let mut longest = 0;
    let mut waiting = std::collections::VecDeque::new();
    for _ in 0..150 {
        waiting.push_back(log.send_append(vec![draft(life, "t", 1_000_000)]));
        if waiting.len() > 4 {
            let key = waiting.pop_front().unwrap();
            log.appended(key)[0].as_ref().unwrap();
        }
        longest = longest.max(std::fs::metadata(fixture.path("log.db-wal")).unwrap().len());
    }
    assert!(longest < 2 * EVENT_LOG_WAL_BYTES_MAX, "{longest} bytes");
    log.close();
}

#[test]
fn cancelled_reads_give_back_their_room() {
    let mut fixture = Fixture::new(LogSync::Process);
    let life = fixture.life();
    let mut log = fixture.open();
    let position = log.fill(life, 100, 1_000);
    let (after, room) = (Position { offset: 0, ..position }, Room { records: 100, bytes: 1_000_000 });
    let mut chunks = 0;
    for round in 0..10 {
        let keys: Vec<_> = (0..20).map(|n| ReadKey(round * 100 + n)).collect();
        for key in &keys {
            log.submit(LogRequest::Read { key: *key, life, from: ReadFrom::After(after), upto: None, room });
        }
        keys.iter().for_each(|key| log.submit(LogRequest::Cancel(*key)));
        // A later read is answered after them all.
        assert_eq!(log.read(life, after).0.len(), 100);
        chunks += log.replies.drain(..).filter(|reply| matches!(reply, LogReply::Chunk { .. })).count();
    }
    assert!(chunks < 200, "all of them were read");
    // 32 of these are the bound in bytes.
    let keys: Vec<_> = (0..32).map(|n| ReadKey(10_000 + n)).collect();
    for key in keys {
        log.port
            .submit(LogRequest::Read { key, life, from: ReadFrom::After(after), upto: None, room }, &mut Vec::new())
            .unwrap();
    }
    log.close();
}
