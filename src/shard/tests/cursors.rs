//! Tests of cursors: memory that is too small, catching up, resuming, and a log that is late or fails.

use super::*;
use crate::model::{
    Kept,
    log::{AppendKey, End, FollowKey, Head, LogReply, LogRequest, NotAppended, Record, Why},
};

pub(super) fn resuming(gateway: GatewayId, position: Position) -> Join {
    Join { resume: Some(position), ..join(gateway) }
}

pub(super) fn publish_many(world: &mut World, now: Now, gateway: GatewayId, count: usize) {
    let events = (0..count).map(|n| event(gateway, &format!("{n}:{}", "x".repeat(500)))).collect();
    world.command(now, from(1), Command::PublishMany(events));
}

/// The offsets of the events in a connection's bytes.
pub(super) fn offsets(bytes: &str) -> Vec<u64> {
    bytes.split_terminator(';').map(|event| event.rsplit_once('#').unwrap().1.parse().unwrap()).collect()
}

#[test]
fn a_burst_beyond_the_memory_reaches_every_connection_in_order() {
    let mut world = shard_with(100_000, 1_000_000);
    let gateway = created(&mut world);
    let keys = [(); 2].map(|()| world.join(at(0), join(gateway)).0);
    publish_many(&mut world, at(1), gateway, 200);
    assert!(world.shard.held_bytes() <= 100_000, "{}", world.shard.held_bytes());
    for (second, key) in keys.into_iter().enumerate() {
        // The other one reads nothing meanwhile, and gives back what was read for it.
        let now = at(2 + second as u64);
        let mut bytes = write_all(&mut world, now, key);
        for tenth in 1..20 {
            let now = Now { instant: now.instant + Duration::from_millis(100 * tenth), ..now };
            world.shard.handle_timeout(now, 9);
            world.shard.handle_drained(now, key);
            world.settle(now);
            bytes += &write_all(&mut world, now, key);
        }
        assert_eq!(offsets(&bytes), (1..=200).collect::<Vec<_>>());
    }
    // They have caught up: the next event comes from memory, and its publisher waits for both.
    replies(&mut world);
    world.command(at(2), from(2), Command::publish(event(gateway, "y")));
    assert!(replies(&mut world).is_empty());
    let last = keys.map(|key| write_all(&mut world, at(2), key));
    assert_eq!(last, ["y#201;", "y#201;"]);
    assert_eq!(published(&mut world).delivered, 2);
    assert_eq!((world.shard.undecided(), world.shard.held_bytes()), (0, 0));
}

#[test]
fn a_publisher_does_not_wait_for_a_connection_that_is_behind() {
    let mut world = shard_with(80_000, 1_000_000);
    let gateway = created(&mut world);
    let slow = world.join(at(0), join(gateway)).0;
    publish_many(&mut world, at(1), gateway, 100);
    replies(&mut world);
    world.command(at(2), from(2), Command::publish(event(gateway, "y")));
    let outcome = published(&mut world);
    assert_eq!((outcome.connections, outcome.delivered, outcome.failed, outcome.pending), (1, 0, 0, 1));
    assert_eq!(offsets(&write_all(&mut world, at(3), slow)).len(), 101, "it gets everything all the same");
    assert_eq!(world.shard.totals(None).deliveries.total_events_sent, 101);
}

#[test]
fn the_memory_for_events_is_bounded_whatever_sockets_take() {
    let mut world = shard_with(80_000, 1_000_000);
    let gateways: Vec<_> = (0..30).map(|_| created(&mut world)).collect();
    let keys: Vec<_> = gateways.iter().map(|gateway| world.join(at(0), join(*gateway)).0).collect();
    for round in 0..20 {
        for (n, gateway) in gateways.iter().enumerate() {
            publish_many(&mut world, at(1), *gateway, 4);
            // Some read nothing, some are in the middle of an event, some read everything.
            match n % 3 {
                0 => {}
                1 => drop(write(&mut world, at(1), keys[n], 100)),
                _ => drop(write_all(&mut world, at(1), keys[n])),
            }
            assert!(world.shard.held_bytes() <= 80_000, "round {round}: {}", world.shard.held_bytes());
        }
    }
    let closed = replies(&mut world);
    drop(closed);
    for (n, key) in keys.iter().enumerate() {
        let closing = world.shard.connection(*key).is_none_or(|it| it.closing);
        assert!(!closing, "connection {n} was closed, although its events are in the log");
    }
}

