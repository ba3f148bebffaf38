//! The tables, the migration of older files, and the check of a file for damage.

use super::{row, trouble::Trouble};
use crate::model::{GatewayId, KeyHash, Timestamp, TokenId};
use rusqlite::{Connection, OptionalExtension, Result, TransactionBehavior, params};
use uuid::Uuid;

/// `PRAGMA application_id` of a store: "GCST".
const APPLICATION_ID: i64 = 0x4743_5354;

/// The current schema version.
pub(super) const VERSION: usize = STEPS.len();

/// The step from one schema version to the next: changes of the tables, then of the rows.
struct Step {
    sql: &'static str,
    fill: fn(&Connection) -> Result<(), Trouble>,
}

/// All steps. The version of a file (`PRAGMA user_version`) is the number of steps that were run on it.
const STEPS: &[Step] = &[
    Step { sql: TABLES, fill: |_| Ok(()) },
    Step { sql: INCARNATIONS, fill: add_incarnations },
    Step { sql: HISTORY, fill: add_history },
    Step { sql: DELIVERY, fill: add_delivery },
];

/// Schema 1. `seq` is the order of creation, because `created_at` is wrong if the clock was set back.
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

/// Schema 2. SQLite requires a default for an added column; [`add_incarnations`] replaces it in every row.
const INCARNATIONS: &str = "ALTER TABLE gateways ADD COLUMN incarnation INTEGER NOT NULL DEFAULT 0";

/// Schema 3. One row, with the [`super::Generation`].
const HISTORY: &str = "
    CREATE TABLE history (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        generation INTEGER NOT NULL,
        sum BLOB NOT NULL
    ) STRICT;
";

/// Schema 4. NULL stands for the hub's default.
const DELIVERY: &str = "ALTER TABLE gateways ADD COLUMN delivery TEXT CHECK (delivery IN ('written', 'processed'))";

/// Creates the tables of a version in an empty file.
pub(super) fn create(connection: &mut Connection, version: usize) -> Result<(), Trouble> {
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    run_steps(connection, 0, version)
}

/// The version of a file, without changing it.
///
/// # Errors
/// If the file is another program's, or of a newer Gatecast.
pub(super) fn version(connection: &Connection) -> Result<usize, Trouble> {
    // Checked before anything is written: switching to a write-ahead log would already change another program's file.
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if pragma("application_id")? != APPLICATION_ID {
        return Err(Trouble::Damaged("it is not a Gatecast store".to_owned()));
    }
    let (version, known) = (pragma("user_version")?, VERSION);
    match usize::try_from(version) {
        Ok(version) if (1..=known).contains(&version) => Ok(version),
        Ok(version) if version > known => Err(Trouble::Damaged(format!(
            "it was written by a newer Gatecast (schema {version}, this one knows up to {known}); start that version"
        ))),
        _ => Err(Trouble::Damaged(format!("its schema version is {version}, expected 1 to {known}"))),
    }
}

/// Migrates a file to the current version, whole or not at all.
pub(super) fn migrate(connection: &mut Connection, from: usize) -> Result<(), Trouble> {
    if from == VERSION {
        return Ok(());
    }
    // A damaged file must not be written: the operator may still be able to save data from it.
    check_pages(connection)?;
    run_steps(connection, from, VERSION)?;
    tracing::info!(from, to = VERSION, "the store was migrated to a newer schema");
    Ok(())
}

/// Runs all steps in one transaction, so that a crash leaves the file at its old version.
fn run_steps(connection: &mut Connection, from: usize, to: usize) -> Result<(), Trouble> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &STEPS[from..to] {
        transaction.execute_batch(step.sql)?;
        (step.fill)(&transaction)?;
    }
    transaction.pragma_update(None, "user_version", to)?;
    Ok(transaction.commit()?)
}

/// Gives each gateway of a schema 1 file a random incarnation.
fn add_incarnations(connection: &Connection) -> Result<(), Trouble> {
    let old = "SELECT id, name, display_name, organization_id, created_at, NULL, sum FROM gateways";
    let mut old = connection.prepare(old)?;
    let rows = old.query_map([], |row| Ok((row::gateway(row)?, row.get::<_, row::Sum>(6)?)))?;
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let mut update = connection.prepare("UPDATE gateways SET incarnation = ?1, sum = ?2 WHERE id = ?3")?;
    for (record, sum) in rows {
        // The row gets a new checksum, which would hide damage. So the old one is checked first.
        if row::gateway_sum_before_4(&record, None) != sum {
            return Err(Trouble::Damaged(WRONG_SUM.to_owned()));
        }
        let incarnation = getrandom::u64()
            .map_err(|error| Trouble::Failing(format!("the system provides no random numbers: {error}")))?;
        let sum = row::gateway_sum_before_4(&record, Some(incarnation));
        update.execute(params![incarnation.cast_signed(), sum, record.id.0.as_bytes()])?;
    }
    Ok(())
}

