//! Publishes without an answer: what became of each event, and the reply that is made of it.
//!
//! ```text
//!   add ──▶ appending ──▶ kept ──▶ deliver: counted for each live connection ──▶ decide, once for each ──▶ reply
//!               └─▶ not kept
//! ```
//!
//! A publish is in flight until its last event is decided. Its publisher gets the reply then, or at the publish timeout
//! if that is earlier. After a timeout the publish stays here, so that the rest of its deliveries is still counted.

use super::command::{NotKept, Published, Reply};
use crate::{
    limits,
    model::{
        ConnectionId, CorrelationId, Event, EventType, Failure, Instant, Kept, Position, PublishOutcome, ShardId,
        log::Why,
    },
};
use slab::Slab;
use smallvec::SmallVec;
use std::{collections::VecDeque, sync::Arc};

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
    /// It was not written to this connection and will not be, for this reason.
    Failed(ConnectionId, &'static str),
    /// The connection has fallen behind: it gets the event, but the publisher does not wait for that.
    Deferred,
}

#[derive(Debug)]
struct PendingPublish {
    origin: Origin,
    serial: u64,
    /// Whether the reply is [`Reply::PublishedMany`].
    many: bool,
    /// The reply was sent at the timeout.
    answered: bool,
    /// Number of events that are not delivered yet and of deliveries that are not decided, plus [`UNSEALED`] while events
    /// are added.
    undecided: u32,
    events: SmallVec<[PendingEvent; 1]>,
}

