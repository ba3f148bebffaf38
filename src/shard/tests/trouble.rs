//! Tests of rare orders of events: a log that is replaced, trimmed or busy while connections join, close or leave.

use super::{
    cursors::{follow_key, head, joining, live, request},
    *,
};
use crate::{
    limits,
    model::log::{End, LogReply, LogRequest, Why},
};

#[test]
fn a_deleted_gateway_is_not_followed_again() {
    for busy in [true, false] {
        let (mut world, gateway, key, follow) = joining(None);
        if busy {
            let again = LogRequest::Follow { key: follow, life: life(gateway, 1), behind: None };
            world.shard.handle_busy(at(0), again);
        }
        world.shard.handle_change(at(0), Change::GatewayDeleted(gateway));
        while world.shard.poll_log().is_some() {}
        if !busy {
            let why = End::Gone { head: head(3, 0, 0) };
            world.shard.handle_log(at(0), LogReply::NotFollowing { key: follow, why });
        }
        world.shard.handle_timeout(at(1), 9);
        assert!(world.shard.connection(key).is_some_and(|it| it.closing), "it has not left yet");
        let asked: Vec<_> = std::iter::from_fn(|| world.shard.poll_log()).collect();
        assert!(asked.is_empty(), "{asked:?}");
    }
}

#[test]
fn what_a_closing_connection_holds_is_of_its_own_epoch() {
    let (mut world, gateway, old, follow) = joining(None);
    let new = world.shard.handle_join(at(0), join(gateway)).unwrap();
    world.shard.handle_log(at(0), LogReply::Following { key: follow, head: head(3, 0, 4), progress: None });
    live(&mut world, follow, Position { epoch: 3, offset: 5 }, gateway);
    live(&mut world, follow, Position { epoch: 3, offset: 6 }, gateway);
    write_all(&mut world, at(1), new);
    // Handed over, but the socket has not taken all of it.
    let mut out = Vec::new();
    let copied = world.shard.waiting(old).copy(1_000, false, &mut out);
    world.shard.advance(at(1), old, copied);
    world.shard.handle_closing(at(1), old, CloseReason::Flood);
    // The log has lost both events.
    world.shard.handle_log(at(1), LogReply::Interrupted(follow));
    request(&mut world);
    let why = End::OtherEpoch { head: head(9, 4, 4) };
    world.shard.handle_log(at(1), LogReply::NotFollowing { key: follow, why });
    request(&mut world);
    world.shard.handle_command(at(1), from(1), Command::publish(event(gateway, "y")));
    let LogRequest::Append { key: append, .. } = request(&mut world) else { panic!("an append") };
    let position = Position { epoch: 9, offset: 5 };
    world.shard.handle_log(at(1), LogReply::Appended { key: append, from: 0, results: vec![Ok(position)], last: true });
    live(&mut world, follow, position, gateway);
    world.shard.handle_leave(at(2), old, CloseReason::Flood, 0);
    while world.dirty().is_empty() && !replies(&mut world).is_empty() {}
    assert_eq!(world.shard.undecided(), 1, "its publisher waits for the other connection");
    assert_eq!(write_all(&mut world, at(2), new), "x#5;");
    assert_eq!((world.shard.undecided(), world.shard.held_bytes()), (0, 0));
}

#[test]
fn an_event_of_an_epoch_that_is_not_told_yet_has_not_failed() {
    let (mut world, gateway, key, follow) = joining(None);
    world.shard.handle_log(at(0), LogReply::Following { key: follow, head: head(3, 0, 4), progress: None });
    while world.shard.poll_effect().is_some() {}
    world.shard.handle_command(at(1), from(1), Command::publish(event(gateway, "y")));
    let LogRequest::Append { key: append, .. } = request(&mut world) else { panic!("an append") };
    world.shard.handle_log(at(1), LogReply::Interrupted(follow));
    let position = Position { epoch: 9, offset: 5 };
    world.shard.handle_log(at(1), LogReply::Appended { key: append, from: 0, results: vec![Ok(position)], last: true });
    let why = End::OtherEpoch { head: head(9, 4, 5) };
    world.shard.handle_log(at(1), LogReply::NotFollowing { key: follow, why });
    live(&mut world, follow, position, gateway);
    assert_eq!(write_all(&mut world, at(1), key), "x#5;");
    let outcome = published(&mut world);
    assert_eq!((outcome.connections, outcome.failed, outcome.pending), (1, 0, 1));
}

