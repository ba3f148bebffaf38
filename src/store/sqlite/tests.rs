//! Tests of the store on real files.

use super::*;
use crate::model::{GatewayId, GatewayRecord, KeyHash, Life, Timestamp, TokenId, TokenRecord};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

mod delivery;
mod generations;
mod incarnations;
mod trouble;

struct Bench {
    dir: TempDir,
    store: Sqlite,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&dir.path().join("store.db")).unwrap();
        Bench { dir, store }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("store.db")
    }

    fn reopened(self) -> Bench {
        let Bench { dir, store } = self;
        drop(store);
        let store = Sqlite::open(&dir.path().join("store.db")).unwrap();
        Bench { dir, store }
    }

    fn check(&mut self, op: StoreOp, expected: &StoreOutcome) {
        let text = format!("{op:?}");
        assert_eq!(&self.store.execute(op).0, expected, "{text}");
    }

    fn gateway(&mut self, name: &str) -> GatewayId {
        let record = record(name, None);
        assert!(matches!(self.store.execute(StoreOp::CreateGateway(record.clone())).0, StoreOutcome::Gateway(..)));
        record.id
    }

    fn token(&mut self, gateway: GatewayId, key: &str) -> TokenId {
        let op = create_token(gateway, key);
        let StoreOp::CreateToken { token, .. } = op else { unreachable!() };
        assert!(matches!(self.store.execute(op).0, StoreOutcome::Token(_)));
        token
    }

    /// The life of this gateway id, from the snapshot.
    fn life(&mut self, gateway: GatewayId) -> Option<Life> {
        self.store.snapshot().unwrap().into_iter().find_map(|change| match change {
            Change::GatewayCreated { life, .. } if life.gateway == gateway => Some(life),
            _ => None,
        })
    }

    fn pragma(&self, name: &str, value: i64) {
        let connection = self.store.connection.as_ref().unwrap();
        connection.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(no_row).unwrap();
    }
}

fn no_row(error: rusqlite::Error) -> rusqlite::Result<()> {
    if error == rusqlite::Error::QueryReturnedNoRows { Ok(()) } else { Err(error) }
}

fn record(name: &str, organization: Option<&str>) -> GatewayRecord {
    GatewayRecord {
        id: GatewayId::random(),
        name: name.to_owned(),
        display_name: Some(format!("The {name}")),
        organization_id: organization.map(str::to_owned),
        delivery: None,
        created_at: Timestamp(1_700_000_000_007),
    }
}

fn create_token(gateway: GatewayId, key: &str) -> StoreOp {
    StoreOp::CreateToken {
        gateway,
        token: TokenId::random(),
        hash: KeyHash::of(key.as_bytes()),
        created_at: Timestamp(1_700_000_000_008),
    }
}

fn conflict(text: &str) -> StoreOutcome {
    StoreOutcome::Conflict(text.to_owned())
}

fn unavailable(text: &str) -> StoreOutcome {
    StoreOutcome::Unavailable(text.to_owned(), Kept::No)
}

#[test]
fn gateways_are_read_back_as_they_were_created() {
    let mut bench = Bench::new();
    let bare = GatewayRecord { display_name: None, organization_id: None, ..record("bare", None) };
    let full = record("full", Some("org"));
    for record in [&bare, &full] {
        let done = bench.store.execute(StoreOp::CreateGateway(record.clone()));
        let life = bench.life(record.id).unwrap();
        assert_eq!(
            done,
            (StoreOutcome::Gateway(record.clone(), None), Some(Change::GatewayCreated { life, delivery: None }))
        );
    }
    let mut bench = bench.reopened();
    for record in [&bare, &full] {
        bench.check(StoreOp::Gateway(record.id), &StoreOutcome::Gateway(record.clone(), None));
    }
    bench.check(StoreOp::Gateway(GatewayId::random()), &StoreOutcome::NotFound("there is no such gateway"));
}

#[test]
fn pages_are_in_order_of_creation_even_when_the_clock_was_set_back() {
    let mut bench = Bench::new();
    let records: Vec<_> =
        (0..5).map(|n| GatewayRecord { created_at: Timestamp(1_000 - n), ..record(&format!("g{n}"), None) }).collect();
    for record in &records {
        bench.check(StoreOp::CreateGateway(record.clone()), &StoreOutcome::Gateway(record.clone(), None));
    }
    let mut page = |limit, offset, expected: &[GatewayRecord]| {
        bench.check(StoreOp::Gateways { limit, offset }, &StoreOutcome::Gateways(expected.to_vec(), 5));
    };
    page(2, 0, &records[..2]);
    page(2, 4, &records[4..]);
    page(2, 5, &[]);
    page(0, 0, &[]);
    page(usize::MAX, usize::MAX, &[]);
    page(usize::MAX, 0, &records);
}