#[test]
fn a_connection_that_falls_behind_what_the_log_keeps_is_closed_as_slow() {
    let mut world = shard_with(4_000, 6_000);
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    publish_many(&mut world, at(1), gateway, 100);
    let closed = std::iter::from_fn(|| world.shard.poll_effect())
        .find(|effect| matches!(effect, Effect::Close(of, CloseReason::SlowConsumer) if *of == key));
    assert!(closed.is_some());
    assert_eq!(world.shard.undecided(), 0);
}

#[test]
fn a_connection_resumes_behind_the_position_that_it_asks_for() {
    for memory in [100_000, 40_000] {
        let mut world = shard_with(memory, 1_000_000);
        let gateway = created(&mut world);
        let first = world.join(at(0), join(gateway)).0;
        publish_many(&mut world, at(1), gateway, 40);
        write_all(&mut world, at(1), first);
        let epoch = life(gateway, 1).epoch_in(7);
        for offset in [0, 1, 17, 39, 40] {
            let position = Position { epoch, offset };
            let (key, begin) = world.join(at(2), resuming(gateway, position));
            assert_eq!(begin, Begin { position: Some(position), resumed: Some(true) });
            publish_many(&mut world, at(2), gateway, 1);
            let seen = offsets(&write_all(&mut world, at(2), key));
            assert!(seen.iter().copied().eq(offset + 1..offset + 1 + seen.len() as u64), "from {offset}: {seen:?}");
            assert!(seen.len() as u64 > 40 - offset, "with {memory} bytes, from {offset}: {seen:?}");
            world.shard.handle_leave(at(3), key, CloseReason::GatewayGone, 0);
        }
        drop(write_all(&mut world, at(3), first));
    }
}

#[test]
fn a_position_that_the_log_does_not_know_is_a_clean_slate() {
    let mut world = shard_with(4_000, 6_000);
    let gateway = created(&mut world);
    publish_many(&mut world, at(1), gateway, 40);
    let epoch = life(gateway, 1).epoch_in(7);
    let end = Position { epoch, offset: 40 };
    let unknown = [
        Position { epoch, offset: 41 },
        Position { epoch: 1, offset: 3 },
        Position { epoch, offset: 1 },
        Position::UNKNOWN,
    ];
    for position in unknown {
        let (key, begin) = world.join(at(2), resuming(gateway, position));
        assert_eq!(begin, Begin { position: Some(end), resumed: Some(false) }, "{position}");
        assert_eq!(write_all(&mut world, at(2), key), "");
        world.shard.handle_leave(at(2), key, CloseReason::GatewayGone, 0);
    }
}

#[test]
fn what_was_published_while_a_gateway_was_away_stays_in_memory_for_a_minute() {
    let mut world = shard();
    let gateway = created(&mut world);
    let (key, begin) = world.join(at(0), join(gateway));
    world.shard.handle_leave(at(1), key, CloseReason::GatewayGone, 0);
    world.command(at(2), from(1), Command::publish(event(gateway, "x")));
    assert_eq!(published(&mut world).failed, 1);
    let held = world.shard.held_bytes();
    assert!(held > 0);
    let (key, again) = world.join(at(3), resuming(gateway, begin.position.unwrap()));
    assert_eq!(again.resumed, Some(true));
    assert_eq!(write_all(&mut world, at(3), key), "x#1;");
    assert_eq!(world.shard.held_bytes(), 0);
    world.shard.handle_leave(at(4), key, CloseReason::GatewayGone, 0);
    world.command(at(5), from(1), Command::publish(event(gateway, "x")));
    assert_eq!(world.shard.poll_timeout().map(|due| due.0), Some(61_000_000), "of the first time");
    world.shard.handle_timeout(at(63), 9);
    assert!(world.shard.held_bytes() > 0, "it came back in between");
    world.shard.handle_timeout(at(64), 9);
    assert_eq!(world.shard.held_bytes(), 0);
    assert!(matches!(world.shard.poll_log(), Some(LogRequest::Unfollow(_))));
}

