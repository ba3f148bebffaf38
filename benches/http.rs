//! What a publish costs between socket and shard: parsing head and body, routing, checks, and writing the answer.
//!
//! `cargo bench --bench http`. The requests are those of a platform's client that publishes one event. `publish` is
//! everything but TLS and the shard, from the bytes of the request to the bytes of the answer.

#![allow(clippy::expect_used, clippy::panic, reason = "a bench reports errors by panicking")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gatecast::{
    api::{self, Answer, Ask, Call, Phase, Routed, Step, View},
    limits,
    model::{
        Buffers, Change, GatewayId, Instant, KeyHash, Life, LogStats, Now, Position, PublishOutcome, Side, Timestamp,
    },
    shard::{Command, Directory, Placement, Published, Reply},
    wire::http::{BodyDecoder, Framing, HeadParser, Response},
};
use std::{hint::black_box, time::Duration};

const ADMIN_TOKEN: &str = "an-admin-token-of-the-usual-length-0123456789";
const NOW: Now = Now::new(Instant(1), Timestamp(1_700_000_000_123));
const SIZES: [(&str, usize); 2] = [("300 B", 300), ("10 KB", 10_240)];

/// The state of a core that a request needs.
struct World {
    directory: Directory,
    placement: Placement,
    log: LogStats,
    buffers: Buffers,
    gateway: GatewayId,
}

impl World {
    fn new() -> Self {
        let gateway = GatewayId::random();
        let mut directory = Directory::default();
        directory.apply(Change::GatewayCreated { life: Life { gateway, incarnation: 1 }, delivery: None });
        Self {
            directory,
            placement: Placement::new(8, 42),
            log: LogStats::default(),
            buffers: Buffers::default(),
            gateway,
        }
    }

    fn view(&self) -> View<'_> {
        View {
            directory: &self.directory,
            placement: &self.placement,
            now: NOW,
            phase: Phase::Ready,
            connections_max: limits::CONNECTIONS_MAX,
            store_degraded: false,
            log: &self.log,
            stuck: None,
            admin_token: KeyHash::of(ADMIN_TOKEN.as_bytes()),
            panics: 0,
            stalls: 0,
            lateness_max: Duration::ZERO,
            buffers: &self.buffers,
            random: &|| 1,
        }
    }

    fn head(&self, body: &str, framing: &str) -> Vec<u8> {
        assert!(!body.is_empty());
        format!(
            "POST /api/v1/gateways/{}/events HTTP/1.1\r\nHost: hub.example:9243\r\nUser-Agent: platform/1.0\r\n\
             Accept: */*\r\nContent-Type: application/json\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n{framing}\r\n\r\n",
            self.gateway
        )
        .into_bytes()
    }

    fn request(&self, body: &str) -> Vec<u8> {
        let mut bytes = self.head(body, &format!("Content-Length: {}", body.len()));
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }
}

