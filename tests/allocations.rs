//! Counts allocations: delivering an event and sending a ping must allocate nothing, except what rustls allocates to
//! encrypt.
//!
//! Only the allocations of the test's own thread are counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod fleet;

use allocation_counter::measure;
use fleet::{Fleet, Tls};
use gatecast::{
    model::{
        CorrelationId, Event, EventType, GatewayId, Life, Timestamp,
        log::{AppendKey, Draft, FollowKey, LogReply, LogRequest},
    },
    store::log::{EventLog, MemoryLog, MemorySettings},
};
use rustls::{
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, UnbufferedStatus},
};
use std::sync::Arc;

/// Bytes of the payloads. Each fits into one TLS record.
const SIZES: [usize; 2] = [300, 10_240];

/// Number of rounds after which all buffers have grown to their final size.
const WARM_UP: usize = 6;

/// Allocations from the bytes of a publish request to those of its answer, with a payload of `bytes` for `connections`
/// connections.
fn publish_allocations(connections: usize, bytes: usize, tls: Option<&Tls>) -> u64 {
    let mut fleet = Fleet::new(connections, tls);
    let mut round = || {
        let event = fleet.event(bytes);
        let counted = measure(|| fleet.publish(&event));
        assert_eq!(fleet.take_moved().writes, connections);
        assert_eq!(fleet.answers(), connections);
        counted.count_total
    };
    let rounds: Vec<u64> = (0..=WARM_UP).map(|_| round()).collect();
    rounds[WARM_UP]
}

/// Allocations of one ping to each of `connections` connections.
fn ping_allocations(connections: usize, tls: Option<&Tls>) -> u64 {
    let mut fleet = Fleet::new(connections, tls);
    let mut round = || measure(|| assert_eq!(fleet.ping().writes, connections)).count_total;
    let rounds: Vec<u64> = (0..=WARM_UP).map(|_| round()).collect();
    rounds[WARM_UP]
}

/// Allocations of rustls, without any code of the hub, for one record of `bytes` bytes.
fn rustls_allocations(bytes: usize, tls: &Tls) -> u64 {
    let mut connection = established(tls);
    let plain = vec![b'x'; bytes];
    let mut wire = vec![0; bytes + 64];
    let mut seal = || {
        let ConnectionState::WriteTraffic(mut traffic) = connection.process_tls_records(&mut []).state.unwrap() else {
            panic!("the connection is not established")
        };
        traffic.encrypt(&plain, &mut wire).unwrap();
    };
    (0..WARM_UP).for_each(|_| seal());
    measure(seal).count_total
}

/// The server's side of a TLS connection after its handshake.
fn established(tls: &Tls) -> UnbufferedServerConnection {
    let (mut server, mut client) = tls.pair();
    let mut to_server = Vec::new();
    loop {
        while client.wants_write() {
            client.write_tls(&mut to_server).unwrap();
        }
        let UnbufferedStatus { discard, state, .. } = server.process_tls_records(&mut to_server);
        match state.unwrap() {
            ConnectionState::EncodeTlsData(mut data) => {
                let mut to_client = vec![0; 16 * 1024];
                let length = data.encode(&mut to_client).unwrap();
                client.read_tls(&mut &to_client[..length]).unwrap();
                client.process_new_packets().unwrap();
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::BlockedHandshake => {}
            ConnectionState::WriteTraffic(_) => return server,
            other => panic!("unexpected state in the handshake: {other:?}"),
        }
        to_server.drain(..discard);
    }
}

#[test]
fn a_delivery_allocates_nothing() {
    for bytes in SIZES {
        let (few, many) = (publish_allocations(10, bytes, None), publish_allocations(1_000, bytes, None));
        assert_eq!(few, many, "allocations of {bytes} B to 10 and to 1,000 connections");
        // The payload and the event; and once for all publishes of a round the drafts, their publishers and the results.
        assert!(many <= 2 + 3, "a publish of {bytes} B allocates {many} times");
        println!("publish of {bytes} B: {many} allocations for any number of connections");
    }
}

#[test]
fn a_delivery_over_tls_allocates_only_in_rustls() {
    let tls = Tls::new();
    for bytes in SIZES {
        let (few, many) = (publish_allocations(10, bytes, Some(&tls)), publish_allocations(1_000, bytes, Some(&tls)));
        let rustls = rustls_allocations(bytes, &tls);
        assert_eq!(many - few, 990 * rustls, "allocations of {bytes} B to 10 and to 1,000 connections");
        println!("delivery of {bytes} B over TLS: {rustls} allocations, all in rustls");
    }
}

#[test]
fn a_ping_allocates_only_in_rustls() {
    let tls = Tls::new();
    assert_eq!(ping_allocations(100, None), 0);
    assert_eq!(ping_allocations(100, Some(&tls)), 100 * rustls_allocations(2, &tls));
}

/// Allocations of the log in memory for one request with `events` events of a gateway that is followed.
fn append_allocations(events: usize) -> u64 {
    let settings = MemorySettings { epoch: 1, gateway_bytes_max: 10_000, port_bytes_max: 100_000 };
    let mut port = MemoryLog::new(settings).ports(vec![Box::new(|| {})]).pop().expect("one port");
    let life = Life { gateway: GatewayId::random(), incarnation: 1 };
    let mut replies: Vec<LogReply> = Vec::with_capacity(16);
    port.submit(LogRequest::Follow { key: FollowKey(1), life, behind: None }, &mut replies).unwrap();
    let mut round = || {
        let event = Event {
            gateway: life.gateway,
            kind: EventType::parse("t").unwrap(),
            payload: vec![b'1'; 100].into(),
            correlation: CorrelationId::random(),
            correlation_given: false,
            user_id: None,
        };
        let draft = Draft { life, event: Arc::new(event), accepted: Timestamp(0) };
        let drafts = vec![draft; events];
        let counted = measure(|| {
            port.submit(LogRequest::Append { key: AppendKey(1), drafts, bulk: false }, &mut replies).unwrap();
        });
        replies.clear();
        counted.count_total
    };
    // Until the gateway has as many events as are kept, the list of its records grows.
    (0..100).map(|_| round()).last().unwrap()
}

#[test]
fn an_append_allocates_for_the_request_and_not_for_each_event() {
    let (one, many) = (append_allocations(1), append_allocations(64));
    println!("an append of one event: {one} allocations, of 64: {many}");
    // The list of what is told doubles as it grows.
    assert!(many <= one + u64::from(64_u64.ilog2()), "an append of one event: {one} allocations, of 64: {many}");
}
