//! The cost of looking up a key, and of finding the core that owns a gateway, with 15,000 gateways and one key for
//! each.
//!
//! `cargo bench --bench directory`. A key is looked up by its SHA-256 in the core's copy of the directory. `key, whole`
//! is what each connection attempt costs; hash and lookup alone are its parts. `made and deleted` is what a gateway's
//! creation and deletion cost each core.

#![allow(clippy::expect_used, reason = "a bench reports errors by panicking")]

use criterion::{Criterion, criterion_group, criterion_main};
use gatecast::{
    model::{Change, GatewayId, KeyHash, Life, TokenId},
    shard::{Directory, Placement},
};
use std::{hint::black_box, net::IpAddr, net::Ipv4Addr, time::Duration};

const GATEWAYS: usize = 15_000;
/// A prime step, so that all gateways are visited in an order in which they are not adjacent in memory.
const STRIDE: usize = 7_919;

/// A key as long as those that the hub makes: 43 characters, 32 bytes in base64url.
fn key(index: usize) -> String {
    format!("{index:043}")
}

fn directory(c: &mut Criterion) {
    let mut directory = Directory::default();
    let mut gateways = Vec::with_capacity(GATEWAYS);
    for index in 0..GATEWAYS {
        let gateway = GatewayId::random();
        directory.apply(Change::GatewayCreated { life: Life { gateway, incarnation: 1 }, delivery: None });
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
        b.iter(|| {
            directory.owner_of(&KeyHash::of(black_box(keys[next()].as_bytes()))).expect("the key is in the directory")
        });
    });
    group.bench_function("key, only the hash", |b| b.iter(|| KeyHash::of(black_box(keys[next()].as_bytes()))));
    group.bench_function("key, only the lookup", |b| {
        b.iter(|| directory.owner_of(black_box(&hashes[next()])).expect("the key is in the directory"));
    });
    let unknown = KeyHash::of(b"unknown");
    group.bench_function("unknown key", |b| {
        b.iter(|| assert!(directory.owner_of(black_box(&unknown)).is_none()));
    });
    group.bench_function("gateway known", |b| b.iter(|| assert!(directory.knows(black_box(gateways[next()])))));
    group.bench_function("placement of a gateway", |b| b.iter(|| placement.of_gateway(black_box(gateways[next()]))));
    group.bench_function("placement of an address", |b| {
        b.iter(|| placement.of_address(black_box(IpAddr::V4(Ipv4Addr::from(next() as u32)))));
    });
    group.finish();
}

/// A gateway that comes and goes among 1,000 others and among 100,000: what that costs must not grow with their number.
fn deletion(c: &mut Criterion) {
    let mut group = c.benchmark_group("made and deleted");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(10);
    for others in [1_000, 100_000] {
        let mut directory = Directory::default();
        let make = |directory: &mut Directory, key: usize| {
            let gateway = GatewayId::random();
            directory.apply(Change::GatewayCreated { life: Life { gateway, incarnation: 1 }, delivery: None });
            let hash = KeyHash::of(&key.to_be_bytes());
            directory.apply(Change::TokenCreated { gateway, token: TokenId::random(), hash });
            gateway
        };
        (0..others).for_each(|key| _ = make(&mut directory, key));
        group.bench_function(format!("among {others}"), |b| {
            b.iter(|| {
                let gateway = make(&mut directory, others);
                directory.apply(Change::GatewayDeleted(black_box(gateway)));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, directory, deletion);
criterion_main!(benches);
