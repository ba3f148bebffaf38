//! Tests of a connection that is behind: a read that fails, how far it is behind, and what was read for it and given back.

use super::{
    cursors::{offsets, publish_many, resuming},
    processed::{leave, position, proved, publish},
    *,
};
use crate::model::{
    Proof,
    log::{End, LogReply, LogRequest, Why},
};

#[test]
fn a_read_that_fails_is_tried_again_after_a_second() {
    let mut world = shard_with(80_000, 1_000_000);
    let gateway = created(&mut world);
    let key = world.join(at(0), join(gateway)).0;
    let events = (0..200).map(|n| event(gateway, &format!("{n}:{}", "x".repeat(500)))).collect();
    world.shard.handle_command(at(1), from(1), Command::PublishMany(events));
    let mut replies = Vec::new();
    let mut failed = 0;
    while let Some(request) = world.shard.poll_log() {
        match request {
            LogRequest::Read { key, .. } => {
                failed += 1;
                world.shard.handle_log(at(1), LogReply::Chunk { key, records: Vec::new(), end: End::Failed(Why::Io) });
            }
            request => {
                world.log.submit(request, &mut replies).unwrap();
                replies.drain(..).for_each(|reply| world.shard.handle_log(at(1), reply));
            }
        }
    }
    assert_eq!(failed, 1, "it is not asked again at once");
    assert_eq!(write_all(&mut world, at(1), key), "");
    assert!(world.shard.poll_timeout() <= Some(at(2).instant));
    world.shard.handle_timeout(at(2), 9);
    world.settle(at(2));
    assert_eq!(offsets(&write_all(&mut world, at(2), key)), (1..=200).collect::<Vec<_>>());
}

#[test]
fn a_connection_is_behind_by_the_bytes_that_it_has_not_taken() {
    let mut world = shard_with(80_000, 1_000_000);
    let gateway = created(&mut world);
    publish_many(&mut world, at(1), gateway, 200);
    let sizes = |from: usize| (from..200).map(|n| format!("{n}:").len() as u64 + 500).sum::<u64>();
    let queued = |world: &World| world.shard.rows(None, 0, 0, 9).rows[0].queued_bytes;
    let (key, begin) =
        world.join(at(2), resuming(gateway, Position { epoch: life(gateway, 1).epoch_in(7), offset: 50 }));
    assert_eq!((begin.resumed, queued(&world)), (Some(true), sizes(50)));
    write(&mut world, at(2), key, 504);
    assert_eq!(queued(&world), sizes(50), "the event that is partly taken counts");
    write_all(&mut world, at(2), key);
    assert_eq!(queued(&world), 0);
}

#[test]
fn a_pong_goes_on_with_what_was_given_back_while_the_window_was_full() {
    let mut world = proved(1);
    let gateway = created(&mut world);
    let first = world.join(at(0), join(gateway)).0;
    leave(&mut world, at(1), first);
    while world.shard.handle_timeout(at(100), 1) > 0 {}
    world.settle(at(100));
    publish(&mut world, at(200), gateway, &["a", "b", "c"]);
    let key = world.join(at(201), join(gateway)).0;
    assert_eq!(write_all(&mut world, at(201), key), "a#1;?1;");
    let cursor = &mut world.shard.registry.connection_mut(key).unwrap().cursor;
    assert!(cursor.catch_up().is_some_and(|catch_up| catch_up.held_bytes > 0), "it reads from the log");
    let freed = cursor.give_back();
    world.shard.catch_ups.free(freed);
    // Without a write of its socket in between: nothing waits for that.
    assert_eq!(world.shard.handle_pong(at(202), key, Some(position(gateway, 1))), Proof::Processed);
    assert!(world.shard.has_log_request(), "it reads again");
    world.settle(at(202));
    assert_eq!(world.dirty().last(), Some(&key));
    assert_eq!(write_all(&mut world, at(202), key), "b#2;?2;");
}
