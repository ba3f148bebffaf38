//! The requests that the writer has taken: in order for each port, but that appends of the two kinds take turns of a slice.

use super::port::draft_bytes;
use crate::{
    limits::{EVENT_LOG_SLICE_BYTES_MAX, EVENT_LOG_SLICE_EVENTS_MAX},
    model::log::{AppendKey, Draft, LogRequest},
};
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

/// A port's requests in three lines, each in the order of submission. The number of a request is its place among all of the port.
#[derive(Default)]
struct PortBacklog {
    /// Appends that are not bulk, and those that are.
    appends: [VecDeque<(u64, Pending)>; 2],
    others: VecDeque<(u64, LogRequest, Duration)>,
    /// The number of the last request.
    number: u64,
    /// The line of appends whose turn is next.
    turn: usize,
}

impl PortBacklog {
    fn push(&mut self, Queued { request, at }: Queued) {
        self.number += 1;
        match request {
            LogRequest::Append { key, drafts, bulk } => {
                let pending = Pending { key, total: drafts.len(), drafts: drafts.into_iter(), from: 0, at };
                self.appends[usize::from(bulk)].push_back((self.number, pending));
            }
            other => self.others.push_back((self.number, other, at)),
        }
    }

    fn first_append(&self) -> Option<u64> {
        self.appends.iter().filter_map(|line| line.front()).map(|(number, _)| *number).min()
    }

    /// The line whose first append may be kept now: in turns, and only what no other request stands before.
    fn ready(&self) -> Option<usize> {
        let barrier = self.others.front().map_or(u64::MAX, |(number, ..)| *number);
        let is_ready = |line: &usize| self.appends[*line].front().is_some_and(|(number, _)| *number < barrier);
        [self.turn, 1 - self.turn].into_iter().find(is_ready)
    }

    fn oldest(&self) -> Option<Duration> {
        let appends = self.appends.iter().filter_map(|line| line.front()).map(|(_, pending)| pending.at);
        appends.chain(self.others.front().map(|(.., at)| *at)).min()
    }

    fn is_empty(&self) -> bool {
        self.others.is_empty() && self.appends.iter().all(VecDeque::is_empty)
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
        take(&mut self.taken);
        let backlog = &mut self.ports[port];
        self.taken.drain(..).for_each(|queued| backlog.push(queued));
    }

    /// When the oldest request of a port was submitted.
    pub fn oldest(&self, port: usize) -> Option<Duration> {
        self.ports.get(port)?.oldest()
    }

    pub fn is_empty(&self) -> bool {
        self.ports.iter().all(PortBacklog::is_empty)
    }

    /// The next request that is not an append and has no append before it.
    pub fn next_other(&mut self) -> Option<(usize, LogRequest)> {
        for (index, port) in self.ports.iter_mut().enumerate() {
            let Some(number) = port.others.front().map(|(number, ..)| *number) else { continue };
            if port.first_append().is_none_or(|append| number < append)
                && let Some((_, request, _)) = port.others.pop_front()
            {
                return Some((index, request));
            }
        }
        None
    }

    /// The append that is next: ports take turns, and in a port its two kinds of appends.
    pub fn next_append(&mut self) -> Option<(usize, &mut Pending)> {
        let count = self.ports.len();
        let ready = |index: usize| self.ports[index].ready().map(|line| (index, line));
        let (index, line) = (0..count).find_map(|step| ready((self.turn + step) % count))?;
        self.turn = index;
        let port = &mut self.ports[index];
        port.turn = line;
        port.appends[line].front_mut().map(|(_, pending)| (index, pending))
    }

    /// Ends the turn that [`Backlog::next_append`] began. Also called after a panic in it.
    pub fn end_turn(&mut self) {
        let Some(port) = self.ports.get_mut(self.turn) else { return };
        let line = &mut port.appends[port.turn];
        if line.front().is_some_and(|(_, pending)| pending.from == pending.total) {
            line.pop_front();
        }
        port.turn = 1 - port.turn;
        self.turn = (self.turn + 1) % self.ports.len();
    }
}

impl Pending {
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