#[test]
fn what_is_on_the_way_to_a_socket_is_undecided_until_it_is_there_or_the_connection_has_gone() {
    for written in [true, false] {
        let mut world = shard();
        let gateway = created(&mut world);
        let key = world.join(at(0), join(gateway)).0;
        publish_many(&mut world, at(1), gateway, 2);
        let mut out = Vec::new();
        let first = world.shard.waiting(key).copy(501, false, &mut out);
        world.shard.advance(at(1), key, first);
        world.shard.handle_closing(at(1), key, CloseReason::Flood);
        let failures = |world: &World| world.shard.totals(None).deliveries.failed_deliveries;
        assert_eq!(failures(&world), 1, "the second event has failed, and the first is on its way");
        let rest = world.shard.waiting(key).copy(10_000, true, &mut out);
        world.shard.advance(at(1), key, rest);
        assert_eq!(offsets(std::str::from_utf8(&out).unwrap()), [1], "the frame that has begun is whole");
        if written {
            world.shard.handle_written(at(1), key, 0);
        }
        world.shard.handle_leave(at(1), key, CloseReason::Flood, 0);
        assert_eq!(failures(&world), if written { 1 } else { 2 });
        assert_eq!(
            (world.shard.undecided(), world.shard.totals(None).deliveries.total_events_sent),
            (0, u64::from(written))
        );
    }
}

/// Takes the only request that the shard has for the log.
pub(super) fn request(world: &mut World) -> LogRequest {
    let request = world.shard.poll_log().expect("a request");
    assert!(world.shard.poll_log().is_none());
    request
}

pub(super) fn follow_key(request: &LogRequest) -> FollowKey {
    let LogRequest::Follow { key, .. } = request else { panic!("{request:?}") };
    *key
}

pub(super) fn head(epoch: u64, base: u64, last: u64) -> Head {
    Head { epoch, base, first: base + 1, last, bytes: 0 }
}

pub(super) fn live(world: &mut World, key: FollowKey, position: Position, gateway: GatewayId) {
    let event = std::sync::Arc::new(event(gateway, "x"));
    let record = Record { position, accepted: Timestamp(0), bytes: position.offset, event };
    world.shard.handle_log(at(1), LogReply::Live { key, records: [record].into() });
}

/// A gateway with one connection that joins, and the request to follow it.
pub(super) fn joining(position: Option<Position>) -> (World, GatewayId, ConnectionKey, FollowKey) {
    let mut world = shard();
    let gateway = created(&mut world);
    let key = world.shard.handle_join(at(0), Join { resume: position, ..join(gateway) }).unwrap();
    let follow = follow_key(&request(&mut world));
    (world, gateway, key, follow)
}

#[test]
fn a_log_that_is_stuck_delays_an_ack_by_one_second_and_loses_no_event() {
    let (mut world, gateway, key, follow) = joining(None);
    assert_eq!(world.shard.poll_timeout(), Some(at(1).instant));
    world.shard.handle_timeout(at(1), 9);
    let nowhere = Begin { position: None, resumed: None };
    assert!(matches!(world.shard.poll_effect(), Some(Effect::Admit(of, begin)) if (of, begin) == (key, nowhere)));
    world.shard.handle_log(at(9), LogReply::Following { key: follow, head: head(3, 0, 4), progress: None });
    assert!(world.shard.poll_effect().is_none(), "it is told once where it begins");
    live(&mut world, follow, Position { epoch: 3, offset: 5 }, gateway);
    assert_eq!(write_all(&mut world, at(9), key), "x#5;");
}

