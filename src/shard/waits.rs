//! Publishers that wait until their events are processed: their replies are held back until then, or until their time is over.

use super::{command::Reply, in_flight::Origin};
use crate::model::{GatewayId, Instant, Missing, Position};
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

/// The events of one gateway that somebody waits for, by their offsets.
#[derive(Debug)]
struct Targets {
    /// The epoch of their positions. Offsets of another one name other events.
    epoch: u64,
    offsets: BTreeMap<u64, Vec<Target>>,
}

/// What became of one event of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Awaited {
    /// It was processed, or passed over for this reason.
    Reached(Option<&'static str>),
    /// It was not, at this offset, when the time was over.
    Missing(GatewayId, u64),
    /// It never will be seen to be, for this reason.
    Lost(&'static str),
}

/// A publish that is to wait, and is not decided yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    /// Until when it waits; `None` if it may not.
    pub(super) deadline: Option<Instant>,
    /// The gateways of its events.
    pub(super) gateways: Vec<GatewayId>,
}

/// A reply, with what became of its events.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) origin: Origin,
    pub(super) reply: Reply,
    /// For each event that has a position, its place in the reply.
    pub(super) awaited: Vec<(usize, Awaited)>,
    /// The events that it waits for: their places, gateways and offsets.
    events: Vec<(usize, GatewayId, u64)>,
    deadline: Instant,
}

/// All publishers of one shard that wait.
#[derive(Debug, Default)]
pub(super) struct Waits {
    asked: HashMap<Origin, Asked>,
    held: Slab<Held>,
    targets: HashMap<GatewayId, Targets>,
    /// With the key of each in `held`.
    deadlines: BTreeSet<(Instant, usize)>,
    complete: VecDeque<Held>,
    /// Events in `asked` and `held`.
    events: usize,
    /// The hub ends.
    has_ended: bool,
}

impl Waits {
    /// Number of events that are waited for.
    pub(super) fn len(&self) -> usize {
        self.events
    }

    /// Whether the hub ends, so that nobody may wait.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// A publish is begun that waits.
    pub(super) fn ask(&mut self, origin: Origin, asked: Asked) {
        self.events += asked.gateways.len();
        self.asked.insert(origin, asked);
    }

    /// A publish is decided: whether it waits.
    pub(super) fn take_asked(&mut self, origin: Origin) -> Option<Asked> {
        if self.asked.is_empty() {
            return None;
        }
        let asked = self.asked.remove(&origin)?;
        self.events -= asked.gateways.len();
        Some(asked)
    }

    /// Holds a reply back until the events at these places are processed, and until `deadline` at the latest.
    pub(super) fn hold(
        &mut self,
        (origin, reply): (Origin, Reply),
        deadline: Instant,
        events: &[(usize, GatewayId, Position)],
    ) {
        let places = events.iter().map(|(index, gateway, position)| (*index, *gateway, position.offset)).collect();
        let awaited = Vec::with_capacity(events.len());
        let key = self.held.insert(Held { origin, reply, awaited, events: places, deadline });
        self.events += events.len();
        self.deadlines.insert((deadline, key));
        for (index, gateway, Position { epoch, offset }) in events.iter().copied() {
            if self.targets.get(&gateway).is_some_and(|targets| targets.epoch != epoch) {
                self.lose(gateway, Missing::REPLACED);
            }
            let targets = self.targets.entry(gateway).or_insert_with(|| Targets { epoch, offsets: BTreeMap::new() });
            targets.offsets.entry(offset).or_default().push(Target { held: key, index, skipped: None });
        }
        if events.is_empty() {
            self.complete(key);
        }
    }

    /// Whether somebody waits for an event of a gateway.
    pub(super) fn has(&self, gateway: GatewayId) -> bool {
        !self.targets.is_empty() && self.targets.contains_key(&gateway)
    }

    /// A gateway was not given the event at an offset.
    pub(super) fn skip(&mut self, gateway: GatewayId, offset: u64, why: &'static str) {
        self.skip_range(gateway, offset..=offset, why);
    }

    /// A gateway was not given the events in a range.
    pub(super) fn skip_range(&mut self, gateway: GatewayId, range: std::ops::RangeInclusive<u64>, why: &'static str) {
        let Some(targets) = self.targets.get_mut(&gateway) else { return };
        let skipped = targets.offsets.range_mut(range).flat_map(|(_, targets)| targets);
        skipped.for_each(|target| target.skipped = Some(why));
    }

    /// A gateway has processed everything up to a position.
    pub(super) fn reach(&mut self, gateway: GatewayId, Position { epoch, offset }: Position) {
        let Some(targets) = self.targets.get_mut(&gateway) else { return };
        if targets.epoch != epoch {
            return self.lose(gateway, Missing::REPLACED);
        }
        let later = targets.offsets.split_off(&(offset + 1));
        let reached = std::mem::replace(&mut targets.offsets, later);
        if targets.offsets.is_empty() {
            self.targets.remove(&gateway);
        }
        for Target { held, index, skipped } in reached.into_values().flatten() {
            self.decide(held, index, Awaited::Reached(skipped));
        }
    }

    /// Nobody waits any longer for the events of a gateway, for this reason.
    pub(super) fn lose(&mut self, gateway: GatewayId, why: &'static str) {
        let lost = self.targets.remove(&gateway);
        for Target { held, index, .. } in lost.into_iter().flat_map(|targets| targets.offsets.into_values().flatten()) {
            self.decide(held, index, Awaited::Lost(why));
        }
    }

    fn decide(&mut self, key: usize, index: usize, awaited: Awaited) {
        let Some(held) = self.held.get_mut(key) else { return };
        held.awaited.push((index, awaited));
        if held.awaited.len() == held.events.len() {
            self.complete(key);
        }
    }