#[test]
fn a_follow_that_begins_again_does_not_begin_a_connection_twice() {
    let (mut world, gateway, _, follow) = joining(None);
    world.shard.handle_log(at(0), LogReply::Following { key: follow, head: head(3, 0, 4), progress: None });
    let asked = Position { epoch: 3, offset: 2 };
    let resuming = world.shard.handle_join(at(0), Join { resume: Some(asked), ..join(gateway) }).unwrap();
    let LogRequest::Read { key: read, .. } = request(&mut world) else { panic!("a read") };
    world.shard.handle_log(at(0), LogReply::Interrupted(follow));
    let again = follow_key(&request(&mut world));
    let why = End::Gone { head: head(3, 0, 90) };
    world.shard.handle_log(at(0), LogReply::NotFollowing { key: again, why });
    while world.shard.poll_log().is_some() {}
    world.shard.handle_log(at(0), LogReply::Following { key: again, head: head(3, 0, 90), progress: None });
    let why = End::Gone { head: head(3, 0, 90) };
    world.shard.handle_log(at(0), LogReply::Chunk { key: read, records: Vec::new(), end: why });
    let begin = std::iter::from_fn(|| world.shard.poll_effect()).find_map(|effect| match effect {
        Effect::Admit(key, begin) if key == resuming => Some(begin),
        _ => None,
    });
    assert_eq!(begin.map(|it| it.resumed), Some(Some(false)));
}

#[test]
fn a_position_of_the_epoch_before_is_not_resumed_in_the_next() {
    let (mut world, gateway, first, follow) = joining(None);
    world.shard.handle_log(at(0), LogReply::Following { key: follow, head: head(3, 0, 40), progress: None });
    world.shard.handle_leave(at(0), first, CloseReason::GatewayGone, 0);
    let asked = Position { epoch: 3, offset: 30 };
    // There is no memory for its read, because others have all of it.
    world.shard.catch_ups.hold(25_000);
    let key = world.shard.handle_join(at(0), Join { resume: Some(asked), ..join(gateway) }).unwrap();
    assert!(world.shard.poll_log().is_none(), "its read waits");
    world.shard.handle_log(at(0), LogReply::Interrupted(follow));
    request(&mut world);
    let why = End::OtherEpoch { head: head(9, 20, 50) };
    world.shard.handle_log(at(0), LogReply::NotFollowing { key: follow, why });
    world.shard.catch_ups.free(25_000);
    world.shard.handle_timeout(at(1), 9);
    let begin = std::iter::from_fn(|| world.shard.poll_effect()).find_map(|effect| match effect {
        Effect::Admit(of, begin) if of == key => Some(begin),
        _ => None,
    });
    let asked = std::iter::from_fn(|| world.shard.poll_log());
    let reads: Vec<_> = asked.filter(|it| matches!(it, LogRequest::Read { .. })).collect();
    assert!(reads.is_empty(), "{reads:?}");
    assert_eq!(begin, Some(Begin { position: Some(Position { epoch: 9, offset: 20 }), resumed: Some(false) }));
}

#[test]
fn many_small_events_are_read_within_the_memory_for_them() {
    let mut world = shard_with(1_000_000, 4_000_000);
    let mut asked = 0;
    let gateways: Vec<_> = (0..100).map(|_| created(&mut world)).collect();
    for gateway in &gateways {
        let events = (0..300).map(|_| event(*gateway, "x")).collect();
        world.command(at(1), from(1), Command::PublishMany(events));
        let position = Position { epoch: life(*gateway, 1).epoch_in(7), offset: 0 };
        world.shard.handle_join(at(2), Join { resume: Some(position), ..join(*gateway) }).unwrap();
        // The log has told the end, and the reads wait for each other.
        let mut replies = Vec::new();
        while let Some(request) = world.shard.poll_log() {
            if let LogRequest::Read { room, .. } = request {
                asked += room.bytes;
                assert!(room.records > 0 && room.records * limits::CHUNK_RECORD_BYTES <= room.bytes, "{room:?}");
                continue;
            }
            world.log.submit(request, &mut replies).unwrap();
            replies.drain(..).for_each(|reply| world.shard.handle_log(at(2), reply));
        }
    }
    assert!(asked > 0 && asked <= 250_000, "{asked}");
}

#[test]
fn a_damaged_event_keeps_no_gateway_away() {
    let (mut world, gateway, first, follow) = joining(None);
    world.shard.handle_log(at(0), LogReply::Following { key: follow, head: head(3, 0, 40), progress: None });
    world.shard.handle_leave(at(0), first, CloseReason::GatewayGone, 0);
    let asked = Position { epoch: 3, offset: 30 };
    let key = world.shard.handle_join(at(0), Join { resume: Some(asked), ..join(gateway) }).unwrap();
    let LogRequest::Read { key: read, .. } = request(&mut world) else { panic!("a read") };
    let end = End::Failed(Why::Damaged);
    world.shard.handle_log(at(0), LogReply::Chunk { key: read, records: Vec::new(), end });
    let begin = std::iter::from_fn(|| world.shard.poll_effect()).find_map(|effect| match effect {
        Effect::Admit(of, begin) if of == key => Some(begin),
        _ => None,
    });
    assert_eq!(begin, Some(Begin { position: Some(Position { epoch: 3, offset: 40 }), resumed: Some(false) }));
}

