//! The heads of all gateways in memory, and who follows them. Loaded when the file is opened, so that an append reads
//! nothing from it.

use super::{
    past,
    rows::{self, HeadRow},
    settings::EVENT_OVERHEAD_BYTES,
};
use crate::{
    model::{
        GatewayId, Life, Position,
        log::{FollowKey, Head, Record},
    },
    store::{Trouble, log::progress::Kept},
};
use ahash::HashMap;
use rusqlite::Connection;
use slab::Slab;

/// A follow of a gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Follow {
    pub port: usize,
    pub key: FollowKey,
    /// The next offset from the past; `None` once it has all of it.
    pub past: Option<u64>,
}

/// A gateway's log.
#[derive(Debug)]
pub(super) struct Gateway {
    /// Its number in the file.
    pub number: i64,
    pub life: Life,
    pub head: Head,
    /// The cumulative bytes before `head.first`.
    pub trimmed_bytes: u64,
    /// Whether the file has a row for its head. It gets one with its first event.
    pub stored: bool,
    /// How far it has processed, if that is kept.
    pub progress: Option<Kept>,
    /// The greatest offset of a payload that this process has erased. A follow from before it is not told what lies in between.
    pub erased: u64,
    /// Whether the file has another row for that. The gateway is among [`Heads::unwritten`] then.
    pub unwritten: bool,
    pub follows: Vec<Follow>,
    /// The events of the group that is being committed, if somebody follows it live.
    pub fresh: Vec<Record>,
    /// `head.last` and `head.bytes` before that group.
    pub before: Option<(u64, u64)>,
}

impl Gateway {
    /// What it counts as in the bounds.
    pub fn retained_bytes(&self) -> u64 {
        (self.head.bytes - self.trimmed_bytes) + EVENT_OVERHEAD_BYTES * self.retained_events()
    }

    pub fn retained_events(&self) -> u64 {
        self.head.last + 1 - self.head.first
    }

    /// Its row in the file.
    pub fn row(&self) -> HeadRow {
        HeadRow {
            number: self.number,
            life: self.life,
            base: self.head.base,
            first: self.head.first,
            trimmed_bytes: self.trimmed_bytes,
            dead: false,
        }
    }

    /// The next position. Called once for each event.
    fn advance(&mut self, payload_bytes: usize) -> Position {
        if self.before.is_none() {
            self.before = Some((self.head.last, self.head.bytes));
        }
        self.head.last += 1;
        self.head.bytes += payload_bytes as u64;
        Position { epoch: self.head.epoch, offset: self.head.last }
    }

    pub fn is_followed_live(&self) -> bool {
        self.follows.iter().any(|follow| follow.past.is_none())
    }
}

/// Events that are in the file and belong to no head: of a gateway that was deleted, or of an older epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Garbage {
    pub number: i64,
    /// Events below this offset.
    pub below: u64,
    /// Whether the row of the head goes as well.
    pub dead: bool,
}

impl Garbage {
    /// All that is stored of a gateway that is gone.
    pub fn of_dead(number: i64) -> Self {
        // SQLite's numbers are signed.
        Self { number, below: u64::MAX >> 1, dead: true }
    }
}

/// What was found when the heads were read.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Follows whose gateway has another epoch now. They are ended.
    pub ended: Vec<Follow>,
    /// Rows that are damaged, and made good.
    pub damaged: u64,
}

/// All gateways.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// The name of the log.
    pub epoch: u64,
    pub gateways: Slab<Gateway>,
    by_id: HashMap<GatewayId, usize>,
    by_number: HashMap<i64, usize>,
    follows: HashMap<(usize, FollowKey), usize>,
    /// Gateways that the group in progress has appended to.
    pub touched: Vec<usize>,
    pub retained_bytes: u64,
    pub retained_events: u64,
    next_number: i64,
    /// Follows that still get their past.
    pub in_the_past: usize,
    pub garbage: Vec<Garbage>,
    /// Gateways whose progress has changed since it was written.
    pub unwritten: Vec<usize>,
    /// Gateways whose progress begins once their older incarnation is forgotten: at most one of an id.
    pub to_begin: Vec<Life>,
    /// The group in progress has removed a gateway: if it is rolled back, the heads are read from the file again.
    pub stale_after_roll_back: bool,
}