#[test]
fn names_are_unique_in_their_organization() {
    let mut bench = Bench::new();
    let mut check = |record: GatewayRecord, free: bool| {
        let taken = conflict("the name is taken in this organization");
        let expected = if free { StoreOutcome::Gateway(record.clone(), None) } else { taken };
        bench.check(StoreOp::CreateGateway(record), &expected);
    };
    check(record("a", None), true);
    check(record("a", None), false);
    check(record("a", Some("")), false);
    check(record("a", Some("x")), true);
    check(record("a", Some("x")), false);
    check(record("a", Some("y")), true);
    check(record("A", None), true);
    check(record("a\0b", None), true);
    check(record("'; DROP TABLE gateways; --", None), true);
}

#[test]
fn an_id_is_free_again_once_its_gateway_is_deleted() {
    let mut bench = Bench::new();
    let first = record("first", None);
    bench.check(StoreOp::CreateGateway(first.clone()), &StoreOutcome::Gateway(first.clone(), None));
    let second = GatewayRecord { id: first.id, ..record("second", None) };
    bench.check(StoreOp::CreateGateway(second.clone()), &conflict("a gateway with this id exists"));
    bench.check(StoreOp::DeleteGateway(first.id), &StoreOutcome::Done);
    bench.check(StoreOp::DeleteGateway(first.id), &StoreOutcome::NotFound("there is no such gateway"));
    bench.check(StoreOp::CreateGateway(second.clone()), &StoreOutcome::Gateway(second, None));
}

#[test]
fn a_deleted_gateway_takes_tokens_and_manifest_with_it() {
    let mut bench = Bench::new();
    let gateway = record("g", None);
    bench.check(StoreOp::CreateGateway(gateway.clone()), &StoreOutcome::Gateway(gateway.clone(), None));
    bench.token(gateway.id, "key");
    let manifest = StoreOp::PutManifest { gateway: gateway.id, manifest: "{}".to_owned(), received_at: Timestamp(1) };
    bench.check(manifest, &StoreOutcome::Done);
    let deleted = bench.store.execute(StoreOp::DeleteGateway(gateway.id));
    assert_eq!(deleted, (StoreOutcome::Done, Some(Change::GatewayDeleted(gateway.id))));
    assert_eq!(bench.store.snapshot(), Ok(vec![]));
    bench.check(StoreOp::CreateGateway(gateway.clone()), &StoreOutcome::Gateway(gateway.clone(), None));
    bench.check(StoreOp::Gateway(gateway.id), &StoreOutcome::Gateway(gateway.clone(), None));
    bench.check(StoreOp::Tokens(gateway.id), &StoreOutcome::Tokens(vec![]));
    bench.token(gateway.id, "key");
}

#[test]
fn a_gateway_has_two_live_tokens_at_most() {
    let mut bench = Bench::new();
    let (gateway, other) = (bench.gateway("g"), bench.gateway("h"));
    bench.check(create_token(GatewayId::random(), "none"), &StoreOutcome::NotFound("there is no such gateway"));
    let op = create_token(gateway, "one");
    let StoreOp::CreateToken { token: one, hash, created_at, .. } = op else { unreachable!() };
    let created = bench.store.execute(op);
    let change = Change::TokenCreated { gateway, token: one, hash };
    assert_eq!(created, (StoreOutcome::Token(TokenRecord { id: one, created_at }), Some(change)));
    bench.check(create_token(gateway, "one"), &conflict("this token exists already"));
    bench.check(create_token(other, "one"), &conflict("this token exists already"));
    let same_id = StoreOp::CreateToken { gateway: other, token: one, hash: KeyHash([0; 32]), created_at };
    bench.check(same_id, &conflict("a token with this id exists"));
    let two = bench.token(gateway, "two");
    bench.check(create_token(gateway, "three"), &conflict("the gateway has 2 live tokens; revoke one first"));
    bench.token(other, "three");
    let both = [one, two].map(|id| TokenRecord { id, created_at });
    bench.check(StoreOp::Tokens(gateway), &StoreOutcome::Tokens(both.to_vec()));
    bench.check(StoreOp::RevokeToken { gateway, token: one }, &StoreOutcome::Done);
    bench.token(gateway, "four");
}

