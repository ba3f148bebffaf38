//! How long an event takes from its publisher to the last of a gateway's connections, over real sockets.
//!
//! `cargo bench --bench fanout_sockets`. The hub has one shard and runs in this process. One thread publishes over one
//! keep-alive HTTP connection, and reads all receivers in one epoll loop. A round begins with the publisher's first
//! byte and ends when the last receiver has decrypted the whole event; the publisher's answer is read between the
//! rounds. The clients' processor time is part of the figures: with two free cores they run beside the hub, with one
//! core they take turns with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench reports errors by panicking")]

#[allow(dead_code, reason = "the wire tests use more of it")]
#[path = "../tests/wire/harness.rs"]
mod harness;
#[allow(dead_code, reason = "the wire tests use more of it")]
#[path = "../tests/wire/peer.rs"]
mod peer;
#[allow(dead_code, reason = "the wire tests use more of it")]
#[path = "../tests/wire/request.rs"]
mod request;
#[allow(dead_code, reason = "the wire tests use more of it")]
#[path = "../tests/wire/socket.rs"]
mod socket;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gatecast::config::Tls;
use harness::{Registered, TestHub};
use peer::TEXT;
use request::Answer;
use rustix::{
    event::{Timespec, epoll},
    fd::{AsFd, OwnedFd},
};
use socket::{PATIENCE, Wire};
use std::time::{Duration, Instant};

const CONNECTIONS: [usize; 4] = [1, 10, 100, 1_000];
const SIZES: [(&str, usize); 2] = [("300 B", 300), ("10 KB", 10_240)];
/// Longer than the bench, because its receivers answer no pings.
const HEARTBEAT: Duration = Duration::from_secs(600);

/// All connections of one gateway, in one epoll set.
struct Receivers {
    gateway: Registered,
    wires: Vec<Wire>,
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
}

impl Receivers {
    fn connect(hub: &TestHub, count: usize) -> Self {
        let gateway = hub.register();
        let wires: Vec<_> = (0..count).map(|_| hub.connect(&gateway.key).wire).collect();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
        for (index, wire) in wires.iter().enumerate() {
            let interest = wire.interest();
            epoll::add(&epoll, interest.as_fd(), epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)
                .expect("an open socket");
        }
        Self { gateway, wires, epoll, ready: Vec::with_capacity(count) }
    }

    /// Reads until `events` events have arrived, summed over all connections.
    fn read(&mut self, mut events: usize) {
        let patience = Timespec::try_from(PATIENCE).expect("a time");
        while events > 0 {
            self.ready.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.ready), Some(&patience)).expect("epoll");
            assert!(!self.ready.is_empty(), "{events} events are missing");
            for event in &self.ready {
                let index = usize::try_from(event.data.u64()).expect("an index");
                events -= take_events(&mut self.wires[index]);
            }
        }
    }
}

/// Removes the complete events from a connection's input, and returns how many there were.
fn take_events(wire: &mut Wire) -> usize {
    wire.advance();
    assert_eq!(wire.end(), None, "the hub closed a connection");
    let mut events = 0;
    while let [first, 126, high, low, ..] = wire.received()[..] {
        assert_eq!(first, TEXT, "an event in one frame");
        let end = 4 + usize::from(u16::from_be_bytes([high, low]));
        if wire.received().len() < end {
            break;
        }
        drop(wire.received().split_to(end));
        events += 1;
    }
    events
}

/// The total time of `rounds` rounds.
fn rounds(publisher: &mut Wire, request: &[u8], receivers: &mut Receivers, rounds: u64) -> Duration {
    let mut time = Duration::ZERO;
    for _ in 0..rounds {
        let began = Instant::now();
        assert!(publisher.send(request), "the request was sent");
        receivers.read(receivers.wires.len());
        time += began.elapsed();
        assert_eq!(Answer::read(publisher).expect("an answer").status, 200);
    }
    time
}

fn fan_out(c: &mut Criterion) {
    for (name, tls) in [("plain", Tls::Off), ("tls", Tls::SelfSigned)] {
        let hub = TestHub::with(1, |config| {
            config.tls = tls;
            config.rate_per_minute = 0;
            config.connections_max = 2 * CONNECTIONS.iter().sum::<usize>();
            config.heartbeat_interval = HEARTBEAT;
            config.heartbeat_timeout = 2 * HEARTBEAT;
        });
        let mut publisher = hub.wire();
        let mut group = c.benchmark_group(format!("fan-out, {name}"));
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(10);
        for connections in CONNECTIONS {
            let mut receivers = Receivers::connect(&hub, connections);
            for (size, bytes) in SIZES {
                let body = format!(r#"{{"type":"t","payload":"{}"}}"#, "x".repeat(bytes - 2));
                let path = format!("/api/v1/gateways/{}/events", receivers.gateway.id);
                let request = hub.platform_request("POST", &path, &body).bytes();
                group.throughput(Throughput::Elements(connections as u64));
                group.bench_function(format!("{connections} x {size}"), |b| {
                    b.iter_custom(|count| rounds(&mut publisher, &request, &mut receivers, count));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
