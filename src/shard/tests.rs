//! Tests of one shard, in virtual time.

use super::*;
use crate::{
    model::{
        ConnectionId, CorrelationId, Event, EventType, Failure, Frame, Position, Refused, ShardId, Timestamp, TokenId,
        log::Record,
    },
    store::log::{EventLog, LogPort, MemoryLog, MemorySettings},
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};

mod behind;
mod cursors;
mod history;
mod processed;
mod skipping;
mod trouble;
mod waits;

fn encode(record: &Record, with_ping: bool, _: Vec<u8>) -> Frame {
    let offset = record.position.offset;
    let ping = if with_ping { format!("?{offset};") } else { String::new() };
    Frame::around(Arc::clone(&record.event), format!("#{offset};{ping}").into_bytes(), 0, ping.len())
}

fn one_frame(length: usize, _: usize) -> usize {
    length
}

/// A shard and its log in memory.
struct World {
    shard: Shard,
    log: Box<dyn LogPort>,
}

fn shard() -> World {
    shard_with(100_000, 50_000)
}

fn shard_with(recent_bytes_max: usize, log_bytes_max: usize) -> World {
    let settings = Settings {
        id: ShardId(0),
        placement: Placement::new(1, 1),
        recent_bytes_max,
        gateway_recent_bytes_max: recent_bytes_max / 2,
        connections_per_gateway_max: 2,
        publish_timeout: Duration::from_secs(2),
        rate_per_window: 10,
        rate_window: Duration::from_secs(60),
        rate_addresses_max: 100,
        delivery: Delivery::default(),
        encoding: Encoding { encode, boundary: one_frame },
    };
    let log = MemorySettings { epoch: 7, gateway_bytes_max: log_bytes_max, port_bytes_max: 10 * log_bytes_max };
    let log = MemoryLog::new(log).ports(vec![Box::new(|| {})]).pop().unwrap();
    World { shard: Shard::new(settings), log }
}

impl World {
    /// Exchanges requests and replies until none is left.
    fn settle(&mut self, now: Now) {
        let mut replies = Vec::new();
        while let Some(request) = self.shard.poll_log() {
            self.log.submit(request, &mut replies).unwrap();
            replies.drain(..).for_each(|reply| self.shard.handle_log(now, reply));
        }
    }

    fn command(&mut self, now: Now, origin: Origin, command: Command) {
        self.shard.handle_command(now, origin, command);
        self.settle(now);
    }

    fn try_join(&mut self, now: Now, join: Join) -> Result<ConnectionKey, Refused> {
        let joined = self.shard.handle_join(now, join);
        self.settle(now);
        joined
    }

    /// Joins; returns where the connection begins as well.
    fn join(&mut self, now: Now, join: Join) -> (ConnectionKey, Begin) {
        let key = self.try_join(now, join).unwrap();
        let admitted = std::iter::from_fn(|| self.shard.poll_effect()).find_map(|effect| match effect {
            Effect::Admit(admitted, begin) if admitted == key => Some(begin),
            _ => None,
        });
        (key, admitted.expect("the log answers at once"))
    }

    fn change(&mut self, now: Now, change: Change) {
        self.shard.handle_change(now, change);
        self.settle(now);
    }

    fn dirty(&mut self) -> Vec<ConnectionKey> {
        std::iter::from_fn(|| self.shard.poll_dirty()).collect()
    }
}

fn life(gateway: GatewayId, incarnation: u64) -> Life {
    Life { gateway, incarnation }
}

/// Creates a gateway in the shard.
fn created(world: &mut World) -> GatewayId {
    let gateway = GatewayId::random();
    world.change(at(0), Change::GatewayCreated { life: life(gateway, 1), delivery: None });
    gateway
}

fn at(seconds: u64) -> Now {
    Now::new(Instant(seconds * 1_000_000), Timestamp(seconds as i64 * 1_000))
}

fn join(gateway: GatewayId) -> Join {
    let address = "127.0.0.1:1".parse().unwrap();
    Join { gateway, id: ConnectionId::random(), token: TokenId::random(), address, resume: None, written_only: false }
}

