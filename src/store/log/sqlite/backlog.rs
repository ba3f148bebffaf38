//! The requests that the writer has taken: in order for each port, and appends in turns of a slice.

use super::port::draft_bytes;
use crate::{
    limits::{EVENT_LOG_SLICE_BYTES_MAX, EVENT_LOG_SLICE_EVENTS_MAX},
    model::{
        GatewayId,
        log::{AppendKey, Draft, LogRequest},
    },
};
use ahash::HashSet;
use std::{collections::VecDeque, time::Duration, vec};

use super::queue::Queued;

/// An append of which some drafts are left.
#[derive(Debug)]
pub(super) struct Pending {
    pub key: AppendKey,
    drafts: vec::IntoIter<Draft>,
    /// Drafts that a turn was begun for.
    from: usize,
    total: usize,
    at: Duration,
}

enum Waiting {
    Append(Pending),
    Other(LogRequest, Duration),
}

impl Waiting {
    fn at(&self) -> Duration {
        match self {
            Waiting::Append(pending) => pending.at,
            Waiting::Other(_, at) => *at,
        }
    }
}

#[derive(Default)]
struct PortBacklog {
    waiting: VecDeque<Waiting>,
    /// The append whose turn is next.
    turn: usize,
    /// The gateways of the appends before it that are not done.
    held: HashSet<GatewayId>,
}

impl PortBacklog {
    /// Moves the turn on to an append that has no gateway in common with one before it that is not done, or back to the first: a
    /// batch comes as several appends, and what goes to one gateway keeps its order.
    fn find_turn(&mut self) {
        while self.turn > 0 {
            match self.waiting.get(self.turn) {
                Some(Waiting::Append(next)) if next.gateways().any(|gateway| self.held.contains(&gateway)) => {
                    self.held.extend(next.gateways());
                    self.turn += 1;
                }
                Some(Waiting::Append(_)) => return,
                _ => self.turn = 0,
            }
        }
        self.held.clear();
    }
}

/// What one turn of an append takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slice {
    pub key: AppendKey,
    /// The first draft.
    pub from: usize,
    pub events: usize,
    /// As [`draft_bytes`] counts.
    pub bytes: usize,
    /// Whether the request ends with it.
    pub last: bool,
}

/// The requests of all ports.
#[derive(Default)]
pub(super) struct Backlog {
    ports: Vec<PortBacklog>,
    /// The port whose turn is next.
    turn: usize,
    taken: VecDeque<Queued>,
}

impl Backlog {
    /// Adds what `take` moves from a port's queue into its argument.
    pub fn fill(&mut self, port: usize, take: impl FnOnce(&mut VecDeque<Queued>)) {
        if self.ports.len() <= port {
            self.ports.resize_with(port + 1, PortBacklog::default);
        }
        let backlog = &mut self.ports[port].waiting;
        take(&mut self.taken);
        backlog.extend(self.taken.drain(..).map(|Queued { request, at }| match request {
            LogRequest::Append { key, drafts } => {
                Waiting::Append(Pending { key, total: drafts.len(), drafts: drafts.into_iter(), from: 0, at })
            }
            other => Waiting::Other(other, at),
        }));
    }

    /// When the oldest request of a port was submitted.
    pub fn oldest(&self, port: usize) -> Option<Duration> {
        self.ports.get(port)?.waiting.front().map(Waiting::at)
    }

    pub fn is_empty(&self) -> bool {
        self.ports.iter().all(|port| port.waiting.is_empty())
    }

    /// The next request that is not an append and has no append before it.
    pub fn next_other(&mut self) -> Option<(usize, LogRequest)> {
        for (index, port) in self.ports.iter_mut().enumerate() {
            if let Some(Waiting::Other(..)) = port.waiting.front()
                && let Some(Waiting::Other(request, _)) = port.waiting.pop_front()
            {
                port.turn = 0;
                return Some((index, request));
            }
        }
        None
    }

    /// The append that is next: each port has a turn, and in it each append that no other request stands before, and no append with
    /// one of its gateways.
    pub fn next_append(&mut self) -> Option<(usize, &mut Pending)> {
        let count = self.ports.len();
        let index = (0..count).map(|step| (self.turn + step) % count).find(|index| {
            let first = self.ports[*index].waiting.front();
            matches!(first, Some(Waiting::Append(_)))
        })?;
        self.turn = index;
        let port = &mut self.ports[index];
        port.find_turn();
        match port.waiting.get_mut(port.turn) {
            Some(Waiting::Append(pending)) => Some((index, pending)),
            _ => None,
        }
    }

    /// Ends the turn that [`Backlog::next_append`] began. Also called after a panic in it.
    pub fn end_turn(&mut self) {
        let Some(port) = self.ports.get_mut(self.turn) else { return };
        match port.waiting.get(port.turn) {
            Some(Waiting::Append(pending)) if pending.from == pending.total => drop(port.waiting.remove(port.turn)),
            Some(Waiting::Append(pending)) => {
                port.held.extend(pending.gateways());
                port.turn += 1;
            }
            _ => port.turn += 1,
        }
        self.turn = (self.turn + 1) % self.ports.len();
    }
}

impl Pending {
    /// The gateways of the drafts that are left, some of them several times.
    fn gateways(&self) -> impl Iterator<Item = GatewayId> {
        let drafts = self.drafts.as_slice();
        let gateway = |index: usize| drafts.get(index).map(|draft| draft.life.gateway);
        // A batch often goes to one gateway, and a look at the draft before costs less than one at a set.
        (0..drafts.len()).filter(move |index| *index == 0 || gateway(*index) != gateway(index - 1)).filter_map(gateway)
    }

    /// Begins a turn: at least one event, if any is left. From now on its drafts count as taken, whether they are or not.
    pub fn begin_slice(&mut self, events_max: usize, bytes_max: usize) -> Slice {
        let (events_max, bytes_max) =
            (events_max.min(EVENT_LOG_SLICE_EVENTS_MAX), bytes_max.min(EVENT_LOG_SLICE_BYTES_MAX));
        // What an error or a panic has left of the turn before.
        let left_over = self.drafts.len() - (self.total - self.from);
        self.drafts.by_ref().take(left_over).for_each(drop);
        let (from, mut events, mut bytes) = (self.from, 0, 0);
        for draft in self.drafts.as_slice().iter().take(events_max) {
            let size = draft_bytes(draft);
            if events > 0 && bytes + size > bytes_max {
                break;
            }
            (events, bytes) = (events + 1, bytes + size);
        }
        self.from += events;
        Slice { key: self.key, from, events, bytes, last: self.from == self.total }
    }

    /// The drafts of the turn.
    pub fn take(&mut self, slice: &Slice) -> impl Iterator<Item = Draft> {
        self.drafts.by_ref().take(slice.events)
    }
}
