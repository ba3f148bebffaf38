//! Trims a log that no hub has open, in slices: on a disk that is nearly full there is no room to write all at once.

use super::super::{
    file::{Failed, LogFile, sizes},
    mark::MarkFile,
    rows::{self, HeadRow},
    schema,
    settings::SqliteLogSettings,
};
use crate::{
    limits::{EVENT_LOG_CHECKPOINT_BYTES, EVENT_LOG_GROUP_BYTES_MAX, EVENT_LOG_GROUP_EVENTS_MAX},
    model::GatewayId,
    store::{Trouble, disk},
};
use rusqlite::Connection;

/// Pages that one slice gives back to the disk.
const PAGES: u32 = 1_024;

/// Removes the events of one gateway, or of all, up to those that are `keep` or less from the end. Returns their number.
pub(super) fn trim(
    file: &mut LogFile,
    mark: &mut MarkFile,
    settings: &SqliteLogSettings,
    gateway: Option<GatewayId>,
    keep: u64,
) -> Result<u64, Trouble> {
    let mut removed = 0;
    let heads = rows::heads(&file.connection)?;
    for mut row in heads.into_iter().filter(|row| !row.dead && gateway.is_none_or(|id| row.life.gateway == id)) {
        let (last, _) = rows::last_of(&file.connection, &row)?;
        let end = (last + 1).saturating_sub(keep);
        while row.first < end {
            let (first, before) = (end_of_slice(&file.connection, &row, end)?, row.first);
            write(file, mark, settings, |connection| remove_front(connection, &mut row, first))?;
            removed += row.first - before;
        }
    }
    while file.connection.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0))? > 0 {
        write(file, mark, settings, |connection| schema::give_back_pages(connection, PAGES))?;
    }
    Ok(removed)
}

/// Where a slice ends that begins at the front of a gateway: it has at least one event.
fn end_of_slice(connection: &Connection, row: &HeadRow, end: u64) -> Result<u64, Trouble> {
    let end = end.min(row.first + EVENT_LOG_GROUP_EVENTS_MAX as u64);
    let bytes = row.trimmed_bytes.saturating_add(EVENT_LOG_GROUP_BYTES_MAX as u64);
    let sql = "SELECT max(offset) FROM event WHERE number = ?1 AND offset >= ?2 AND offset < ?3 AND bytes <= ?4";
    let range = (row.number, row.first.cast_signed(), end.cast_signed(), bytes.cast_signed());
    let last: Option<i64> = connection.prepare_cached(sql)?.query_row(range, |row| row.get(0))?;
    Ok(last.map_or(row.first, i64::cast_unsigned) + 1)
}

/// Moves the begin of a gateway to `first`.
fn remove_front(connection: &Connection, row: &mut HeadRow, first: u64) -> Result<(), Trouble> {
    let sql = "SELECT bytes FROM event WHERE number = ?1 AND offset = ?2";
    let at = (row.number, (first - 1).cast_signed());
    let trimmed_bytes = connection.prepare_cached(sql)?.query_row(at, |row| rows::number(row, 0))?;
    let moved = HeadRow { first, trimmed_bytes, ..*row };
    rows::update_head(connection, &moved)?;
    let sql = "DELETE FROM event WHERE number = ?1 AND offset < ?2";
    connection.prepare_cached(sql)?.execute((row.number, first.cast_signed()))?;
    *row = moved;
    Ok(())
}

/// Makes one commit. If the disk is full, the ballast is given up, and it is tried once more.
fn write(
    file: &mut LogFile,
    mark: &mut MarkFile,
    settings: &SqliteLogSettings,
    mut write: impl FnMut(&Connection) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let now = file.opened_at();
    let mut written = file.write(now, mark, &mut write);
    if matches!(&written, Err(failed) if failed.trouble == Trouble::Full) && settings.ballast().exists() {
        disk::remove(&settings.ballast()).map_err(|error| Trouble::from_io(&error))?;
        written = file.write(now, mark, &mut write);
    }
    let trouble = |failed: Failed| failed.trouble;
    written.map_err(trouble)?;
    // What was removed is written over, so the write-ahead log grows by as much as the file will shrink.
    if sizes(settings).1 > EVENT_LOG_CHECKPOINT_BYTES { file.restart_wal().map_err(trouble) } else { Ok(()) }
}
