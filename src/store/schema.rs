//! The tables, how older files become newer ones, and whether a file is what the hub has written.

use super::{row, trouble::Trouble};
use crate::model::{GatewayId, KeyHash, Timestamp, TokenId};
use rusqlite::{Connection, Result, TransactionBehavior, params};
use uuid::Uuid;

/// `PRAGMA application_id` of a store: "GCST".
const APPLICATION_ID: i64 = 0x4743_5354;

/// The version of the files that are written now.
pub(super) const VERSION: usize = STEPS.len();

/// From one version to the next: the tables, then what is in them.
struct Step {
    sql: &'static str,
    fill: fn(&Connection) -> Result<(), Trouble>,
}

/// The step from each version to the next; a file's version (`PRAGMA user_version`) is how many were done.
const STEPS: &[Step] = &[Step { sql: TABLES, fill: |_| Ok(()) }, Step { sql: INCARNATIONS, fill: draw_incarnations }];

/// `seq` gives the order of creation, which a clock that was set back cannot disturb.
const TABLES: &str = "
    CREATE TABLE gateways (
        seq INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        name TEXT NOT NULL,
        display_name TEXT,
        organization_id TEXT,
        created_at INTEGER NOT NULL,
        sum BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX gateways_by_name ON gateways (coalesce(organization_id, ''), name);
    CREATE TABLE tokens (
        seq INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        gateway BLOB NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
        hash BLOB NOT NULL UNIQUE,
        created_at INTEGER NOT NULL,
        sum BLOB NOT NULL
    ) STRICT;
    CREATE INDEX tokens_by_gateway ON tokens (gateway);
    CREATE TABLE manifests (
        gateway BLOB NOT NULL PRIMARY KEY REFERENCES gateways (id) ON DELETE CASCADE,
        received_at INTEGER NOT NULL,
        sum BLOB NOT NULL,
        manifest TEXT NOT NULL
    ) STRICT;
";

/// A column can only be added with a default; no row keeps it.
const INCARNATIONS: &str = "ALTER TABLE gateways ADD COLUMN incarnation INTEGER NOT NULL DEFAULT 0";

/// Makes the tables of a version in a new, empty file.
pub(super) fn create(connection: &mut Connection, version: usize) -> Result<(), Trouble> {
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    climb(connection, 0, version)
}

/// The version of a file; refused where it is another program's or a newer Gatecast's. Changes nothing.
pub(super) fn version(connection: &Connection) -> Result<usize, Trouble> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if pragma("application_id")? != APPLICATION_ID {
        return Err(Trouble::Damaged("it is not a Gatecast store".to_owned()));
    }
    let (version, known) = (pragma("user_version")?, VERSION);
    match usize::try_from(version) {
        Ok(version) if (1..=known).contains(&version) => Ok(version),
        Ok(version) if version > known => Err(Trouble::Damaged(format!(
            "it was written by a newer Gatecast (schema {version}, this one knows up to {known}); start that one"
        ))),
        _ => Err(Trouble::Damaged(format!("its schema version is {version}"))),
    }
}

/// Brings a file of an older version up to date, whole or not at all.
pub(super) fn migrate(connection: &mut Connection, from: usize) -> Result<(), Trouble> {
    if from == VERSION {
        return Ok(());
    }
    // What is damaged already is not written to.
    check_pages(connection)?;
    climb(connection, from, VERSION)?;
    tracing::info!(from, to = VERSION, "the store was brought to a newer version");
    Ok(())
}

fn climb(connection: &mut Connection, from: usize, to: usize) -> Result<(), Trouble> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &STEPS[from..to] {
        transaction.execute_batch(step.sql)?;
        (step.fill)(&transaction)?;
    }
    transaction.pragma_update(None, "user_version", to)?;
    Ok(transaction.commit()?)
}

/// Gives each gateway of a file that knew no incarnations its own. A sum is renewed only where it was right before:
/// damage must not be hidden by it.
fn draw_incarnations(connection: &Connection) -> Result<(), Trouble> {
    let old = "SELECT id, name, display_name, organization_id, created_at, sum FROM gateways";
    let mut old = connection.prepare(old)?;
    let rows = old.query_map([], |row| Ok((row::gateway(row)?, row.get::<_, row::Sum>(5)?)))?;
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let mut update = connection.prepare("UPDATE gateways SET incarnation = ?1, sum = ?2 WHERE id = ?3")?;
    for (record, sum) in rows {
        if row::gateway_sum(&record, None) != sum {
            return Err(Trouble::Damaged(WRONG_SUM.to_owned()));
        }
        let incarnation = getrandom::u64().map_err(|error| Trouble::Failing(format!("no random numbers: {error}")))?;
        let sum = row::gateway_sum(&record, Some(incarnation));
        update.execute(params![incarnation.cast_signed(), sum, record.id.0.as_bytes()])?;
    }
    Ok(())
}

const WRONG_SUM: &str = "a row does not match its sum";

/// Writes for the sake of writing: tells whether a store that was in trouble takes writes again.
pub(super) fn probe(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Reads everything, and refuses what the hub cannot have written.
pub(super) fn verify(connection: &Connection) -> Result<(), Trouble> {
    let damaged = |why: &str| Err(Trouble::Damaged(why.to_owned()));
    check_pages(connection)?;
    if connection.prepare("PRAGMA foreign_key_check")?.exists([])? {
        return damaged("a row belongs to a gateway that is not there");
    }
    let mut fresh = Connection::open_in_memory()?;
    create(&mut fresh, VERSION)?;
    if tables(&fresh)? != tables(connection)? {
        return damaged("its tables are not those of its version");
    }
    if !sums_are_right(connection)? {
        return damaged(WRONG_SUM);
    }
    Ok(())
}

fn check_pages(connection: &Connection) -> Result<(), Trouble> {
    let report: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if report == "ok" { Ok(()) } else { Err(Trouble::Damaged(report)) }
}

fn tables(connection: &Connection) -> Result<Vec<(String, String)>> {
    let sql = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT GLOB 'sqlite_*' ORDER BY name";
    connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn sums_are_right(connection: &Connection) -> Result<bool> {
    let gateways = "SELECT id, name, display_name, organization_id, created_at, sum, incarnation FROM gateways";
    let tokens = "SELECT gateway, id, hash, created_at, sum FROM tokens";
    let manifests = "SELECT gateway, manifest, received_at, sum FROM manifests";
    let all = |sql: &str, is_right: fn(&rusqlite::Row<'_>) -> Result<bool>| -> Result<bool> {
        connection.prepare(sql)?.query_map([], is_right)?.try_fold(true, |so_far, right| Ok(so_far && right?))
    };
    Ok(all(gateways, |row| {
        let sum = row::gateway_sum(&row::gateway(row)?, Some(row::incarnation(row, 6)?));
        Ok(sum == row.get::<_, row::Sum>(5)?)
    })? && all(tokens, |row| {
        let token = TokenId(Uuid::from_bytes(row.get(1)?));
        let sum = row::token_sum(row::gateway_id(row, 0)?, token, &KeyHash(row.get(2)?), Timestamp(row.get(3)?));
        Ok(sum == row.get::<_, row::Sum>(4)?)
    })? && all(manifests, |row| {
        let gateway: GatewayId = row::gateway_id(row, 0)?;
        let manifest = row.get_ref(1)?.as_str()?;
        Ok(row::manifest_sum(gateway, manifest, Timestamp(row.get(2)?)) == row.get::<_, row::Sum>(3)?)
    })?)
}
