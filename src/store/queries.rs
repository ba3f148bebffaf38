//! The jobs in SQL. Functions that write run inside a transaction of the caller, which commits or rolls back.

use super::row;
use crate::{
    limits,
    model::{
        Change, DeliveryMode, GatewayId, GatewayRecord, Kept, KeyHash, Life, StoreOp, StoreOutcome, Timestamp, TokenId,
        TokenRecord,
    },
};
use rusqlite::{Connection, OptionalExtension, Result, params};

/// The outcome of a job, and the change to announce once it is committed.
type Done = (StoreOutcome, Option<Change>);

/// Runs a job in the caller's transaction, which must be committed if the outcome is a success.
pub(super) fn run(connection: &Connection, op: StoreOp) -> Result<Done> {
    let read = |outcome| (outcome, None);
    match op {
        StoreOp::CreateGateway(record) => create_gateway(connection, record),
        StoreOp::ChangeGateway { gateway, display_name, delivery } => {
            change_gateway(connection, gateway, display_name, delivery)
        }
        StoreOp::DeleteGateway(id) => delete_gateway(connection, id),
        StoreOp::CreateToken { gateway, token, hash, created_at } => {
            create_token(connection, gateway, TokenRecord { id: token, created_at }, hash)
        }
        StoreOp::RevokeToken { gateway, token } => revoke_token(connection, gateway, token),
        StoreOp::PutManifest { gateway, manifest, received_at } => {
            put_manifest(connection, gateway, &manifest, received_at).map(read)
        }
        StoreOp::Gateway(id) => gateway(connection, id).map(read),
        StoreOp::Gateways { limit, offset } => gateways(connection, limit, offset).map(read),
        StoreOp::Tokens(id) => tokens(connection, id).map(read),
    }
}

/// All gateways, then all tokens, each in order of creation.
pub(super) fn snapshot(connection: &Connection) -> Result<Vec<Change>> {
    let mut gateways = connection.prepare_cached("SELECT id, incarnation, delivery FROM gateways ORDER BY seq")?;
    let mut tokens = connection.prepare_cached("SELECT gateway, id, hash FROM tokens ORDER BY seq")?;
    let created = gateways.query_map([], row::gateway_created)?;
    created.chain(tokens.query_map([], row::token_created)?).collect()
}

/// Whether the file contains this change.
pub(super) fn is_applied(connection: &Connection, change: Change) -> Result<bool> {
    match change {
        // The incarnation as well: the id alone may be an older gateway's.
        Change::GatewayCreated { life, .. } => life_exists(connection, life),
        Change::DeliveryChanged { life, delivery } => delivery_is(connection, life, delivery),
        Change::GatewayDeleted(id) => gateway_exists(connection, id).map(|exists| !exists),
        Change::TokenCreated { token, .. } => token_exists(connection, token),
        Change::TokenRevoked { token, .. } => token_exists(connection, token).map(|exists| !exists),
    }
}

fn create_gateway(connection: &Connection, record: GatewayRecord) -> Result<Done> {
    if gateway_exists(connection, record.id)? {
        return Ok((StoreOutcome::Conflict("a gateway with this id exists".to_owned()), None));
    }
    // Asked before the insert, although a unique index enforces it: its error does not tell which rule was broken.
    let taken = "SELECT 1 FROM gateways WHERE coalesce(organization_id, '') = coalesce(?1, '') AND name = ?2";
    if connection.prepare_cached(taken)?.exists(params![record.organization_id, record.name])? {
        return Ok((StoreOutcome::Conflict("the name is taken in this organization".to_owned()), None));
    }
    let Ok(incarnation) = getrandom::u64() else {
        return Ok((StoreOutcome::Unavailable("the system provides no random numbers".to_owned(), Kept::No), None));
    };
    let insert = "INSERT INTO gateways (id, name, display_name, organization_id, created_at, sum, incarnation, delivery) \
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    connection.prepare_cached(insert)?.execute(params![
        record.id.0.as_bytes(),
        record.name,
        record.display_name,
        record.organization_id,
        record.created_at.0,
        row::gateway_sum(&record, incarnation),
        // SQLite's integers are signed; the 64 bits are stored as they are.
        incarnation.cast_signed(),
        record.delivery.map(DeliveryMode::as_str),
    ])?;
    let life = Life { gateway: record.id, incarnation };
    let change = Change::GatewayCreated { life, delivery: record.delivery };
    Ok((StoreOutcome::Gateway(record, None), Some(change)))
}

