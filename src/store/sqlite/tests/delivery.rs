//! The delivery of a gateway, changes of a gateway, and the migration of files without a delivery.

use super::*;
use crate::{model::DeliveryMode, store::row};
use rusqlite::params;

const ALL: [Option<DeliveryMode>; 3] = [None, Some(DeliveryMode::Written), Some(DeliveryMode::Processed)];

fn change(gateway: GatewayId, display_name: Option<Option<&str>>, delivery: Option<Option<DeliveryMode>>) -> StoreOp {
    let display_name = display_name.map(|text| text.map(str::to_owned));
    StoreOp::ChangeGateway { gateway, display_name, delivery }
}

#[test]
fn the_delivery_of_a_new_gateway_is_announced_and_kept() {
    let mut bench = Bench::new();
    let mut created = Vec::new();
    for (delivery, name) in ALL.into_iter().zip(["a", "b", "c"]) {
        let record = GatewayRecord { delivery, ..record(name, None) };
        let (outcome, change) = bench.store.execute(StoreOp::CreateGateway(record.clone()));
        assert_eq!(outcome, StoreOutcome::Gateway(record.clone(), None));
        let life = bench.life(record.id).unwrap();
        assert_eq!(change, Some(Change::GatewayCreated { life, delivery }));
        created.extend(change);
        bench.check(StoreOp::Gateway(record.id), &outcome);
    }
    let mut bench = bench.reopened();
    assert_eq!(bench.store.snapshot().unwrap(), created);
}

#[test]
fn a_change_of_delivery_is_announced_only_if_it_differs_from_before() {
    let mut bench = Bench::new();
    let mut expected = record("g", Some("org"));
    let id = expected.id;
    bench.check(StoreOp::CreateGateway(expected.clone()), &StoreOutcome::Gateway(expected.clone(), None));
    let life = bench.life(id).unwrap();
    for from in ALL {
        for to in ALL {
            bench.store.execute(change(id, None, Some(from)));
            expected.delivery = to;
            let (outcome, announced) = bench.store.execute(change(id, None, Some(to)));
            assert_eq!(outcome, StoreOutcome::Gateway(expected.clone(), None));
            let differs = Change::DeliveryChanged { life, delivery: to };
            assert_eq!(announced, (from != to).then_some(differs), "{from:?} to {to:?}");
            bench.check(StoreOp::Gateway(id), &outcome);
            assert_eq!(bench.store.snapshot().unwrap(), [Change::GatewayCreated { life, delivery: to }]);
        }
    }
    bench.reopened().check(StoreOp::Gateway(id), &StoreOutcome::Gateway(expected, None));
}

#[test]
fn a_change_of_the_display_name_alone_announces_nothing() {
    let mut bench = Bench::new();
    let mut expected = GatewayRecord { delivery: Some(DeliveryMode::Processed), ..record("g", None) };
    let id = expected.id;
    bench.check(StoreOp::CreateGateway(expected.clone()), &StoreOutcome::Gateway(expected.clone(), None));
    for text in [Some("another"), None, Some("")] {
        let op = change(id, Some(text), None);
        assert!(!op.makes_a_change());
        expected.display_name = text.map(str::to_owned);
        assert_eq!(bench.store.execute(op), (StoreOutcome::Gateway(expected.clone(), None), None));
        bench.check(StoreOp::Gateway(id), &StoreOutcome::Gateway(expected.clone(), None));
    }
    // Together with a delivery that stays the same it announces nothing either, but only the store knows that.
    let op = change(id, Some(Some("third")), Some(expected.delivery));
    assert!(op.makes_a_change());
    expected.display_name = Some("third".to_owned());
    assert_eq!(bench.store.execute(op), (StoreOutcome::Gateway(expected.clone(), None), None));
    bench.reopened().check(StoreOp::Gateway(id), &StoreOutcome::Gateway(expected, None));
}

#[test]
fn a_change_touches_its_own_gateway_only_and_an_unknown_one_is_not_found() {
    let mut bench = Bench::new();
    let (a, other) = (bench.gateway("a"), record("other", None));
    bench.check(StoreOp::CreateGateway(other.clone()), &StoreOutcome::Gateway(other.clone(), None));
    let manifest = StoreOp::PutManifest { gateway: a, manifest: "{}".to_owned(), received_at: Timestamp(1) };
    bench.check(manifest, &StoreOutcome::Done);
    bench.store.execute(change(a, Some(None), Some(Some(DeliveryMode::Processed))));
    bench.check(StoreOp::Gateway(other.id), &StoreOutcome::Gateway(other, None));
    let StoreOutcome::Gateway(_, manifest) = bench.store.execute(StoreOp::Gateway(a)).0 else { panic!("{a}") };
    assert_eq!(manifest.as_deref(), Some("{}"));
    let unknown = change(GatewayId::random(), Some(None), Some(None));
    assert_eq!(bench.store.execute(unknown), (StoreOutcome::NotFound("there is no such gateway"), None));
}

