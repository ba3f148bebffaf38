//! Tests of publishers that wait until their events are processed.

use super::{
    processed::{leave, pong, proved},
    *,
};
use crate::model::{Awaiting, Missing};

fn and_wait(publish: Command, seconds: u64) -> Command {
    Command::AndWait(Box::new(publish), Duration::from_secs(seconds))
}

/// What the only publisher that was answered has waited for.
fn awaited(world: &mut World) -> Option<Awaiting> {
    match replies(world).pop()?.1 {
        Reply::Published(Published::Outcome(outcome)) => outcome.awaiting,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_publisher_that_waits_is_answered_when_every_connection_has_processed_its_event() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    let keys = [(); 2].map(|()| world.join(at(0), join(gateway)).0);
    world.command(at(1), from(1), and_wait(Command::publish(event(gateway, "a")), 30));
    for key in keys {
        assert_eq!(write_all(&mut world, at(1), key), "a#1;?1;");
    }
    assert_eq!(awaited(&mut world), None, "it is written, and not processed");
    pong(&mut world, at(2), keys[0], gateway, 1);
    assert_eq!(awaited(&mut world), None, "the other one is at work on it");
    pong(&mut world, at(3), keys[1], gateway, 1);
    assert_eq!(awaited(&mut world), Some(Awaiting { processed: true, skipped: None, missing: Vec::new() }));
    assert_eq!((world.shard.waits.len(), world.shard.undecided()), (0, 0));
}

#[test]
fn a_publisher_whose_time_is_over_learns_who_is_missing_and_why() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    let id = world.shard.connection(key).unwrap().id;
    let events = ["a", "b"].map(|payload| event(gateway, payload)).into();
    world.command(at(1), from(1), and_wait(Command::PublishMany(events), 10));
    write_all(&mut world, at(1), key);
    assert!(replies(&mut world).is_empty());
    assert!(world.shard.poll_timeout().is_some_and(|due| due <= at(11).instant));
    world.shard.handle_timeout(at(11), 9);
    let Some((_, Reply::PublishedMany(results))) = replies(&mut world).pop() else { panic!("no answer") };
    let missing = |place: usize| outcome_of(&results[place]).unwrap().awaiting.clone().unwrap().missing;
    let of = |reason, before| vec![Missing { connection_id: Some(id), reason, before: Some(before) }];
    assert_eq!(missing(0), of(Missing::PROCESSING, 0));
    assert_eq!(missing(1), of(Missing::BEHIND, 1));
}

#[test]
fn a_publisher_can_wait_for_a_gateway_that_is_away() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    world.command(at(1), from(1), and_wait(Command::publish(event(gateway, "a")), 30));
    assert_eq!(awaited(&mut world), None);
    let key = world.try_join(at(2), join(gateway)).unwrap();
    assert_eq!(write_all(&mut world, at(2), key), "a#1;?1;");
    pong(&mut world, at(2), key, gateway, 1);
    assert!(awaited(&mut world).unwrap().processed);
    world.command(at(3), from(2), and_wait(Command::publish(event(gateway, "b")), 5));
    leave(&mut world, at(4), key);
    assert_eq!(awaited(&mut world), None);
    world.shard.handle_timeout(at(8), 9);
    let missing = awaited(&mut world).unwrap().missing;
    assert_eq!(missing, [Missing { connection_id: None, reason: Failure::NOT_CONNECTED, before: None }]);
}

#[test]
fn a_publisher_learns_that_its_event_was_passed_over() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    let kind = EventType::parse("apikey.created").unwrap();
    let late = Event { kind, ..event(gateway, "k") };
    world.command(at(1), from(1), and_wait(Command::publish(late), 30));
    assert_eq!(awaited(&mut world), None);
    world.try_join(at(2), join(gateway)).unwrap();
    assert_eq!(
        awaited(&mut world),
        Some(Awaiting { processed: true, skipped: Some(counters::REPLAY), missing: Vec::new() })
    );
}

#[test]
fn nobody_waits_for_a_gateway_whose_pongs_prove_nothing() {
    let mut world = shard();
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    world.command(at(1), from(1), and_wait(Command::publish(event(gateway, "a")), 30));
    write_all(&mut world, at(1), key);
    let missing = awaited(&mut world).unwrap().missing;
    assert_eq!(missing, [Missing { connection_id: None, reason: Missing::UNPROVED, before: None }]);
}

#[test]
fn with_too_many_that_wait_a_publisher_is_answered_at_once() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    world.join(at(0), join(gateway));
    let most = crate::limits::WAIT_EVENTS_MAX;
    let events = (0..most).map(|_| event(gateway, "a")).collect();
    world.command(at(1), from(1), and_wait(Command::PublishMany(events), 30));
    world.shard.handle_timeout(at(3), 9);
    assert!(replies(&mut world).is_empty());
    assert_eq!(world.shard.waits.len(), most);
    world.command(at(3), from(2), and_wait(Command::publish(event(gateway, "b")), 30));
    world.shard.handle_timeout(at(3), 9);
    let Some(Awaiting { processed: false, missing, .. }) = awaited(&mut world) else { panic!("not answered") };
    assert_eq!(missing, [Missing { connection_id: None, reason: Missing::TOO_MANY, before: None }]);
}

#[test]
fn nobody_waits_for_a_gateway_that_is_deleted_or_gets_another_delivery() {
    for (change, reason) in [(true, Missing::CHANGED), (false, Missing::DELETED)] {
        let mut world = proved(1);
        let gateway = created(&mut world);
        world.join(at(0), join(gateway));
        world.command(at(1), from(1), and_wait(Command::publish(event(gateway, "a")), 30));
        world.shard.handle_timeout(at(3), 9);
        assert_eq!(awaited(&mut world), None);
        let delivery = Some(DeliveryMode::Written);
        world.change(
            at(4),
            match change {
                true => Change::DeliveryChanged { life: life(gateway, 1), delivery },
                false => Change::GatewayDeleted(gateway),
            },
        );
        let missing = awaited(&mut world).unwrap().missing;
        assert_eq!(missing, [Missing { connection_id: None, reason, before: None }]);
    }
}

#[test]
fn an_event_that_was_trimmed_is_not_processed() {
    let mut world = proved(1);
    world.log = {
        let log = MemorySettings { epoch: 7, gateway_bytes_max: 1_500, port_bytes_max: 9_000 };
        MemoryLog::new(log).ports(vec![Box::new(|| {})]).pop().unwrap()
    };
    let gateway = created(&mut world);
    world.command(at(1), from(1), and_wait(Command::publish(event(gateway, "a")), 30));
    assert_eq!(awaited(&mut world), None);
    for _ in 0..9 {
        world.command(at(2), from(2), Command::publish(event(gateway, "b")));
    }
    replies(&mut world);
    world.try_join(at(3), join(gateway)).unwrap();
    let expected = Awaiting { processed: false, skipped: Some(counters::TRIMMED), missing: Vec::new() };
    assert_eq!(awaited(&mut world), Some(expected));
}

#[test]
fn a_publish_that_reaches_a_hub_that_ends_is_answered_at_once() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    world.shard.end_waits(at(1));
    world.command(at(2), from(1), and_wait(Command::publish(event(gateway, "a")), 30));
    write_all(&mut world, at(2), key);
    assert_eq!(awaited(&mut world), None, "it is decided");
    world.shard.handle_timeout(at(2), 9);
    assert_eq!(awaited(&mut world).unwrap().missing[0].reason, Missing::PROCESSING);
}
