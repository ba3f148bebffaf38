//! Reads and writes the rows of the log's file, with their checksums.

use super::sum::Sum;
use crate::{
    limits::PAYLOAD_BYTES_MAX,
    model::{CorrelationId, Event, EventType, GatewayId, Life, Position, Timestamp, log::Record},
    store::{Trouble, log::progress::Kept},
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// The one row of `meta`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Meta {
    /// The name of this log.
    pub epoch: u64,
    /// Commits since it was created.
    pub commits: u64,
    /// Milliseconds for which the hub ran.
    pub log_time: u64,
    /// The generation of the store, see [`crate::store::Generation`].
    pub generation: u64,
}

/// A row of `head`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HeadRow {
    pub number: i64,
    pub life: Life,
    pub base: u64,
    pub first: u64,
    pub trimmed_bytes: u64,
    pub dead: bool,
}

/// What stands beside an event in its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub seq: u64,
    pub number: i64,
    pub logged: u64,
}

fn meta_sum(meta: Meta) -> i64 {
    Sum::new(1).number(meta.epoch).number(meta.commits).number(meta.log_time).number(meta.generation).end()
}

fn head_sum(head: &HeadRow) -> i64 {
    let sum = Sum::new(2).signed(head.number).bytes(head.life.gateway.0.as_bytes()).number(head.life.incarnation);
    sum.number(head.base).number(head.first).number(head.trimmed_bytes).number(u64::from(head.dead)).end()
}

fn progress_sum(number: i64, kept: Kept) -> i64 {
    let sum = Sum::new(4).signed(number).number(kept.offset);
    sum.number(u64::from(kept.attempts)).number(kept.attempts_ms).end()
}

fn event_sum(place: Place, record: &Record, secret: bool) -> i64 {
    let event = &record.event;
    let flags = u64::from(event.correlation_given) | u64::from(secret) << 1 | u64::from(event.user_id.is_some()) << 2;
    let sum = Sum::new(3).number(place.seq).signed(place.number).number(record.position.offset);
    let sum = sum.signed(record.accepted.0).number(place.logged).number(record.bytes).number(flags);
    let sum = sum.bytes(event.kind.as_str().as_bytes()).bytes(event.correlation.0.as_bytes());
    sum.bytes(event.user_id.as_deref().unwrap_or("").as_bytes()).bytes(&event.payload).end()
}

/// Damage that was found in a row.
pub(super) fn damaged(table: &str) -> Trouble {
    Trouble::Damaged(format!("a row of the table {table} does not match its checksum"))
}

pub(super) fn insert_meta(connection: &Connection, meta: Meta) -> Result<(), Trouble> {
    let sql = "INSERT INTO meta (id, epoch, commits, log_time, generation, sum) VALUES (1, ?1, ?2, ?3, ?4, ?5)";
    connection.prepare_cached(sql)?.execute(meta_params(meta, &meta_sum(meta)))?;
    Ok(())
}

pub(super) fn update_meta(connection: &Connection, meta: Meta) -> Result<(), Trouble> {
    let sql = "UPDATE meta SET epoch = ?1, commits = ?2, log_time = ?3, generation = ?4, sum = ?5";
    connection.prepare_cached(sql)?.execute(meta_params(meta, &meta_sum(meta)))?;
    Ok(())
}

fn meta_params(meta: Meta, sum: &i64) -> impl rusqlite::Params {
    let [epoch, commits, log_time, generation] =
        [meta.epoch, meta.commits, meta.log_time, meta.generation].map(u64::cast_signed);
    (epoch, commits, log_time, generation, *sum)
}

pub(super) fn meta(connection: &Connection) -> Result<Meta, Trouble> {
    let mut statement = connection.prepare_cached("SELECT epoch, commits, log_time, generation, sum FROM meta")?;
    let found = statement.query_row([], |row| {
        let meta = Meta {
            epoch: number(row, 0)?,
            commits: number(row, 1)?,
            log_time: number(row, 2)?,
            generation: number(row, 3)?,
        };
        Ok((meta, row.get(4)?))
    });
    let (meta, sum): (_, i64) = found.optional()?.ok_or_else(|| damaged("meta"))?;
    if sum == meta_sum(meta) { Ok(meta) } else { Err(damaged("meta")) }
}

