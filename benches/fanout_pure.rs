//! What the hub's own code costs per delivery: an event through the engine, without sockets and without a runtime.
//!
//! `cargo bench --bench fanout_pure`. One round is one publish over HTTP to a gateway's connections, from the bytes of
//! the request to the bytes of the answer. The throughput counts deliveries. With TLS, most of the time is encryption.

#![allow(clippy::expect_used, clippy::panic, reason = "a bench reports errors by panicking")]

#[allow(dead_code, reason = "tests use more of it")]
#[path = "../tests/fleet/mod.rs"]
mod fleet;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fleet::{Fleet, Tls};
use std::{cell::RefCell, time::Duration};

fn fan_out(c: &mut Criterion) {
    let tls = Tls::new();
    for (name, tls) in [("plain", None), ("tls", Some(&tls))] {
        let mut group = c.benchmark_group(format!("fan-out without sockets, {name}"));
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
        for connections in [1, 1_000] {
            let fleet = RefCell::new(Fleet::new(connections, tls));
            for (size, bytes) in [("300 B", 300), ("10 KB", 10_240)] {
                group.throughput(Throughput::Elements(connections as u64));
                group.bench_function(format!("{connections} x {size}"), |b| {
                    b.iter_batched(
                        || fleet_event(&fleet, bytes),
                        |event| fleet.borrow_mut().publish(&event),
                        BatchSize::PerIteration,
                    );
                });
            }
        }
        group.finish();
    }
}

/// The next request. Reads the answer to the last one first, because TLS records must be decrypted in order.
fn fleet_event(fleet: &RefCell<Fleet>, bytes: usize) -> Vec<u8> {
    let mut fleet = fleet.borrow_mut();
    fleet.answers();
    fleet.event(bytes)
}

fn ping(c: &mut Criterion) {
    let tls = Tls::new();
    let mut group = c.benchmark_group("ping");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    for (name, tls) in [("plain", None), ("tls", Some(&tls))] {
        let mut fleet = Fleet::new(1_000, tls);
        group.throughput(Throughput::Elements(1_000));
        group.bench_function(format!("1000, {name}"), |b| b.iter(|| assert_eq!(fleet.ping().writes, 1_000)));
    }
    group.finish();
}

criterion_group!(benches, fan_out, ping);
criterion_main!(benches);