/// Changes a gateway. The change is announced only if the delivery differs from before: a core may close the gateway's connections
/// because of it.
fn change_gateway(
    connection: &Connection,
    id: GatewayId,
    display_name: Option<Option<String>>,
    delivery: Option<Option<DeliveryMode>>,
) -> Result<Done> {
    let sql = "SELECT id, name, display_name, organization_id, created_at, delivery, incarnation \
               FROM gateways WHERE id = ?1";
    let found = connection
        .prepare_cached(sql)?
        .query_row([id.0.as_bytes()], |row| Ok((row::gateway(row)?, row::incarnation(row, 6)?)))
        .optional()?;
    let Some((old, incarnation)) = found else { return Ok((no_gateway(), None)) };
    let mut record = old.clone();
    record.display_name = display_name.unwrap_or(record.display_name);
    record.delivery = delivery.unwrap_or(record.delivery);
    // A write would wait for the disk.
    if record != old {
        let update = "UPDATE gateways SET display_name = ?1, delivery = ?2, sum = ?3 WHERE id = ?4";
        connection.prepare_cached(update)?.execute(params![
            record.display_name,
            record.delivery.map(DeliveryMode::as_str),
            row::gateway_sum(&record, incarnation),
            id.0.as_bytes(),
        ])?;
    }
    let life = Life { gateway: id, incarnation };
    let change = Change::DeliveryChanged { life, delivery: record.delivery };
    let change = (record.delivery != old.delivery).then_some(change);
    Ok((StoreOutcome::Gateway(record, None), change))
}

fn delete_gateway(connection: &Connection, id: GatewayId) -> Result<Done> {
    // Tokens and manifest go with it by `ON DELETE CASCADE`.
    match connection.prepare_cached("DELETE FROM gateways WHERE id = ?1")?.execute([id.0.as_bytes()])? {
        0 => Ok((no_gateway(), None)),
        _ => Ok((StoreOutcome::Done, Some(Change::GatewayDeleted(id)))),
    }
}

fn gateway(connection: &Connection, id: GatewayId) -> Result<StoreOutcome> {
    let sql = "SELECT id, name, display_name, organization_id, created_at, delivery, manifest \
               FROM gateways LEFT JOIN manifests ON gateway = id WHERE id = ?1";
    let found = connection
        .prepare_cached(sql)?
        .query_row([id.0.as_bytes()], |row| Ok((row::gateway(row)?, row.get(6)?)))
        .optional()?;
    Ok(found.map_or_else(no_gateway, |(record, manifest)| StoreOutcome::Gateway(record, manifest)))
}

fn gateways(connection: &Connection, limit: usize, offset: usize) -> Result<StoreOutcome> {
    let page = "SELECT id, name, display_name, organization_id, created_at, delivery \
                FROM gateways ORDER BY seq LIMIT ?1 OFFSET ?2";
    let rows = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let total: i64 = connection.prepare_cached("SELECT count(*) FROM gateways")?.query_row([], |row| row.get(0))?;
    let records: Result<Vec<_>> =
        connection.prepare_cached(page)?.query_map([rows(limit), rows(offset)], row::gateway)?.collect();
    Ok(StoreOutcome::Gateways(records?, usize::try_from(total).unwrap_or(usize::MAX)))
}