pub(super) fn insert_head(connection: &Connection, head: &HeadRow) -> Result<(), Trouble> {
    let sql = "INSERT INTO head (number, gateway, incarnation, base, first, trimmed_bytes, dead, sum)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    connection.prepare_cached(sql)?.execute(params![
        head.number,
        head.life.gateway.0.as_bytes(),
        head.life.incarnation.cast_signed(),
        head.base.cast_signed(),
        head.first.cast_signed(),
        head.trimmed_bytes.cast_signed(),
        head.dead,
        head_sum(head)
    ])?;
    Ok(())
}

pub(super) fn update_head(connection: &Connection, head: &HeadRow) -> Result<(), Trouble> {
    let sql = "UPDATE head SET base = ?2, first = ?3, trimmed_bytes = ?4, dead = ?5, sum = ?6 WHERE number = ?1";
    let (base, first, bytes) = (head.base.cast_signed(), head.first.cast_signed(), head.trimmed_bytes.cast_signed());
    let changed =
        connection.prepare_cached(sql)?.execute(params![head.number, base, first, bytes, head.dead, head_sum(head)])?;
    if changed == 1 { Ok(()) } else { Err(Trouble::Damaged("a row of the table head is missing".to_owned())) }
}

pub(super) fn delete_head(connection: &Connection, number: i64) -> Result<(), Trouble> {
    connection.prepare_cached("DELETE FROM head WHERE number = ?1")?.execute([number])?;
    delete_progress(connection, number)
}

/// Writes how far a gateway has processed.
pub(super) fn put_progress(connection: &Connection, number: i64, kept: Kept) -> Result<(), Trouble> {
    let sql =
        "INSERT OR REPLACE INTO progress (number, offset, attempts, attempts_ms, sum) VALUES (?1, ?2, ?3, ?4, ?5)";
    let Kept { offset, attempts, attempts_ms } = kept;
    let sum = progress_sum(number, kept);
    connection.prepare_cached(sql)?.execute(params![
        number,
        offset.cast_signed(),
        attempts,
        attempts_ms.cast_signed(),
        sum
    ])?;
    Ok(())
}

pub(super) fn delete_progress(connection: &Connection, number: i64) -> Result<(), Trouble> {
    connection.prepare_cached("DELETE FROM progress WHERE number = ?1")?.execute([number])?;
    Ok(())
}

/// How far gateways have processed, by their numbers; `None` where a row does not match its checksum. Empty for a log of version 2,
/// which a tool reads before a hub has converted it.
pub(super) fn progress(connection: &Connection) -> Result<BTreeMap<i64, Option<Kept>>, Trouble> {
    if !connection.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'progress'")?.exists([])? {
        return Ok(BTreeMap::new());
    }
    let mut statement = connection.prepare_cached("SELECT number, offset, attempts, attempts_ms, sum FROM progress")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, kept(row).ok().flatten())))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Option<Kept>> {
    let kept = Kept { offset: number(row, 1)?, attempts: row.get(2)?, attempts_ms: number(row, 3)? };
    Ok((row.get::<_, i64>(4)? == progress_sum(row.get(0)?, kept)).then_some(kept))
}

const HEAD_COLUMNS: &str = "number, gateway, incarnation, base, first, trimmed_bytes, dead, sum";

fn head_row(row: &Row<'_>) -> Result<HeadRow, Trouble> {
    let life = Life { gateway: GatewayId(Uuid::from_bytes(row.get(1)?)), incarnation: number(row, 2)? };
    let head = HeadRow {
        number: row.get(0)?,
        life,
        base: number(row, 3)?,
        first: number(row, 4)?,
        trimmed_bytes: number(row, 5)?,
        dead: row.get(6)?,
    };
    if row.get::<_, i64>(7)? == head_sum(&head) { Ok(head) } else { Err(damaged("head")) }
}

pub(super) fn heads(connection: &Connection) -> Result<Vec<HeadRow>, Trouble> {
    let mut statement = connection.prepare_cached(&format!("SELECT {HEAD_COLUMNS} FROM head ORDER BY number"))?;
    statement.query_and_then([], head_row)?.collect()
}

