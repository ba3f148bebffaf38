//! What is trimmed, when, and what a reader is told.

use super::{super::LogSync, fixture::*};
use crate::{
    model::{
        Life, Position,
        log::{End, Head},
    },
    store::log::Trimmed,
};
use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

const HOUR: Duration = Duration::from_secs(3_600);

fn wait_for_first(log: &mut Open, life: Life, first: u64) -> Head {
    log.wait_until(|log| log.head(life).first >= first);
    let head = log.head(life);
    assert_eq!(head.first, first);
    head
}

#[test]
fn events_go_by_their_age_in_uptime_over_restarts() {
    let mut fixture = Fixture::new(LogSync::Process);
    let (life, other) = (fixture.life(), fixture.life());
    let mut log = fixture.open();
    log.fill(life, 700, 10);
    log.fill(other, 1, 10);
    fixture.advance(HOUR * 23);
    let kept = log.fill(life, 300, 10);
    log.close();
    // The hub did not run in this time.
    fixture.advance(HOUR * 1_000);
    let mut log = fixture.open();
    assert_eq!((log.head(life).first, log.head(other).first), (1, 1));
    fixture.advance(HOUR + Duration::from_secs(2));
    let head = wait_for_first(&mut log, life, 701);
    assert_eq!((head.last, head.epoch), (1_000, kept.epoch));
    check_gone(&mut log, life, Position { offset: 699, ..kept }, head);
    assert_eq!(log.read(life, Position { offset: 700, ..kept }).0.len(), 300);
    // A head outlives its events.
    let empty = wait_for_first(&mut log, other, 2);
    assert_eq!((empty.last, empty.bytes), (1, 10));
    assert_eq!(log.stats().trimmed(Trimmed::Age), 701);
    log.close();
    let mut log = fixture.open();
    assert_eq!((log.head(life), log.head(other)), (head, empty));
    assert_eq!(log.fill(other, 1, 10), Position { epoch: empty.epoch, offset: 2 });
    log.close();
}

fn check_gone(log: &mut Open, life: Life, after: Position, head: Head) {
    let (records, end) = log.read(life, after);
    assert_eq!((records.len(), end), (0, End::Gone { head }));
}

#[test]
fn a_gateway_over_its_bytes_loses_its_oldest() {
    let mut fixture = Fixture::new(LogSync::Process);
    fixture.settings.gateway_bytes_max = 100_000;
    let (life, other) = (fixture.life(), fixture.life());
    let mut log = fixture.open();
    log.fill(other, 1, 200_000);
    log.fill(life, 200, 1_000);
    let stats = log.stats();
    log.wait_until(|_| stats.trimmed(Trimmed::GatewayBytes) > 0 && stats.retained_bytes() < 300_000 + 1_000);
    let head = log.head(life);
    let kept = head.last + 1 - head.first;
    assert!((80..=90).contains(&kept), "{kept} events of 1,128 bytes in 100,000");
    assert_eq!(log.head(other).first, 1, "the last event stays, whatever its size");
    log.close();
}

#[test]
fn over_the_total_the_largest_pays() {
    let mut fixture = Fixture::new(LogSync::Process);
    fixture.settings.total_bytes_max = 200_000;
    let small: Vec<_> = (0..20).map(|_| fixture.life()).collect();
    let large = fixture.life();
    let mut log = fixture.open();
    for life in &small {
        log.fill(*life, 1, 1_000);
    }
    log.fill(large, 1_000, 1_000);
    let stats = log.stats();
    log.wait_until(|_| stats.retained_bytes() <= 200_000);
    for life in &small {
        assert_eq!(log.head(*life).first, 1);
    }
    assert!(log.head(large).first > 800);
    assert_eq!(stats.trimmed(Trimmed::TotalBytes), log.head(large).first - 1);
    log.close();
}

#[test]
fn secrets_are_erased_from_the_file_with_what_stands_before_them() {
    let mut fixture = Fixture::new(LogSync::Process);
    let (life, other) = (fixture.life(), fixture.life());
    let mut log = fixture.open();
    log.fill(life, 300, 10);
    log.fill(other, 5, 10);
    let secret = |kind| {
        let mut draft = draft(life, kind, 0);
        let event = std::sync::Arc::make_mut(&mut draft.event);
        event.payload = format!("\"the key {kind} is hunter2\"").repeat(50).into();
        draft
    };
    for kind in ["apikey.created", "subscription.updated"] {
        log.append(vec![secret(kind)])[0].as_ref().unwrap();
    }
    let last = log.fill(life, 10, 10);
    fixture.advance(HOUR - Duration::from_secs(2));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(log.head(life).first, 1);
    fixture.advance(Duration::from_secs(4));
    let head = wait_for_first(&mut log, life, 303);
    check_gone(&mut log, life, Position { offset: 301, ..last }, head);
    assert_eq!(log.read(life, Position { offset: 302, ..last }).0.len(), 10);
    assert_eq!(log.head(other).first, 1);
    assert_eq!(log.stats().trimmed(Trimmed::Secret), 302);
    log.close();
    for name in ["log.db", "log.mark", "log.ballast"] {
        let bytes = fs::read(fixture.path(name)).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{name}");
        assert_eq!(fs::metadata(fixture.path(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert!(!fixture.path("log.db-wal").exists(), "it is removed at a clean end");
}

#[test]
fn a_follow_in_the_past_that_is_trimmed_is_interrupted() {
    let mut fixture = Fixture::new(LogSync::Process);
    fixture.settings.tuning.live_bytes_max = 2_000;
    let life = fixture.life();
    let mut log = fixture.open();
    let last = log.fill(life, 1_000, 1_000);
    // Its first step fills the port, and the next ones wait for room.
    let key = crate::model::log::FollowKey(log.key());
    log.submit(crate::model::log::LogRequest::Follow { key, life, behind: Some(Position { offset: 0, ..last }) });
    std::thread::sleep(Duration::from_millis(20));
    fixture.advance(HOUR * 25);
    let stats = log.stats();
    while stats.retained_events() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    log.wait(|reply| matches!(reply, crate::model::log::LogReply::Interrupted(of) if *of == key).then_some(()));
    let (_, answer) = log.follow(life, Some(Position { offset: 500, ..last }));
    assert!(matches!(answer, Err(End::Gone { head }) if head.first == 1_001), "{answer:?}");
    log.close();
}
