//! Tests of the delivery `processed`: the window, what pongs prove, where the next connection begins, and what is skipped.

use super::*;
use crate::model::Proof;

/// A shard with this window in which each gateway has the delivery `processed`.
pub(super) fn proved(window: u32) -> World {
    let mut world = shard_with(100_000, 1_000_000);
    let delivery = &mut world.shard.settings.delivery;
    (delivery.mode, delivery.window) = (DeliveryMode::Processed, window);
    delivery.poison_connections = 3;
    delivery.poison_after = Duration::from_secs(10);
    world
}

pub(super) fn position(gateway: GatewayId, offset: u64) -> Position {
    Position { epoch: life(gateway, 1).epoch_in(7), offset }
}

pub(super) fn publish(world: &mut World, now: Now, gateway: GatewayId, payloads: &[&str]) {
    for payload in payloads {
        world.command(now, from(1), Command::publish(event(gateway, payload)));
    }
}

pub(super) fn publish_kind(world: &mut World, now: Now, gateway: GatewayId, kind: &str) {
    let event = Event { kind: EventType::parse(kind).unwrap(), ..event(gateway, kind) };
    world.command(now, from(1), Command::publish(event));
}

/// A pong; returns what it proves.
pub(super) fn pong(world: &mut World, now: Now, key: ConnectionKey, gateway: GatewayId, offset: u64) -> Proof {
    let proof = world.shard.handle_pong(now, key, Some(position(gateway, offset)));
    world.settle(now);
    proof
}

/// The connection ends; its kernel had acknowledged everything.
pub(super) fn leave(world: &mut World, now: Now, key: ConnectionKey) {
    world.shard.handle_welcomed(key);
    world.shard.handle_leave(now, key, CloseReason::GatewayGone, u64::MAX).unwrap();
    world.settle(now);
}

pub(super) fn skipped(world: &World, why: &str) -> u64 {
    world.shard.counters.skipped.iter().find(|(reason, _)| *reason == why).unwrap().1
}

#[test]
fn a_window_of_one_gives_the_next_event_when_the_one_before_is_processed() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    publish(&mut world, at(1), gateway, &["a", "b", "c"]);
    assert_eq!(write_all(&mut world, at(1), key), "a#1;?1;", "with a ping behind it");
    assert_eq!(pong(&mut world, at(2), key, gateway, 1), Proof::Processed);
    assert_eq!(world.dirty().last(), Some(&key));
    assert_eq!(write_all(&mut world, at(2), key), "b#2;?2;");
    assert_eq!(write_all(&mut world, at(9), key), "");
    assert_eq!(pong(&mut world, at(9), key, gateway, 2), Proof::Processed);
    assert_eq!(write_all(&mut world, at(9), key), "c#3;?3;");
}

#[test]
fn a_pong_answers_all_pings_before_it() {
    let mut world = proved(3);
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    publish(&mut world, at(1), gateway, &["a", "b", "c", "d", "e"]);
    assert_eq!(write_all(&mut world, at(1), key), "a#1;?1;b#2;?2;c#3;?3;");
    assert_eq!(pong(&mut world, at(2), key, gateway, 2), Proof::Processed);
    assert_eq!(pong(&mut world, at(2), key, gateway, 1), Proof::Known, "out of order");
    assert_eq!(write_all(&mut world, at(2), key), "d#4;?4;e#5;?5;");
    assert_eq!(world.shard.first_in_flight(key), Some(3));
    assert_eq!(pong(&mut world, at(2), key, gateway, 5), Proof::Processed);
    assert_eq!(world.shard.first_in_flight(key), None);
}

#[test]
fn only_a_ping_that_the_kernel_has_taken_can_be_answered() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    publish(&mut world, at(1), gateway, &["a", "b"]);
    assert_eq!(pong(&mut world, at(1), key, gateway, 1), Proof::Invented, "not sent");
    let mut out = Vec::new();
    let copied = world.shard.waiting(key).copy(100, false, &mut out);
    world.shard.advance(at(1), key, copied);
    assert_eq!(pong(&mut world, at(1), key, gateway, 1), Proof::Invented, "handed over, and not in the kernel");
    world.shard.handle_written(at(1), key, 100);
    let other = Position { epoch: 9, offset: 1 };
    assert_eq!(world.shard.handle_pong(at(1), key, Some(other)), Proof::Invented, "of another epoch");
    assert_eq!(world.shard.handle_pong(at(1), key, None), Proof::Invented);
    assert_eq!(pong(&mut world, at(1), key, gateway, 2), Proof::Invented, "beyond what was sent");
    assert_eq!(pong(&mut world, at(1), key, gateway, 1), Proof::Processed);
    assert_eq!(pong(&mut world, at(1), key, gateway, 1), Proof::Known, "repeated");
}