/// The head of a gateway that is not dead.
pub(super) fn head_of(connection: &Connection, gateway: GatewayId) -> Result<Option<HeadRow>, Trouble> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {HEAD_COLUMNS} FROM head WHERE gateway = ?1 AND NOT dead"))?;
    let mut rows = statement.query([gateway.0.as_bytes()])?;
    rows.next()?.map(head_row).transpose()
}

/// The offset and the cumulative bytes of a gateway's last event.
///
/// # Errors
/// `Damaged` if the index and the event differ, or the numbers are none that a log gives: an offset that is too low would be given
/// again.
pub(super) fn last_of(connection: &Connection, head: &HeadRow) -> Result<(u64, u64), Trouble> {
    let sql = "SELECT seq, offset FROM event WHERE number = ?1 ORDER BY offset DESC LIMIT 1";
    let found =
        connection.prepare_cached(sql)?.query_row([head.number], |row| Ok((row.get::<_, i64>(0)?, number(row, 1)?)));
    let Some((seq, offset)) = found.optional()?.filter(|(_, offset)| *offset >= head.first) else {
        return Ok((head.first - 1, head.trimmed_bytes));
    };
    // By its key, so that nothing is taken from the index.
    let sql = "SELECT number, offset, bytes FROM event WHERE seq = ?1";
    let found = connection
        .prepare_cached(sql)?
        .query_row([seq], |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, number(row, 1)?, number(row, 2)?)));
    let (of, at, bytes) = found.optional()?.ok_or_else(misplaced)?;
    let bytes_max = (offset + 1 - head.first).saturating_mul(PAYLOAD_BYTES_MAX as u64);
    let is_plausible = bytes.checked_sub(head.trimmed_bytes).is_some_and(|kept| kept <= bytes_max);
    if (of, at) == (head.number, offset) && is_plausible { Ok((offset, bytes)) } else { Err(misplaced()) }
}

fn misplaced() -> Trouble {
    Trouble::Damaged("an index does not match the events".to_owned())
}

/// Checks that a read, which looks a gateway up by the index, finds this head.
///
/// # Errors
/// `Damaged` if it would find none or another one, and take the gateway for one without events.
pub(super) fn check_head(connection: &Connection, head: &HeadRow) -> Result<(), Trouble> {
    let found = head_of(connection, head.life.gateway)?;
    if found == Some(*head) { Ok(()) } else { Err(misplaced()) }
}

/// Checks the last events against the heads that were read by the index. A gateway whose last events are missing in the index would
/// give their offsets again.
pub(super) fn check_end(connection: &Connection, last_of: impl Fn(i64) -> Option<u64>) -> Result<(), Trouble> {
    let mut statement = connection.prepare_cached("SELECT number, offset FROM event ORDER BY seq DESC LIMIT 1024")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let (of, offset) = (row.get::<_, i64>(0)?, number(row, 1)?);
        if last_of(of).is_some_and(|last| offset > last) {
            return Err(misplaced());
        }
    }
    Ok(())
}

/// The log time at which the event at an offset was logged, in milliseconds.
pub(super) fn logged_at(connection: &Connection, gateway: i64, offset: u64) -> Result<Option<u64>, Trouble> {
    let sql = "SELECT logged FROM event WHERE number = ?1 AND offset = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(params![gateway, offset.cast_signed()], |row| number(row, 0)).optional()?)
}

/// Whether events of a number are still there below an offset.
pub(super) fn has_below(connection: &Connection, gateway: i64, offset: u64) -> Result<bool, Trouble> {
    let sql = "SELECT 1 FROM event WHERE number = ?1 AND offset < ?2 LIMIT 1";
    Ok(connection.prepare_cached(sql)?.exists(params![gateway, offset.cast_signed()])?)
}

/// The greatest `seq`; 0 if there is no event.
pub(super) fn last_seq(connection: &Connection) -> Result<u64, Trouble> {
    let sql = "SELECT seq FROM event ORDER BY seq DESC LIMIT 1";
    let found = connection.prepare_cached(sql)?.query_row([], |row| number(row, 0)).optional()?;
    Ok(found.unwrap_or(0))
}

/// The statement that inserts events, kept for a group.
pub(super) struct InsertEvent<'a>(CachedStatement<'a>);

impl<'a> InsertEvent<'a> {
    pub fn prepare(connection: &'a Connection) -> Result<Self, Trouble> {
        let sql = "INSERT INTO event (seq, number, offset, accepted, logged, bytes, kind, correlation, given, secret,
                   user, payload, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
        Ok(Self(connection.prepare_cached(sql)?))
    }

