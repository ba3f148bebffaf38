//! What an outbox costs: one event through an empty outbox, which is the usual case, and several events that wait
//! together.
//!
//! `cargo bench --bench outbox`. Each figure covers push, copy, confirm and shrink for all events named; the bytes that
//! are copied are those of the events.

#![allow(clippy::expect_used, reason = "a bench reports errors by panicking")]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gatecast::{
    limits,
    shard::outbox::Outbox,
    transport::{Transport, WebSocket},
};
use std::time::Duration;

/// How many outboxes get each frame: so many that they are as cold in the cache as in a real fan-out.
const CONNECTIONS: usize = 1_000;

fn outbox(c: &mut Criterion) {
    let mut group = c.benchmark_group("outbox");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2)).sample_size(30);
    for (bytes, events) in [(300, 1), (10_240, 1), (300, 2), (300, 16)] {
        let frame = Bytes::from(vec![b'x'; bytes]);
        let mut out = Vec::with_capacity(limits::WRITE_BATCH_BYTES);
        let mut outboxes: Vec<Outbox<u32>> = (0..CONNECTIONS).map(|_| Outbox::default()).collect();
        group.throughput(Throughput::Elements((CONNECTIONS * events) as u64));
        group.bench_function(format!("{CONNECTIONS} of {events} x {bytes} B"), |b| {
            b.iter(|| {
                for outbox in &mut outboxes {
                    for tag in 0..events {
                        outbox.push(frame.clone(), tag as u32, limits::OUTBOX_BYTES_MAX).expect("there is room");
                    }
                }
                let mut confirmed = 0;
                for outbox in &mut outboxes {
                    out.clear();
                    let copied = outbox.copy(limits::WRITE_BATCH_BYTES, false, WebSocket::boundary, &mut out);
                    outbox.advance(copied);
                    confirmed += outbox.confirm().count();
                    outbox.shrink();
                }
                assert_eq!(confirmed, CONNECTIONS * events);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, outbox);
criterion_main!(benches);