#[test]
fn no_event_overtakes_the_follow_of_a_connection_that_was_admitted_without_the_log() {
    let (mut world, gateway, key, follow) = joining(None);
    let asked = LogRequest::Follow { key: follow, life: life(gateway, 1), behind: None };
    let publish = |world: &mut World| world.shard.handle_command(at(1), from(1), Command::publish(event(gateway, "x")));
    let refused = |world: &mut World| {
        let busy = NotKept { kept: Kept::No, why: Why::Stuck };
        assert!(matches!(&replies(world)[..], [(_, Reply::Published(Published::NotKept(why)))] if *why == busy));
        assert!(world.shard.poll_log().is_none());
    };
    // Behind the follow in the queue, and while the follow waits to be asked again.
    publish(&mut world);
    world.shard.handle_busy(at(1), asked);
    refused(&mut world);
    publish(&mut world);
    refused(&mut world);
    world.shard.handle_timeout(at(2), 9);
    publish(&mut world);
    assert_eq!(follow_key(&world.shard.poll_log().unwrap()), follow);
    assert!(matches!(request(&mut world), LogRequest::Append { .. }), "in its order");
    world.shard.handle_log(at(2), LogReply::Following { key: follow, head: head(3, 0, 4), progress: None });
    live(&mut world, follow, Position { epoch: 3, offset: 5 }, gateway);
    assert_eq!(write_all(&mut world, at(2), key), "x#5;");
}

#[test]
fn a_resume_is_refused_if_the_log_does_not_answer() {
    let (mut world, _, key, _) = joining(Some(Position { epoch: 3, offset: 2 }));
    world.shard.handle_timeout(at(3), 9);
    assert!(world.shard.poll_effect().is_none());
    world.shard.handle_timeout(at(4), 9);
    assert!(matches!(world.shard.poll_effect(), Some(Effect::Refuse(of)) if of == key));
}

/// Answers the read of a connection that catches up.
fn answer_read(world: &mut World, records: Vec<Record>, end: End) {
    let LogRequest::Read { key, .. } = request(world) else { panic!("a read") };
    world.shard.handle_log(at(1), LogReply::Chunk { key, records, end });
}

#[test]
fn a_damaged_event_keeps_no_gateway_away_from_what_is_behind_it() {
    let asked = Position { epoch: 3, offset: 2 };
    let (mut world, gateway, key, follow) = joining(Some(asked));
    world.shard.handle_log(at(1), LogReply::Following { key: follow, head: head(3, 0, 9), progress: None });
    answer_read(&mut world, Vec::new(), End::Failed(Why::Damaged));
    let end = Begin { position: Some(Position { epoch: 3, offset: 9 }), resumed: Some(false) };
    assert!(matches!(world.shard.poll_effect(), Some(Effect::Admit(of, begin)) if (of, begin) == (key, end)));

    // One that has read something already is closed. It asks again for what is damaged, and gets that answer.
    let key = world.shard.handle_join(at(1), Join { resume: Some(asked), ..join(gateway) }).unwrap();
    let event = std::sync::Arc::new(event(gateway, "x"));
    let record = Record { position: Position { epoch: 3, offset: 3 }, accepted: Timestamp(0), bytes: 3, event };
    answer_read(&mut world, vec![record], End::More { head: head(3, 0, 9) });
    answer_read(&mut world, Vec::new(), End::Failed(Why::Damaged));
    let closed = std::iter::from_fn(|| world.shard.poll_effect()).find(|effect| matches!(effect, Effect::Close(..)));
    assert!(matches!(closed, Some(Effect::Close(of, CloseReason::LogReplaced)) if of == key));
}