impl Heads {
    /// Reads all heads. Follows and what is not written of the progress are kept from before.
    pub fn load(&mut self, connection: &Connection, log_epoch: u64) -> Result<Loaded, Trouble> {
        let mut fresh = Heads { epoch: log_epoch, next_number: 1, ..Heads::default() };
        for row in rows::heads(connection)? {
            fresh.skip_number(row.number);
            if row.dead {
                fresh.garbage.push(Garbage::of_dead(row.number));
                continue;
            }
            rows::check_head(connection, &row)?;
            if rows::has_below(connection, row.number, row.first)? {
                fresh.garbage.push(Garbage { number: row.number, below: row.first, dead: false });
            }
            let head = past::head(&row, rows::last_of(connection, &row)?, log_epoch);
            fresh.insert(row.number, row.life, head, row.trimmed_bytes, true);
        }
        rows::check_end(connection, |number| Some(fresh.gateways[fresh.index_of_number(number)?].head.last))?;
        let damaged = fresh.load_progress(connection)?;
        fresh.adopt_progress(self);
        let ended = fresh.adopt_follows(self);
        *self = fresh;
        Ok(Loaded { ended, damaged })
    }

    /// Takes over the follows of heads that were loaded before.
    fn adopt_follows(&mut self, old: &mut Heads) -> Vec<Follow> {
        let mut ended = Vec::new();
        for (_, gateway) in &mut old.gateways {
            if gateway.follows.is_empty() {
                continue;
            }
            // The group in progress was rolled back, so everything up to here was told.
            let last = gateway.head.last;
            let Some(index) = self.index_to_adopt(gateway.life) else {
                ended.append(&mut gateway.follows);
                continue;
            };
            let new = &self.gateways[index];
            if new.head.epoch != gateway.head.epoch || new.head.last < last || new.head.first > last + 1 {
                ended.append(&mut gateway.follows);
                continue;
            }
            // What was not told before comes as the past.
            let past = (new.head.last > last).then_some(last + 1);
            for follow in gateway.follows.drain(..) {
                self.add_follow(index, Follow { past: follow.past.or(past), ..follow });
            }
        }
        ended
    }

    fn insert(&mut self, number: i64, life: Life, head: Head, trimmed_bytes: u64, stored: bool) -> usize {
        let gateway = Gateway {
            number,
            life,
            head,
            trimmed_bytes,
            stored,
            progress: None,
            erased: 0,
            unwritten: false,
            follows: Vec::new(),
            fresh: Vec::new(),
            before: None,
        };
        self.retained_bytes += gateway.retained_bytes();
        self.retained_events += gateway.retained_events();
        let index = self.gateways.insert(gateway);
        self.by_id.insert(life.gateway, index);
        self.by_number.insert(number, index);
        index
    }

    /// The gateway with this id, of whatever incarnation.
    pub fn index_of(&self, gateway: GatewayId) -> Option<usize> {
        self.by_id.get(&gateway).copied()
    }

    /// The gateway, if it is known and of this incarnation.
    pub fn index_of_life(&self, life: Life) -> Option<usize> {
        self.index_of(life.gateway).filter(|index| self.gateways[*index].life == life)
    }

    pub fn index_of_number(&self, number: i64) -> Option<usize> {
        self.by_number.get(&number).copied()
    }

    fn index_to_adopt(&mut self, life: Life) -> Option<usize> {
        match self.index_of(life.gateway) {
            Some(index) => (self.gateways[index].life == life).then_some(index),
            None => Some(self.create(life)),
        }
    }

    /// The gateway of this id that is another incarnation. It is removed before this one is used.
    pub fn older_life(&self, life: Life) -> Option<Life> {
        self.index_of(life.gateway).map(|index| self.gateways[index].life).filter(|other| *other != life)
    }

