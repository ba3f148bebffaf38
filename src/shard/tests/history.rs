//! Tests of reading a gateway's log for the API.

use super::*;
use crate::{
    limits,
    model::log::{End, LogReply, LogRequest, ReadFrom, Why},
};

fn events(gateway: GatewayId, from: ReadFrom, limit: usize) -> Command {
    Command::Events { gateway, from, limit }
}

fn publish(world: &mut World, gateway: GatewayId, count: usize) {
    for _ in 0..count {
        world.command(at(1), from(0), Command::publish(event(gateway, "\"12345678\"")));
    }
    replies(world);
}

/// Reads, and returns the answer that comes at once.
fn read(world: &mut World, gateway: GatewayId, begin: ReadFrom, limit: usize) -> Events {
    world.command(at(2), from(1), events(gateway, begin, limit));
    answer(world)
}

fn answer(world: &mut World) -> Events {
    match replies(world).pop() {
        Some((_, Reply::Events(events))) => events,
        other => panic!("no events: {other:?}"),
    }
}

/// The offsets of a page, and whether more follow.
fn page(events: Events) -> (Vec<u64>, bool) {
    match events {
        Events::Page { records, more, .. } => (records.iter().map(|record| record.position.offset).collect(), more),
        other => panic!("not a page: {other:?}"),
    }
}

#[test]
fn the_log_of_a_gateway_is_read_page_by_page() {
    let mut world = shard();
    let gateway = created(&mut world);
    let Events::Page { records, more: false, head } = read(&mut world, gateway, ReadFrom::Oldest, 10) else {
        panic!("an empty log has an empty page")
    };
    assert_eq!((records.len(), head.first, head.last), (0, 1, 0));
    publish(&mut world, gateway, 5);
    let after = |offset| ReadFrom::After(Position { epoch: head.epoch, offset });
    for (begin, limit, expected) in [
        (ReadFrom::Oldest, 2, (vec![1, 2], true)),
        (after(2), 2, (vec![3, 4], true)),
        (after(4), 2, (vec![5], false)),
        (after(5), 2, (vec![], false)),
        (after(0), 5, (vec![1, 2, 3, 4, 5], false)),
        (ReadFrom::Last(2), 5, (vec![4, 5], false)),
        (ReadFrom::Last(9), 9, (vec![1, 2, 3, 4, 5], false)),
    ] {
        assert_eq!(page(read(&mut world, gateway, begin, limit)), expected, "{begin:?} limit {limit}");
    }
}

#[test]
fn a_position_that_cannot_be_read_after_is_told_with_the_ends() {
    // The log of a gateway keeps some of the events.
    let mut world = shard_with(100_000, 800);
    let gateway = created(&mut world);
    publish(&mut world, gateway, 5);
    let Events::Page { head, .. } = read(&mut world, gateway, ReadFrom::Oldest, 1) else { panic!("not a page") };
    assert!((3..=4).contains(&head.first) && head.last == 5, "{head:?}");
    let position = |offset| ReadFrom::After(Position { epoch: head.epoch, offset });
    assert!(matches!(read(&mut world, gateway, position(head.first - 2), 1), Events::Trimmed(ends) if ends == head));
    assert_eq!(page(read(&mut world, gateway, position(head.first - 1), 1)), (vec![head.first], true));
    assert!(matches!(read(&mut world, gateway, position(6), 1), Events::UnknownPosition(ends) if ends == head));
    let other = ReadFrom::After(Position { epoch: head.epoch ^ 1, offset: 4 });
    assert!(matches!(read(&mut world, gateway, other, 1), Events::UnknownPosition(ends) if ends == head));
    let unknown = GatewayId::random();
    assert!(matches!(read(&mut world, unknown, ReadFrom::Oldest, 1), Events::NoSuchGateway));
}

/// Asks for the oldest events of a gateway with a log that does not answer; returns the key of the request.
fn ask(world: &mut World, gateway: GatewayId) -> Option<crate::model::log::ReadKey> {
    world.shard.handle_command(at(2), from(1), events(gateway, ReadFrom::Oldest, 1));
    match world.shard.poll_log()? {
        LogRequest::Read { key, .. } => Some(key),
        other => panic!("not a read: {other:?}"),
    }
}

#[test]
fn reads_that_the_log_does_not_answer_are_bounded_and_answered_late() {
    let mut world = shard();
    let gateway = created(&mut world);
    let mut asked = Vec::new();
    for _ in 0..limits::EVENT_READS_MAX {
        asked.push(ask(&mut world, gateway).expect("the log is asked"));
    }
    assert!(replies(&mut world).is_empty(), "the log has not answered");
    assert_eq!(ask(&mut world, gateway), None);
    assert!(matches!(answer(&mut world), Events::Overloaded));

    let failed = LogReply::Chunk { key: asked[3], records: Vec::new(), end: End::Failed(Why::Io) };
    world.shard.handle_log(at(100), failed);
    assert!(matches!(answer(&mut world), Events::Unavailable(Why::Io)));
    let next = ask(&mut world, gateway).expect("there is room for another one");
    assert!(!asked.contains(&next));
}

#[test]
fn a_read_is_refused_while_the_log_is_busy() {
    let mut world = shard();
    let gateway = created(&mut world);
    world.shard.handle_command(at(2), from(1), events(gateway, ReadFrom::Oldest, 1));
    let request = world.shard.poll_log().unwrap();
    world.shard.handle_busy(at(2), request);
    assert!(matches!(answer(&mut world), Events::Overloaded));
    assert_eq!(world.shard.poll_timeout(), None, "it is not tried again");
}

#[test]
fn the_reads_of_a_deleted_gateway_are_answered_at_once() {
    let mut world = shard();
    let gateway = created(&mut world);
    let key = ask(&mut world, gateway).unwrap();
    world.shard.handle_change(at(3), Change::GatewayDeleted(gateway));
    assert!(matches!(answer(&mut world), Events::NoSuchGateway));
    assert!(matches!(world.shard.poll_log(), Some(LogRequest::Cancel(cancelled)) if cancelled == key));
    assert!(matches!(world.shard.poll_log(), Some(LogRequest::Forget { .. })));
    let late = LogReply::Chunk { key, records: Vec::new(), end: End::Failed(Why::Stopping) };
    world.shard.handle_log(at(4), late);
    assert!(replies(&mut world).is_empty(), "it was answered before");
}
