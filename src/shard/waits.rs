//! Publishers that wait until their events are processed: their replies are held back until then, or until their time is over.

use super::{command::Reply, in_flight::Origin};
use crate::model::{GatewayId, Instant};
use ahash::HashMap;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One event of a reply that is held back.
#[derive(Clone, Copy, Debug)]
struct Target {
    held: usize,
    /// Its place in the reply.
    index: usize,
    /// Why its gateway was not given it.
    skipped: Option<&'static str>,
}

/// What became of one event of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Awaited {
    /// It was processed, or passed over for this reason.
    Reached(Option<&'static str>),
    /// It was not, at this offset, when the time was over.
    Missing(GatewayId, u64),
}

/// A reply, with what became of its events.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) origin: Origin,
    pub(super) reply: Reply,
    /// For each event that has a position, its place in the reply.
    pub(super) awaited: Vec<(usize, Awaited)>,
    deadline: Instant,
    open: usize,
    serial: u64,
}

/// All publishers of one shard that wait.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Publishes that are not decided: until when each waits, and the gateways of its events.
    asked: HashMap<Origin, (Instant, Vec<GatewayId>)>,
    held: Slab<Held>,
    targets: HashMap<GatewayId, BTreeMap<u64, Vec<Target>>>,
    deadlines: BTreeSet<(Instant, usize, u64)>,
    complete: VecDeque<Held>,
    serial: u64,
    /// The hub ends.
    has_ended: bool,
}

impl Waits {
    /// Number of publishes that wait.
    pub(super) fn len(&self) -> usize {
        self.asked.len() + self.held.len()
    }

    /// Whether the hub ends, so that nobody may wait.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// A publish that is begun now waits until `deadline`.
    pub(super) fn ask(&mut self, origin: Origin, deadline: Instant, gateways: Vec<GatewayId>) {
        self.asked.insert(origin, (deadline, gateways));
    }

    /// A publish is decided. If it waits: until when, and for which gateways.
    pub(super) fn take_asked(&mut self, origin: Origin) -> Option<(Instant, Vec<GatewayId>)> {
        if self.asked.is_empty() { None } else { self.asked.remove(&origin) }
    }

    /// Holds a reply back until the events at these places and offsets are processed. `deadline` is not passed.
    pub(super) fn hold(
        &mut self,
        (origin, reply): (Origin, Reply),
        deadline: Instant,
        events: Vec<(usize, GatewayId, u64)>,
    ) {
        self.serial += 1;
        let (serial, open) = (self.serial, events.len());
        let held = self.held.insert(Held { origin, reply, awaited: Vec::with_capacity(open), deadline, open, serial });
        self.deadlines.insert((deadline, held, serial));
        for (index, gateway, offset) in events {
            let target = Target { held, index, skipped: None };
            self.targets.entry(gateway).or_default().entry(offset).or_default().push(target);
        }
        if open == 0 {
            self.complete(held);
        }
    }

    /// Whether somebody waits for an event of a gateway.
    pub(super) fn has(&self, gateway: GatewayId) -> bool {
        !self.targets.is_empty() && self.targets.contains_key(&gateway)
    }

    /// A gateway was not given the event at an offset.
    pub(super) fn skip(&mut self, gateway: GatewayId, offset: u64, why: &'static str) {
        let targets = self.targets.get_mut(&gateway).and_then(|offsets| offsets.get_mut(&offset));
        targets.into_iter().flatten().for_each(|target| target.skipped = Some(why));
    }

    /// A gateway was not given the events up to an offset.
    pub(super) fn skip_to(&mut self, gateway: GatewayId, offset: u64, why: &'static str) {
        let offsets = self.targets.get_mut(&gateway).into_iter().flat_map(|offsets| offsets.range_mut(..=offset));
        offsets.flat_map(|(_, targets)| targets).for_each(|target| target.skipped = Some(why));
    }

    /// A gateway has processed everything up to an offset.
    pub(super) fn reach(&mut self, gateway: GatewayId, offset: u64) {
        let Some(offsets) = self.targets.get_mut(&gateway) else { return };
        let later = offsets.split_off(&(offset + 1));
        let reached = std::mem::replace(offsets, later);
        if offsets.is_empty() {
            self.targets.remove(&gateway);
        }
        for Target { held: key, index, skipped } in reached.into_values().flatten() {
            let Some(held) = self.held.get_mut(key) else { continue };
            held.awaited.push((index, Awaited::Reached(skipped)));
            held.open -= 1;
            if held.open == 0 {
                self.complete(key);
            }
        }
    }