#[test]
fn a_connection_begins_behind_what_its_gateway_has_processed() {
    let mut world = proved(2);
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    publish(&mut world, at(1), gateway, &["a", "b", "c", "d"]);
    assert_eq!(write_all(&mut world, at(1), key), "a#1;?1;b#2;?2;");
    pong(&mut world, at(2), key, gateway, 1);
    assert_eq!(write_all(&mut world, at(2), key), "c#3;?3;");
    leave(&mut world, at(3), key);
    publish(&mut world, at(4), gateway, &["e"]);
    let (key, begin) = world.join(at(5), join(gateway));
    assert_eq!(begin, Begin { position: Some(position(gateway, 1)), resumed: None });
    assert_eq!(write_all(&mut world, at(5), key), "b#2;?2;c#3;?3;");
    pong(&mut world, at(6), key, gateway, 3);
    assert_eq!(write_all(&mut world, at(6), key), "d#4;?4;e#5;?5;");
    assert_eq!(world.shard.counters.missed, 4);
    assert_eq!(world.shard.counters.replayed, 4);
}

#[test]
fn a_gateway_that_was_away_for_long_gets_what_was_published_meanwhile() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    publish(&mut world, at(1), gateway, &["a", "b"]);
    let outcome = published(&mut world);
    assert_eq!((outcome.connections, outcome.failed, outcome.waiting), (0, 0, true));
    assert!(matches!(world.shard.poll_failure(), Some(Failed::Waiting(_))));
    let (key, _) = world.join(at(100), join(gateway));
    assert_eq!(write_all(&mut world, at(100), key), "a#1;?1;");
    pong(&mut world, at(100), key, gateway, 1);
    leave(&mut world, at(101), key);
    // The feed is gone: only the log knows how far the gateway is.
    world.shard.handle_timeout(at(200), 99);
    world.settle(at(200));
    assert!(world.shard.feeds.of(gateway).is_none());
    let (key, _) = world.join(at(201), join(gateway));
    assert_eq!(write_all(&mut world, at(201), key), "b#2;?2;");
}

#[test]
fn the_gateway_is_as_far_as_its_farthest_connection() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    let keys = [(); 2].map(|()| world.join(at(0), join(gateway)).0);
    publish(&mut world, at(1), gateway, &["a", "b"]);
    keys.iter().for_each(|key| assert_eq!(write_all(&mut world, at(1), *key), "a#1;?1;"));
    pong(&mut world, at(2), keys[0], gateway, 1);
    keys.into_iter().for_each(|key| leave(&mut world, at(3), key));
    let (key, _) = world.join(at(4), join(gateway));
    assert_eq!(write_all(&mut world, at(4), key), "b#2;?2;");
}

#[test]
fn a_position_that_a_gateway_names_comes_before_what_it_has_processed() {
    let mut world = proved(9);
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    publish_kind(&mut world, at(1), gateway, "apikey.created");
    publish(&mut world, at(1), gateway, &["b", "c"]);
    write_all(&mut world, at(1), key);
    pong(&mut world, at(2), key, gateway, 3);
    leave(&mut world, at(3), key);
    let asked = position(gateway, 0);
    let (key, begin) = world.join(at(4), Join { resume: Some(asked), ..join(gateway) });
    assert_eq!(begin, Begin { position: Some(asked), resumed: Some(true) });
    assert_eq!(write_all(&mut world, at(4), key), "apikey.created#1;?1;b#2;?2;c#3;?3;", "nothing is passed over");
    leave(&mut world, at(5), key);
    let unknown = Position { epoch: 1, offset: 2 };
    let (_, begin) = world.join(at(6), Join { resume: Some(unknown), ..join(gateway) });
    assert_eq!(begin, Begin { position: Some(position(gateway, 3)), resumed: Some(false) });
}

#[test]
fn a_trimmed_position_that_a_gateway_names_repeats_nothing_that_it_has_processed() {
    let mut world = proved(20);
    let log = MemorySettings { epoch: 7, gateway_bytes_max: 1_500, port_bytes_max: 9_000 };
    world.log = MemoryLog::new(log).ports(vec![Box::new(|| {})]).pop().unwrap();
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    publish(&mut world, at(1), gateway, &["a"; 20]);
    write_all(&mut world, at(1), key);
    pong(&mut world, at(2), key, gateway, 20);
    leave(&mut world, at(3), key);
    let asked = position(gateway, 1);
    let (key, begin) = world.join(at(4), Join { resume: Some(asked), ..join(gateway) });
    assert_eq!(begin, Begin { position: Some(position(gateway, 20)), resumed: Some(false) }, "it is trimmed");
    assert_eq!(write_all(&mut world, at(4), key), "");
    assert_eq!(skipped(&world, counters::TRIMMED), 0, "it has lost nothing");
}

