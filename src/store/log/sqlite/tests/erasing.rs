//! Secrets in the log of a gateway that is yet to get what stands around them.

use super::{
    super::{LogSync, OfflineLog},
    fixture::*,
};
use crate::{
    model::{
        Life, Position,
        log::{Draft, End, ProgressStep},
    },
    store::log::Trimmed,
};
use std::{fs, time::Duration};

const HOUR: Duration = Duration::from_secs(3_600);

fn secret(life: Life) -> Draft {
    let mut draft = draft(life, "apikey.created", 0);
    std::sync::Arc::make_mut(&mut draft.event).payload = "\"the key is hunter2\"".repeat(50).into();
    draft
}

/// A gateway that has processed the first event of 3, a secret and 2.
fn awaited(fixture: &mut Fixture) -> (Open, Life, Position) {
    let life = fixture.life();
    let mut log = fixture.open();
    log.step(life, ProgressStep::Begin);
    let first = log.fill(life, 3, 10);
    log.reach(life, Position { offset: 1, ..first });
    log.append(vec![secret(life)])[0].as_ref().unwrap();
    log.fill(life, 2, 10);
    (log, life, first)
}

/// For each event from the first on, whether its payload is there.
fn payloads(log: &mut Open, life: Life, first: Position) -> Vec<bool> {
    let (records, end) = log.read(life, Position { offset: 0, ..first });
    assert!(matches!(end, End::Reached { .. }), "{end:?}");
    records.iter().map(|record| !record.event.is_erased()).collect()
}

#[test]
fn a_secret_is_erased_in_place_while_its_gateway_is_to_get_the_events_around_it() {
    let mut fixture = Fixture::new(LogSync::Process);
    let (mut log, life, first) = awaited(&mut fixture);
    fixture.advance(HOUR + Duration::from_secs(2));
    log.wait_until(|log| payloads(log, life, first) == [true, true, true, false, true, true]);
    assert_eq!((log.head(life).first, log.stats().trimmed(Trimmed::Secret)), (1, 1));
    // A follow would be told that nothing is missing.
    let (_, follow) = log.follow(life, Some(Position { offset: 2, ..first }));
    assert!(matches!(follow, Err(End::Gone { .. })), "{follow:?}");
    assert!(log.follow(life, Some(Position { offset: 4, ..first })).1.is_ok());
    log.close();
    assert!(!fs::read(fixture.path("log.db")).unwrap().windows(7).any(|window| window == b"hunter2"));
    assert!(OfflineLog::open(fixture.dir.path()).unwrap().verify().unwrap().damages.is_empty());
    let mut log = fixture.open();
    assert_eq!(payloads(&mut log, life, first), [true, true, true, false, true, true]);
    log.close();
}

#[test]
fn once_the_gateway_has_processed_it_a_secret_goes_with_what_is_before_it() {
    let mut fixture = Fixture::new(LogSync::Process);
    let (mut log, life, first) = awaited(&mut fixture);
    log.reach(life, Position { offset: 4, ..first });
    // Otherwise the sweep may come first, and erases the secret in place.
    log.wait_until(|log| log.processed(life) == Some(4));
    fixture.advance(HOUR + Duration::from_secs(2));
    log.wait_until(|log| log.head(life).first == 5);
    assert_eq!(log.stats().trimmed(Trimmed::Secret), 4);
    log.close();
}