fn event(gateway: GatewayId, payload: &str) -> Event {
    Event {
        gateway,
        kind: EventType::parse("t").unwrap(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        correlation: CorrelationId::random(),
        correlation_given: false,
        user_id: None,
    }
}

fn from(key: RequestKey) -> Origin {
    Origin { shard: ShardId(0), key }
}

fn replies(world: &mut World) -> Vec<(RequestKey, Reply)> {
    std::iter::from_fn(|| world.shard.poll_effect())
        .filter_map(|effect| match effect {
            Effect::Reply(origin, reply) => Some((origin.key, reply)),
            _ => None,
        })
        .collect()
}

fn published(world: &mut World) -> crate::model::PublishOutcome {
    match replies(world).pop() {
        Some((_, Reply::Published(Published::Outcome(outcome)))) => outcome,
        other => panic!("no answer to the publish: {other:?}"),
    }
}

fn outcome_of(published: &Published) -> Option<&crate::model::PublishOutcome> {
    if let Published::Outcome(outcome) = published { Some(outcome) } else { None }
}

/// Hands over and confirms up to `budget` bytes.
fn write(world: &mut World, now: Now, key: ConnectionKey, budget: usize) -> String {
    let mut out = Vec::new();
    let copied = world.shard.waiting(key).copy(budget, false, &mut out);
    world.shard.advance(now, key, copied);
    world.shard.handle_written(now, key, 0);
    world.settle(now);
    String::from_utf8(out).unwrap()
}

/// Writes until nothing waits.
fn write_all(world: &mut World, now: Now, key: ConnectionKey) -> String {
    let writes = std::iter::from_fn(|| Some(write(world, now, key, 10_000)).filter(|bytes| !bytes.is_empty()));
    writes.collect()
}

#[test]
fn an_event_goes_to_every_connection_of_its_gateway_and_to_no_other() {
    let mut shard = shard();
    let (ours, other) = (created(&mut shard), created(&mut shard));
    let a = shard.join(at(0), join(ours)).0;
    let b = shard.join(at(0), join(ours)).0;
    let c = shard.join(at(0), join(other)).0;
    shard.command(at(1), from(1), Command::publish(event(ours, "x")));
    assert_eq!(shard.dirty(), [a, b]);
    assert!(replies(&mut shard).is_empty(), "undecided until written");
    assert_eq!(write_all(&mut shard, at(1), a), "x#1;");
    assert_eq!(write_all(&mut shard, at(1), b), "x#1;");
    assert_eq!(write_all(&mut shard, at(1), c), "");
    let outcome = published(&mut shard);
    assert_eq!((outcome.connections, outcome.delivered, outcome.failed, outcome.pending), (2, 2, 0, 0));
    assert_eq!(outcome.position, Position { epoch: life(ours, 1).epoch_in(7), offset: 1 });
}

#[test]
fn events_keep_the_order_in_which_they_were_accepted() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let key = shard.join(at(0), join(gateway)).0;
    for n in 0..5 {
        shard.command(at(1), from(n), Command::publish(event(gateway, &n.to_string())));
    }
    assert_eq!(write_all(&mut shard, at(1), key), "0#1;1#2;2#3;3#4;4#5;");
    assert_eq!(replies(&mut shard).len(), 5);
}

#[test]
fn an_event_for_a_gateway_without_connections_is_a_failed_delivery() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    shard.command(at(1), from(1), Command::publish(event(gateway, "x")));
    let outcome = published(&mut shard);
    assert_eq!((outcome.connections, outcome.delivered, outcome.failed), (0, 0, 1));
    assert_eq!(outcome.failures, [Failure { connection_id: None, reason: "gateway not connected" }]);
}

#[test]
fn a_delivery_undecided_at_the_timeout_is_answered_as_pending_and_counted_later() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let key = shard.join(at(0), join(gateway)).0;
    shard.command(at(1), from(1), Command::publish(event(gateway, "x")));
    assert_eq!(shard.shard.handle_timeout(at(2), 9), 0);
    assert!(replies(&mut shard).is_empty());
    assert_eq!(shard.shard.handle_timeout(at(3), 9), 1);
    assert_eq!(published(&mut shard).pending, 1);
    write_all(&mut shard, at(4), key);
    assert!(replies(&mut shard).is_empty(), "answered once");
    assert_eq!((shard.shard.undecided(), shard.shard.totals(None).deliveries.total_events_sent), (0, 1));
}

#[test]
fn leaving_fails_the_unwritten_events_and_frees_the_index_once() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let key = shard.join(at(0), join(gateway)).0;
    shard.command(at(1), from(1), Command::publish(event(gateway, "x")));
    assert!(shard.shard.handle_leave(at(1), key, CloseReason::GatewayGone, 0).is_some());
    let outcome = published(&mut shard);
    assert_eq!((outcome.delivered, outcome.failed, outcome.failures[0].reason), (0, 1, "gateway gone"));
    assert!(shard.shard.handle_leave(at(1), key, CloseReason::GatewayGone, 0).is_none());
    let next = shard.join(at(2), join(gateway)).0;
    assert_eq!(next.index, key.index, "the index is used again");
    assert!(shard.shard.connection(key).is_none(), "the old key is not valid");
}

#[test]
fn revoking_a_token_closes_the_connections_that_used_it() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let (old, new) = (join(gateway), join(gateway));
    let key = shard.join(at(0), old).0;
    shard.join(at(0), new);
    let hash = crate::model::KeyHash::of(b"");
    shard.change(at(1), Change::TokenRevoked { gateway, token: old.token, hash });
    let effects: Vec<_> = std::iter::from_fn(|| shard.shard.poll_effect()).collect();
    assert!(matches!(effects[..], [Effect::Close(closed, CloseReason::KeyRevoked)] if closed == key));
}

