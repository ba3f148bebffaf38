//! Publishes with pending deliveries: counts their outcomes, and makes their replies.
//!
//! A publish is in flight until its last delivery is decided, that is, written to a socket or failed. Its publisher
//! gets the reply then, or at the publish timeout if that is earlier. After a timeout the publish stays here, so that
//! the rest of its deliveries is still counted.

use super::command::Reply;
use crate::{
    limits,
    model::{ConnectionId, Event, EventType, Failure, Instant, Position, PublishOutcome, ShardId},
};
use slab::Slab;
use std::collections::VecDeque;

/// The key of a request at the core that sent it; opaque here.
pub type RequestKey = u64;

/// The sender of a command: where its reply goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Origin {
    /// The core that sent the command.
    pub shard: ShardId,
    /// Its key for the request.
    pub key: RequestKey,
}

/// One event of one publish that is in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventRef {
    publish: u32,
    event: u32,
}

/// How one delivery ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The event was written whole to the socket.
    Delivered,
    /// It was not and will not be, for this reason.
    Failed(&'static str),
}

#[derive(Debug)]
struct PendingPublish {
    origin: Origin,
    serial: u64,
    /// Whether the reply is [`Reply::PublishedMany`].
    many: bool,
    /// The reply was sent at the timeout.
    answered: bool,
    /// Number of undecided deliveries, plus [`UNSEALED`] while events are added.
    undecided: u32,
    /// `None` for an event whose gateway does not exist.
    events: Vec<Option<PendingEvent>>,
}

#[derive(Debug)]
struct PendingEvent {
    kind: EventType,
    outcome: PublishOutcome,
}

/// All publishes of one shard that are in flight.
#[derive(Debug, Default)]
pub struct InFlight {
    publishes: Slab<PendingPublish>,
    /// Deadline, key and serial of each publish, in the order in which they were opened. All have the same timeout, so
    /// this is also the order of the deadlines.
    deadlines: VecDeque<(Instant, u32, u64)>,
    /// Serial of the last publish. A slab key is used again, and its old deadline must not answer the new publish.
    serial: u64,
}

impl InFlight {
    /// Opens a publish of `events` events and returns its key. It stays in flight at least until [`InFlight::seal`].
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

    /// Adds an event with `connections` pending deliveries to an open publish.
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

    /// Adds an event whose gateway does not exist. It has its place in the reply, but no deliveries.
    pub fn add_without_gateway(&mut self, publish: u32) {
        self.publishes[publish as usize].events.push(None);
    }

    /// Number of events that were added to an open publish.
    pub fn events(&self, publish: u32) -> usize {
        self.publishes.get(publish as usize).map_or(0, |publish| publish.events.len())
    }

    /// Type and outcome so far of an event in flight.
    pub fn event(&self, of: EventRef) -> Option<(&EventType, &PublishOutcome)> {
        let pending = self.publishes.get(of.publish as usize)?.events.get(of.event as usize)?.as_ref()?;
        Some((&pending.kind, &pending.outcome))
    }

    /// Decides one delivery. Returns the reply if it was the last one and the publish was not answered yet.
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

    /// Counts an event whose gateway has no connection as failed.
    pub fn fail_unconnected(&mut self, of: EventRef) {
        if let Some(pending) = &mut self.publishes[of.publish as usize].events[of.event as usize] {
            fail(&mut pending.outcome, None, Failure::NOT_CONNECTED);
        }
    }

    /// Closes a publish for more events. Returns the reply if every delivery is decided already.
    pub fn seal(&mut self, publish: u32) -> Option<(Origin, Reply)> {
        self.publishes.get_mut(publish as usize)?.undecided -= UNSEALED;
        self.settle(publish)
    }

    /// Removes the publish if every delivery is decided. Returns the reply, unless it was sent at the timeout.
    fn settle(&mut self, publish: u32) -> Option<(Origin, Reply)> {
        if self.publishes.get(publish as usize)?.undecided > 0 {
            return None;
        }
        let mut publish = self.publishes.remove(publish as usize);
        let all_decided = publish.events.iter().flatten().all(|event| event.outcome.is_decided());
        debug_assert!(all_decided, "a publish is over when each of its deliveries is");
        (!publish.answered).then(|| (publish.origin, publish.reply()))
    }

    /// The earliest deadline of an unanswered publish.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        // A decided publish leaves its deadline behind: removing it from the middle would cost a search. It is dropped
        // here once it is the oldest.
        while let Some((deadline, key, serial)) = self.deadlines.front().copied() {
            if self.publishes.get(key as usize).is_some_and(|publish| publish.serial == serial) {
                return Some(deadline);
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// Makes the reply to one publish whose deadline has passed. Call it until it returns `None`.
    pub fn expire(&mut self, now: Instant) -> Option<(Origin, Reply)> {
        while let Some((deadline, key, serial)) = self.deadlines.front().copied() {
            let live = self.publishes.get_mut(key as usize).filter(|publish| publish.serial == serial);
            if live.is_some() && deadline > now {
                return None;
            }
            self.deadlines.pop_front();
            if let Some(publish) = live {
                // The publish is not removed: outboxes still refer to it, and its deliveries are still counted.
                publish.answered = true;
                return Some((publish.origin, publish.reply_so_far()));
            }
        }
        None
    }

    /// Number of publishes in flight, including those that were answered at their timeout.
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
    // The count stays exact. The list is bounded, or a large fleet that is away would make the reply megabytes.
    if outcome.failures.len() < limits::FAILURES_LISTED_MAX {
        outcome.failures.push(Failure { connection_id, reason });
    }
}

/// Added to the undecided deliveries of a publish until it is sealed. Without it, a first event that is decided at once
/// would answer the publish before the others are added.
const UNSEALED: u32 = 1;
