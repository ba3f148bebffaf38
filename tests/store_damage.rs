//! A damaged database file is refused at start, and never taken for a new one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use gatecast::{
    model::{Change, DeliveryMode, GatewayId, GatewayRecord, KeyHash, Life, StoreOp, StoreOutcome, Timestamp, TokenId},
    store::{Sqlite, Store},
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

fn filled_store() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let mut store = Sqlite::open(&path).unwrap();
    for n in 0..20 {
        let record = GatewayRecord {
            id: GatewayId::random(),
            name: format!("gateway-{n}"),
            display_name: Some("for people".to_owned()),
            organization_id: (n % 2 == 0).then(|| "org".to_owned()),
            delivery: [None, Some(DeliveryMode::Written), Some(DeliveryMode::Processed)][(n % 3) as usize],
            created_at: Timestamp(n),
        };
        let gateway = record.id;
        let hash = KeyHash::of(&n.to_le_bytes());
        let jobs = [
            StoreOp::CreateGateway(record),
            StoreOp::CreateToken { gateway, token: TokenId::random(), hash, created_at: Timestamp(n) },
            StoreOp::PutManifest { gateway, manifest: "{\"apis\":[]}".repeat(40), received_at: Timestamp(n) },
        ];
        for job in jobs {
            let done = store.execute(job).0;
            assert!(
                matches!(done, StoreOutcome::Gateway(..) | StoreOutcome::Token(_) | StoreOutcome::Done),
                "{done:?}"
            );
        }
    }
    (dir, path)
}

/// Everything that a store contains.
fn content(store: &mut Sqlite) -> (Vec<Change>, Vec<StoreOutcome>) {
    let snapshot = store.snapshot().unwrap();
    let mut rows = vec![store.execute(StoreOp::Gateways { limit: 100, offset: 0 }).0];
    for change in &snapshot {
        if let Change::GatewayCreated { life: Life { gateway: id, .. }, .. } = change {
            rows.push(store.execute(StoreOp::Gateway(*id)).0);
            rows.push(store.execute(StoreOp::Tokens(*id)).0);
        }
    }
    (snapshot, rows)
}

fn refusal(path: &Path) -> String {
    Sqlite::open(path).err().unwrap().to_string()
}

#[test]
fn a_changed_byte_is_refused_or_changes_nothing() {
    let (_dir, path) = filled_store();
    let expected = content(&mut Sqlite::open(&path).unwrap());
    let good = fs::read(&path).unwrap();
    let mut refused = 0;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let seeded = std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (usize::try_from(seed >> 16).unwrap() % good.len(), 1 << (seed % 8))
    });
    let header = (0..100).map(|at| (at, 0x10));
    for (at, bit) in header.chain(seeded.take(400)) {
        let mut bad = good.clone();
        bad[at] ^= bit;
        fs::write(&path, &bad).unwrap();
        match Sqlite::open(&path) {
            Ok(mut store) => assert!(content(&mut store) == expected, "bit {bit:#x} at {at} was not detected"),
            Err(error) => {
                let sentence = error.to_string();
                assert!(sentence.contains("store.db cannot be used: "), "{sentence}");
                assert_eq!(fs::read(&path).unwrap(), bad, "a refused file is not changed");
                refused += 1;
            }
        }
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(path.with_file_name(format!("store.db{suffix}")));
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_cut_file_is_refused() {
    let (_dir, path) = filled_store();
    let good = fs::read(&path).unwrap();
    let check = |length: usize| {
        fs::write(&path, &good[..length]).unwrap();
        let sentence = refusal(&path);
        assert!(sentence.contains("the store is damaged: "), "{length}: {sentence}");
        assert!(sentence.contains("put a backup in its place"), "{sentence}");
    };
    for length in [0, 1, 50, 100, 1_000, 4_096, 8_192, good.len() / 2, good.len() - 4_096, good.len() - 1] {
        check(length);
    }
    fs::write(&path, &good).unwrap();
    Sqlite::open(&path).unwrap();
}

#[test]
fn a_file_that_is_not_a_store_is_refused() {
    let (_dir, path) = filled_store();
    let check = |expected: &str| {
        let sentence = refusal(&path);
        assert!(sentence.contains(expected), "{sentence}");
    };
    fs::write(&path, "not a database, but long enough to look at it twice".repeat(100)).unwrap();
    check("file is not a database");
    fs::remove_file(&path).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    check("it is not a Gatecast store");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    check("unable to open database file");
}

#[test]
fn a_file_of_a_newer_version_or_with_altered_rows_is_refused() {
    let (_dir, path) = filled_store();
    let check = |sql: &str, expected: &str| {
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let sentence = refusal(&path);
        assert!(sentence.contains(expected), "{sentence}");
    };
    check("PRAGMA user_version = 5", "written by a newer Gatecast (schema 5, this one knows up to 4)");
    check("PRAGMA user_version = 0", "its schema version is 0");
    check("PRAGMA user_version = -1", "its schema version is -1");
    check("PRAGMA user_version = 4; DROP INDEX tokens_by_gateway", "its tables do not match its schema version");
    check(
        "CREATE INDEX tokens_by_gateway ON tokens (gateway); UPDATE gateways SET delivery = 'written' WHERE seq = 1",
        "a row does not match its checksum",
    );
    check(
        "UPDATE gateways SET delivery = NULL WHERE seq = 1; UPDATE tokens SET hash = zeroblob(32) WHERE seq = 1",
        "a row does not match its checksum",
    );
    check(
        "PRAGMA ignore_check_constraints = ON; UPDATE gateways SET delivery = 'some' WHERE seq = 3",
        "CHECK constraint failed in gateways",
    );
    check(
        "PRAGMA foreign_keys = OFF; DELETE FROM gateways WHERE seq = 3",
        "a row refers to a gateway that does not exist",
    );
}

#[test]
fn a_write_ahead_log_without_its_database_is_refused() {
    let (_dir, path) = filled_store();
    fs::remove_file(&path).unwrap();
    fs::write(path.with_file_name("store.db-wal"), "frames").unwrap();
    let sentence = refusal(&path);
    assert!(sentence.contains("it is missing, but its -wal file exists"), "{sentence}");
    assert!(!path.exists());
}

#[test]
fn a_store_whose_creation_was_interrupted_is_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    fs::write(dir.path().join("store.db.new"), "half").unwrap();
    fs::write(dir.path().join("store.db.new-journal"), "half").unwrap();
    let mut store = Sqlite::open(&path).unwrap();
    assert_eq!(store.snapshot(), Ok(vec![]));
    assert!(!dir.path().join("store.db.new").exists());
}