fn body(payload_bytes: usize) -> String {
    format!(r#"{{"type":"api.deployed","payload":"{}"}}"#, "x".repeat(payload_bytes - 2))
}

fn outcome(ask: &Ask) -> PublishOutcome {
    let Ask::Shard(_, Command::Publish(event)) = ask else { panic!("not a publish: {ask:?}") };
    let position = Position { epoch: 1, offset: 1 };
    let (connections, delivered) = (3, 3);
    let correlation_id = event.correlation;
    PublishOutcome {
        correlation_id,
        position,
        connections,
        delivered,
        failed: 0,
        pending: 0,
        waiting: false,
        failures: Vec::new(),
        awaiting: None,
    }
}

/// Serves one request, from parsing its head to the bytes of the answer.
fn serve(world: &World, view: &View<'_>, request: &[u8], out: &mut Vec<u8>) {
    let (head, used) = HeadParser::new().parse(request).expect("the head is valid").expect("the head is complete");
    let mut body = Vec::new();
    let call = |body| Call {
        method: head.method.as_str(),
        path: head.path(),
        query: head.query(),
        authorization: head.only_field("authorization"),
        api_key: None,
        idempotency_key: false,
        body,
    };
    let routed = api::route_request(&call(&[]), Side::Both, view);
    let Routed::Call(matched) = routed.expect("the request is allowed") else { panic!("the route is not a publish") };
    let decoded = BodyDecoder::new(head.framing, matched.body_bytes_max()).decode(&request[used..], &mut body);
    assert!(decoded.expect("the input is valid").1);
    let Step::Ask(asks, pending) = api::handle(&matched, &call(&body), view) else {
        panic!("answered without asking the shard")
    };
    let answers = asks.iter().map(|ask| Answer::Shard(Reply::Published(Published::Outcome(outcome(ask))))).collect();
    let Step::Respond(response) = pending.handle_answers(answers, &world.view()) else {
        panic!("asked the shard twice")
    };
    response.encode(NOW.wall, false, head.keep_alive, out);
}

fn parts(c: &mut Criterion) {
    let world = World::new();
    let mut group = c.benchmark_group("http");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    let head = world.head("-", "Content-Length: 300");
    group.bench_function("head", |b| b.iter(|| HeadParser::new().parse(black_box(&head)).expect("the input is valid")));
    for (name, bytes) in SIZES {
        let plain = body(bytes).into_bytes();
        let chunked = [format!("{:x}\r\n", plain.len()).as_bytes(), &plain, b"\r\n0\r\n\r\n"].concat();
        let framings =
            [("length", Framing::Length(plain.len() as u64), &plain), ("chunked", Framing::Chunked, &chunked)];
        group.throughput(Throughput::Bytes(bytes as u64));
        for (framing_name, framing, input) in framings {
            let mut out = Vec::with_capacity(2 * bytes);
            group.bench_function(format!("body of {name}, {framing_name}"), |b| {
                b.iter(|| {
                    out.clear();
                    let mut decoder = BodyDecoder::new(framing, limits::PUBLISH_BODY_BYTES_MAX);
                    assert!(decoder.decode(black_box(input), &mut out).expect("the input is valid").1);
                });
            });
        }
    }
    group.finish();
}

fn answers(c: &mut Criterion) {
    let mut group = c.benchmark_group("http");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    let mut out = Vec::with_capacity(1_024);
    let response = Response::json(200, &serde_json::json!({ "correlationId": "x".repeat(36), "connections": 3 }));
    group.bench_function("answer", |b| {
        b.iter(|| {
            out.clear();
            black_box(&response).encode(NOW.wall, false, true, &mut out);
        });
    });
    group.finish();
}

fn publish(c: &mut Criterion) {
    let world = World::new();
    let view = world.view();
    let mut group = c.benchmark_group("publish");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    for (name, bytes) in SIZES {
        let request = world.request(&body(bytes));
        let mut out = Vec::with_capacity(1_024);
        group.bench_function(format!("request of {name} to answer"), |b| {
            b.iter(|| {
                out.clear();
                serve(&world, &view, black_box(&request), &mut out);
            });
        });
        let (path, body) = (format!("/api/v1/gateways/{}/events", world.gateway), body(bytes));
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let call = Call {
            method: "POST",
            path: &path,
            query: None,
            authorization: Some(bearer.as_bytes()),
            api_key: None,
            idempotency_key: false,
            body: body.as_bytes(),
        };
        let route = || api::route_request(black_box(&call), Side::Both, &view);
        let Routed::Call(matched) = route().expect("the request is allowed") else {
            panic!("the route is not a publish")
        };
        group.bench_function(format!("route of {name}"), |b| b.iter(route));
        group
            .bench_function(format!("handle of {name}"), |b| b.iter(|| api::handle(&matched, black_box(&call), &view)));
    }
    group.finish();
}

criterion_group!(benches, parts, answers, publish);
criterion_main!(benches);