#[test]
fn an_event_of_a_gateway_that_is_deleted_meanwhile_does_not_wait_for_it() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    world.shard.handle_command(at(1), from(1), Command::publish(event(gateway, "a")));
    world.shard.handle_change(at(1), Change::GatewayDeleted(gateway));
    world.settle(at(1));
    let answer = published(&mut world);
    assert!(!answer.waiting, "it does not come back: {answer:?}");
}

#[test]
fn a_publisher_does_not_wait_for_a_connection_with_a_full_window() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    publish(&mut world, at(1), gateway, &["a"]);
    assert!(replies(&mut world).is_empty(), "its window has room for this one");
    publish(&mut world, at(1), gateway, &["b"]);
    let outcome = published(&mut world);
    assert_eq!((outcome.connections, outcome.delivered, outcome.pending, outcome.failed), (1, 0, 1, 0));
    write_all(&mut world, at(1), key);
    assert_eq!(published(&mut world).delivered, 1);
    pong(&mut world, at(2), key, gateway, 1);
    write_all(&mut world, at(2), key);
    pong(&mut world, at(2), key, gateway, 2);
    publish(&mut world, at(3), gateway, &["c"]);
    write_all(&mut world, at(3), key);
    assert_eq!(published(&mut world).delivered, 1, "once it is open, publishers wait again");
    assert_eq!(world.shard.undecided(), 0);
}

#[test]
fn an_event_that_a_lost_connection_did_not_get_has_not_failed() {
    let mut world = proved(9);
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    publish(&mut world, at(1), gateway, &["a"]);
    leave(&mut world, at(2), key);
    let outcome = published(&mut world);
    assert_eq!((outcome.connections, outcome.failed, outcome.pending), (1, 0, 1));
    assert!(world.shard.poll_failure().is_none());
}

#[test]
fn a_connection_for_writing_only_neither_proves_nor_uses_anything() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    publish(&mut world, at(0), gateway, &["a"]);
    let (listener, begin) = world.join(at(1), Join { written_only: true, ..join(gateway) });
    assert_eq!(begin.position, Some(position(gateway, 1)), "it begins at the end");
    publish(&mut world, at(2), gateway, &["b", "c"]);
    assert_eq!(write_all(&mut world, at(2), listener), "b#2;c#3;", "without pings, and without a window");
    assert_eq!(pong(&mut world, at(2), listener, gateway, 3), Proof::Invented);
    assert!(world.shard.waiting(listener).ping_position().is_none());
    leave(&mut world, at(3), listener);
    let (key, _) = world.join(at(4), join(gateway));
    assert_eq!(write_all(&mut world, at(4), key), "a#1;?1;");
}

#[test]
fn a_change_of_the_delivery_closes_the_connections_and_begins_at_the_end() {
    let mut world = shard();
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    publish(&mut world, at(1), gateway, &["a"]);
    let change = |delivery| Change::DeliveryChanged { life: life(gateway, 1), delivery };
    world.change(at(2), change(Some(DeliveryMode::Written)));
    assert!(!world.shard.connection(key).unwrap().closing, "nothing has changed");
    world.change(at(2), change(Some(DeliveryMode::Processed)));
    let closes = std::iter::from_fn(|| world.shard.poll_effect())
        .filter(|effect| matches!(effect, Effect::Close(closed, CloseReason::DeliveryChanged) if *closed == key));
    assert_eq!(closes.count(), 1);
    publish(&mut world, at(3), gateway, &["b"]);
    let (next, begin) = world.join(at(4), join(gateway));
    assert_eq!(
        begin.position,
        Some(position(gateway, 1)),
        "what was published before the change was delivered as `written`"
    );
    assert_eq!(write_all(&mut world, at(4), next), "b#2;?2;");
    world.shard.handle_leave(at(5), key, CloseReason::DeliveryChanged, 0).unwrap();
    world.change(at(6), change(None));
    assert!(world.shard.connection(next).unwrap().closing);
}

