//! What the writer removes between groups, a slice at a time: events that are too old, too many, or of no gateway.
//!
//! Events go from the front of their gateway's log only, with the row of the head in the same commit. An event that
//! carried a secret goes earlier than others, and with it all before it: a reader that begins before it would not get
//! everything, so it is told that its begin is gone, and what stands before it could not be read by anybody. Where that is still to
//! be delivered, only the payload of the secret goes ([`super::erasing`]).

use super::{erasing, file::Failed, heads::Garbage, rows, schema, settings::EVENT_OVERHEAD_BYTES, writer::Writer};
use crate::{
    limits::{EVENT_LOG_CHECKPOINT_BYTES, EVENT_LOG_GROUP_BYTES_MAX, EVENT_LOG_SLICE_EVENTS_MAX},
    store::{Trouble, log::Trimmed},
};
use rusqlite::{Connection, OptionalExtension, params};
use std::time::Duration;

/// Time between two looks for events that are too old.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Over a bound in bytes, events go until it is kept by this part of it, so that not each group is followed by a trim.
const SLACK: u64 = 64;

/// Bytes that a trim writes besides what it removes: a guess, which a checkpoint corrects.
const WAL_BYTES_PER_TRIM: u64 = 64 * 1024;

/// Bytes in one slice. Trimmed events are overwritten, so a slice writes as much as it removes.
const SLICE_BYTES_MAX: u64 = EVENT_LOG_GROUP_BYTES_MAX as u64;

/// One slice of work.
enum Trim {
    Garbage(Garbage),
    /// Everything in the order of commits that was logged before this log time.
    Old(u64),
    /// The payloads of one number's secrets that were logged before this log time.
    Erase {
        number: i64,
        before: u64,
    },
    /// The front of one gateway, up to an offset or until so many bytes went.
    Front {
        index: usize,
        upto: u64,
        bytes: u64,
        why: Trimmed,
    },
}

/// Where a gateway begins after a trim.
struct Moved {
    index: usize,
    first: u64,
    trimmed_bytes: u64,
}

impl Writer {
    /// Runs one slice. Returns whether there may be more.
    pub fn trim_slice(&mut self) -> bool {
        let now = self.shared.now();
        let starved = self.retention.starved.is_some_and(|at| now.saturating_sub(at) < LOOK_INTERVAL);
        if starved || !matches!(self.trouble, None | Some(Trouble::Full)) {
            return false;
        }
        let trimmed = self.next_trim(now).map_err(Failed::from).and_then(|trim| {
            let Some(trim) = trim else { return Ok(false) };
            let before = self.heads.retained_bytes;
            self.run_trim(now, trim)?;
            self.note_wal(before - self.heads.retained_bytes + WAL_BYTES_PER_TRIM);
            Ok(true)
        });
        match trimmed {
            Ok(more) => {
                self.retention.starved = None;
                more
            }
            Err(failed) if failed.trouble == Trouble::Full => {
                let again = self.space.give_up_ballast(&self.settings);
                // With this room the write-ahead log can be moved into the file, and then be written anew from its begin.
                self.note_wal(EVENT_LOG_CHECKPOINT_BYTES);
                if !again {
                    self.retention.starved = Some(now);
                }
                self.handle_failure(&failed);
                again
            }
            Err(failed) => {
                self.handle_failure(&failed);
                false
            }
        }
    }

