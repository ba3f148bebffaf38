//! What an event costs once, however many connections it goes to: its envelope, and its encoding into WebSocket frames.
//!
//! `cargo bench --bench frame`. `envelope` is the JSON before and after the payload. `encode` makes the frame
//! that all connections share: its texts, and for a long event the payload in fragments.

#![allow(clippy::expect_used, reason = "a bench reports errors by panicking")]

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use gatecast::{
    model::{CorrelationId, Event, EventType, GatewayId, Position, Timestamp, log::Record},
    transport::{Transport, WebSocket},
    wire::envelope,
};
use std::{hint::black_box, sync::Arc, time::Duration};

const POSITION: Position = Position { epoch: 0x0123_4567_89ab_cdef, offset: 1_000_000 };
const AT: Timestamp = Timestamp(1_700_000_000_123);

fn event(payload_bytes: usize, user_id: Option<&str>) -> Event {
    Event {
        gateway: GatewayId::random(),
        kind: EventType::parse(EventType::API_DEPLOYED).expect("the type is valid"),
        payload: format!("\"{}\"", "x".repeat(payload_bytes - 2)).into(),
        correlation: CorrelationId::random(),
        correlation_given: false,
        user_id: user_id.map(Into::into),
    }
}

fn quick<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    group
}

fn envelopes(c: &mut Criterion) {
    let mut group = quick(c, "envelope");
    let mut out = Vec::with_capacity(1_024);
    for (name, user_id) in [("without a user", None), ("with a user", Some("somebody@example.com"))] {
        let event = event(300, user_id);
        group.bench_function(format!("prefix, {name}"), |b| {
            b.iter(|| {
                out.clear();
                envelope::event_prefix(black_box(&event), &mut out);
            });
        });
        group.bench_function(format!("suffix, {name}"), |b| {
            b.iter(|| {
                out.clear();
                envelope::event_suffix(black_box(&event), POSITION, AT, &mut out);
            });
        });
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = quick(c, "encode");
    for (name, bytes) in [("300 B", 300), ("10 KB", 10_240), ("1 MiB", 1 << 20)] {
        let event = Arc::new(event(bytes, None));
        let record = Record { position: POSITION, accepted: AT, bytes: bytes as u64, event };
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(name, |b| b.iter(|| WebSocket::encode(black_box(&record), false, Vec::new())));
    }
    group.finish();
}

criterion_group!(benches, envelopes, encode);
criterion_main!(benches);
