//! Tests of the events that a connection of the delivery `processed` is not given.

use super::{
    processed::{leave, pong, position, proved, publish, publish_kind, skipped},
    *,
};

#[test]
fn types_that_a_gateway_reads_again_are_not_delivered_late() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    for kind in ["apikey.created", "subscription.updated", "x", "apikey.revoked"] {
        publish_kind(&mut world, at(1), gateway, kind);
    }
    let key = world.join(at(2), join(gateway)).0;
    publish_kind(&mut world, at(3), gateway, "apikey.updated");
    assert_eq!(write_all(&mut world, at(3), key), "x#3;?3;");
    pong(&mut world, at(4), key, gateway, 3);
    assert_eq!(write_all(&mut world, at(4), key), "apikey.updated#5;?5;", "live it goes as always");
    assert_eq!(skipped(&world, counters::REPLAY), 3);
    leave(&mut world, at(5), key);
    let (_, begin) = world.join(at(6), join(gateway));
    assert_eq!(begin.position, Some(position(gateway, 4)), "what was passed over counts as processed");
}

#[test]
fn a_gateway_is_through_with_what_is_passed_over_without_a_pong() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    publish_kind(&mut world, at(1), gateway, "apikey.created");
    let key = world.join(at(2), join(gateway)).0;
    assert_eq!(skipped(&world, counters::REPLAY), 1);
    leave(&mut world, at(3), key);
    let (_, begin) = world.join(at(4), join(gateway));
    assert_eq!(begin.position, Some(position(gateway, 1)));
    assert_eq!(skipped(&world, counters::REPLAY), 1, "once");
}

#[test]
fn an_event_that_no_connection_survives_is_skipped() {
    let mut world = proved(2);
    let gateway = created(&mut world);
    publish(&mut world, at(0), gateway, &["bad", "good"]);
    for second in [1, 2, 12] {
        let key = world.join(at(second), join(gateway)).0;
        assert_eq!(write_all(&mut world, at(second), key), "bad#1;?1;good#2;?2;", "at {second}");
        leave(&mut world, at(second), key);
    }
    while world.shard.poll_effect().is_some() {}
    let key = world.try_join(at(13), join(gateway)).unwrap();
    assert_eq!(write_all(&mut world, at(13), key), "good#2;?2;");
    assert_eq!(skipped(&world, counters::POISON), 1);
    let skipped = std::iter::from_fn(|| world.shard.poll_effect()).find_map(|effect| match effect {
        Effect::Skipped(skipped) => Some((skipped.position, skipped.why)),
        _ => None,
    });
    assert_eq!(skipped, Some((position(gateway, 1), counters::POISON)));
}

#[test]
fn an_event_is_not_blamed_where_the_hub_ends_the_connection_or_the_peer_has_not_got_it() {
    for (reason, acknowledged, is_blamed) in [
        (CloseReason::GatewayGone, 1_000, true),
        (CloseReason::ProcessingTimeout, 1_000, true),
        (CloseReason::GatewayGone, 999, false),
        (CloseReason::Shutdown, 1_000, false),
        (CloseReason::KeyRevoked, 1_000, false),
    ] {
        let mut world = proved(1);
        let gateway = created(&mut world);
        publish(&mut world, at(0), gateway, &["a"]);
        for second in [1, 2, 3, 20] {
            let key = world.join(at(second), join(gateway)).0;
            let mut out = Vec::new();
            let copied = world.shard.waiting(key).copy(100, false, &mut out);
            world.shard.advance(at(second), key, copied);
            world.shard.handle_written(at(second), key, 1_000);
            world.shard.handle_leave(at(second), key, reason, acknowledged).unwrap();
            world.settle(at(second));
        }
        world.try_join(at(21), join(gateway)).unwrap();
        assert_eq!(skipped(&world, counters::POISON) == 1, is_blamed, "{reason} {acknowledged}");
    }
}

#[test]
fn late_types_are_passed_over_where_catching_up_ends_in_memory() {
    let mut world = proved(8);
    let gateway = created(&mut world);
    // As many as one read brings, so that the next event is the first in memory.
    publish(&mut world, at(0), gateway, &["a"; 16]);
    world.join(at(1), Join { written_only: true, ..join(gateway) });
    publish_kind(&mut world, at(1), gateway, "apikey.created");
    publish_kind(&mut world, at(1), gateway, "x");
    let key = world.join(at(2), join(gateway)).0;
    for last in [8, 16] {
        assert!(write_all(&mut world, at(2), key).ends_with(&format!("a#{last};?{last};")));
        pong(&mut world, at(2), key, gateway, last);
    }
    assert_eq!(write_all(&mut world, at(2), key), "x#18;?18;");
    assert_eq!(skipped(&world, counters::REPLAY), 1);
}

