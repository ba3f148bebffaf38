//! Tests of one shard, in virtual time.

use super::*;
use crate::{
    limits,
    model::{ConnectionId, CorrelationId, Event, EventType, Failure, ShardId, Timestamp, TokenId},
};
use bytes::Bytes;

fn encode(event: &Event, position: Position, _: Timestamp) -> Bytes {
    [event.payload.as_ref(), format!("#{};", position.offset).as_bytes()].concat().into()
}

fn one_frame(length: usize, _: usize) -> usize {
    length
}

fn shard() -> Shard {
    Shard::new(Settings {
        id: ShardId(0),
        epoch: 7,
        outbox_bytes_max: 100,
        connections_per_gateway_max: 2,
        publish_timeout: Duration::from_secs(2),
        rate_per_window: 10,
        rate_window: Duration::from_secs(60),
        rate_addresses_max: 100,
        encoding: Encoding { encode, boundary: one_frame },
    })
}

fn life(gateway: GatewayId, incarnation: u64) -> Life {
    Life { gateway, incarnation }
}

/// Creates a gateway in the shard.
fn created(shard: &mut Shard) -> GatewayId {
    let gateway = GatewayId::random();
    shard.handle_change(Change::GatewayCreated(life(gateway, 1)));
    gateway
}

fn at(seconds: u64) -> Now {
    Now::new(Instant(seconds * 1_000_000), Timestamp(seconds as i64 * 1_000))
}

fn join(gateway: GatewayId) -> Join {
    let address = "127.0.0.1:1".parse().unwrap();
    Join { gateway, id: ConnectionId::random(), token: TokenId::random(), address }
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

fn replies(shard: &mut Shard) -> Vec<(RequestKey, Reply)> {
    std::iter::from_fn(|| shard.poll_effect())
        .filter_map(|effect| match effect {
            Effect::Reply(origin, reply) => Some((origin.key, reply)),
            _ => None,
        })
        .collect()
}

fn published(shard: &mut Shard) -> crate::model::PublishOutcome {
    match replies(shard).pop() {
        Some((_, Reply::Published(outcome))) => outcome,
        other => panic!("no answer to the publish: {other:?}"),
    }
}

fn write_all(shard: &mut Shard, now: Now, key: ConnectionKey) -> String {
    let mut out = Vec::new();
    let copied = shard.waiting(key).copy(10_000, false, &mut out);
    shard.advance(key, copied);
    shard.handle_written(now, key);
    String::from_utf8(out).unwrap()
}

#[test]
fn an_event_goes_to_every_connection_of_its_gateway_and_to_no_other() {
    let mut shard = shard();
    let (ours, other) = (created(&mut shard), created(&mut shard));
    let a = shard.handle_join(at(0), join(ours)).unwrap().0;
    let b = shard.handle_join(at(0), join(ours)).unwrap().0;
    let c = shard.handle_join(at(0), join(other)).unwrap().0;
    shard.handle_command(at(1), from(1), Command::Publish(event(ours, "x")));
    assert_eq!(std::iter::from_fn(|| shard.poll_dirty()).collect::<Vec<_>>(), [a, b]);
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
    let key = shard.handle_join(at(0), join(gateway)).unwrap().0;
    for n in 0..5 {
        shard.handle_command(at(1), from(n), Command::Publish(event(gateway, &n.to_string())));
    }
    assert_eq!(write_all(&mut shard, at(1), key), "0#1;1#2;2#3;3#4;4#5;");
    assert_eq!(replies(&mut shard).len(), 5);
}

#[test]
fn an_event_for_a_gateway_without_connections_is_a_failed_delivery() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    shard.handle_command(at(1), from(1), Command::Publish(event(gateway, "x")));
    let outcome = published(&mut shard);
    assert_eq!((outcome.connections, outcome.delivered, outcome.failed), (0, 0, 1));
    assert_eq!(outcome.failures, [Failure { connection_id: None, reason: "gateway not connected" }]);
}

#[test]
fn a_blocked_socket_over_its_outbox_bound_is_closed_and_its_sibling_is_not() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let slow = shard.handle_join(at(0), join(gateway)).unwrap().0;
    let good = shard.handle_join(at(0), join(gateway)).unwrap().0;
    shard.handle_blocked(at(1), slow, false);
    shard.handle_blocked(at(2), slow, false);
    let later = at(1).instant + limits::OUTBOX_PATIENCE;
    let later = Now { instant: later, ..at(1) };
    for n in 0..4 {
        shard.handle_command(later, from(n), Command::Publish(event(gateway, &"x".repeat(40))));
        assert!(write_all(&mut shard, later, good).len() > 40);
    }
    let effects: Vec<_> = std::iter::from_fn(|| shard.poll_effect()).collect();
    let closed = effects.iter().filter(|e| matches!(e, Effect::Close(key, CloseReason::SlowConsumer) if *key == slow));
    assert_eq!(closed.count(), 1);
    let answered = effects.iter().filter(|e| matches!(e, Effect::Reply(..))).count();
    assert_eq!(answered, 4, "a slow connection delays no answer once it is closed");
    assert_eq!(shard.undecided(), 0);
    let totals = shard.totals(None).deliveries;
    assert_eq!((totals.total_events_sent, totals.failed_deliveries), (4, 3));
    assert_eq!(std::iter::from_fn(|| shard.poll_failure()).count(), 3);
}