#[test]
fn a_log_that_cannot_tell_what_comes_next_is_not_asked_without_a_pause() {
    let (mut world, gateway, _, follow) = joining(None);
    world.shard.handle_log(at(0), LogReply::Following { key: follow, head: head(3, 0, 4), progress: None });
    for moves in [true, false, true] {
        if moves {
            let offset = world.shard.feeds.get(follow.into()).unwrap().end().offset + 1;
            live(&mut world, follow, Position { epoch: 3, offset }, gateway);
        }
        world.shard.handle_log(at(1), LogReply::Interrupted(follow));
        assert_eq!(world.shard.poll_log().is_some(), moves);
        world.shard.handle_timeout(at(2), 9);
        assert_eq!(world.shard.poll_log().is_some(), !moves);
    }
}

#[test]
fn a_slow_connection_holds_no_payload_of_the_other_events_of_a_batch() {
    struct Owner {
        _counted: std::sync::Arc<()>,
    }
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            b"x"
        }
    }
    let mut world = shard_with(100_000, 200);
    let (fast, slow) = (created(&mut world), created(&mut world));
    let (first, second) = (world.join(at(0), join(fast)).0, world.join(at(0), join(slow)).0);
    let counted = std::sync::Arc::new(());
    let owned = Bytes::from_owner(Owner { _counted: std::sync::Arc::clone(&counted) });
    let events = vec![Event { payload: owned, ..event(fast, "") }, event(slow, "y")];
    world.command(at(1), from(1), Command::PublishMany(events));
    write_all(&mut world, at(1), first);
    // The log in memory keeps one event of each gateway here.
    world.command(at(1), from(2), Command::publish(event(fast, "z")));
    write_all(&mut world, at(1), first);
    assert_eq!(world.shard.undecided(), 1, "the slow one has not taken its event");
    assert_eq!(std::sync::Arc::strong_count(&counted), 1, "nobody has the payload any more");
    assert_eq!(write_all(&mut world, at(1), second), "y#1;");
}

#[test]
fn large_events_that_are_read_together_stay_within_the_memory_for_them() {
    let mut world = shard_with(1_000_000, 4_000_000);
    let gateways: Vec<_> = (0..15).map(|_| created(&mut world)).collect();
    for gateway in &gateways {
        world.command(at(1), from(1), Command::publish(event(*gateway, &"x".repeat(100_000))));
    }
    let mut keys = Vec::new();
    for gateway in &gateways {
        let position = Position { epoch: life(*gateway, 1).epoch_in(7), offset: 0 };
        keys.push(world.shard.handle_join(at(2), Join { resume: Some(position), ..join(*gateway) }).unwrap());
    }
    // All are asked for together, so that little memory is kept for each.
    world.shard.catch_ups.hold(250_000);
    world.settle(at(2));
    world.shard.catch_ups.free(250_000);
    world.shard.handle_timeout(at(3), 1);
    let (mut replies, mut reads) = (Vec::new(), 0);
    while let Some(request) = world.shard.poll_log() {
        reads += 1;
        world.log.submit(request, &mut replies).unwrap();
    }
    assert_eq!(reads, 15);
    replies.drain(..).for_each(|reply| world.shard.handle_log(at(3), reply));
    assert!(world.shard.held_bytes() <= 410_000, "{}", world.shard.held_bytes());
    let admitted = std::iter::from_fn(|| world.shard.poll_effect())
        .filter(|effect| matches!(effect, Effect::Admit(_, Begin { resumed: Some(true), .. })));
    assert_eq!(admitted.count(), keys.len());
    let mut bytes = vec![String::new(); keys.len()];
    for tenth in 1..20 {
        let now = Now { instant: at(3).instant + Duration::from_millis(100 * tenth), ..at(3) };
        for (key, bytes) in keys.iter().zip(&mut bytes) {
            *bytes += &write_all(&mut world, now, *key);
        }
        world.shard.handle_timeout(now, 9);
        world.settle(now);
    }
    assert!(bytes.iter().all(|bytes| bytes.ends_with("#1;") && bytes.len() == 100_003));
    assert_eq!(world.shard.held_bytes(), 0);
}
