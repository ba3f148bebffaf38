//! The generation of the store, and the migration of files without one.

use super::*;
use crate::store::row;
use rusqlite::params;

#[test]
fn each_deletion_of_a_gateway_raises_the_generation_and_nothing_else_does() {
    let mut bench = Bench::new();
    let (a, b) = (bench.gateway("a"), bench.gateway("b"));
    let token = bench.token(a, "key");
    bench.check(StoreOp::RevokeToken { gateway: a, token }, &StoreOutcome::Done);
    bench.check(StoreOp::DeleteGateway(GatewayId::random()), &StoreOutcome::NotFound("there is no such gateway"));
    assert_eq!(bench.store.generation().get(), 0);
    let log = bench.store.generation();
    for (gateway, expected) in [(a, 1), (b, 2)] {
        bench.check(StoreOp::DeleteGateway(gateway), &StoreOutcome::Done);
        assert_eq!(log.get(), expected);
    }
    assert_eq!(bench.reopened().store.generation().get(), 2);
}

#[test]
fn a_deletion_that_fails_raises_nothing() {
    let mut bench = Bench::new();
    let gateway = bench.gateway("g");
    bench.pragma("query_only", 1);
    let read_only = unavailable("the store is read-only");
    bench.check(StoreOp::DeleteGateway(gateway), &read_only);
    assert_eq!(bench.store.generation().get(), 0);
    bench.check(StoreOp::DeleteGateway(gateway), &StoreOutcome::Done);
    assert_eq!(bench.reopened().store.generation().get(), 1);
}

#[test]
fn a_deletion_that_is_found_after_a_failed_commit_has_raised_the_generation() {
    let mut bench = Bench::new();
    let gateway = bench.gateway("g");
    bench.check(StoreOp::DeleteGateway(gateway), &StoreOutcome::Done);
    // As if the commit had failed after all: the file has the deletion, the memory does not.
    bench.store.generation = Generation::default();
    bench.store.unconfirmed = Some(Change::GatewayDeleted(gateway));
    bench.store.handle_trouble(&Trouble::Failing("injected".to_owned()));
    assert_eq!(bench.store.settle(), Ok(Some(Change::GatewayDeleted(gateway))));
    assert_eq!(bench.store.generation().get(), 1);
}

#[test]
fn a_new_line_that_the_log_began_is_kept() {
    let mut bench = Bench::new();
    bench.store.generation().begin_line(7);
    let begun = bench.store.generation().get();
    bench.store.keep_generation().unwrap();
    let mut bench = bench.reopened();
    assert_eq!(bench.store.generation().get(), begun);
    let gateway = bench.gateway("g");
    bench.check(StoreOp::DeleteGateway(gateway), &StoreOutcome::Done);
    assert_eq!(bench.reopened().store.generation().get(), begun + 1);
}

#[test]
fn a_generation_that_is_damaged_or_missing_is_refused() {
    for (damage, why) in [
        ("UPDATE history SET generation = 3", "a row does not match its checksum"),
        ("DELETE FROM history", "its generation is missing"),
    ] {
        let bench = Bench::new();
        bench.store.connection.as_ref().unwrap().execute_batch(damage).unwrap();
        let (path, Bench { dir: _dir, store }) = (bench.path(), bench);
        drop(store);
        let trouble = Trouble::Damaged(why.to_owned());
        assert_eq!(Sqlite::open(&path).err(), Some(StoreError::File { path, trouble }));
    }
}

#[test]
fn a_file_of_schema_2_gets_a_generation_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let mut file = Connection::open(&path).unwrap();
    schema::create(&mut file, 2).unwrap();
    let (gateway, hash) = (record("a", Some("org")), KeyHash::of(b"key"));
    let (life, token) = (Life { gateway: gateway.id, incarnation: u64::MAX - 1 }, TokenId::random());
    let insert = "INSERT INTO gateways (id, name, display_name, organization_id, created_at, sum, incarnation)
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let sum = row::gateway_sum_before_4(&gateway, Some(life.incarnation));
    let (id, incarnation) = (gateway.id.0.as_bytes(), life.incarnation.cast_signed());
    let GatewayRecord { name, display_name, organization_id, created_at, .. } = &gateway;
    file.execute(insert, params![id, name, display_name, organization_id, created_at.0, sum, incarnation]).unwrap();
    let insert = "INSERT INTO tokens (id, gateway, hash, created_at, sum) VALUES (?1, ?2, ?3, 1, ?4)";
    let sum = row::token_sum(gateway.id, token, &hash, Timestamp(1));
    file.execute(insert, params![token.0.as_bytes(), id, hash.0, sum]).unwrap();
    drop(file);

    let mut bench = Bench { store: Sqlite::open(&path).unwrap(), dir };
    for _ in 0..2 {
        assert_eq!(bench.store.generation().get(), 0);
        let kept = [
            Change::GatewayCreated { life, delivery: None },
            Change::TokenCreated { gateway: gateway.id, token, hash },
        ];
        assert_eq!(bench.store.snapshot().unwrap(), kept);
        bench.check(StoreOp::Gateway(gateway.id), &StoreOutcome::Gateway(gateway.clone(), None));
        bench = bench.reopened();
    }
    bench.check(StoreOp::DeleteGateway(gateway.id), &StoreOutcome::Done);
    assert_eq!(bench.store.generation().get(), 1);
}

#[test]
fn a_file_of_a_newer_schema_is_refused() {
    let bench = Bench::new();
    let newer = schema::VERSION + 1;
    bench.store.connection.as_ref().unwrap().pragma_update(None, "user_version", newer).unwrap();
    let (path, Bench { dir: _dir, store }) = (bench.path(), bench);
    drop(store);
    let refusal = Sqlite::open(&path).err().unwrap().to_string();
    assert!(refusal.contains("it was written by a newer Gatecast (schema 5, this one knows up to 4)"), "{refusal}");
}
