//! What was asked over HTTP, event by event and call by call, and what the wire has shown of it since.

use crate::model::{ConnectionId, GatewayId, Instant};
use std::collections::{BTreeMap, HashMap, VecDeque};
use uuid::Uuid;

/// One event that somebody has asked to publish.
pub(super) struct Event {
    /// To which gateway, by its place in the roster and by its id.
    pub(super) gateway: usize,
    pub(super) id: GatewayId,
    pub(super) kind: &'static str,
    pub(super) payload: Vec<u8>,
    /// The publisher's; `None` where the hub makes one.
    pub(super) correlation: Option<Uuid>,
    pub(super) user: Option<String>,
    /// By which call.
    pub(super) call: usize,
    /// Its place among its gateway's events, once anything has shown it.
    pub(super) offset: Option<u64>,
    /// Places of its gateway that were known to be taken before it was asked for.
    pub(super) floor: u64,
    /// The connections that have it whole, and since when.
    pub(super) written: Vec<(usize, Instant)>,
    pub(super) outcome: Outcome,
}

/// What the publisher was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Nothing yet, or that it may have been done.
    Unknown,
    /// That nothing was done.
    Refused,
    /// How it went.
    Answered(Counts),
}

/// The numbers of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Counts {
    pub(super) at: Instant,
    pub(super) connections: u64,
    pub(super) delivered: u64,
    pub(super) failed: u64,
    pub(super) pending: u64,
    /// The connections that did not get it.
    pub(super) failures: Vec<ConnectionId>,
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
    /// Not an event: it fails alone.
    Bad,
}

/// What a call asks for.
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
}

/// One request.
pub(super) struct Call {
    pub(super) conn: usize,
    pub(super) kind: CallKind,
    pub(super) begun: Instant,
    /// Where it ends among the bytes that its peer sends.
    pub(super) end: u64,
    /// It was said before the handshake of TLS was over, so where it ends is known only from above.
    pub(super) early: bool,
    /// When the hub's kernel had it whole.
    pub(super) arrived: Option<Instant>,
    /// When the hub had read it whole.
    pub(super) received: Option<Instant>,
    pub(super) answered: Option<Instant>,
}

/// The book.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) events: Vec<Event>,
    pub(super) calls: Vec<Call>,
    /// The calls of each line that are not answered, oldest first.
    pub(super) open: BTreeMap<usize, VecDeque<usize>>,
    by_payload: HashMap<Vec<u8>, usize>,
    /// Which event is where, by gateway and offset.
    places: BTreeMap<(usize, u64), usize>,
    /// The highest place of each gateway that an answer has told.
    highest_answered: BTreeMap<usize, u64>,
}

impl Ledger {
    /// An event that is about to be asked for.
    pub(super) fn add(&mut self, mut event: Event) -> usize {
        event.floor = self.highest_answered.get(&event.gateway).copied().unwrap_or(0);
        // Its call is the next one that begins.
        event.call = self.calls.len();
        self.by_payload.insert(event.payload.clone(), self.events.len());
        self.events.push(event);
        self.events.len() - 1
    }

    /// A call begins; its end is set once it is known.
    pub(super) fn begin(&mut self, conn: usize, now: Instant, kind: CallKind) {
        self.open.entry(conn).or_default().push_back(self.calls.len());
        self.calls.push(Call {
            conn,
            kind,
            begun: now,
            end: u64::MAX,
            early: false,
            arrived: None,
            received: None,
            answered: None,
        });
    }

    /// The bytes of the call that has just begun end here.
    pub(super) fn ends(&mut self, end: u64) {
        if let Some(call) = self.calls.last_mut() {
            call.end = end;
        }
    }

    /// What the line's peer has said before the handshake of TLS was over ends here.
    pub(super) fn early_ends(&mut self, conn: usize, end: u64) {
        for call in self.open.get(&conn).into_iter().flatten() {
            let call = &mut self.calls[*call];
            if call.end == u64::MAX {
                (call.end, call.early) = (end, true);
            }
        }
    }

    /// The hub's kernel has so many bytes of the line.
    pub(super) fn arrived(&mut self, now: Instant, conn: usize, total: u64) {
        for call in self.open.get(&conn).into_iter().flatten() {
            let call = &mut self.calls[*call];
            if call.end <= total && call.arrived.is_none() {
                call.arrived = Some(now);
            }
        }
    }

    /// The hub has read so many bytes of the line.
    pub(super) fn received(&mut self, now: Instant, conn: usize, total: u64) {
        for call in self.open.get(&conn).into_iter().flatten() {
            let call = &mut self.calls[*call];
            if call.end <= total && call.received.is_none() {
                call.received = Some(now);
            }
        }
    }

    /// Calls that the line's peer has begun and that are not answered.
    pub(super) fn waiting(&self, conn: usize) -> usize {
        self.open.get(&conn).map_or(0, VecDeque::len)
    }

    /// The event with this payload.
    pub(super) fn by_payload(&self, payload: &[u8]) -> Option<usize> {
        self.by_payload.get(payload).copied()
    }

    /// Something shows where an event is; it must be there whatever else shows it.
    ///
    /// # Errors
    /// What contradicts it.
    pub(super) fn place(&mut self, event: usize, offset: u64) -> Result<(), String> {
        let entry = &mut self.events[event];
        if entry.outcome == Outcome::Refused {
            return Err(format!("event {event} was refused, and is at {offset}"));
        }
        if entry.offset.is_some_and(|known| known != offset) {
            return Err(format!("event {event} is at {offset} and at {:?}", entry.offset));
        }
        if offset <= entry.floor {
            let floor = entry.floor;
            return Err(format!("event {event} is at {offset}, and {floor} was answered before it was asked for"));
        }
        entry.offset = Some(offset);
        let key = (entry.gateway, offset);
        match self.places.insert(key, event) {
            Some(other) if other != event => Err(format!("events {event} and {other} are both at {offset}")),
            _ => Ok(()),
        }
    }

    /// A publisher knows where its event is.
    pub(super) fn record_answer(&mut self, event: usize, counts: Counts) {
        let entry = &mut self.events[event];
        if let Some(offset) = entry.offset {
            let highest = self.highest_answered.entry(entry.gateway).or_default();
            *highest = (*highest).max(offset);
        }
        entry.outcome = Outcome::Answered(counts);
    }

    /// At the end: places are dense, but for events of which nobody was told anything.
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
                return Err(format!("gateway {gateway}: {count} events up to {last}, and {unknown} of no known place"));
            }
        }
        Ok(())
    }

    /// Deliveries that the answers speak of: decided ones at the end, and those that may be more.
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