#[test]
fn a_socket_that_takes_bytes_may_have_a_whole_batch_waiting() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let key = shard.handle_join(at(0), join(gateway)).unwrap().0;
    let batch = || Command::PublishMany(vec![event(gateway, &"x".repeat(40)); 10]);
    shard.handle_command(at(1), from(1), batch());
    assert_eq!(write_all(&mut shard, at(1), key).len(), 10 * 43 + 1, "ten times the bound, and taken at once");
    assert_eq!(replies(&mut shard).len(), 1);
    let mut now = at(2);
    for n in 2..6 {
        shard.handle_command(now, from(n), batch());
        // It takes a little each time, and never all.
        shard.handle_blocked(now, key, true);
        now.instant = now.instant + (limits::OUTBOX_PATIENCE - Duration::from_micros(1));
    }
    assert!(std::iter::from_fn(|| shard.poll_effect()).next().is_none());
    now.instant = now.instant + Duration::from_micros(1);
    shard.handle_command(now, from(6), batch());
    let effects: Vec<_> = std::iter::from_fn(|| shard.poll_effect()).collect();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Close(_, CloseReason::SlowConsumer))), "{effects:?}");
}

#[test]
fn a_socket_over_the_bound_for_five_seconds_is_slow_even_if_it_takes_bytes() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let key = shard.handle_join(at(0), join(gateway)).unwrap().0;
    let batch = || Command::PublishMany(vec![event(gateway, &"x".repeat(40)); 10]);
    for visit in 0..=6 {
        let now = Now { instant: at(1).instant + Duration::from_millis(900 * visit), ..at(1) };
        shard.handle_command(now, from(visit), batch());
        let closes = std::iter::from_fn(|| shard.poll_effect()).filter(|effect| matches!(effect, Effect::Close(..)));
        assert_eq!(closes.count(), usize::from(visit == 6), "in visit {visit}; it is over the bound since the first");
        // It takes a byte each time, and what waits stays over the bound.
        shard.advance(key, usize::from(visit < 6));
        shard.handle_blocked(now, key, true);
    }
}

#[test]
fn a_delivery_undecided_at_the_timeout_is_answered_as_pending_and_counted_later() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let key = shard.handle_join(at(0), join(gateway)).unwrap().0;
    shard.handle_command(at(1), from(1), Command::Publish(event(gateway, "x")));
    assert_eq!(shard.handle_timeout(at(2), 9), 0);
    assert!(replies(&mut shard).is_empty());
    assert_eq!(shard.handle_timeout(at(3), 9), 1);
    assert_eq!(published(&mut shard).pending, 1);
    write_all(&mut shard, at(4), key);
    assert!(replies(&mut shard).is_empty(), "answered once");
    assert_eq!((shard.undecided(), shard.totals(None).deliveries.total_events_sent), (0, 1));
}

#[test]
fn leaving_fails_the_unwritten_events_and_frees_the_index_once() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let key = shard.handle_join(at(0), join(gateway)).unwrap().0;
    shard.handle_command(at(1), from(1), Command::Publish(event(gateway, "x")));
    assert!(shard.handle_leave(at(1), key, CloseReason::GatewayGone).is_some());
    let outcome = published(&mut shard);
    assert_eq!((outcome.delivered, outcome.failed, outcome.failures[0].reason), (0, 1, "gateway gone"));
    assert!(shard.handle_leave(at(1), key, CloseReason::GatewayGone).is_none());
    let next = shard.handle_join(at(2), join(gateway)).unwrap().0;
    assert_eq!(next.index, key.index, "the index is used again");
    assert!(shard.connection(key).is_none(), "the old key is not valid");
}

#[test]
fn revoking_a_token_closes_the_connections_that_used_it() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let (old, new) = (join(gateway), join(gateway));
    let key = shard.handle_join(at(0), old).unwrap().0;
    shard.handle_join(at(0), new).unwrap();
    let hash = crate::model::KeyHash::of(b"");
    shard.handle_change(Change::TokenRevoked { gateway, token: old.token, hash });
    let effects: Vec<_> = std::iter::from_fn(|| shard.poll_effect()).collect();
    assert!(matches!(effects[..], [Effect::Close(closed, CloseReason::KeyRevoked)] if closed == key));
}

#[test]
fn connections_of_a_gateway_are_limited() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let first = shard.handle_join(at(0), join(gateway)).unwrap().0;
    shard.handle_join(at(0), join(gateway)).unwrap();
    assert_eq!(shard.handle_join(at(0), join(gateway)), Err(Refused::CapacityExceeded));
    shard.handle_leave(at(1), first, CloseReason::GatewayGone);
    assert!(shard.handle_join(at(1), join(gateway)).is_ok());
}