#[test]
fn a_change_that_changes_nothing_is_not_written() {
    let mut bench = Bench::new();
    let gateway = bench.gateway("g");
    assert_eq!(bench.store.settle(), Ok(None));
    let (outcome, announced) = bench.store.execute(change(gateway, Some(Some("The g")), Some(None)));
    assert!(matches!(outcome, StoreOutcome::Gateway(..)) && announced.is_none(), "{outcome:?}, {announced:?}");
    let log = fs::metadata(disk::beside(&bench.path(), "-wal")).unwrap();
    assert_eq!(log.len(), 0);
}

#[test]
fn an_unconfirmed_change_of_delivery_is_announced_if_the_file_has_the_new_one() {
    let mut bench = Bench::new();
    let gateway = bench.gateway("g");
    let life = bench.life(gateway).unwrap();
    for stored in ALL {
        bench.store.execute(change(gateway, None, Some(stored)));
        for delivery in ALL {
            for (life, exists) in [(life, true), (Life { incarnation: !life.incarnation, ..life }, false)] {
                let change = Change::DeliveryChanged { life, delivery };
                bench.store.unconfirmed = Some(change);
                bench.store.handle_trouble(&Trouble::Failing("injected".to_owned()));
                let applied = exists && stored == delivery;
                assert_eq!(bench.store.settle(), Ok(applied.then_some(change)), "{stored:?}, {change:?}");
                assert_eq!(bench.store.settle(), Ok(None));
            }
        }
    }
}

/// Creates a store of schema 3 with this gateway.
fn file_of_schema_3(path: &Path, record: &GatewayRecord, life: Life) -> Connection {
    let mut file = Connection::open(path).unwrap();
    schema::create(&mut file, 3).unwrap();
    let insert = "INSERT INTO gateways (id, name, display_name, organization_id, created_at, sum, incarnation)
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let sum = row::gateway_sum_before_4(record, Some(life.incarnation));
    let (id, incarnation) = (record.id.0.as_bytes(), life.incarnation.cast_signed());
    let GatewayRecord { name, display_name, organization_id, created_at, .. } = record;
    file.execute(insert, params![id, name, display_name, organization_id, created_at.0, sum, incarnation]).unwrap();
    file
}

#[test]
fn a_file_of_schema_3_gets_the_hubs_default_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let mut record = record("a", Some("org"));
    let life = Life { gateway: record.id, incarnation: u64::MAX - 1 };
    drop(file_of_schema_3(&path, &record, life));
    let mut bench = Bench { store: Sqlite::open(&path).unwrap(), dir };
    for _ in 0..2 {
        assert_eq!(bench.store.snapshot().unwrap(), [Change::GatewayCreated { life, delivery: None }]);
        bench.check(StoreOp::Gateway(record.id), &StoreOutcome::Gateway(record.clone(), None));
        bench = bench.reopened();
    }
    let delivery = Some(DeliveryMode::Processed);
    record.delivery = delivery;
    let done = (StoreOutcome::Gateway(record.clone(), None), Some(Change::DeliveryChanged { life, delivery }));
    assert_eq!(bench.store.execute(change(record.id, None, Some(delivery))), done);
    bench.reopened().check(StoreOp::Gateway(record.id), &StoreOutcome::Gateway(record, None));
}

#[test]
fn a_damaged_file_of_schema_3_is_refused_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let record = record("a", None);
    let file = file_of_schema_3(&path, &record, Life { gateway: record.id, incarnation: 1 });
    file.execute("UPDATE gateways SET incarnation = 2", []).unwrap();
    drop(file);
    let trouble = Trouble::Damaged("a row does not match its checksum".to_owned());
    assert_eq!(Sqlite::open(&path).err(), Some(StoreError::File { path: path.clone(), trouble }));
    let version = |file: Connection| file.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
    assert_eq!(version(Connection::open(&path).unwrap()), Ok(3));
}

#[test]
fn a_damaged_delivery_is_refused() {
    let check = |damage: &str, why: &str| {
        let mut bench = Bench::new();
        let record = GatewayRecord { delivery: Some(DeliveryMode::Processed), ..record("g", None) };
        bench.check(StoreOp::CreateGateway(record.clone()), &StoreOutcome::Gateway(record, None));
        bench.store.connection.as_ref().unwrap().execute_batch(damage).unwrap();
        let (path, Bench { dir: _dir, store }) = (bench.path(), bench);
        drop(store);
        let trouble = Trouble::Damaged(why.to_owned());
        assert_eq!(Sqlite::open(&path).err(), Some(StoreError::File { path, trouble }), "{damage}");
    };
    check("UPDATE gateways SET delivery = 'written'", "a row does not match its checksum");
    check("UPDATE gateways SET delivery = NULL", "a row does not match its checksum");
    check(
        "PRAGMA ignore_check_constraints = ON; UPDATE gateways SET delivery = 'x'",
        "CHECK constraint failed in gateways",
    );
}