#[test]
fn a_publisher_learns_what_became_of_its_event_if_the_log_fails() {
    let mut world = shard();
    let gateway = created(&mut world);
    let mut answers = Vec::new();
    let results =
        [Err(NotAppended::Refused(Why::Full)), Err(NotAppended::Unknown(Why::Io)), Err(NotAppended::NoSuchGateway)];
    for result in results {
        world.shard.handle_command(at(1), from(1), Command::publish(event(gateway, "x")));
        let LogRequest::Append { key, .. } = request(&mut world) else { panic!("an append") };
        world.shard.handle_log(at(1), LogReply::Appended { key, from: 0, results: vec![result], last: true });
        answers.extend(replies(&mut world));
    }
    world.shard.handle_command(at(1), from(1), Command::publish(event(gateway, "x")));
    let busy = request(&mut world);
    world.shard.handle_busy(at(1), busy);
    answers.extend(replies(&mut world));
    let answers: Vec<_> = answers
        .into_iter()
        .map(|(_, reply)| match reply {
            Reply::Published(Published::NotKept(NotKept { kept, why })) => Some((kept, why)),
            Reply::Published(Published::NoSuchGateway) => None,
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [Some((Kept::No, Why::Full)), Some((Kept::Unknown, Why::Io)), None, Some((Kept::No, Why::Stuck))];
    assert_eq!((answers, world.shard.undecided()), (expected.to_vec(), 0));
}

#[test]
fn an_append_without_an_answer_is_unknown_at_the_timeout_and_is_delivered_when_it_comes() {
    let (mut world, gateway, key, follow) = joining(None);
    world.shard.handle_log(at(0), LogReply::Following { key: follow, head: head(3, 0, 0), progress: None });
    world.shard.handle_command(at(1), from(1), Command::publish(event(gateway, "x")));
    let LogRequest::Append { key: append @ AppendKey(_), .. } = request(&mut world) else { panic!("an append") };
    world.shard.handle_timeout(at(3), 9);
    let unknown = NotKept { kept: Kept::Unknown, why: Why::Stuck };
    let answers = replies(&mut world);
    assert!(matches!(&answers[..], [(1, Reply::Published(Published::NotKept(why)))] if *why == unknown), "{answers:?}");
    let position = Position { epoch: 3, offset: 1 };
    world.shard.handle_log(at(4), LogReply::Appended { key: append, from: 0, results: vec![Ok(position)], last: true });
    live(&mut world, follow, position, gateway);
    assert_eq!(write_all(&mut world, at(4), key), "x#1;");
    assert!(replies(&mut world).is_empty(), "answered once");
    assert_eq!(world.shard.undecided(), 0);
}

#[test]
fn an_interrupted_follow_goes_on_where_it_stands() {
    let (mut world, gateway, key, follow) = joining(None);
    world.shard.handle_log(at(0), LogReply::Following { key: follow, head: head(3, 0, 4), progress: None });
    live(&mut world, follow, Position { epoch: 3, offset: 5 }, gateway);
    world.shard.handle_log(at(1), LogReply::Interrupted(follow));
    let again = request(&mut world);
    assert!(matches!(again, LogRequest::Follow { behind: Some(Position { epoch: 3, offset: 5 }), .. }), "{again:?}");
    world.shard.handle_log(at(1), LogReply::Following { key: follow, head: head(3, 0, 6), progress: None });
    live(&mut world, follow, Position { epoch: 3, offset: 6 }, gateway);
    assert_eq!(write_all(&mut world, at(1), key), "x#5;x#6;");
}

#[test]
fn after_a_new_epoch_a_connection_goes_on_if_it_has_missed_nothing() {
    for has_read in [true, false] {
        let (mut world, gateway, key, follow) = joining(None);
        world.shard.handle_log(at(0), LogReply::Following { key: follow, head: head(3, 0, 4), progress: None });
        live(&mut world, follow, Position { epoch: 3, offset: 5 }, gateway);
        if has_read {
            write_all(&mut world, at(1), key);
        }
        while world.shard.poll_effect().is_some() {}
        world.shard.handle_log(at(1), LogReply::Interrupted(follow));
        request(&mut world);
        let why = End::OtherEpoch { head: head(9, 4, 4) };
        world.shard.handle_log(at(1), LogReply::NotFollowing { key: follow, why });
        let base = Position { epoch: 9, offset: 4 };
        assert!(matches!(request(&mut world), LogRequest::Follow { behind: Some(position), .. } if position == base));
        live(&mut world, follow, Position { epoch: 9, offset: 5 }, gateway);
        let closed = world.shard.poll_effect();
        if has_read {
            assert!(closed.is_none());
            assert_eq!(write_all(&mut world, at(1), key), "x#5;");
        } else {
            assert!(matches!(closed, Some(Effect::Close(of, CloseReason::LogReplaced)) if of == key));
        }
    }
}