    pub fn run(&mut self, place: Place, record: &Record) -> Result<(), Trouble> {
        let (event, statement) = (&record.event, &mut self.0);
        let secret = event.kind.carries_secret();
        statement.raw_bind_parameter(1, place.seq.cast_signed())?;
        statement.raw_bind_parameter(2, place.number)?;
        statement.raw_bind_parameter(3, record.position.offset.cast_signed())?;
        statement.raw_bind_parameter(4, record.accepted.0)?;
        statement.raw_bind_parameter(5, place.logged.cast_signed())?;
        statement.raw_bind_parameter(6, record.bytes.cast_signed())?;
        statement.raw_bind_parameter(7, event.kind.as_str())?;
        statement.raw_bind_parameter(8, event.correlation.0.as_bytes().as_slice())?;
        statement.raw_bind_parameter(9, event.correlation_given)?;
        statement.raw_bind_parameter(10, secret)?;
        statement.raw_bind_parameter(11, event.user_id.as_deref())?;
        statement.raw_bind_parameter(12, event.payload.as_ref())?;
        statement.raw_bind_parameter(13, event_sum(place, record, secret))?;
        statement.raw_execute()?;
        Ok(())
    }
}

/// Erases the payload of an event that carries a secret. One that is damaged stays damaged, without its payload.
pub(super) fn erase_payload(connection: &Connection, seq: i64) -> Result<(), Trouble> {
    let sql =
        "SELECT seq, number, offset, accepted, logged, bytes, kind, correlation, given, secret, user, payload, sum
               FROM event WHERE seq = ?1";
    // Neither the epoch nor the gateway is part of the row.
    let gateway = GatewayId(Uuid::nil());
    let found = connection.prepare_cached(sql)?.query_and_then([seq], |row| event(row, 0, gateway))?.next();
    let sum = match found {
        Some(Ok((place, mut record))) => {
            record.event = Arc::new(Event { payload: bytes::Bytes::new(), ..(*record.event).clone() });
            event_sum(place, &record, false)
        }
        Some(Err(Trouble::Damaged(_))) | None => 0,
        Some(Err(trouble)) => return Err(trouble),
    };
    let sql = "UPDATE event SET payload = x'', secret = 0, sum = ?2 WHERE seq = ?1";
    connection.prepare_cached(sql)?.execute(params![seq, sum])?;
    Ok(())
}

/// Reads an event, and checks it. The columns are `seq, number, offset, accepted, logged, bytes, kind, correlation, given, secret,
/// user, payload, sum`. The caller knows the epoch and the gateway.
///
/// # Errors
/// `Damaged` if it does not match its checksum.
pub(super) fn event(row: &Row<'_>, epoch: u64, gateway: GatewayId) -> Result<(Place, Record), Trouble> {
    let place = Place { seq: number(row, 0)?, number: row.get(1)?, logged: number(row, 4)? };
    // A type that is not one is damage, and so is a column of another kind.
    let kind = row.get_ref(6)?.as_str().ok().and_then(EventType::parse).ok_or_else(|| damaged("event"))?;
    let correlation = row.get_ref(7)?.as_blob().ok().and_then(|bytes| bytes.try_into().ok());
    let correlation = CorrelationId(Uuid::from_bytes(correlation.ok_or_else(|| damaged("event"))?));
    let user_id = row.get_ref(10)?.as_str_or_null().map_err(|_| damaged("event"))?.map(Box::from);
    let payload = row.get_ref(11)?.as_blob().map_err(|_| damaged("event"))?;
    let payload = bytes::Bytes::copy_from_slice(payload);
    let event = Event { gateway, kind, payload, correlation, correlation_given: row.get(8)?, user_id };
    let position = Position { epoch, offset: number(row, 2)? };
    let accepted = Timestamp(row.get(3)?);
    let record = Record { position, accepted, bytes: number(row, 5)?, event: Arc::new(event) };
    if row.get::<_, i64>(12)? == event_sum(place, &record, row.get(9)?) {
        Ok((place, record))
    } else {
        Err(damaged("event"))
    }
}

/// A column that has an unsigned number, which SQLite stores as a signed one.
pub(super) fn number(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(i64::cast_unsigned)
}
