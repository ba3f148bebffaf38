//! The shard's requests to the log: gathers events that are to be appended, and keeps the requests in order.
//!
//! The log takes them first in, first out, but that single events overtake those of batches. So what is appended after a
//! follow reaches that follow, and a gateway is forgotten behind its last append.

use super::in_flight::EventRef;
use crate::{
    limits,
    model::log::{AppendKey, Draft, LogRequest, ReadKey},
};
use slab::Slab;
use std::collections::VecDeque;

/// Requests that the log was not asked yet, and appends that it has not answered.
#[derive(Debug, Default)]
pub(super) struct LogRequests {
    queue: VecDeque<LogRequest>,
    /// The next append, and the next one of events of batches, which the others overtake.
    gathered: [Gathered; 2],
    /// The publishers of each append that is not answered.
    appends: Slab<Vec<EventRef>>,
    reads: u64,
    forgets: u64,
}

/// Events for one append. One request for all events of a round costs less than one for each.
#[derive(Debug, Default)]
struct Gathered {
    drafts: Vec<Draft>,
    bytes: usize,
    /// The publishers of `drafts`.
    refs: Vec<EventRef>,
}

impl Gathered {
    fn with_capacity(events: usize) -> Self {
        Self { drafts: Vec::with_capacity(events), bytes: 0, refs: Vec::with_capacity(events) }
    }
}

impl LogRequests {
    /// Adds an event to the next append, which is of one kind: events of batches, or single ones.
    pub(super) fn append(&mut self, draft: Draft, of: EventRef, bulk: bool) {
        let gathered = &self.gathered[usize::from(bulk)];
        if gathered.drafts.len() >= limits::APPEND_EVENTS_MAX || gathered.bytes >= limits::APPEND_BYTES_MAX {
            self.close_append(bulk);
        }
        let gathered = &mut self.gathered[usize::from(bulk)];
        gathered.bytes += draft.event.payload.len();
        gathered.drafts.push(draft);
        gathered.refs.push(of);
    }

    fn close_append(&mut self, bulk: bool) {
        let gathered = &mut self.gathered[usize::from(bulk)];
        if !gathered.drafts.is_empty() {
            // The next append is likely as large as this one.
            let next = Gathered::with_capacity(gathered.drafts.len());
            let Gathered { drafts, refs, .. } = std::mem::replace(gathered, next);
            let key = AppendKey(self.appends.insert(refs) as u64);
            self.queue.push_back(LogRequest::Append { key, drafts, bulk });
        }
    }

    fn close_appends(&mut self) {
        self.close_append(false);
        self.close_append(true);
    }

    /// Takes back the appends that the log was not asked for yet.
    pub(super) fn take_appends(&mut self) -> VecDeque<LogRequest> {
        self.close_appends();
        let all = std::mem::take(&mut self.queue).into_iter();
        let (appends, others) = all.partition(|request| matches!(request, LogRequest::Append { .. }));
        self.queue = others;
        appends
    }

    /// Adds a request behind what was appended before it.
    pub(super) fn push(&mut self, request: LogRequest) {
        self.close_appends();
        self.queue.push_back(request);
    }

    /// A key for a read that no other has.
    pub(super) fn read_key(&mut self) -> ReadKey {
        self.reads += 1;
        ReadKey(self.reads)
    }

    /// A number for a request to forget a gateway that no other has.
    pub(super) fn forget_key(&mut self) -> u64 {
        self.forgets += 1;
        self.forgets
    }

    /// Takes the next request for the log.
    pub(super) fn pop(&mut self) -> Option<LogRequest> {
        if self.queue.is_empty() {
            self.close_appends();
        }
        self.queue.pop_front()
    }

    /// Whether [`LogRequests::pop`] would return something.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.gathered.iter().all(|gathered| gathered.drafts.is_empty())
    }

    /// The publisher of one event of an append.
    pub(super) fn publisher(&self, AppendKey(key): AppendKey, index: usize) -> Option<EventRef> {
        self.appends.get(usize::try_from(key).ok()?)?.get(index).copied()
    }

    /// Forgets an append whose last answer has come.
    pub(super) fn end_append(&mut self, AppendKey(key): AppendKey) {
        if let Some(key) = usize::try_from(key).ok().filter(|key| self.appends.contains(*key)) {
            self.appends.remove(key);
        }
    }
}
