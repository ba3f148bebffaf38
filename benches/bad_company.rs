//! How hostile peers affect the others: the latency of deliveries to well-behaved gateways, with and without them.
//!
//! `cargo bench --bench bad_company`, with one core for the hub. The hostile peers are gateways that never read,
//! clients that send one byte a second, TLS handshakes that never end, peers that vanish without a FIN, and floods of
//! pings. Everything goes over real TLS sockets on one machine, so the clients' use of the cores is part of the
//! figures.

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

use harness::{Registered, TestHub};
use hdrhistogram::Histogram;
use peer::{PING, Peer};
use request::{Answer, Request};
use socket::{Wire, fresh_address, open};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

const GOOD: usize = 20;
const EACH_BAD: usize = 10;
const EVENT_INTERVAL: Duration = Duration::from_millis(10);
/// Enough that each has its answer before its next publish is due, even while a delivery waits for the publish timeout.
const PUBLISHERS: usize = 40;
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(100);
const ALONE_TIME: Duration = Duration::from_secs(5);
const HOSTILE_TIME: Duration = Duration::from_secs(20);

fn main() {
    let hub = TestHub::with(1, |config| {
        config.rate_per_minute = 0;
        config.publish_timeout = PUBLISH_TIMEOUT;
    });
    let gateway = hub.register();
    let good: Vec<_> = (0..GOOD).map(|_| hub.connect(&gateway.key)).collect();
    println!("{GOOD} gateways' connections, an event every {EVENT_INTERVAL:?} to each");
    let (alone, good) = measure(&hub, &gateway, good, ALONE_TIME);
    report("alone", &alone);
    let stop = AtomicBool::new(false);
    let company = thread::scope(|scope| {
        scope.spawn(|| run_hostile_peers(&hub, &gateway, &stop));
        let measured = scope.spawn(|| measure(&hub, &gateway, good, HOSTILE_TIME)).join();
        // Stop the hostile peers first, also when the measurement has panicked: the scope waits for their thread.
        stop.store(true, Ordering::Relaxed);
        measured.expect("every event was delivered").0
    });
    report("in bad company", &company);
    println!("the hub's delivery statistics: {}", hub.stats("")["eventDelivery"]);
    let p99 = company.value_at_quantile(0.99);
    println!("p99 in bad company is {} 10 ms", if p99 < 10_000 { "below" } else { "NOT below" });
}

/// Publishes for `time` and returns the latencies of all deliveries in microseconds. Panics if one is missing.
fn measure(hub: &TestHub, gateway: &Registered, good: Vec<Peer>, time: Duration) -> (Histogram<u64>, Vec<Peer>) {
    let origin = Instant::now();
    let events = (time.as_millis() / EVENT_INTERVAL.as_millis()) as usize;
    let read = |mut peer: Peer| {
        let mut times = Histogram::<u64>::new(3).expect("3 digits are valid");
        for _ in 0..events {
            let sent: u64 = peer.event().payload.get().parse().expect("a number");
            times.saturating_record(origin.elapsed().as_micros() as u64 - sent);
        }
        (times, peer)
    };
    let publish = |publisher: usize| {
        let mut wire = hub.wire();
        for event in (publisher..events).step_by(PUBLISHERS) {
            let due = origin + EVENT_INTERVAL * event as u32;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let body = format!(r#"{{"type":"t","payload":{}}}"#, origin.elapsed().as_micros().max(1));
            let path = format!("/api/v1/gateways/{}/events", gateway.id);
            wire.send(&hub.platform_request("POST", &path, &body).bytes());
            Answer::read(&mut wire).expect("an answer");
        }
    };
    thread::scope(|scope| {
        let readers: Vec<_> = good.into_iter().map(|peer| scope.spawn(move || read(peer))).collect();
        (0..PUBLISHERS).for_each(|publisher| drop(scope.spawn(move || publish(publisher))));
        let mut all = Histogram::<u64>::new(3).expect("3 digits are valid");
        let mut good = Vec::new();
        for reader in readers {
            let (times, peer) = reader.join().expect("every event was delivered");
            all.add(times).expect("both have 3 digits");
            good.push(peer);
        }
        (all, good)
    })
}

/// Keeps every kind of hostile peer connected until `stop` is set.
fn run_hostile_peers(hub: &TestHub, gateway: &Registered, stop: &AtomicBool) {
    let narrow = || open(hub.addr, fresh_address(), |socket| socket.set_recv_buffer_size(4 * 1024).expect("a buffer"));
    let mut never_read: Vec<Peer> = Vec::new();
    let mut floods: Vec<Peer> = Vec::new();
    let mut trickles: Vec<Wire> = Vec::new();
    let half_hello: Vec<_> = (0..EACH_BAD).map(|_| open(hub.addr, fresh_address(), |_| {})).collect();
    let vanished: Vec<_> = (0..EACH_BAD).map(|_| hub.connect(&gateway.key)).collect();
    vanished.iter().for_each(|peer| peer.wire.vanish());
    let head = Request::upgrade(&gateway.key).bytes();
    let never_reading = hub.register();
    let load = format!("\"{}\"", "x".repeat(512 * 1024));
    for second in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // The hub closes the hostile peers, so they are replaced every five seconds.
        if second % 5 == 0 {
            never_read = (0..EACH_BAD)
                .filter_map(|_| Peer::connect(Wire::new(narrow(), hub.tls()), &never_reading.key).ok())
                .collect();
            floods = (0..EACH_BAD).map(|_| hub.connect(&gateway.key)).collect();
            trickles = (0..EACH_BAD).map(|_| hub.wire()).collect();
        }
        let byte = head[second % head.len()];
        for wire in &mut trickles {
            wire.send(&[byte]);
        }
        for _ in 0..4 {
            hub.publish(&never_reading.id, "load", &load);
        }
        for _ in 0..50 {
            for peer in &mut floods {
                peer.frame(PING, b"x");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
    drop((never_read, half_hello, vanished));
}

fn report(name: &str, times: &Histogram<u64>) {
    let at = |quantile| times.value_at_quantile(quantile);
    println!(
        "{name}: {} deliveries, p50 {} us, p90 {} us, p99 {} us, max {} us",
        times.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        times.max()
    );
}