    /// While the disk is full, shortens the file by pages that trims have emptied. Otherwise they are kept for the next events. Returns
    /// whether there may be more.
    pub fn give_back_pages(&mut self) -> bool {
        let (now, Some(file)) = (self.shared.now(), &mut self.file) else { return false };
        let starved = self.retention.starved.is_some_and(|at| now.saturating_sub(at) < LOOK_INTERVAL);
        if self.trouble != Some(Trouble::Full) || starved {
            return false;
        }
        let free = file.connection.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0));
        if free.unwrap_or(0) == 0 {
            return false;
        }
        let shortened = file.write(now, &mut self.mark, |connection| schema::give_back_pages(connection, 256));
        // Only a checkpoint shortens the file itself.
        self.note_wal(EVENT_LOG_CHECKPOINT_BYTES);
        if let Err(failed) = shortened {
            self.retention.starved = Some(now);
            self.handle_failure(&failed);
            return false;
        }
        true
    }

    fn next_trim(&mut self, now: Duration) -> Result<Option<Trim>, Trouble> {
        let Some(file) = &self.file else { return Ok(None) };
        if let Some(garbage) = self.heads.garbage.last() {
            return Ok(Some(Trim::Garbage(*garbage)));
        }
        if self.retention.looked_at.is_none_or(|at| now.saturating_sub(at) >= LOOK_INTERVAL) {
            let age =
                |age: Duration| file.log_time(now).checked_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
            if let Some(before) = age(self.settings.secret_age)
                && let Some((number, upto)) = oldest(&file.connection, SECRET, before)?
            {
                let is_awaited =
                    |index: usize| self.heads.gateways[index].progress.is_some_and(|progress| progress.offset < upto);
                let front = |index| match is_awaited(index) {
                    true => Trim::Erase { number, before },
                    false => Trim::Front { index, upto, bytes: u64::MAX, why: Trimmed::Secret },
                };
                let garbage = || Trim::Garbage(Garbage { number, below: upto + 1, dead: false });
                return Ok(Some(self.heads.index_of_number(number).map_or_else(garbage, front)));
            }
            if let Some(before) = age(self.settings.retention_age)
                && oldest(&file.connection, EVENT, before)?.is_some()
            {
                return Ok(Some(Trim::Old(before)));
            }
            self.retention.looked_at = Some(now);
        }
        Ok(self.trim_over_bytes())
    }

    fn trim_over_bytes(&mut self) -> Option<Trim> {
        while let Some(index) = self.retention.over.last().copied() {
            let max = self.settings.gateway_bytes_max;
            let retained = self.heads.gateways.get(index).map_or(0, super::heads::Gateway::retained_bytes);
            if retained > max && self.heads.gateways[index].retained_events() > 1 {
                let (upto, bytes) = (self.heads.gateways[index].head.last - 1, retained - (max - max / SLACK));
                return Some(Trim::Front { index, upto, bytes, why: Trimmed::GatewayBytes });
            }
            self.retention.over.pop();
        }
        let max = self.settings.total_bytes_max;
        let over = self.heads.retained_bytes.checked_sub(max + 1)?;
        // The largest pays, so that a burst of one gateway costs no other its single event.
        let (index, largest) = self.heads.gateways.iter().max_by_key(|(_, gateway)| gateway.retained_bytes())?;
        Some(Trim::Front { index, upto: largest.head.last, bytes: over + max / SLACK, why: Trimmed::TotalBytes })
    }

    fn run_trim(&mut self, now: Duration, trim: Trim) -> Result<(), Failed> {
        let Some(file) = &mut self.file else { return Ok(()) };
        match trim {
            Trim::Garbage(garbage) => {
                let mut left = false;
                file.write(now, &mut self.mark, |connection| {
                    left = sweep(connection, garbage)?;
                    Ok(())
                })?;
                if !left {
                    self.heads.garbage.retain(|other| *other != garbage);
                }
            }
            Trim::Old(before) => {
                let slice = old(&file.connection, before)?;
                let Some(last) = slice.last().map(|row| row.seq) else { return Ok(()) };
                let moved = self.moved_by(&slice);
                self.move_fronts(now, &moved, Trimmed::Age, |connection| {
                    connection.prepare_cached("DELETE FROM event WHERE seq <= ?1")?.execute([last.cast_signed()])?;
                    Ok(())
                })?;
            }
            Trim::Erase { number, before } => {
                let mut erased = (0, 0);
                file.write(now, &mut self.mark, |connection| {
                    erased = erasing::erase(connection, number, before)?;
                    Ok(())
                })?;
                self.shared.stats.count_trimmed(Trimmed::Secret, erased.0);
                if let Some(index) = self.heads.index_of_number(number) {
                    let gateway = &mut self.heads.gateways[index];
                    gateway.erased = gateway.erased.max(erased.1);
                }
            }
            Trim::Front { index, upto, bytes, why } => {
                let gateway = &self.heads.gateways[index];
                let (number, first) = (gateway.number, gateway.head.first);
                let Some(moved) = front(&file.connection, gateway, index, upto, bytes)? else {
                    let missing = format!("the events of gateway {} from {first} on are missing", gateway.life.gateway);
                    return Err(Trouble::Damaged(missing).into());
                };
                let below = moved.first;
                self.move_fronts(now, &[moved], why, |connection| {
                    let sql = "DELETE FROM event WHERE number = ?1 AND offset < ?2";
                    connection.prepare_cached(sql)?.execute(params![number, below.cast_signed()])?;
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// The begins of the gateways of a slice in the order of commits.
    fn moved_by(&self, slice: &[OldRow]) -> Vec<Moved> {
        let mut moved: Vec<Moved> = Vec::new();
        for row in slice {
            let Some(index) = self.heads.index_of_number(row.number) else { continue };
            let (first, trimmed_bytes) = (row.offset + 1, row.bytes);
            match moved.iter_mut().find(|other| other.index == index) {
                Some(other) => (other.first, other.trimmed_bytes) = (first, trimmed_bytes),
                None => moved.push(Moved { index, first, trimmed_bytes }),
            }
        }
        moved
    }

    /// Writes the heads and runs `delete` in one commit.
    fn move_fronts(
        &mut self,
        now: Duration,
        moved: &[Moved],
        why: Trimmed,
        delete: impl FnOnce(&Connection) -> Result<(), Trouble>,
    ) -> Result<(), Failed> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let heads = &self.heads;
        file.write(now, &mut self.mark, |connection| {
            for Moved { index, first, trimmed_bytes } in moved {
                let row = heads.gateways[*index].row();
                let row = rows::HeadRow { first: *first, trimmed_bytes: *trimmed_bytes, ..row };
                rows::update_head(connection, &row)?;
            }
            delete(connection)
        })?;
        let before = self.heads.retained_events;
        for Moved { index, first, trimmed_bytes } in moved {
            self.heads.set_first(*index, *first, *trimmed_bytes);
        }
        self.shared.stats.count_trimmed(why, before - self.heads.retained_events);
        Ok(())
    }
}

const EVENT: &str = "SELECT number, offset, logged FROM event ORDER BY seq LIMIT 1";
const SECRET: &str = "SELECT number, offset, logged FROM event INDEXED BY secret WHERE secret ORDER BY seq LIMIT 1";

/// Number and offset of the first event, if it was logged before a log time.
fn oldest(connection: &Connection, sql: &str, before: u64) -> Result<Option<(i64, u64)>, Trouble> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row([], |row| Ok((row.get(0)?, rows::number(row, 1)?, rows::number(row, 2)?)));
    Ok(found.optional()?.filter(|(_, _, logged)| *logged < before).map(|(number, offset, _)| (number, offset)))
}

/// Removes a slice of garbage. Returns whether there is more.
fn sweep(connection: &Connection, Garbage { number, below, dead }: Garbage) -> Result<bool, Trouble> {
    let sql = "SELECT offset, length(payload) FROM event WHERE number = ?1 AND offset < ?2 ORDER BY offset LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query(params![number, below.cast_signed(), EVENT_LOG_SLICE_EVENTS_MAX])?;
    let (mut last, mut events, mut bytes) = (None, 0, 0);
    while bytes < SLICE_BYTES_MAX
        && let Some(row) = found.next()?
    {
        last = Some(row.get::<_, i64>(0)?);
        (events, bytes) = (events + 1, bytes + rows::number(row, 1)?);
    }
    drop(found);
    if let Some(last) = last {
        connection.prepare_cached("DELETE FROM event WHERE number = ?1 AND offset <= ?2")?.execute([number, last])?;
    }
    let left = events == EVENT_LOG_SLICE_EVENTS_MAX || bytes >= SLICE_BYTES_MAX;
    if !left && dead {
        rows::delete_head(connection, number)?;
    }
    Ok(left)
}

struct OldRow {
    seq: u64,
    number: i64,
    offset: u64,
    bytes: u64,
}

/// A slice of the first events, of those that were logged before a log time.
fn old(connection: &Connection, before: u64) -> Result<Vec<OldRow>, Trouble> {
    let sql = "SELECT seq, number, offset, bytes, logged, length(payload) FROM event ORDER BY seq LIMIT ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query([EVENT_LOG_SLICE_EVENTS_MAX])?;
    let (mut slice, mut size) = (Vec::new(), 0);
    while size < SLICE_BYTES_MAX
        && let Some(row) = found.next()?
    {
        if rows::number(row, 4)? >= before {
            break;
        }
        size += rows::number(row, 5)?;
        let (offset, bytes) = (rows::number(row, 2)?, rows::number(row, 3)?);
        slice.push(OldRow { seq: rows::number(row, 0)?, number: row.get(1)?, offset, bytes });
    }
    Ok(slice)
}

/// Where a gateway begins once a slice of its front has gone: up to an offset, or until so many bytes have.
fn front(
    connection: &Connection,
    gateway: &super::heads::Gateway,
    index: usize,
    upto: u64,
    bytes: u64,
) -> Result<Option<Moved>, Trouble> {
    let sql =
        "SELECT offset, bytes FROM event WHERE number = ?1 AND offset >= ?2 AND offset <= ?3 ORDER BY offset LIMIT ?4";
    let mut statement = connection.prepare_cached(sql)?;
    let first = gateway.head.first;
    let range = params![gateway.number, first.cast_signed(), upto.cast_signed(), EVENT_LOG_SLICE_EVENTS_MAX];
    let mut found = statement.query(range)?;
    let mut moved = None;
    while let Some(row) = found.next()? {
        let (offset, trimmed_bytes) = (rows::number(row, 0)?, rows::number(row, 1)?);
        moved = Some(Moved { index, first: offset + 1, trimmed_bytes });
        let gone = (trimmed_bytes - gateway.trimmed_bytes) + EVENT_OVERHEAD_BYTES * (offset + 1 - first);
        if gone >= bytes.min(SLICE_BYTES_MAX) {
            break;
        }
    }
    Ok(moved)
}
