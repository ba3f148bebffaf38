//! Gateways that are deleted and created again, and the migration of files without incarnations.

use super::*;
use crate::store::row;
use rusqlite::params;

#[test]
fn a_gateway_that_is_created_again_has_another_incarnation() {
    let mut bench = Bench::new();
    let record = record("g", None);
    let mut lives = Vec::new();
    for _ in 0..3 {
        bench.check(StoreOp::CreateGateway(record.clone()), &StoreOutcome::Gateway(record.clone(), None));
        lives.push(bench.life(record.id).unwrap());
        bench.check(StoreOp::DeleteGateway(record.id), &StoreOutcome::Done);
        assert_eq!(bench.life(record.id), None);
    }
    assert!(lives[0] != lives[1] && lives[1] != lives[2] && lives[0] != lives[2], "{lives:?}");
}

/// Creates a store of schema 1 with these gateways and a token of the first one.
fn file_of_schema_1(path: &Path, records: &[GatewayRecord]) -> Connection {
    let mut connection = Connection::open(path).unwrap();
    schema::create(&mut connection, 1).unwrap();
    let insert = "INSERT INTO gateways (id, name, display_name, organization_id, created_at, sum) \
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    for record in records {
        let (id, sum) = (record.id.0.as_bytes(), row::gateway_sum_before_4(record, None));
        let row = params![id, record.name, record.display_name, record.organization_id, record.created_at.0, sum];
        connection.execute(insert, row).unwrap();
    }
    let (gateway, token, hash) = (records[0].id, TokenId::random(), KeyHash::of(b"key"));
    let sum = row::token_sum(gateway, token, &hash, Timestamp(1));
    let insert = "INSERT INTO tokens (id, gateway, hash, created_at, sum) VALUES (?1, ?2, ?3, 1, ?4)";
    connection.execute(insert, params![token.0.as_bytes(), gateway.0.as_bytes(), hash.0, sum]).unwrap();
    connection
}

#[test]
fn a_file_of_schema_1_gets_incarnations_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let records = [record("a", None), record("b", Some("org"))];
    drop(file_of_schema_1(&path, &records));
    let mut bench = Bench { store: Sqlite::open(&path).unwrap(), dir };
    let lives = records.each_ref().map(|record| bench.life(record.id).unwrap());
    assert_ne!(lives[0].incarnation, lives[1].incarnation);
    let kept = bench.store.snapshot().unwrap();
    assert!(
        matches!(kept[2], Change::TokenCreated { gateway, hash, .. } if gateway == records[0].id && hash == KeyHash::of(b"key"))
    );
    let third = bench.gateway("c");
    let mut bench = bench.reopened();
    for record in &records {
        bench.check(StoreOp::Gateway(record.id), &StoreOutcome::Gateway(record.clone(), None));
    }
    assert_eq!(bench.store.snapshot().unwrap()[..2], lives.map(|life| Change::GatewayCreated { life, delivery: None }));
    assert!(bench.life(third).is_some());
}

#[test]
fn a_damaged_file_of_schema_1_is_refused_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let file = file_of_schema_1(&path, &[record("a", None), record("b", None)]);
    file.execute("UPDATE gateways SET name = 'c' WHERE name = 'b'", []).unwrap();
    drop(file);
    let trouble = Trouble::Damaged("a row does not match its checksum".to_owned());
    assert_eq!(Sqlite::open(&path).err(), Some(StoreError::File { path: path.clone(), trouble }));
    let version = |file: Connection| file.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
    assert_eq!(version(Connection::open(&path).unwrap()), Ok(1));
}
