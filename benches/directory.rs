//! What it costs to know who connects, and which core owns it, with 15,000 gateways and a key for each.
//!
//! `cargo bench --bench directory`. A key is looked up by its SHA-256 in this core's copy of the directory: `whole` is
//! what a connection attempt pays, the others are its parts.

#![allow(clippy::expect_used, reason = "a bench says what is wrong by panicking")]

use criterion::{Criterion, criterion_group, criterion_main};
use gatecast::{
    model::{Change, GatewayId, KeyHash, Life, TokenId},
    shard::{Directory, Placement},
};
use std::{hint::black_box, net::IpAddr, net::Ipv4Addr, time::Duration};

const GATEWAYS: usize = 15_000;
/// A step that goes through all gateways and is not the order in which they came.
const STRIDE: usize = 7_919;

/// As long as the keys that the hub makes: 32 bytes in base64url.
fn key(index: usize) -> String {
    format!("{index:043}")
}

fn directory(c: &mut Criterion) {
    let mut directory = Directory::default();
    let mut gateways = Vec::with_capacity(GATEWAYS);
    for index in 0..GATEWAYS {
        let gateway = GatewayId::random();
        directory.apply(Change::GatewayCreated(Life { gateway, incarnation: 1 }));
        let hash = KeyHash::of(key(index).as_bytes());
        directory.apply(Change::TokenCreated { gateway, token: TokenId::random(), hash });
        gateways.push(gateway);
    }
    let keys: Vec<String> = (0..GATEWAYS).map(key).collect();
    let hashes: Vec<KeyHash> = keys.iter().map(|key| KeyHash::of(key.as_bytes())).collect();
    let placement = Placement::new(8, 42);
    let mut at = 0;
    let mut next = move || {
        at = (at + STRIDE) % GATEWAYS;
        at
    };
    let mut group = c.benchmark_group("directory of 15000");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    group.bench_function("key, whole", |b| {
        b.iter(|| directory.owner_of(&KeyHash::of(black_box(keys[next()].as_bytes()))).expect("it is known"));
    });
    group.bench_function("key, only the hash", |b| b.iter(|| KeyHash::of(black_box(keys[next()].as_bytes()))));
    group.bench_function("key, only the lookup", |b| {
        b.iter(|| directory.owner_of(black_box(&hashes[next()])).expect("it is known"));
    });
    let unknown = KeyHash::of(b"nobody's");
    group.bench_function("a key that is nobody's", |b| {
        b.iter(|| assert!(directory.owner_of(black_box(&unknown)).is_none()));
    });
    group.bench_function("gateway known", |b| b.iter(|| assert!(directory.knows(black_box(gateways[next()])))));
    group.bench_function("placement of a gateway", |b| b.iter(|| placement.of_gateway(black_box(gateways[next()]))));
    group.bench_function("placement of an address", |b| {
        b.iter(|| placement.of_address(black_box(IpAddr::V4(Ipv4Addr::from(next() as u32)))));
    });
    group.finish();
}

criterion_group!(benches, directory);
criterion_main!(benches);
