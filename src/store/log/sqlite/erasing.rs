//! Erases payloads with secrets in place, where the events around them are yet to be delivered.
//!
//! The front of a gateway's log is trimmed with the secrets in it. But a gateway that proves what it has processed, and was away, is to
//! get the events before and behind a secret. So of the secret only the payload goes, and the event is passed over.

use super::rows;
use crate::store::Trouble;
use rusqlite::{Connection, params};

/// Secrets that are erased in one commit.
const ERASED_MAX: usize = 64;

/// Erases the oldest secrets of one number that were logged before a log time. Returns how many, and the last offset.
pub(super) fn erase(connection: &Connection, number: i64, before: u64) -> Result<(u64, u64), Trouble> {
    let sql = "SELECT seq, offset FROM event INDEXED BY secret WHERE secret AND number = ?1 AND logged < ?2 ORDER BY seq LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let place = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, rows::number(row, 1)?));
    let found = statement.query_map(params![number, before.cast_signed(), ERASED_MAX], place)?;
    let secrets = found.collect::<Result<Vec<_>, _>>()?;
    for (seq, _) in &secrets {
        rows::erase_payload(connection, *seq)?;
    }
    Ok((secrets.len() as u64, secrets.iter().map(|(_, offset)| *offset).max().unwrap_or(0)))
}
