//! The oracle's record of every HTTP request and every event in it, with what the wire and the answers have shown
//! since.

use crate::model::{ConnectionId, DeliveryMode, GatewayId, Instant};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};
use uuid::Uuid;

/// One event of a publish, batch or deployment.
pub(super) struct Event {
    /// Its gateway, as an index into the roster and as an id.
    pub(super) gateway: usize,
    pub(super) id: GatewayId,
    pub(super) kind: &'static str,
    pub(super) payload: Vec<u8>,
    /// The correlation id that the publisher gave; `None` if the hub makes one.
    pub(super) correlation: Option<Uuid>,
    pub(super) user: Option<String>,
    /// The request that it came with, as an index into [`Ledger::calls`].
    pub(super) call: usize,
    /// The offset of its position, once an answer or a connection has shown it.
    pub(super) offset: Option<u64>,
    /// Its offset must be above this one, which an answer had shown before the event was requested.
    pub(super) floor: u64,
    /// The connections that have got it whole, and when.
    pub(super) written: Vec<(usize, Instant)>,
    pub(super) outcome: Outcome,
}

/// What the answer said about an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// No answer yet, or a 503 that says that it may have been published.
    Unknown,
    /// It was not published.
    Refused,
    /// It was published, with these delivery counts.
    Answered(Counts),
}

/// The delivery counts of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Counts {
    pub(super) at: Instant,
    pub(super) connections: u64,
    pub(super) delivered: u64,
    pub(super) failed: u64,
    pub(super) pending: u64,
    /// The connections that are listed as failed.
    pub(super) failures: Vec<ConnectionId>,
    /// The gateway has no connection, and gets the event when it comes back.
    pub(super) waiting: bool,
    /// Its publisher has waited until the event was processed.
    pub(super) processed: bool,
}

impl Event {
    pub(super) fn new(
        gateway: usize,
        id: GatewayId,
        kind: &'static str,
        payload: Vec<u8>,
        correlation: Option<Uuid>,
        user: Option<String>,
    ) -> Self {
        Self {
            gateway,
            id,
            kind,
            payload,
            correlation,
            user,
            call: usize::MAX,
            offset: None,
            floor: 0,
            written: Vec::new(),
            outcome: Outcome::Unknown,
        }
    }
}

/// A line of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BatchLine {
    Event(usize),
    /// An invalid line: it fails, and the others must not.
    Bad,
}

/// The kind of a request, with the events, gateway or key that it is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum CallKind {
    Publish(usize),
    Batch(Vec<BatchLine>),
    Deploy(Vec<usize>),
    Stats,
    Ready,
    Get,
    StoreRead,
    CreateGateway(usize),
    CreateToken(usize),
    Revoke(usize),
    Delete(usize),
    Manifest(usize),
    /// Changes the delivery of a gateway.
    Change(usize, Option<DeliveryMode>),
}

/// One HTTP request.
pub(super) struct Call {
    pub(super) conn: usize,
    pub(super) kind: CallKind,
    pub(super) begun: Instant,
    /// How long a publisher waits for the processing of its events; `None` if it does not.
    pub(super) wait: Option<Duration>,
    /// The offset of its last byte in the peer's stream, as sent.
    pub(super) end: u64,
    /// It was sent before the TLS handshake was over, so `end` is only an upper bound.
    pub(super) early: bool,
    /// When its last byte was in the hub's kernel.
    pub(super) arrived: Option<Instant>,
    /// When the hub had read its last byte.
    pub(super) received: Option<Instant>,
    pub(super) answered: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Ledger {
    pub(super) events: Vec<Event>,
    pub(super) calls: Vec<Call>,
    /// The unanswered requests of each connection, oldest first.
    pub(super) open: BTreeMap<usize, VecDeque<usize>>,
    by_payload: HashMap<Vec<u8>, usize>,
    /// The event at each offset of a gateway: (gateway, offset) to event.
    places: BTreeMap<(usize, u64), usize>,
    /// The highest offset of each gateway that an answer has shown.
    highest_answered: BTreeMap<usize, u64>,
}

impl Ledger {
    /// Adds an event to the request that is begun next.
    pub(super) fn add(&mut self, mut event: Event) -> usize {
        event.floor = self.highest_answered.get(&event.gateway).copied().unwrap_or(0);
        event.call = self.calls.len();
        self.by_payload.insert(event.payload.clone(), self.events.len());
        self.events.push(event);
        self.events.len() - 1
    }

    /// Begins a request; [`Ledger::ends`] sets its end once its bytes are written.
    pub(super) fn begin(&mut self, conn: usize, now: Instant, kind: CallKind) {
        self.open.entry(conn).or_default().push_back(self.calls.len());
        self.calls.push(Call {
            conn,
            kind,
            begun: now,
            wait: None,
            end: u64::MAX,
            early: false,
            arrived: None,
            received: None,
            answered: None,
        });
    }