#[test]
fn a_gateway_that_comes_back_behind_its_last_event_is_noticed() {
    let mut world = shard();
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    publish(&mut world, at(1), gateway, &["a"]);
    write_all(&mut world, at(1), key);
    leave(&mut world, at(2), key);
    publish(&mut world, at(3), gateway, &["b", "c"]);
    let missed = |world: &mut World| {
        std::iter::from_fn(|| world.shard.poll_effect()).find_map(|effect| match effect {
            Effect::Missed(missed) => Some((missed.events, missed.is_lost)),
            _ => None,
        })
    };
    let key = world.try_join(at(4), join(gateway)).unwrap();
    assert_eq!(missed(&mut world), Some((2, true)));
    leave(&mut world, at(5), key);
    publish(&mut world, at(6), gateway, &["d"]);
    // Its feed is removed in between.
    world.shard.handle_timeout(at(100), 99);
    world.settle(at(100));
    assert!(world.shard.feeds.of(gateway).is_none());
    // Someone who looks on is not the gateway.
    world.join(at(101), Join { written_only: true, ..join(gateway) });
    assert_eq!(missed(&mut world), None);
    world.try_join(at(101), join(gateway)).unwrap();
    assert_eq!(missed(&mut world), Some((1, true)));
    assert_eq!(world.shard.counters.missed, 3);
}

#[test]
fn an_id_is_repeated_also_if_the_gateway_was_away_for_one_of_the_two() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    let twice = Event { correlation_given: true, ..event(gateway, "a") };
    world.command(at(0), from(1), Command::publish(twice.clone()));
    world.join(at(1), join(gateway));
    assert_eq!(world.shard.ids_repeated, 0);
    world.command(at(2), from(1), Command::publish(twice));
    assert_eq!(world.shard.ids_repeated, 1);
}

#[test]
fn an_event_whose_ping_was_cut_off_by_a_close_is_not_processed() {
    let mut world = proved(9);
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    publish(&mut world, at(1), gateway, &["a", "b"]);
    // Of the second event a part is handed over when the connection begins to close; the rest follows, without its ping.
    assert_eq!(write(&mut world, at(1), key, "a#1;?1;b".len()), "a#1;?1;b");
    world.shard.handle_closing(at(2), key, CloseReason::KeyRevoked);
    assert_eq!(write_all(&mut world, at(2), key), "#2;");
    assert_eq!(pong(&mut world, at(2), key, gateway, 1), Proof::Processed);
    leave(&mut world, at(3), key);
    let key = world.join(at(4), join(gateway)).0;
    assert_eq!(write_all(&mut world, at(4), key), "b#2;?2;");
}

#[test]
fn a_connection_that_begins_further_on_does_not_move_the_gateway_over_what_nobody_has_processed() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    publish(&mut world, at(0), gateway, &["a", "b", "c"]);
    let named = Join { resume: Some(position(gateway, 2)), ..join(gateway) };
    let (other, _) = world.join(at(1), named);
    assert_eq!(write_all(&mut world, at(1), other), "c#3;?3;");
    assert_eq!(pong(&mut world, at(1), other, gateway, 3), Proof::Processed);
    leave(&mut world, at(2), other);
    let (key, begin) = world.join(at(3), join(gateway));
    assert_eq!(begin.position, Some(position(gateway, 0)));
    assert_eq!(write_all(&mut world, at(3), key), "a#1;?1;");
}

#[test]
fn an_event_that_was_handed_in_before_the_switch_has_failed_if_nobody_was_there() {
    let mut world = shard();
    let gateway = created(&mut world);
    // The switch comes before the log has answered.
    world.shard.handle_command(at(1), from(1), Command::publish(event(gateway, "a")));
    let delivery = Some(DeliveryMode::Processed);
    world.shard.handle_change(at(1), Change::DeliveryChanged { life: life(gateway, 1), delivery });
    world.settle(at(1));
    let outcome = published(&mut world);
    assert_eq!((outcome.failed, outcome.waiting), (1, false), "it lies before where the gateway begins");
    publish(&mut world, at(2), gateway, &["b"]);
    assert!(published(&mut world).waiting);
    let key = world.join(at(3), join(gateway)).0;
    assert_eq!(write_all(&mut world, at(3), key), "b#2;?2;");
}

#[test]
fn an_event_waits_although_somebody_looks_on() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    let listener = world.join(at(0), Join { written_only: true, ..join(gateway) }).0;
    publish(&mut world, at(1), gateway, &["a"]);
    write_all(&mut world, at(1), listener);
    let outcome = published(&mut world);
    assert_eq!((outcome.connections, outcome.delivered, outcome.waiting), (1, 1, true));
    assert!(outcome.is_decided());
}

#[test]
fn a_gateway_that_is_back_before_its_last_connection_has_left_has_missed_nothing() {
    let mut world = shard();
    let gateway = created(&mut world);
    for second in [1, 3] {
        let key = world.join(at(second), join(gateway)).0;
        publish(&mut world, at(second), gateway, &["a"]);
        write_all(&mut world, at(second), key);
        world.shard.handle_closing(at(second), key, CloseReason::KeyRevoked);
        let next = world.join(at(second + 1), join(gateway)).0;
        leave(&mut world, at(second + 1), key);
        leave(&mut world, at(second + 1), next);
    }
    assert_eq!(world.shard.counters.missed, 0);
}
