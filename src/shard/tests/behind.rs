//! Tests of a connection that is behind: a read that fails, and how far it is behind.

use super::{
    cursors::{offsets, publish_many, resuming},
    *,
};
use crate::model::log::{End, LogReply, LogRequest, Why};

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
    let queued = |world: &World| world.shard.rows(None, 0, 9)[0].queued_bytes;
    let (key, begin) =
        world.join(at(2), resuming(gateway, Position { epoch: life(gateway, 1).epoch_in(7), offset: 50 }));
    assert_eq!((begin.resumed, queued(&world)), (Some(true), sizes(50)));
    write(&mut world, at(2), key, 504);
    assert_eq!(queued(&world), sizes(50), "the event that is partly taken counts");
    write_all(&mut world, at(2), key);
    assert_eq!(queued(&world), 0);
}