#[test]
fn a_batch_is_answered_in_the_order_of_its_events() {
    let mut shard = shard();
    let (here, away) = (created(&mut shard), created(&mut shard));
    let key = shard.handle_join(at(0), join(here)).unwrap().0;
    let events = vec![event(here, "a"), event(away, "b"), event(here, "c")];
    shard.handle_command(at(1), from(9), Command::PublishMany(events));
    write_all(&mut shard, at(1), key);
    let Some((9, Reply::PublishedMany(outcomes))) = replies(&mut shard).pop() else { panic!("no answer") };
    assert_eq!(
        outcomes.iter().flatten().map(|o| (o.delivered, o.failed)).collect::<Vec<_>>(),
        [(1, 0), (0, 1), (1, 0)]
    );
}

#[test]
fn a_batch_that_overflows_its_only_connection_has_a_result_for_each_event() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let key = shard.handle_join(at(0), join(gateway)).unwrap().0;
    shard.handle_blocked(at(0), key, false);
    let later = Now { instant: at(0).instant + limits::OUTBOX_PATIENCE, ..at(1) };
    shard.handle_command(later, from(1), Command::Publish(event(gateway, &"x".repeat(90))));
    let events = vec![event(gateway, &"y".repeat(90)), event(gateway, "z"), event(gateway, "z")];
    shard.handle_command(later, from(2), Command::PublishMany(events));
    let replies = replies(&mut shard);
    let Some((2, Reply::PublishedMany(outcomes))) = replies.last() else { panic!("no answer") };
    let reasons: Vec<_> = outcomes.iter().flatten().map(|outcome| outcome.failures[0].reason).collect();
    assert_eq!(reasons, ["slow consumer", Failure::NOT_CONNECTED, Failure::NOT_CONNECTED]);
    assert_eq!(shard.undecided(), 0);
}

#[test]
fn a_gateway_that_is_created_again_never_repeats_a_position() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let publish = |shard: &mut Shard| {
        shard.handle_command(at(1), from(1), Command::Publish(event(gateway, "x")));
        published(shard).position
    };
    let before = [publish(&mut shard), publish(&mut shard)];
    shard.handle_change(Change::GatewayDeleted(gateway));
    shard.handle_change(Change::GatewayCreated(life(gateway, 2)));
    let joined = shard.handle_join(at(2), join(gateway)).unwrap();
    shard.handle_leave(at(2), joined.0, CloseReason::GatewayGone);
    let after = publish(&mut shard);
    assert_eq!((before[0].offset, before[1].offset, joined.1.offset, after.offset), (1, 2, 0, 1));
    assert_eq!((before[0].epoch, joined.1.epoch), (before[1].epoch, after.epoch));
    assert_ne!(before[0].epoch, after.epoch);
}

#[test]
fn a_gateway_that_is_created_again_has_no_connection_of_the_deleted_one() {
    let mut shard = shard();
    let gateway = created(&mut shard);
    let old = shard.handle_join(at(0), join(gateway)).unwrap().0;
    shard.handle_change(Change::GatewayDeleted(gateway));
    shard.handle_change(Change::GatewayCreated(life(gateway, 2)));
    shard.handle_command(at(1), from(1), Command::Publish(event(gateway, "x")));
    let effects: Vec<_> = std::iter::from_fn(|| shard.poll_effect()).collect();
    assert!(matches!(effects[0], Effect::Close(key, CloseReason::GatewayDeleted) if key == old));
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::Reply(Origin { key: 1, .. }, Reply::Published(o)) if o.connections == 0))
    );
    assert_eq!(write_all(&mut shard, at(1), old), "");
}

#[test]
fn an_event_for_a_gateway_that_does_not_exist_gets_no_position() {
    let mut shard = shard();
    let (here, gone) = (created(&mut shard), created(&mut shard));
    shard.handle_change(Change::GatewayDeleted(gone));
    shard.handle_command(at(1), from(1), Command::Publish(event(gone, "x")));
    assert!(matches!(replies(&mut shard)[..], [(1, Reply::NoSuchGateway)]));
    let key = shard.handle_join(at(1), join(here)).unwrap().0;
    let batch = vec![event(gone, "a"), event(here, "b"), event(gone, "c")];
    shard.handle_command(at(1), from(2), Command::PublishMany(batch));
    assert_eq!(write_all(&mut shard, at(1), key), "b#1;");
    let Some((2, Reply::PublishedMany(outcomes))) = replies(&mut shard).pop() else { panic!("no answer") };
    let delivered: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().map(|o| o.delivered)).collect();
    assert_eq!(delivered, [None, Some(1), None]);
    shard.handle_command(at(1), from(3), Command::PublishMany(vec![event(gone, "a")]));
    assert!(matches!(&replies(&mut shard)[..], [(3, Reply::PublishedMany(outcomes))] if outcomes[..] == [None]));
    assert_eq!(shard.handle_join(at(1), join(gone)), Err(Refused::Unauthorized));
    assert_eq!((shard.undecided(), shard.totals(None).deliveries.failed_deliveries), (0, 0));
}
