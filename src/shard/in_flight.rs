//! Publishes that are not decided yet, and the answers that they will get.

use super::command::Reply;
use crate::{
    limits,
    model::{ConnectionId, Event, EventType, Failure, Instant, Position, PublishOutcome, ShardId},
};
use slab::Slab;
use std::collections::VecDeque;

/// Which request an answer belongs to; the asker's business, opaque here.
pub type RequestKey = u64;

/// Who asked: the core, and what it knows the request by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Origin {
    /// The asking core.
    pub shard: ShardId,
    /// Its key.
    pub key: RequestKey,
}

/// One event of one undecided publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventRef {
    publish: u32,
    event: u32,
}

/// How one delivery ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Written whole to the socket.
    Delivered,
    /// It will not be, for this reason.
    Failed(&'static str),
}

#[derive(Debug)]
struct PendingPublish {
    origin: Origin,
    serial: u64,
    many: bool,
    answered: bool,
    undecided: u32,
    /// `None` for an event whose gateway is not there.
    events: Vec<Option<PendingEvent>>,
}

#[derive(Debug)]
struct PendingEvent {
    kind: EventType,
    outcome: PublishOutcome,
}

/// All publishes of a shard that are in flight. A publish ends when its last delivery is decided; it is answered then, or when its time is up.
#[derive(Debug, Default)]
pub struct InFlight {
    publishes: Slab<PendingPublish>,
    deadlines: VecDeque<(Instant, u32, u64)>,
    serial: u64,
}

impl InFlight {
    /// Opens a publish for so many events. Until [`InFlight::seal`] it stays, whatever is decided: more may be added.
    pub fn open(&mut self, origin: Origin, events: usize, many: bool, deadline: Instant) -> u32 {
        self.serial += 1;
        let publish = PendingPublish {
            origin,
            serial: self.serial,
            many,
            answered: false,
            undecided: UNSEALED,
            events: Vec::with_capacity(events),
        };
        let key = u32::try_from(self.publishes.insert(publish)).expect("publishes are bounded by the inboxes");
        self.deadlines.push_back((deadline, key, self.serial));
        key
    }

    /// Adds an event to an open publish; `connections` deliveries of it are to be decided.
    pub fn add(&mut self, publish: u32, event: &Event, position: Position, connections: usize) -> EventRef {
        let entry = &mut self.publishes[publish as usize];
        let connections = u32::try_from(connections).expect("connections are capped far below 2^32");
        entry.undecided += connections;
        entry.events.push(Some(PendingEvent {
            kind: event.kind.clone(),
            outcome: PublishOutcome {
                correlation_id: event.correlation,
                position,
                connections,
                delivered: 0,
                failed: 0,
                pending: connections,
                failures: Vec::new(),
            },
        }));
        EventRef { publish, event: u32::try_from(entry.events.len() - 1).expect("a batch is bounded") }
    }

    /// Adds an event whose gateway is not there to an open publish: it has its place in the answer, and nothing to decide.
    pub fn add_without_gateway(&mut self, publish: u32) {
        self.publishes[publish as usize].events.push(None);
    }

    /// Events that were added to an open publish.
    pub fn events(&self, publish: u32) -> usize {
        self.publishes.get(publish as usize).map_or(0, |publish| publish.events.len())
    }

    /// What an undecided delivery is about.
    pub fn about(&self, of: EventRef) -> Option<(&EventType, &PublishOutcome)> {
        let pending = self.publishes.get(of.publish as usize)?.events.get(of.event as usize)?.as_ref()?;
        Some((&pending.kind, &pending.outcome))
    }

    /// Decides one delivery; returns the answer where it was the last.
    pub fn decide(&mut self, of: EventRef, connection: ConnectionId, outcome: Outcome) -> Option<(Origin, Reply)> {
        let publish = self.publishes.get_mut(of.publish as usize)?;
        let result = &mut publish.events[of.event as usize].as_mut()?.outcome;
        debug_assert!(result.pending > 0 && publish.undecided > 0, "a delivery is decided once");
        result.pending -= 1;
        match outcome {
            Outcome::Delivered => result.delivered += 1,
            Outcome::Failed(reason) => fail(result, Some(connection), reason),
        }
        publish.undecided -= 1;
        self.settle(of.publish)
    }

    /// The event had nobody to go to.
    pub fn unconnected(&mut self, of: EventRef) {
        if let Some(pending) = &mut self.publishes[of.publish as usize].events[of.event as usize] {
            fail(&mut pending.outcome, None, Failure::NOT_CONNECTED);
        }
    }

    /// All events were added; returns the answer where everything is decided already.
    pub fn seal(&mut self, publish: u32) -> Option<(Origin, Reply)> {
        self.publishes.get_mut(publish as usize)?.undecided -= UNSEALED;
        self.settle(publish)
    }

    /// Ends the publish if nothing of it is undecided; returns the answer where it was not given yet.
    fn settle(&mut self, publish: u32) -> Option<(Origin, Reply)> {
        if self.publishes.get(publish as usize)?.undecided > 0 {
            return None;
        }
        let mut publish = self.publishes.remove(publish as usize);
        let sums = publish.events.iter().flatten().all(|event| event.outcome.is_decided());
        debug_assert!(sums, "a publish is over when each of its deliveries is");
        (!publish.answered).then(|| (publish.origin, publish.reply()))
    }

    /// When the next answer is due whatever is decided.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        while let Some((deadline, key, serial)) = self.deadlines.front().copied() {
            if self.publishes.get(key as usize).is_some_and(|publish| publish.serial == serial) {
                return Some(deadline);
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// Answers one publish whose time is up; call until it returns `None`.
    pub fn expire(&mut self, now: Instant) -> Option<(Origin, Reply)> {
        while let Some((deadline, key, serial)) = self.deadlines.front().copied() {
            let live = self.publishes.get_mut(key as usize).filter(|publish| publish.serial == serial);
            if live.is_some() && deadline > now {
                return None;
            }
            self.deadlines.pop_front();
            if let Some(publish) = live {
                publish.answered = true;
                return Some((publish.origin, publish.reply_so_far()));
            }
        }
        None
    }

    /// Publishes that are undecided.
    pub fn len(&self) -> usize {
        self.publishes.len()
    }
}

impl PendingPublish {
    fn reply(&mut self) -> Reply {
        let mut outcomes = std::mem::take(&mut self.events).into_iter().map(|event| event.map(|event| event.outcome));
        if self.many {
            return Reply::PublishedMany(outcomes.collect());
        }
        outcomes.next().flatten().map_or(Reply::NoSuchGateway, Reply::Published)
    }

    fn reply_so_far(&self) -> Reply {
        let mut outcomes = self.events.iter().map(|event| event.as_ref().map(|event| event.outcome.clone()));
        if self.many {
            return Reply::PublishedMany(outcomes.collect());
        }
        outcomes.next().flatten().map_or(Reply::NoSuchGateway, Reply::Published)
    }
}

fn fail(outcome: &mut PublishOutcome, connection_id: Option<ConnectionId>, reason: &'static str) {
    outcome.failed += 1;
    if outcome.failures.len() < limits::FAILURES_LISTED_MAX {
        outcome.failures.push(Failure { connection_id, reason });
    }
}

/// What holds a publish open while events are added to it.
const UNSEALED: u32 = 1;