    fn complete(&mut self, key: usize) {
        let held = self.held.remove(key);
        self.deadlines.remove(&(held.deadline, key, held.serial));
        self.complete.push_back(held);
    }

    /// Takes a reply whose events were all processed.
    pub(super) fn pop_complete(&mut self) -> Option<Held> {
        self.complete.pop_front()
    }

    /// When the time of the next one is over.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, ..)| *at)
    }

    /// Takes a reply whose time is over.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<Held> {
        let (_, key, _) = *self.deadlines.first().filter(|(at, ..)| *at <= now)?;
        let mut missing = Vec::new();
        self.targets.retain(|gateway, offsets| {
            offsets.retain(|offset, targets| {
                let ours = targets.iter().filter(|target| target.held == key);
                missing.extend(ours.map(|target| (target.index, Awaited::Missing(*gateway, *offset))));
                targets.retain(|target| target.held != key);
                !targets.is_empty()
            });
            !offsets.is_empty()
        });
        let held = self.held.get_mut(key)?;
        held.awaited.append(&mut missing);
        self.complete(key);
        self.complete.pop_back()
    }

    /// Everybody waits no longer: the hub ends.
    pub(super) fn end(&mut self, now: Instant) {
        self.has_ended = true;
        for (deadline, _) in self.asked.values_mut() {
            *deadline = now;
        }
        let all = std::mem::take(&mut self.deadlines);
        for (_, key, serial) in all {
            if let Some(held) = self.held.get_mut(key) {
                held.deadline = now;
                self.deadlines.insert((now, key, serial));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ShardId;

    fn origin(key: u64) -> Origin {
        Origin { shard: ShardId(0), key }
    }

    fn reply() -> Reply {
        Reply::PublishedMany(Vec::new())
    }

    #[test]
    fn a_reply_is_complete_with_its_last_event() {
        let (mut waits, [a, b]) = (Waits::default(), [(); 2].map(|()| GatewayId::random()));
        waits.hold((origin(1), reply()), Instant(100), vec![(0, a, 4), (1, b, 9), (2, a, 6)]);
        waits.hold((origin(2), reply()), Instant(100), vec![(0, a, 5)]);
        waits.skip(a, 4, "replay");
        waits.reach(a, 5);
        let first = waits.pop_complete().unwrap();
        assert_eq!((first.origin, first.awaited), (origin(2), vec![(0, Awaited::Reached(None))]));
        waits.reach(b, 9);
        assert!(waits.pop_complete().is_none() && !waits.has(b));
        waits.reach(a, 100);
        let second = waits.pop_complete().unwrap();
        let expected =
            [(0, Awaited::Reached(Some("replay"))), (1, Awaited::Reached(None)), (2, Awaited::Reached(None))];
        assert_eq!(second.awaited, expected);
        assert_eq!((waits.len(), waits.poll_timeout()), (0, None));
    }

    #[test]
    fn a_reply_whose_time_is_over_says_what_is_missing() {
        let (mut waits, a) = (Waits::default(), GatewayId::random());
        waits.hold((origin(1), reply()), Instant(100), vec![(0, a, 4), (1, a, 6)]);
        waits.hold((origin(2), reply()), Instant(90), vec![(0, a, 6)]);
        waits.reach(a, 4);
        assert!(waits.pop_expired(Instant(89)).is_none());
        assert_eq!(waits.pop_expired(Instant(100)).unwrap().origin, origin(2));
        let held = waits.pop_expired(Instant(100)).unwrap();
        assert_eq!(held.awaited, [(0, Awaited::Reached(None)), (1, Awaited::Missing(a, 6))]);
        assert!(!waits.has(a) && waits.pop_expired(Instant(200)).is_none());
    }

    #[test]
    fn at_the_end_nobody_waits() {
        let (mut waits, a) = (Waits::default(), GatewayId::random());
        waits.hold((origin(1), reply()), Instant(100), vec![(0, a, 4)]);
        waits.ask(origin(2), Instant(100), vec![a]);
        waits.end(Instant(5));
        assert!(waits.pop_expired(Instant(5)).is_some());
        assert_eq!(waits.take_asked(origin(2)), Some((Instant(5), vec![a])));
    }
}