#[test]
fn late_types_at_both_sides_of_the_end_of_catching_up_hold_up_nothing() {
    let mut world = proved(8);
    let gateway = created(&mut world);
    // As many as one read brings: nothing of it goes to the socket, and what comes next is in memory.
    (0..16).for_each(|_| publish_kind(&mut world, at(0), gateway, "apikey.created"));
    world.join(at(1), Join { written_only: true, ..join(gateway) });
    publish_kind(&mut world, at(1), gateway, "apikey.updated");
    publish_kind(&mut world, at(1), gateway, "x");
    let key = world.join(at(2), join(gateway)).0;
    let mut out = Vec::new();
    world.shard.waiting(key).copy(100, false, &mut out);
    assert_eq!(out, b"x#18;?18;", "it waits already: no write goes before it");
    assert_eq!(skipped(&world, counters::REPLAY), 17);
}

#[test]
fn attempts_are_counted_over_the_time_in_which_the_gateway_was_away() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    publish(&mut world, at(0), gateway, &["bad", "good"]);
    // Each time its feed is removed before it comes back.
    for second in [100, 200, 300] {
        let key = world.join(at(second), join(gateway)).0;
        assert_eq!(write_all(&mut world, at(second), key), "bad#1;?1;", "at {second}");
        leave(&mut world, at(second), key);
        world.shard.handle_timeout(at(second + 90), 99);
        world.settle(at(second + 90));
        assert!(world.shard.feeds.of(gateway).is_none());
    }
    let key = world.try_join(at(400), join(gateway)).unwrap();
    assert_eq!(write_all(&mut world, at(400), key), "good#2;?2;");
}

#[test]
fn an_erased_secret_is_passed_over_and_ends_what_is_to_be_without_a_gap() {
    use crate::model::log::{LogReply, LogRequest, Record};
    for (resumes, written_only, expected) in
        [(false, false, "a#1;?1;c#3;?3;"), (true, false, "a#1;?1;c#3;?3;"), (true, true, "")]
    {
        let mut world = proved(9);
        let gateway = created(&mut world);
        let resume = resumes.then(|| position(gateway, 0));
        publish(&mut world, at(0), gateway, &["a", "b", "c"]);
        let key = world.shard.handle_join(at(1), Join { resume, written_only, ..join(gateway) }).unwrap();
        // The log answers as one that has erased the second event.
        let mut replies = Vec::new();
        while let Some(request) = world.shard.poll_log() {
            world.log.submit(request.clone(), &mut replies).unwrap();
            for reply in replies.drain(..) {
                let reply = match (&request, reply) {
                    (LogRequest::Read { .. }, LogReply::Chunk { key, mut records, end }) => {
                        let erase = |record: &mut Record| {
                            let event = Event { payload: Bytes::new(), ..(*record.event).clone() };
                            record.event = std::sync::Arc::new(event);
                        };
                        records.iter_mut().filter(|record| record.position.offset == 2).for_each(erase);
                        LogReply::Chunk { key, records, end }
                    }
                    (_, other) => other,
                };
                world.shard.handle_log(at(1), reply);
            }
        }
        let begin = std::iter::from_fn(|| world.shard.poll_effect()).find_map(|effect| match effect {
            Effect::Admit(_, begin) => Some(begin.resumed),
            _ => None,
        });
        assert_eq!(begin, Some(resumes.then_some(false)), "{resumes} {written_only}");
        assert_eq!(write_all(&mut world, at(1), key), expected);
    }
}

#[test]
fn an_event_is_not_skipped_while_another_connection_is_at_work_on_it() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    publish(&mut world, at(0), gateway, &["slow", "next"]);
    let worker = world.join(at(1), join(gateway)).0;
    assert_eq!(write_all(&mut world, at(1), worker), "slow#1;?1;");
    for second in [2, 3, 20] {
        let key = world.join(at(second), join(gateway)).0;
        assert_eq!(write_all(&mut world, at(second), key), "slow#1;?1;", "at {second}");
        leave(&mut world, at(second), key);
    }
    let key = world.join(at(21), join(gateway)).0;
    assert_eq!(write_all(&mut world, at(21), key), "slow#1;?1;");
    assert_eq!(skipped(&world, counters::POISON), 0);
}
