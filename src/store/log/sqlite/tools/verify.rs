//! Reads all of a log that no hub has open, and lists what is damaged.

use super::super::{
    past,
    rows::{self, HeadRow},
};
use crate::{
    model::{GatewayId, Position},
    store::Trouble,
};
use rusqlite::{Connection, params};

/// Damages that are listed. The others are counted.
const LISTED_MAX: usize = 100;

/// One thing that is wrong with a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The gateway whose event is damaged, and where; `None` if something else is.
    pub event: Option<(GatewayId, Position)>,
    /// Whether the next start of a hub makes it good.
    pub heals: bool,
    /// What is wrong.
    pub what: String,
    /// Events of this gateway behind the damaged one. A trim that keeps these removes it.
    pub behind: u64,
}

/// What a check of a whole log has found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Verified {
    /// Events that are as they were written.
    pub events: u64,
    /// Gateways that have events.
    pub gateways: u64,
    /// The first damages.
    pub damages: Vec<Damage>,
    /// The number of damages, with those that are not listed.
    pub damages_total: u64,
}

impl Verified {
    fn add(&mut self, damage: Damage) {
        self.damages_total += 1;
        if self.damages.len() < LISTED_MAX {
            self.damages.push(damage);
        }
    }

    fn add_of_file(&mut self, what: String) {
        self.add(Damage { event: None, heals: false, what, behind: 0 });
    }

    fn add_of_progress(&mut self, what: String) {
        self.add(Damage { event: None, heals: true, what, behind: 0 });
    }
}

/// Checks everything: pages, indexes, the checksum of each row, and the order of each gateway's events.
pub(super) fn check(connection: &Connection) -> Result<Verified, Trouble> {
    let mut verified = Verified::default();
    match check_all(connection, &mut verified) {
        Ok(()) => Ok(verified),
        Err(Trouble::Damaged(what)) => {
            verified.add_of_file(what);
            Ok(verified)
        }
        Err(trouble) => Err(trouble),
    }
}

fn check_all(connection: &Connection, verified: &mut Verified) -> Result<(), Trouble> {
    let transaction = connection.unchecked_transaction()?;
    let mut statement = transaction.prepare("PRAGMA integrity_check(10)")?;
    let mut lines = statement.query([])?;
    while let Some(line) = lines.next()? {
        let text: String = line.get(0)?;
        if text != "ok" {
            // The first line is a caption.
            text.lines().filter(|line| !line.starts_with("***")).for_each(|line| verified.add_of_file(line.to_owned()));
        }
    }
    drop(lines);
    let epoch = rows::meta(&transaction)?.epoch;
    let heads = rows::heads(&transaction)?;
    check_progress(&transaction, &heads, verified)?;
    for row in heads {
        if !row.dead {
            check_gateway(&transaction, &row, epoch, verified)?;
        }
    }
    let sql = "SELECT count(*) FROM event WHERE number NOT IN (SELECT number FROM head)";
    match transaction.query_row(sql, [], |row| rows::number(row, 0))? {
        0 => {}
        orphans => verified.add_of_file(format!("{orphans} events belong to no gateway")),
    }
    Ok(())
}

/// Checks how far gateways have processed.
fn check_progress(connection: &Connection, heads: &[HeadRow], verified: &mut Verified) -> Result<(), Trouble> {
    for (number, kept) in rows::progress(connection)? {
        // They are in the order of their numbers.
        let Ok(at) = heads.binary_search_by_key(&number, |head| head.number) else {
            verified.add_of_progress(format!("progress number {number} belongs to no gateway"));
            continue;
        };
        let head = &heads[at];
        // That of a deleted gateway goes with its last events.
        if head.dead {
            continue;
        }
        let (last, _) = rows::last_of(connection, head)?;
        let gateway = head.life.gateway;
        match kept {
            None => verified.add_of_progress(format!("the progress of gateway {gateway} does not match its checksum")),
            Some(kept) if kept.offset > last => {
                verified.add_of_progress(format!("the progress of gateway {gateway} is above its last event"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Checks the events of one gateway: each is there, in the order in which they were committed, and as it was written.
fn check_gateway(connection: &Connection, head: &HeadRow, epoch: u64, verified: &mut Verified) -> Result<(), Trouble> {
    let (last, _) = rows::last_of(connection, head)?;
    let (gateway, epoch) = (head.life.gateway, head.life.epoch_in(epoch));
    let damage = |offset: u64, what: String| Damage {
        event: Some((gateway, Position { epoch, offset })),
        heals: false,
        what,
        behind: last - offset,
    };
    verified.gateways += u64::from(last >= head.first);
    let mut statement = connection.prepare_cached(past::SELECT)?;
    let mut found = statement.query(params![head.number, (head.first - 1).cast_signed(), last.cast_signed()])?;
    let (mut next, mut seq_before, mut bytes_before) = (head.first, 0, Some(head.trimmed_bytes));
    while let Some(row) = found.next()? {
        let offset = rows::number(row, 2)?;
        if offset > next {
            verified.add(damage(offset - 1, format!("{} events are missing up to this one", offset - next)));
            bytes_before = None;
        }
        next = offset + 1;
        match rows::event(row, epoch, gateway) {
            Ok((place, record)) => {
                // Of an erased payload only its place in the bytes is left.
                let known = bytes_before.filter(|_| !record.event.is_erased());
                let bytes = known.map(|before| before + record.event.payload.len() as u64);
                if place.seq <= seq_before {
                    verified.add(damage(offset, "it was committed before the event in front of it".to_owned()));
                } else if bytes.is_some_and(|bytes| bytes != record.bytes) {
                    verified.add(damage(offset, "its place in the bytes of its gateway is wrong".to_owned()));
                } else {
                    verified.events += 1;
                }
                (seq_before, bytes_before) = (place.seq, Some(record.bytes));
            }
            Err(Trouble::Damaged(_)) => {
                verified.add(damage(offset, "it does not match its checksum".to_owned()));
                bytes_before = None;
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(())
}
