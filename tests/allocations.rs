//! What the way of an event and of a ping asks of the allocator: nothing for a delivery and nothing for a ping, but for what
//! rustls takes for itself where it encrypts.
//!
//! Counted for the test's own thread alone, so that nothing else in the process is in the figures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod fleet;

use allocation_counter::measure;
use fleet::{Fleet, Tls};
use rustls::{
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, UnbufferedStatus},
};

/// Payloads that go out as one TLS record each.
const SIZES: [usize; 2] = [300, 10_240];

/// Rounds until all buffers have their size.
const WARM_UP: usize = 6;

/// Allocations of one publish of so many bytes to so many connections, from the bytes of its request to those of its answer.
fn of_a_publish(connections: usize, bytes: usize, tls: Option<&Tls>) -> u64 {
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

/// Allocations of one ping to each of so many connections.
fn of_pings(connections: usize, tls: Option<&Tls>) -> u64 {
    let mut fleet = Fleet::new(connections, tls);
    let mut round = || measure(|| assert_eq!(fleet.ping().writes, connections)).count_total;
    let rounds: Vec<u64> = (0..=WARM_UP).map(|_| round()).collect();
    rounds[WARM_UP]
}

/// Allocations of rustls itself, without any code of the hub, for one record of so many bytes.
fn of_rustls(bytes: usize, tls: &Tls) -> u64 {
    let mut connection = established(tls);
    let plain = vec![b'x'; bytes];
    let mut wire = vec![0; bytes + 64];
    let mut seal = || {
        let ConnectionState::WriteTraffic(mut traffic) = connection.process_tls_records(&mut []).state.unwrap() else {
            panic!("it is established")
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
            other => panic!("not a handshake: {other:?}"),
        }
        to_server.drain(..discard);
    }
}

#[test]
fn a_delivery_allocates_nothing() {
    for bytes in SIZES {
        let (few, many) = (of_a_publish(10, bytes, None), of_a_publish(1_000, bytes, None));
        assert_eq!(few, many, "of {bytes} B to 10 and to 1,000");
        println!("a publish of {bytes} B: {many}, however many connections");
    }
}

#[test]
fn a_delivery_over_tls_allocates_what_rustls_does_and_nothing_else() {
    let tls = Tls::new();
    for bytes in SIZES {
        let (few, many) = (of_a_publish(10, bytes, Some(&tls)), of_a_publish(1_000, bytes, Some(&tls)));
        let rustls = of_rustls(bytes, &tls);
        assert_eq!(many - few, 990 * rustls, "of {bytes} B to 10 and to 1,000");
        println!("a delivery of {bytes} B over TLS: {rustls}, all of them in rustls");
    }
}

#[test]
fn a_ping_allocates_nothing_but_what_rustls_does() {
    let tls = Tls::new();
    assert_eq!(of_pings(100, None), 0);
    assert_eq!(of_pings(100, Some(&tls)), 100 * of_rustls(2, &tls));
}
