//! Reads events of the past, for the reader's thread and for follows that begin in the past.

use super::rows::{self, HeadRow, number};
use crate::{
    model::{
        Life, Position,
        log::{End, Head, ReadFrom, Record, Room},
    },
    store::Trouble,
};
use rusqlite::{Connection, params};

/// The head of a gateway of which nothing was kept yet.
pub(super) fn empty_head(life: Life, log_epoch: u64) -> Head {
    Head { epoch: life.epoch_in(log_epoch), base: 0, first: 1, last: 0, bytes: 0 }
}

/// The ends of a gateway's log, by its row and its last event.
pub(super) fn head(row: &HeadRow, (last, bytes): (u64, u64), log_epoch: u64) -> Head {
    Head { epoch: row.life.epoch_in(log_epoch), base: row.base, first: row.first, last, bytes }
}

/// Whether everything behind this position is there. It may lie before the base of its epoch: events that a gateway had not processed
/// when the epoch began are read under their new names.
pub(super) fn check(head: Head, after: Position) -> Result<(), End> {
    if after.epoch != head.epoch || after.offset > head.last {
        return Err(End::OtherEpoch { head });
    }
    if after.offset + 1 < head.first { Err(End::Gone { head }) } else { Ok(()) }
}

/// Answers a read, from one state of the file.
pub(super) fn chunk(
    connection: &Connection,
    life: Life,
    from: ReadFrom,
    upto: Option<Position>,
    room: Room,
) -> Result<(Vec<Record>, End), Trouble> {
    // Head and events are read in one transaction: a trim between them would leave events out.
    let transaction = connection.unchecked_transaction()?;
    let epoch = rows::meta(&transaction)?.epoch;
    let (number, head) = match rows::head_of(&transaction, life.gateway)?.filter(|row| row.life == life) {
        Some(row) => (row.number, head(&row, rows::last_of(&transaction, &row)?, epoch)),
        None => (0, empty_head(life, epoch)),
    };
    let after = from.after(head);
    if let Err(end) = check(head, after) {
        return Ok((Vec::new(), end));
    }
    let upto = upto.map_or(head.last, |upto| upto.offset.min(head.last));
    let (records, more) = read(&transaction, number, life, after, upto, room)?;
    Ok((records, if more { End::More { head } } else { End::Reached { head } }))
}

/// Reads events of a number after a position, up to an offset that exists. Returns as well whether more of them follow.
pub(super) fn read(
    connection: &Connection,
    gateway: i64,
    life: Life,
    after: Position,
    upto: u64,
    room: Room,
) -> Result<(Vec<Record>, bool), Trouble> {
    let (mut records, mut bytes, mut next) = (Vec::new(), 0, after.offset + 1);
    if next > upto {
        return Ok((records, false));
    }
    let sql = SELECT;
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query(params![gateway, after.offset.cast_signed(), upto.cast_signed()])?;
    while let Some(row) = found.next()? {
        // Checked before the row is copied, which may have a large payload.
        let size = row.get_ref(11)?.as_blob().map_or(0, <[u8]>::len);
        bytes += size;
        if !records.is_empty() && (records.len() >= room.records || bytes > room.bytes) {
            return Ok((records, true));
        }
        if number(row, 2)? != next {
            return Err(Trouble::Damaged("an event is missing".to_owned()));
        }
        let (_, record) = rows::event(row, after.epoch, life.gateway)?;
        records.push(record);
        next += 1;
    }
    if next > upto { Ok((records, false)) } else { Err(Trouble::Damaged("an event is missing".to_owned())) }
}

/// The events of a number in a range, in order. The columns are those of [`rows::event`].
pub(super) const SELECT: &str = "
    SELECT seq, number, offset, accepted, logged, bytes, kind, correlation, given, secret, user, payload, sum
    FROM event WHERE number = ?1 AND offset > ?2 AND offset <= ?3 ORDER BY offset";
