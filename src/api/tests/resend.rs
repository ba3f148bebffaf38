//! Tests of sending an event of the log once more.

use super::*;
use crate::{
    model::{
        Event, EventType,
        log::{Head, ReadFrom, Record, Why},
    },
    shard::Events,
};
use std::sync::Arc;

const HEAD: Head = Head { epoch: 7, base: 0, first: 3, last: 9, bytes: 100 };

fn resend(world: &World, position: &str, query: &str) -> Request {
    Request::new("POST", format!("/api/v1/gateways/{}/events/{position}/resend{query}", world.gateway))
}

fn at(offset: u64) -> Position {
    Position { epoch: 7, offset }
}

fn record(gateway: GatewayId, offset: u64) -> Record {
    let event = Event {
        gateway,
        kind: EventType::parse("apikey.created").unwrap(),
        payload: r#"{ "a":1e400,"a":"\u0041" }"#.into(),
        correlation: CorrelationId::parse("5e1f0c3e-7f5a-4a64-9a53-0b6d6f1f6a10").unwrap(),
        correlation_given: true,
        user_id: Some("me".into()),
    };
    Record { position: at(offset), accepted: Timestamp(1_700_000_000_007), bytes: 0, event: Arc::new(event) }
}

#[test]
fn the_event_at_the_position_is_published_again_with_a_new_correlation_id() {
    for query in ["", "?wait=30s"] {
        let world = World::new();
        let kept = record(world.gateway, 4);
        let response = world.run(&resend(&world, &at(4).to_string(), query), |ask| match ask {
            Ask::Shard(owner, Command::Events { gateway, from, limit }) => {
                assert_eq!((owner, gateway), (world.placement.of_gateway(world.gateway), world.gateway));
                assert_eq!((from, limit), (ReadFrom::After(at(3)), 1));
                Answer::Shard(Reply::Events(Events::Page { records: vec![kept.clone()], more: true, head: HEAD }))
            }
            ask => {
                let command = match (ask, query) {
                    (Ask::Shard(_, command), "") => command,
                    (ask, _) => waited_30s(ask),
                };
                let Command::Publish(event) = command else { panic!("it publishes one event") };
                assert_ne!(event.correlation, kept.event.correlation);
                let correlation = kept.event.correlation;
                assert_eq!(Event { correlation, correlation_given: true, ..(*event).clone() }, *kept.event);
                Answer::Shard(Reply::Published(Published::Outcome(outcome(event.correlation, 1, 1, 0))))
            }
        });
        check(&response, 200);
        assert_eq!(json(&response)["delivered"], 1);
    }
}

#[test]
fn a_position_without_an_event_is_refused_and_nothing_is_published() {
    let world = World::new();
    let answer = |events: Events| {
        let mut events = Some(events);
        world.run(&resend(&world, &at(4).to_string(), ""), |ask| match ask {
            Ask::Shard(_, Command::Events { .. }) => Answer::Shard(Reply::Events(events.take().expect("once"))),
            other => panic!("{other:?}"),
        })
    };
    check(&answer(Events::Page { records: Vec::new(), more: false, head: HEAD }), 404);
    // What follows the position is not what was asked for.
    check(&answer(Events::Page { records: vec![record(world.gateway, 5)], more: false, head: HEAD }), 404);
    check(&answer(Events::UnknownPosition(HEAD)), 404);
    for (events, why) in [
        (Events::Trimmed(HEAD), "no longer kept"),
        (Events::UnknownPosition(Head { epoch: 8, ..HEAD }), "not one of the gateway's log"),
    ] {
        let response = answer(events);
        assert_eq!((response.status, &json(&response)["code"]), (410, &410.into()));
        assert!(description(&response).contains(why), "{}", description(&response));
        assert!(json(&response)["last"].is_string());
    }
    check(&answer(Events::Unavailable(Why::Io)), 503);
    check(&answer(Events::NoSuchGateway), 404);
}

#[test]
fn an_invalid_call_is_refused_before_the_log_is_read() {
    let world = World::new();
    for position in ["x", "4", "0000000000000007-0", "0000000000000007-04", "tail"] {
        check(&world.respond(&resend(&world, position, "")), 400);
    }
    check(&world.respond(&resend(&world, &at(4).to_string(), "?wait=61s")), 400);
    check(&world.respond(&resend(&world, &at(4).to_string(), "").authorization(None)), 401);
    let unknown = Request::new("POST", format!("/api/v1/gateways/{}/events/{}/resend", GatewayId::random(), at(4)));
    check(&world.respond(&unknown), 404);
}