    /// The gateway; created if there is none. The caller has removed an older incarnation.
    pub fn index_or_create(&mut self, life: Life) -> usize {
        match self.index_of(life.gateway) {
            Some(index) => index,
            None => self.create(life),
        }
    }

    /// No gateway is given this number.
    pub fn skip_number(&mut self, number: i64) {
        self.next_number = self.next_number.max(number.saturating_add(1));
    }

    fn create(&mut self, life: Life) -> usize {
        let number = self.next_number;
        self.next_number += 1;
        self.insert(number, life, past::empty_head(life, self.epoch), 0, false)
    }

    /// The next position of a gateway, in the group in progress.
    pub fn advance(&mut self, index: usize, payload_bytes: usize) -> Position {
        let gateway = &mut self.gateways[index];
        if gateway.before.is_none() {
            self.touched.push(index);
        }
        self.retained_bytes += payload_bytes as u64 + EVENT_OVERHEAD_BYTES;
        self.retained_events += 1;
        gateway.advance(payload_bytes)
    }

    /// Takes back all positions of the group in progress, which was not committed.
    pub fn roll_back(&mut self) {
        for index in std::mem::take(&mut self.touched) {
            let gateway = &mut self.gateways[index];
            gateway.fresh.clear();
            let (bytes, events) = (gateway.retained_bytes(), gateway.retained_events());
            if let Some((last, total)) = gateway.before.take() {
                (gateway.head.last, gateway.head.bytes) = (last, total);
            }
            self.retained_bytes -= bytes - gateway.retained_bytes();
            self.retained_events -= events - gateway.retained_events();
        }
    }

    /// Moves a gateway's begin after a trim.
    pub fn set_first(&mut self, index: usize, first: u64, trimmed_bytes: u64) {
        let gateway = &mut self.gateways[index];
        let (bytes, events) = (gateway.retained_bytes(), gateway.retained_events());
        (gateway.head.first, gateway.trimmed_bytes) = (first, trimmed_bytes);
        self.retained_bytes -= bytes - gateway.retained_bytes();
        self.retained_events -= events - gateway.retained_events();
    }

    /// Removes a gateway and its follows.
    pub fn remove(&mut self, index: usize) -> Gateway {
        let gateway = self.gateways.remove(index);
        if gateway.unwritten {
            self.unwritten.retain(|other| *other != index);
        }
        self.by_id.remove(&gateway.life.gateway);
        self.by_number.remove(&gateway.number);
        for follow in &gateway.follows {
            self.follows.remove(&(follow.port, follow.key));
            self.in_the_past -= usize::from(follow.past.is_some());
        }
        self.retained_bytes -= gateway.retained_bytes();
        self.retained_events -= gateway.retained_events();
        gateway
    }

    pub fn add_follow(&mut self, index: usize, follow: Follow) {
        self.in_the_past += usize::from(follow.past.is_some());
        self.follows.insert((follow.port, follow.key), index);
        self.gateways[index].follows.push(follow);
    }

    pub fn end_follow(&mut self, port: usize, key: FollowKey) {
        let Some(index) = self.follows.remove(&(port, key)) else { return };
        let follows = &mut self.gateways[index].follows;
        if let Some(at) = follows.iter().position(|follow| follow.port == port && follow.key == key) {
            let ended = follows.swap_remove(at);
            self.in_the_past -= usize::from(ended.past.is_some());
        }
    }

    /// Notes how far a follow has got its past.
    pub fn set_past(&mut self, index: usize, port: usize, key: FollowKey, past: Option<u64>) {
        let follows = &mut self.gateways[index].follows;
        if let Some(follow) = follows.iter_mut().find(|follow| follow.port == port && follow.key == key) {
            self.in_the_past -= usize::from(follow.past.is_some());
            self.in_the_past += usize::from(past.is_some());
            follow.past = past;
        }
    }
}