fn create_token(connection: &Connection, gateway: GatewayId, record: TokenRecord, hash: KeyHash) -> Result<Done> {
    let conflict = |why: String| Ok((StoreOutcome::Conflict(why), None));
    if !gateway_exists(connection, gateway)? {
        return Ok((no_gateway(), None));
    }
    if token_exists(connection, record.id)? {
        return conflict("a token with this id exists".to_owned());
    }
    if connection.prepare_cached("SELECT 1 FROM tokens WHERE hash = ?1")?.exists([hash.0])? {
        return conflict("this token exists already".to_owned());
    }
    let live: i64 = connection
        .prepare_cached("SELECT count(*) FROM tokens WHERE gateway = ?1")?
        .query_row([gateway.0.as_bytes()], |row| row.get(0))?;
    if usize::try_from(live).is_ok_and(|live| live >= limits::TOKENS_PER_GATEWAY_MAX) {
        return conflict(format!("the gateway has {live} live tokens; revoke one first"));
    }
    connection
        .prepare_cached("INSERT INTO tokens (id, gateway, hash, created_at, sum) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
        record.id.0.as_bytes(),
        gateway.0.as_bytes(),
        hash.0,
        record.created_at.0,
        row::token_sum(gateway, record.id, &hash, record.created_at),
    ])?;
    Ok((StoreOutcome::Token(record), Some(Change::TokenCreated { gateway, token: record.id, hash })))
}

fn revoke_token(connection: &Connection, gateway: GatewayId, token: TokenId) -> Result<Done> {
    if !gateway_exists(connection, gateway)? {
        return Ok((no_gateway(), None));
    }
    let hash: Option<[u8; 32]> = connection
        // The hash comes back because the cores' directories are keyed by it.
        .prepare_cached("DELETE FROM tokens WHERE id = ?1 AND gateway = ?2 RETURNING hash")?
        .query_row([token.0.as_bytes(), gateway.0.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(match hash {
        None => (StoreOutcome::NotFound("there is no such token"), None),
        Some(hash) => (StoreOutcome::Done, Some(Change::TokenRevoked { gateway, token, hash: KeyHash(hash) })),
    })
}

fn tokens(connection: &Connection, id: GatewayId) -> Result<StoreOutcome> {
    if !gateway_exists(connection, id)? {
        return Ok(no_gateway());
    }
    let sql = "SELECT id, created_at FROM tokens WHERE gateway = ?1 ORDER BY seq";
    let records: Result<Vec<_>> = connection.prepare_cached(sql)?.query_map([id.0.as_bytes()], row::token)?.collect();
    records.map(StoreOutcome::Tokens)
}

/// Replaces a manifest, unless it is the same. A fleet that reconnects sends all its manifests again, and each write
/// would wait for the disk.
fn put_manifest(
    connection: &Connection,
    id: GatewayId,
    manifest: &str,
    received_at: Timestamp,
) -> Result<StoreOutcome> {
    if !gateway_exists(connection, id)? {
        return Ok(no_gateway());
    }
    let same = "SELECT 1 FROM manifests WHERE gateway = ?1 AND manifest = ?2";
    if connection.prepare_cached(same)?.exists(params![id.0.as_bytes(), manifest])? {
        return Ok(StoreOutcome::Done);
    }
    let sum = row::manifest_sum(id, manifest, received_at);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO manifests (gateway, received_at, sum, manifest) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![id.0.as_bytes(), received_at.0, sum, manifest])?;
    Ok(StoreOutcome::Done)
}

fn gateway_exists(connection: &Connection, id: GatewayId) -> Result<bool> {
    connection.prepare_cached("SELECT 1 FROM gateways WHERE id = ?1")?.exists([id.0.as_bytes()])
}

fn life_exists(connection: &Connection, life: Life) -> Result<bool> {
    let sql = "SELECT 1 FROM gateways WHERE id = ?1 AND incarnation = ?2";
    connection.prepare_cached(sql)?.exists(params![life.gateway.0.as_bytes(), life.incarnation.cast_signed()])
}

fn delivery_is(connection: &Connection, life: Life, delivery: Option<DeliveryMode>) -> Result<bool> {
    // `IS` compares NULL as well.
    let sql = "SELECT 1 FROM gateways WHERE id = ?1 AND incarnation = ?2 AND delivery IS ?3";
    let (id, incarnation) = (life.gateway.0.as_bytes(), life.incarnation.cast_signed());
    connection.prepare_cached(sql)?.exists(params![id, incarnation, delivery.map(DeliveryMode::as_str)])
}

fn token_exists(connection: &Connection, id: TokenId) -> Result<bool> {
    connection.prepare_cached("SELECT 1 FROM tokens WHERE id = ?1")?.exists([id.0.as_bytes()])
}

fn no_gateway() -> StoreOutcome {
    StoreOutcome::NotFound("there is no such gateway")
}
