//! What an outbox costs: one event through an empty one, which is nearly every delivery, and a burst that waits
//! together.
//!
//! `cargo bench --bench outbox`. Each figure is push, take, confirm and shrink of all events named; the bytes that are
//! copied out are the events'.

#![allow(clippy::expect_used, reason = "a bench says what is wrong by panicking")]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gatecast::{
    limits,
    shard::outbox::Outbox,
    transport::{Transport, WebSocket},
};
use std::time::Duration;

/// Connections that one frame goes to, so that the queues are as cold as a fan-out finds them.
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