#[test]
fn connections_of_a_gateway_are_limited() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let first = shard.join(at(0), join(gateway)).0;
    shard.try_join(at(0), join(gateway)).unwrap();
    assert_eq!(shard.try_join(at(0), join(gateway)), Err(Refused::CapacityExceeded));
    shard.shard.handle_leave(at(1), first, CloseReason::GatewayGone, 0);
    assert!(shard.try_join(at(1), join(gateway)).is_ok());
}

#[test]
fn a_batch_is_answered_in_the_order_of_its_events() {
    let mut shard = shard();
    let (here, away) = (created(&mut shard), created(&mut shard));
    let key = shard.join(at(0), join(here)).0;
    let events = vec![event(here, "a"), event(away, "b"), event(here, "c")];
    shard.command(at(1), from(9), Command::PublishMany(events));
    write_all(&mut shard, at(1), key);
    let Some((9, Reply::PublishedMany(outcomes))) = replies(&mut shard).pop() else { panic!("no answer") };
    assert_eq!(
        outcomes.iter().map(|it| outcome_of(it).map_or((0, 0), |it| (it.delivered, it.failed))).collect::<Vec<_>>(),
        [(1, 0), (0, 1), (1, 0)]
    );
}

#[test]
fn a_gateway_that_is_created_again_never_repeats_a_position() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let publish = |shard: &mut World| {
        shard.command(at(1), from(1), Command::publish(event(gateway, "x")));
        published(shard).position
    };
    let before = [publish(&mut shard), publish(&mut shard)];
    shard.change(at(1), Change::GatewayDeleted(gateway));
    shard.change(at(1), Change::GatewayCreated { life: life(gateway, 2), delivery: None });
    let joined = shard.join(at(2), join(gateway));
    shard.shard.handle_leave(at(2), joined.0, CloseReason::GatewayGone, 0);
    let after = publish(&mut shard);
    assert_eq!((before[0].offset, before[1].offset, joined.1.position.unwrap().offset, after.offset), (1, 2, 0, 1));
    assert_eq!((before[0].epoch, joined.1.position.unwrap().epoch), (before[1].epoch, after.epoch));
    assert_ne!(before[0].epoch, after.epoch);
}

#[test]
fn a_gateway_that_is_created_again_has_no_connection_of_the_deleted_one() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let old = shard.join(at(0), join(gateway)).0;
    shard.change(at(1), Change::GatewayDeleted(gateway));
    shard.change(at(1), Change::GatewayCreated { life: life(gateway, 2), delivery: None });
    shard.command(at(1), from(1), Command::publish(event(gateway, "x")));
    let effects: Vec<_> = std::iter::from_fn(|| shard.shard.poll_effect()).collect();
    assert!(matches!(effects[0], Effect::Close(key, CloseReason::GatewayDeleted) if key == old));
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::Reply(Origin { key: 1, .. }, Reply::Published(Published::Outcome(o))) if o.connections == 0))
    );
    assert_eq!(write_all(&mut shard, at(1), old), "");
}

#[test]
fn an_event_for_a_gateway_that_does_not_exist_gets_no_position() {
    let mut shard = shard();
    let (here, gone) = (created(&mut shard), created(&mut shard));
    shard.change(at(1), Change::GatewayDeleted(gone));
    shard.command(at(1), from(1), Command::publish(event(gone, "x")));
    assert!(matches!(replies(&mut shard)[..], [(1, Reply::Published(Published::NoSuchGateway))]));
    let key = shard.join(at(1), join(here)).0;
    let batch = vec![event(gone, "a"), event(here, "b"), event(gone, "c")];
    shard.command(at(1), from(2), Command::PublishMany(batch));
    assert_eq!(write_all(&mut shard, at(1), key), "b#1;");
    let Some((2, Reply::PublishedMany(outcomes))) = replies(&mut shard).pop() else { panic!("no answer") };
    let delivered: Vec<_> = outcomes.iter().map(|it| outcome_of(it).map(|o| o.delivered)).collect();
    assert_eq!(delivered, [None, Some(1), None]);
    shard.command(at(1), from(3), Command::PublishMany(vec![event(gone, "a")]));
    assert!(
        matches!(&replies(&mut shard)[..], [(3, Reply::PublishedMany(outcomes))] if outcomes[..] == [Published::NoSuchGateway])
    );
    assert_eq!(shard.try_join(at(1), join(gone)), Err(Refused::Unauthorized));
    assert_eq!((shard.shard.undecided(), shard.shard.totals(None).deliveries.failed_deliveries), (0, 0));
}