#[test]
fn only_a_gateways_own_token_can_be_revoked() {
    let mut bench = Bench::new();
    let (gateway, other) = (bench.gateway("g"), bench.gateway("h"));
    let token = bench.token(gateway, "key");
    bench.check(StoreOp::RevokeToken { gateway: other, token }, &StoreOutcome::NotFound("there is no such token"));
    bench.check(
        StoreOp::RevokeToken { gateway: GatewayId::random(), token },
        &StoreOutcome::NotFound("there is no such gateway"),
    );
    let revoked = bench.store.execute(StoreOp::RevokeToken { gateway, token });
    let change = Change::TokenRevoked { gateway, token, hash: KeyHash::of(b"key") };
    assert_eq!(revoked, (StoreOutcome::Done, Some(change)));
    bench.check(StoreOp::RevokeToken { gateway, token }, &StoreOutcome::NotFound("there is no such token"));
    bench.check(StoreOp::Tokens(GatewayId::random()), &StoreOutcome::NotFound("there is no such gateway"));
}

#[test]
fn the_latest_manifest_is_kept() {
    let mut bench = Bench::new();
    let gateway = record("g", None);
    bench.check(StoreOp::CreateGateway(gateway.clone()), &StoreOutcome::Gateway(gateway.clone(), None));
    let put = |gateway, text: &str, at| StoreOp::PutManifest {
        gateway,
        manifest: text.to_owned(),
        received_at: Timestamp(at),
    };
    bench.check(put(GatewayId::random(), "{}", 1), &StoreOutcome::NotFound("there is no such gateway"));
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    for (text, at) in [("{}", 1), ("{}", 2), (large.as_str(), 3), ("{ \"b\": 1e400 }", 2)] {
        assert_eq!(bench.store.execute(put(gateway.id, text, at)), (StoreOutcome::Done, None));
        bench.check(StoreOp::Gateway(gateway.id), &StoreOutcome::Gateway(gateway.clone(), Some(text.to_owned())));
    }
    let expected = StoreOutcome::Gateway(gateway.clone(), Some("{ \"b\": 1e400 }".to_owned()));
    bench.reopened().check(StoreOp::Gateway(gateway.id), &expected);
}

#[test]
fn an_unchanged_manifest_is_not_written_again() {
    let mut bench = Bench::new();
    let gateway = bench.gateway("g");
    let put = || StoreOp::PutManifest { gateway, manifest: "{}".to_owned(), received_at: Timestamp(1) };
    bench.check(put(), &StoreOutcome::Done);
    assert_eq!(bench.store.settle(), Ok(None));
    bench.check(put(), &StoreOutcome::Done);
    let log = fs::metadata(disk::beside(&bench.path(), "-wal")).unwrap();
    assert_eq!(log.len(), 0);
}

#[test]
fn a_snapshot_contains_every_gateway_and_token() {
    let mut bench = Bench::new();
    assert_eq!(bench.store.snapshot(), Ok(vec![]));
    let (a, b) = (bench.gateway("a"), bench.gateway("b"));
    let (kept, gone) = (bench.token(b, "kept"), bench.token(a, "gone"));
    let late = bench.token(a, "late");
    bench.check(StoreOp::RevokeToken { gateway: a, token: gone }, &StoreOutcome::Done);
    let created = |gateway, token, key: &[u8]| Change::TokenCreated { gateway, token, hash: KeyHash::of(key) };
    let expected = vec![
        Change::GatewayCreated { life: bench.life(a).unwrap(), delivery: None },
        Change::GatewayCreated { life: bench.life(b).unwrap(), delivery: None },
        created(b, kept, b"kept"),
        created(a, late, b"late"),
    ];
    assert_eq!(bench.store.snapshot().as_ref(), Ok(&expected));
    assert_eq!(bench.reopened().store.snapshot(), Ok(expected));
}

#[test]
fn files_are_only_ours_and_hold_no_secret() {
    let mut bench = Bench::new();
    let gateway = bench.gateway("g");
    let secret = crate::store::Secret::random().unwrap();
    bench.token(gateway, secret.expose());
    let mut seen = 0;
    for entry in fs::read_dir(bench.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(43).any(|window| window == secret.expose().as_bytes()), "{}", path.display());
        seen += 1;
    }
    assert_eq!(seen, 4, "the database, its write-ahead log, its shared memory and the lock");
}

#[test]
fn a_file_that_others_can_read_is_made_private() {
    let bench = Bench::new();
    fs::set_permissions(bench.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let bench = bench.reopened();
    assert_eq!(fs::metadata(bench.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_directory_can_be_opened_once() {
    let bench = Bench::new();
    let refusal = Sqlite::open(&bench.path()).err().unwrap().to_string();
    assert!(refusal.contains("is used by another hub (pid"), "{refusal}");
    bench.reopened();
}
