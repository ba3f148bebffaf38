//! What an operator does with a log while no hub runs.

use super::{
    super::{LastRun, LogSync, OfflineLog},
    fixture::*,
};
use crate::model::{Position, log::End};
use std::fs;

#[test]
fn status_and_verify_tell_what_a_log_holds_and_change_nothing() {
    let mut fixture = Fixture::new(LogSync::Power);
    let (life, other) = (fixture.life(), fixture.life());
    let mut log = fixture.open();
    let last = log.fill(life, 2_500, 10);
    log.fill(other, 1, 100);
    let heads = [log.head(life), log.head(other)];
    let epoch = log.stats().epoch();
    log.close();
    let before = fs::read(fixture.path("log.db")).unwrap();
    let offline = OfflineLog::open(fixture.dir.path()).unwrap();
    let status = offline.status().unwrap();
    assert_eq!((status.epoch, status.lost), (epoch, None));
    assert_eq!(status.last_run, Some(LastRun { sync: LogSync::Power, clean: true }));
    let told: Vec<_> = status.gateways.iter().map(|of| (of.life, of.head, of.payload_bytes)).collect();
    assert_eq!(told, [(life, heads[0], 25_000), (other, heads[1], 100)]);
    assert_eq!(status.gateways[1].bytes(), 228);
    assert!(status.gateways.iter().all(|of| of.oldest.is_some_and(|age| age <= status.uptime)));
    let verified = offline.verify().unwrap();
    assert_eq!((verified.events, verified.gateways, verified.damages), (2_501, 2, Vec::new()));
    drop(offline);
    assert_eq!(fs::read(fixture.path("log.db")).unwrap(), before);

    let at = before.windows(8).position(|window| window == b"xxxxxxxx").unwrap();
    let mut damaged = before;
    damaged[at] ^= 1;
    fs::write(fixture.path("log.db"), damaged).unwrap();
    let verified = OfflineLog::open(fixture.dir.path()).unwrap().verify().unwrap();
    assert_eq!((verified.events, verified.damages.len()), (2_500, 1), "{verified:?}");
    let damage = &verified.damages[0];
    assert_eq!(damage.what, "it does not match its checksum");
    let (gateway, position) = damage.event.unwrap();
    assert_eq!(
        damage.behind,
        status.gateways.iter().find(|of| of.life.gateway == gateway).unwrap().head.last - position.offset
    );
    fs::remove_file(fixture.path("log.mark")).unwrap();
    let status = OfflineLog::open(fixture.dir.path()).unwrap().status().unwrap();
    assert_eq!((status.lost, last.offset), (Some("its mark is missing"), 2_500));
}

#[test]
fn trim_removes_from_the_front_and_keeps_the_epoch() {
    let mut fixture = Fixture::new(LogSync::Process);
    let (life, other) = (fixture.life(), fixture.life());
    let mut log = fixture.open();
    let last = log.fill(life, 500, 10);
    log.fill(other, 5, 10);
    log.close();
    let trim = |gateway, keep| OfflineLog::open(fixture.dir.path()).unwrap().trim(gateway, keep).unwrap();
    assert_eq!(trim(Some(life.gateway), 100), 400);
    assert_eq!(trim(None, 100), 0);
    assert_eq!(trim(None, 4), 97);
    let mut log = fixture.open();
    let head = log.head(life);
    assert_eq!((head.epoch, head.first, head.last, head.bytes), (last.epoch, 497, 500, 5_000));
    assert_eq!(log.read(life, Position { offset: 496, ..last }).0.len(), 4);
    assert_eq!(log.read(life, Position { offset: 495, ..last }).1, End::Gone { head });
    log.close();
    assert_eq!(trim(None, 0), 8);
    let mut log = fixture.open();
    assert_eq!(log.fill(life, 1, 10), Position { offset: 501, ..last });
    log.close();
}

#[test]
fn a_new_epoch_makes_every_position_unknown() {
    let mut fixture = Fixture::new(LogSync::Process);
    let life = fixture.life();
    let mut log = fixture.open();
    let last = log.fill(life, 5, 10);
    log.close();
    OfflineLog::open(fixture.dir.path()).unwrap().new_epoch().unwrap();
    let mut log = fixture.open();
    let head = log.head(life);
    assert_ne!(head.epoch, last.epoch);
    assert_eq!((head.base, head.last), (5, 5));
    assert_eq!(log.read(life, last).1, End::OtherEpoch { head });
    assert_eq!(log.stats().new_epochs(), 0, "it was given before the start");
    log.close();
}

#[test]
fn a_log_in_use_and_no_log_are_refused() {
    let fixture = Fixture::new(LogSync::Process);
    let error = OfflineLog::open(fixture.dir.path()).err().unwrap().to_string();
    assert!(error.contains("there is no event log") && error.contains("log.db"), "{error}");
    let nowhere = fixture.path("nowhere");
    assert!(OfflineLog::open(&nowhere).is_err() && !nowhere.exists(), "a directory that is not there is not made");
    fixture.open().close();
    let _store = crate::store::Sqlite::open(&fixture.path("gatecast.db")).unwrap();
    let error = OfflineLog::open(fixture.dir.path()).err().unwrap().to_string();
    assert!(error.contains("is used by another hub"), "{error}");
}