    /// The publisher of the request that was begun last waits for the processing of its events.
    pub(super) fn waits(&mut self, wait: Duration) {
        if let Some(call) = self.calls.last_mut() {
            call.wait = Some(wait);
        }
    }

    /// Sets the end of the request that was begun last.
    pub(super) fn ends(&mut self, end: u64) {
        if let Some(call) = self.calls.last_mut() {
            call.end = end;
        }
    }

    /// Sets the end of the requests that a peer wrote before its TLS handshake was over.
    pub(super) fn early_ends(&mut self, conn: usize, end: u64) {
        for call in self.open.get(&conn).into_iter().flatten() {
            let call = &mut self.calls[*call];
            if call.end == u64::MAX {
                (call.end, call.early) = (end, true);
            }
        }
    }

    /// The hub's kernel has the first `total` bytes of a connection.
    pub(super) fn arrived(&mut self, now: Instant, conn: usize, total: u64) {
        for call in self.open.get(&conn).into_iter().flatten() {
            let call = &mut self.calls[*call];
            if call.end <= total && call.arrived.is_none() {
                call.arrived = Some(now);
            }
        }
    }

    /// The hub has read the first `total` bytes of a connection.
    pub(super) fn received(&mut self, now: Instant, conn: usize, total: u64) {
        for call in self.open.get(&conn).into_iter().flatten() {
            let call = &mut self.calls[*call];
            if call.end <= total && call.received.is_none() {
                call.received = Some(now);
            }
        }
    }

    /// How many requests of a connection are unanswered.
    pub(super) fn waiting(&self, conn: usize) -> usize {
        self.open.get(&conn).map_or(0, VecDeque::len)
    }

    /// The event at an offset of a gateway.
    pub(super) fn at(&self, gateway: usize, offset: u64) -> Option<&Event> {
        self.places.get(&(gateway, offset)).map(|event| &self.events[*event])
    }

    /// The event with this payload.
    pub(super) fn by_payload(&self, payload: &[u8]) -> Option<usize> {
        self.by_payload.get(payload).copied()
    }

    /// Records the offset of an event, as an answer or a connection shows it.
    ///
    /// # Errors
    /// The offset contradicts an earlier one, or the event must not have one.
    pub(super) fn place(&mut self, event: usize, offset: u64) -> Result<(), String> {
        let entry = &mut self.events[event];
        if entry.outcome == Outcome::Refused {
            return Err(format!("event {event} was refused, and has offset {offset}"));
        }
        if entry.offset.is_some_and(|known| known != offset) {
            return Err(format!("event {event} has offset {offset}, and had {:?} before", entry.offset));
        }
        if offset <= entry.floor {
            let floor = entry.floor;
            return Err(format!("event {event} has offset {offset}, although {floor} was answered before its request"));
        }
        entry.offset = Some(offset);
        let key = (entry.gateway, offset);
        match self.places.insert(key, event) {
            Some(other) if other != event => Err(format!("events {event} and {other} both have offset {offset}")),
            _ => Ok(()),
        }
    }

    /// Records that the publisher has got the delivery counts of an event.
    pub(super) fn record_answer(&mut self, event: usize, counts: Counts) {
        let entry = &mut self.events[event];
        if let Some(offset) = entry.offset {
            let highest = self.highest_answered.entry(entry.gateway).or_default();
            *highest = (*highest).max(offset);
        }
        entry.outcome = Outcome::Answered(counts);
    }

    /// Checks at the end that offsets have no gaps but those of events whose offset nothing has shown.
    ///
    /// # Errors
    /// The gateway with a gap.
    pub(super) fn check_places(&self) -> Result<(), String> {
        let gateways = self.events.iter().map(|event| event.gateway).max().map_or(0, |most| most + 1);
        for gateway in 0..gateways {
            let places = self.places.range((gateway, 0)..=(gateway, u64::MAX));
            let (count, last) = places.fold((0_u64, 0), |(count, _), ((_, offset), _)| (count + 1, *offset));
            let unknown = |event: &&Event| {
                event.gateway == gateway && event.outcome != Outcome::Refused && event.offset.is_none()
            };
            let unknown = self.events.iter().filter(unknown).count() as u64;
            if last - count > unknown {
                return Err(format!(
                    "gateway {gateway}: {count} events up to offset {last}, and {unknown} events of unknown offset"
                ));
            }
        }
        Ok(())
    }

    /// The sum of the deliveries in all answers, and whether events without an answer may add to it. An event without
    /// connections is one failed delivery.
    pub(super) fn deliveries(&self) -> (u64, bool) {
        let mut sum = 0;
        let mut open = false;
        for event in &self.events {
            match &event.outcome {
                Outcome::Answered(counts) => sum += counts.connections.max(1),
                Outcome::Unknown => open |= self.calls.get(event.call).is_some(),
                Outcome::Refused => {}
            }
        }
        (sum, open)
    }
}