    fn complete(&mut self, key: usize) {
        let held = self.held.remove(key);
        self.events -= held.events.len();
        self.deadlines.remove(&(held.deadline, key));
        self.complete.push_back(held);
    }

    /// Takes a reply that waits for nothing any more.
    pub(super) fn pop_complete(&mut self) -> Option<Held> {
        self.complete.pop_front()
    }

    /// When the time of the next one is over.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, ..)| *at)
    }

    /// Takes a reply whose time is over.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<Held> {
        let (_, key) = *self.deadlines.first().filter(|(at, ..)| *at <= now)?;
        let events = self.held.get(key)?.events.clone();
        for (index, gateway, offset) in events {
            if self.remove_target(key, index, gateway, offset)
                && let Some(held) = self.held.get_mut(key)
            {
                held.awaited.push((index, Awaited::Missing(gateway, offset)));
            }
        }
        self.complete(key);
        self.complete.pop_back()
    }

    /// Removes what a reply waits for; returns whether it still did.
    fn remove_target(&mut self, key: usize, index: usize, gateway: GatewayId, offset: u64) -> bool {
        let Some(targets) = self.targets.get_mut(&gateway) else { return false };
        let Some(at_offset) = targets.offsets.get_mut(&offset) else { return false };
        let before = at_offset.len();
        at_offset.retain(|target| (target.held, target.index) != (key, index));
        let is_removed = at_offset.len() < before;
        if at_offset.is_empty() {
            targets.offsets.remove(&offset);
        }
        if targets.offsets.is_empty() {
            self.targets.remove(&gateway);
        }
        is_removed
    }

    /// Everybody waits no longer: the hub ends.
    pub(super) fn end(&mut self, now: Instant) {
        self.has_ended = true;
        for asked in self.asked.values_mut() {
            asked.deadline = asked.deadline.map(|_| now);
        }
        self.deadlines.clear();
        for (key, held) in &mut self.held {
            held.deadline = now;
            self.deadlines.insert((now, key));
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

    fn at(offset: u64) -> Position {
        Position { epoch: 1, offset }
    }

    fn reply() -> Reply {
        Reply::PublishedMany(Vec::new())
    }

    #[test]
    fn a_reply_is_complete_with_its_last_event() {
        let (mut waits, [a, b]) = (Waits::default(), [(); 2].map(|()| GatewayId::random()));
        waits.hold((origin(1), reply()), Instant(100), &[(0, a, at(4)), (1, b, at(9)), (2, a, at(6))]);
        waits.hold((origin(2), reply()), Instant(100), &[(0, a, at(5))]);
        waits.skip(a, 4, "replay");
        waits.reach(a, at(5));
        let first = waits.pop_complete().unwrap();
        assert_eq!((first.origin, first.awaited), (origin(2), vec![(0, Awaited::Reached(None))]));
        waits.reach(b, at(9));
        assert!(waits.pop_complete().is_none() && !waits.has(b));
        waits.reach(a, at(100));
        let second = waits.pop_complete().unwrap();
        let expected =
            [(0, Awaited::Reached(Some("replay"))), (1, Awaited::Reached(None)), (2, Awaited::Reached(None))];
        assert_eq!(second.awaited, expected);
        assert_eq!((waits.len(), waits.poll_timeout()), (0, None));
    }

    #[test]
    fn a_reply_whose_time_is_over_says_what_is_missing() {
        let (mut waits, a) = (Waits::default(), GatewayId::random());
        waits.hold((origin(1), reply()), Instant(100), &[(0, a, at(4)), (1, a, at(6))]);
        waits.hold((origin(2), reply()), Instant(90), &[(0, a, at(6))]);
        waits.reach(a, at(4));
        assert!(waits.pop_expired(Instant(89)).is_none());
        assert_eq!(waits.pop_expired(Instant(100)).unwrap().origin, origin(2));
        let held = waits.pop_expired(Instant(100)).unwrap();
        assert_eq!(held.awaited, [(0, Awaited::Reached(None)), (1, Awaited::Missing(a, 6))]);
        assert!(!waits.has(a) && waits.pop_expired(Instant(200)).is_none());
    }

    #[test]
    fn at_the_end_nobody_waits() {
        let (mut waits, a) = (Waits::default(), GatewayId::random());
        waits.hold((origin(1), reply()), Instant(100), &[(0, a, at(4))]);
        waits.ask(origin(2), Asked { deadline: Some(Instant(100)), gateways: vec![a] });
        waits.end(Instant(5));
        assert!(waits.pop_expired(Instant(5)).is_some());
        let asked = Asked { deadline: Some(Instant(5)), gateways: vec![a] };
        assert_eq!(waits.take_asked(origin(2)), Some(asked));
        assert_eq!(waits.len(), 0);
    }

    #[test]
    fn offsets_of_another_epoch_are_not_those_that_are_waited_for() {
        let (mut waits, a) = (Waits::default(), GatewayId::random());
        waits.hold((origin(1), reply()), Instant(100), &[(0, a, at(4))]);
        waits.reach(a, Position { epoch: 2, offset: 9 });
        assert_eq!(waits.pop_complete().unwrap().awaited, [(0, Awaited::Lost(Missing::REPLACED))]);
        waits.hold((origin(1), reply()), Instant(100), &[(0, a, at(4))]);
        waits.hold((origin(2), reply()), Instant(100), &[(0, a, Position { epoch: 2, offset: 4 })]);
        assert_eq!(waits.pop_complete().unwrap().origin, origin(1));
        waits.lose(a, Missing::DELETED);
        assert_eq!(waits.pop_complete().unwrap().awaited, [(0, Awaited::Lost(Missing::DELETED))]);
        assert_eq!((waits.len(), waits.poll_timeout()), (0, None));
    }
}