#[derive(Debug)]
enum PendingEvent {
    /// The log has not answered. With whether its gateway gets it later, if it is away now.
    Appending(Arc<Event>, bool),
    /// It has a position; with whether its gateway gets it later, if it is away now. Only its type is left of the event: a slow connection can hold this for long, and with it the
    /// other events of a batch.
    Kept(EventType, PublishOutcome, bool),
    /// The log did not keep it, or cannot tell.
    NotKept(NotKept),
    NoSuchGateway,
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
            events: SmallVec::with_capacity(events),
        };
        let key = u32::try_from(self.publishes.insert(publish)).expect("publishes are bounded by the inboxes");
        self.deadlines.push_back((deadline, key, self.serial));
        key
    }

    /// Adds an event that is being appended to an open publish; `waits` if its gateway gets it later in case that it is away.
    pub fn add(&mut self, publish: u32, event: Arc<Event>, waits: bool) -> EventRef {
        let entry = &mut self.publishes[publish as usize];
        entry.undecided += 1;
        entry.events.push(PendingEvent::Appending(event, waits));
        EventRef { publish, event: u32::try_from(entry.events.len() - 1).expect("a batch is bounded") }
    }

    /// Adds an event whose gateway does not exist. It has its place in the reply, and is decided.
    pub fn add_without_gateway(&mut self, publish: u32) {
        self.publishes[publish as usize].events.push(PendingEvent::NoSuchGateway);
    }

    /// Adds an event that is refused before the log is asked.
    pub fn add_not_kept(&mut self, publish: u32, why: NotKept) {
        self.publishes[publish as usize].events.push(PendingEvent::NotKept(why));
    }

    /// Number of events that were added to an open publish.
    pub fn events(&self, publish: u32) -> usize {
        self.publishes.get(publish as usize).map_or(0, |publish| publish.events.len())
    }

    /// An event that is being appended, and whether its gateway gets it later in case that it is away.
    pub fn appending(&self, of: EventRef) -> Option<(&Event, bool)> {
        match self.publishes.get(of.publish as usize)?.events.get(of.event as usize)? {
            PendingEvent::Appending(event, waits) => Some((event, *waits)),
            _ => None,
        }
    }

    /// The type and the correlation id of an event that is kept.
    pub fn kept(&self, of: EventRef) -> Option<(&EventType, CorrelationId)> {
        match self.publishes.get(of.publish as usize)?.events.get(of.event as usize)? {
            PendingEvent::Kept(kind, outcome, _) => Some((kind, outcome.correlation_id)),
            _ => None,
        }
    }

    /// The log has kept an event, and its gateway has this number of connections now.
    pub fn keep(&mut self, of: EventRef, position: Position, connections: u32) {
        let Some(publish) = self.publishes.get_mut(of.publish as usize) else { return };
        let place = &mut publish.events[of.event as usize];
        let PendingEvent::Appending(event, waits) = place else {
            debug_assert!(false, "an event is appended once");
            return;
        };
        let outcome = PublishOutcome {
            correlation_id: event.correlation,
            position,
            connections,
            delivered: 0,
            failed: 0,
            pending: connections,
            waiting: false,
            failures: Vec::new(),
            awaiting: None,
        };
        *place = PendingEvent::Kept(event.kind.clone(), outcome, *waits);
    }

    /// The log has not kept an event, or cannot tell. Returns the reply if this decides the publish.
    pub fn reject(&mut self, of: EventRef, why: NotKept) -> Option<(Origin, Reply)> {
        let publish = self.publishes.get_mut(of.publish as usize)?;
        publish.events[of.event as usize] = PendingEvent::NotKept(why);
        publish.undecided -= 1;
        self.settle(of.publish)
    }

    /// The gateway was deleted before the log kept the event.
    pub fn reject_without_gateway(&mut self, of: EventRef) -> Option<(Origin, Reply)> {
        let publish = self.publishes.get_mut(of.publish as usize)?;
        publish.events[of.event as usize] = PendingEvent::NoSuchGateway;
        publish.undecided -= 1;
        self.settle(of.publish)
    }

    /// A kept event has reached the connections of its gateway. The publisher waits for `counted` of them; the others
    /// are behind. Without any, the delivery has failed, or the event waits. `is_away` if none of them is the gateway's, but only those
    /// that look on. Returns the reply if this decides the publish.
    pub fn deliver(&mut self, of: EventRef, connections: u32, counted: u32, is_away: bool) -> Option<(Origin, Reply)> {
        debug_assert!(counted <= connections);
        let publish = self.publishes.get_mut(of.publish as usize)?;
        let PendingEvent::Kept(_, outcome, waits) = &mut publish.events[of.event as usize] else {
            debug_assert!(false, "an event is kept before it is delivered");
            return None;
        };
        (outcome.connections, outcome.pending) = (connections, connections);
        outcome.waiting = *waits && is_away;
        if connections == 0 && !outcome.waiting {
            fail(outcome, None, Failure::NOT_CONNECTED);
        }
        publish.undecided = publish.undecided + counted - 1;
        self.settle(of.publish)
    }

    /// Whether a kept event waits for its gateway, if that is away.
    pub fn waits(&self, of: EventRef) -> bool {
        let event = self.publishes.get(of.publish as usize).and_then(|publish| publish.events.get(of.event as usize));
        matches!(event, Some(PendingEvent::Kept(_, _, true)))
    }

    /// Decides one delivery. Returns the reply if it was the last one and the publish was not answered yet.
    pub fn decide(&mut self, of: EventRef, outcome: Outcome) -> Option<(Origin, Reply)> {
        let publish = self.publishes.get_mut(of.publish as usize)?;
        let PendingEvent::Kept(_, result, _) = &mut publish.events[of.event as usize] else {
            debug_assert!(false, "an event is kept before it is delivered");
            return None;
        };
        debug_assert!(result.pending > 0 && publish.undecided > 0, "a delivery is decided once");
        match outcome {
            Outcome::Deferred => {}
            Outcome::Delivered => {
                result.pending -= 1;
                result.delivered += 1;
            }
            Outcome::Failed(connection, reason) => {
                result.pending -= 1;
                fail(result, Some(connection), reason);
            }
        }
        publish.undecided -= 1;
        self.settle(of.publish)
    }

    /// Closes a publish for more events. Returns the reply if everything is decided already.
    pub fn seal(&mut self, publish: u32) -> Option<(Origin, Reply)> {
        self.publishes.get_mut(publish as usize)?.undecided -= UNSEALED;
        self.settle(publish)
    }

    /// Removes the publish if everything is decided. Returns the reply, unless it was sent at the timeout.
    fn settle(&mut self, publish: u32) -> Option<(Origin, Reply)> {
        if self.publishes.get(publish as usize)?.undecided > 0 {
            return None;
        }
        let publish = self.publishes.remove(publish as usize);
        let appending = publish.events.iter().any(|event| matches!(event, PendingEvent::Appending(..)));
        debug_assert!(!appending, "a publish is over when the log has answered for each of its events");
        (!publish.answered).then(|| (publish.origin, publish.into_reply()))
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
                // The publish is not removed: the log and recent records still refer to it, and its deliveries are still
                // counted.
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
    fn into_reply(self) -> Reply {
        reply(self.many, self.events.into_iter().map(PendingEvent::into_published))
    }

    fn reply_so_far(&self) -> Reply {
        reply(self.many, self.events.iter().map(PendingEvent::published_so_far))
    }
}

fn reply(many: bool, mut results: impl Iterator<Item = Published>) -> Reply {
    if many {
        return Reply::PublishedMany(results.collect());
    }
    Reply::Published(results.next().unwrap_or(Published::NoSuchGateway))
}

impl PendingEvent {
    fn into_published(self) -> Published {
        match self {
            Self::Kept(_, outcome, _) => Published::Outcome(outcome),
            other => other.published_so_far(),
        }
    }

    fn published_so_far(&self) -> Published {
        match self {
            // It may still be kept, and is delivered then.
            Self::Appending(..) => Published::NotKept(NotKept { kept: Kept::Unknown, why: Why::Stuck }),
            Self::Kept(_, outcome, _) => Published::Outcome(outcome.clone()),
            Self::NotKept(why) => Published::NotKept(*why),
            Self::NoSuchGateway => Published::NoSuchGateway,
        }
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