/// Begins the history of a file.
fn add_history(connection: &Connection) -> Result<(), Trouble> {
    let insert = "INSERT INTO history (id, generation, sum) VALUES (1, 0, ?1)";
    connection.execute(insert, [row::history_sum(0)])?;
    Ok(())
}

/// Gives each gateway of an older file a checksum that covers its delivery, which is the hub's default.
fn add_delivery(connection: &Connection) -> Result<(), Trouble> {
    let old = "SELECT id, name, display_name, organization_id, created_at, delivery, sum, incarnation FROM gateways";
    let mut old = connection.prepare(old)?;
    let read =
        |row: &rusqlite::Row<'_>| Ok((row::gateway(row)?, row.get::<_, row::Sum>(6)?, row::incarnation(row, 7)?));
    let rows = old.query_map([], read)?.collect::<Result<Vec<_>>>()?;
    let mut update = connection.prepare("UPDATE gateways SET sum = ?1 WHERE id = ?2")?;
    for (record, sum, incarnation) in rows {
        // As in `add_incarnations`: the new checksum would hide damage.
        if row::gateway_sum_before_4(&record, Some(incarnation)) != sum {
            return Err(Trouble::Damaged(WRONG_SUM.to_owned()));
        }
        update.execute(params![row::gateway_sum(&record, incarnation), record.id.0.as_bytes()])?;
    }
    Ok(())
}

/// The generation in the file.
pub(super) fn generation(connection: &Connection) -> Result<u64, Trouble> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, row::Sum>(1)?));
    match connection.query_row("SELECT generation, sum FROM history", [], read).optional()? {
        Some((generation, sum)) if sum == row::history_sum(generation) => Ok(generation),
        Some(_) => Err(Trouble::Damaged(WRONG_SUM.to_owned())),
        None => Err(Trouble::Damaged("its generation is missing".to_owned())),
    }
}

/// Writes the generation, in the caller's transaction if there is one.
pub(super) fn set_generation(connection: &Connection, generation: u64) -> Result<()> {
    let update = "UPDATE history SET generation = ?1, sum = ?2";
    connection.prepare_cached(update)?.execute(params![generation.cast_signed(), row::history_sum(generation)])?;
    Ok(())
}

const WRONG_SUM: &str = "a row does not match its checksum";

/// Tests whether the store can be written again, by writing the version that it has.
pub(super) fn probe(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Checks the whole file: pages, references, tables and checksums.
///
/// # Errors
/// The first damage that was found.
pub(super) fn verify(connection: &Connection) -> Result<(), Trouble> {
    let damaged = |why: &str| Err(Trouble::Damaged(why.to_owned()));
    check_pages(connection)?;
    if connection.prepare("PRAGMA foreign_key_check")?.exists([])? {
        return damaged("a row refers to a gateway that does not exist");
    }
    // Compared with a new store instead of a list of tables here, which would have to follow each schema change.
    let mut fresh = Connection::open_in_memory()?;
    create(&mut fresh, VERSION)?;
    if tables(&fresh)? != tables(connection)? {
        return damaged("its tables do not match its schema version");
    }
    if !sums_are_right(connection)? {
        return damaged(WRONG_SUM);
    }
    generation(connection).map(|_| ())
}

fn check_pages(connection: &Connection) -> Result<(), Trouble> {
    // The first problem is enough, and a damaged file can have thousands.
    let report: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if report == "ok" { Ok(()) } else { Err(Trouble::Damaged(report)) }
}

fn tables(connection: &Connection) -> Result<Vec<(String, String)>> {
    let sql = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT GLOB 'sqlite_*' ORDER BY name";
    connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn sums_are_right(connection: &Connection) -> Result<bool> {
    let gateways =
        "SELECT id, name, display_name, organization_id, created_at, delivery, sum, incarnation FROM gateways";
    let tokens = "SELECT gateway, id, hash, created_at, sum FROM tokens";
    let manifests = "SELECT gateway, manifest, received_at, sum FROM manifests";
    let all = |sql: &str, is_right: fn(&rusqlite::Row<'_>) -> Result<bool>| -> Result<bool> {
        connection.prepare(sql)?.query_map([], is_right)?.try_fold(true, |so_far, right| Ok(so_far && right?))
    };
    Ok(all(gateways, |row| {
        let sum = row::gateway_sum(&row::gateway(row)?, row::incarnation(row, 7)?);
        Ok(sum == row.get::<_, row::Sum>(6)?)
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
