//! Files that become locked, full, read-only, replaced or failing while the store is open.

use super::*;
use std::time::Instant;

#[test]
fn a_locked_file_is_answered_within_the_lock_wait_and_recovers() {
    let mut bench = Bench::new();
    let gateway = bench.gateway("g");
    let other = Connection::open(bench.path()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let locked = unavailable("the store is locked by another process");
    let begin = Instant::now();
    for _ in 0..100 {
        bench.check(create_token(gateway, "key"), &locked);
    }
    assert!(begin.elapsed() < 4 * STORE_LOCK_WAIT, "only the first job waits: {:?}", begin.elapsed());
    bench.check(StoreOp::Tokens(gateway), &StoreOutcome::Tokens(vec![]));
    assert_eq!(bench.store.settle(), Err(Trouble::Busy));
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(bench.store.settle(), Ok(None));
    bench.token(gateway, "key");
}

#[test]
fn a_file_that_stays_locked_at_start_is_refused() {
    let bench = Bench::new();
    let path = bench.path();
    let Bench { dir: _dir, store } = bench;
    drop(store);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; PRAGMA user_version = 1").unwrap();
    let refusal = Sqlite::open(&path).err().unwrap().to_string();
    assert!(refusal.ends_with("store.db cannot be used: the store is locked by another process"), "{refusal}");
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    Sqlite::open(&path).unwrap();
}

#[test]
fn a_full_disk_is_answered_and_recovers() {
    let mut bench = Bench::new();
    let gateway = bench.gateway("g");
    bench.pragma("max_page_count", 1);
    let put = || StoreOp::PutManifest { gateway, manifest: "x".repeat(1 << 16), received_at: Timestamp(1) };
    bench.check(put(), &unavailable("the store's disk is full"));
    bench.check(put(), &unavailable("the store's disk is full"));
    let StoreOutcome::Gateway(_, manifest) = bench.store.execute(StoreOp::Gateway(gateway)).0 else {
        panic!("reads work")
    };
    assert_eq!(manifest, None);
    bench.pragma("max_page_count", 1 << 20);
    bench.check(put(), &StoreOutcome::Done);
    assert_eq!(bench.store.trouble, Some(Trouble::Full), "until it has settled");
    assert_eq!(bench.store.settle(), Ok(None));
    assert_eq!(bench.store.trouble, None);
}

#[test]
fn a_read_only_file_is_answered_and_recovers_when_it_is_reopened() {
    let mut bench = Bench::new();
    let gateway = bench.gateway("g");
    bench.pragma("query_only", 1);
    bench.check(create_token(gateway, "key"), &unavailable("the store is read-only"));
    bench.token(gateway, "key");
}

#[test]
fn only_a_failure_in_the_commit_leaves_a_change_unknown() {
    let mut bench = Bench::new();
    // The deferred constraint makes the commit itself fail: a row refers to a gateway that does not exist.
    let bait = "CREATE TABLE bait (id BLOB REFERENCES gateways (id) DEFERRABLE INITIALLY DEFERRED);
                CREATE TRIGGER bite AFTER INSERT ON gateways BEGIN INSERT INTO bait VALUES (x'00'); END;";
    bench.store.connection.as_ref().unwrap().execute_batch(bait).unwrap();
    let outcome = bench.store.execute(StoreOp::CreateGateway(record("g", None))).0;
    let failing = "the store is failing; the hub's log says why".to_owned();
    assert_eq!(outcome, StoreOutcome::Unavailable(failing, Kept::Unknown));
    let other = Connection::open(bench.path()).unwrap();
    other.execute_batch("DROP TRIGGER bite; DROP TABLE bait").unwrap();
    // The next job reopens the file and finds that the change was not made.
    bench.check(StoreOp::Gateways { limit: 1, offset: 0 }, &StoreOutcome::Gateways(vec![], 0));
    bench.pragma("query_only", 1);
    bench.check(StoreOp::CreateGateway(record("g", None)), &unavailable("the store is read-only"));
}

#[test]
fn an_unconfirmed_change_is_announced_if_the_file_contains_it() {
    let mut bench = Bench::new();
    let gateway = bench.gateway("g");
    let token = bench.token(gateway, "key");
    let absent = TokenId::random();
    let created = |token| Change::TokenCreated { gateway, token, hash: KeyHash([1; 32]) };
    let revoked = |token| Change::TokenRevoked { gateway, token, hash: KeyHash([1; 32]) };
    let life = bench.life(gateway).unwrap();
    let mut check = |change: Change, applied: bool| {
        bench.store.unconfirmed = Some(change);
        bench.store.handle_trouble(&Trouble::Failing("injected".to_owned()));
        let (outcome, announced) = bench.store.execute(StoreOp::Tokens(gateway));
        assert_eq!(announced, applied.then_some(change));
        assert_eq!(matches!(outcome, StoreOutcome::Unavailable(..)), applied);
        bench.store.unconfirmed = Some(change);
        assert_eq!(bench.store.settle(), Ok(applied.then_some(change)), "after a panic");
        assert_eq!(bench.store.settle(), Ok(None));
    };
    check(created(token), true);
    check(created(absent), false);
    check(revoked(token), false);
    check(revoked(absent), true);
    check(Change::GatewayCreated { life, delivery: None }, true);
    check(Change::GatewayCreated { life: Life { incarnation: !life.incarnation, ..life }, delivery: None }, false);
    check(Change::GatewayCreated { life: Life { gateway: GatewayId::random(), ..life }, delivery: None }, false);
    check(Change::GatewayDeleted(gateway), false);
    check(Change::GatewayDeleted(GatewayId::random()), true);
}

#[test]
fn a_change_stays_unconfirmed_while_the_file_is_locked() {
    let mut bench = Bench::new();
    let gateway = bench.gateway("g");
    let change = Change::GatewayCreated { life: bench.life(gateway).unwrap(), delivery: None };
    bench.store.unconfirmed = Some(change);
    bench.store.handle_trouble(&Trouble::Failing("injected".to_owned()));
    let other = Connection::open(bench.path()).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let locked = (unavailable("the store is locked by another process"), None);
    assert_eq!(bench.store.execute(StoreOp::Gateways { limit: 1, offset: 0 }), locked);
    drop(other);
    assert_eq!(bench.store.settle(), Ok(Some(change)));
}

#[test]
fn a_replaced_file_is_never_written() {
    let mut bench = Bench::new();
    let gateway = bench.gateway("g");
    let copy = disk::beside(&bench.path(), ".copy");
    fs::copy(bench.path(), &copy).unwrap();
    fs::rename(&copy, bench.path()).unwrap();
    let answer = unavailable("the store is failing; the hub's log says why");
    bench.check(create_token(gateway, "key"), &answer);
    bench.check(create_token(gateway, "key"), &answer);
    fs::remove_file(bench.path()).unwrap();
    bench.check(create_token(gateway, "key"), &answer);
    assert!(!bench.path().exists(), "no empty file takes its place");
}
