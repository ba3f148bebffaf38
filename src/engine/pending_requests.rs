//! Requests of this core that wait for answers of shards and store, and how to continue. Bounded, each with a deadline.
//!
//! A request has parts, one for each shard or store operation, and is complete when all are answered.

use super::link::LinkKey;
use crate::{
    api::{Answer, Answers, Pending},
    limits,
    model::Instant,
    session::Presented,
    shard::RequestKey,
};
use slab::Slab;
use smallvec::SmallVec;
use std::{collections::VecDeque, time::Duration};

/// How to continue once all answers are there.
#[derive(Debug)]
pub(super) enum Continuation {
    /// Continue with an HTTP call.
    Call(Pending),
    /// Continue with the admission of a connection that presented this, after the rate limit of its address.
    Admit(Presented),
}

/// A complete request with its answers, in the order of its parts.
pub(super) struct Complete {
    pub(super) link: LinkKey,
    pub(super) then: Continuation,
    pub(super) answers: Answers,
}

/// An index of a pending request; the serial tells it from earlier ones with the same index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PendingKey {
    index: usize,
    serial: u32,
}

struct PendingRequest {
    link: LinkKey,
    /// `None` while the API makes its next slice.
    then: Option<Continuation>,
    answers: SmallVec<[Option<Answer>; 1]>,
    missing: usize,
    serial: u32,
    /// More parts may be added.
    open: bool,
}

impl PendingRequest {
    /// Whether an answer may come only after [`limits::WAIT_MAX`].
    fn waits(&self) -> bool {
        matches!(&self.then, Some(Continuation::Call(pending)) if pending.waits())
    }
}

/// The pending requests of one core.
#[derive(Default)]
pub(super) struct PendingRequests {
    requests: Slab<PendingRequest>,
    /// In the order of their deadlines, because all wait for the same time. Entries of completed requests are skipped.
    deadlines: VecDeque<(Instant, PendingKey)>,
    /// The same for those whose answers may come only after [`limits::WAIT_MAX`].
    late_deadlines: VecDeque<(Instant, PendingKey)>,
    /// Requests whose answers were complete when they were closed.
    complete: VecDeque<PendingKey>,
    /// Requests with a slice to make.
    slices: VecDeque<PendingKey>,
    serial: u32,
    /// Number of parts of all pending requests.
    in_flight: usize,
}

impl PendingRequests {
    /// Opens a request. It cannot complete before [`PendingRequests::close`], however fast its parts are answered.
    pub(super) fn open(&mut self, link: LinkKey, then: Continuation) -> PendingKey {
        self.serial = self.serial.wrapping_add(1) & SERIAL_MASK;
        let serial = self.serial;
        let request =
            PendingRequest { link, then: Some(then), answers: SmallVec::new(), missing: 0, serial, open: true };
        PendingKey { index: self.requests.insert(request), serial }
    }

    /// Adds a part to an open request and returns its key. Over the bound, answers the part as overloaded and returns
    /// `None`.
    pub(super) fn add_part(&mut self, key: PendingKey) -> Option<RequestKey> {
        let room = self.in_flight < limits::REQUESTS_IN_FLIGHT_MAX;
        let request = self.requests.get_mut(key.index).filter(|request| request.serial == key.serial)?;
        debug_assert!(request.open, "parts are added to an open request");
        let part = request.answers.len();
        self.in_flight += 1;
        if !room || part >= PARTS_MAX {
            request.answers.push(Some(Answer::Overloaded));
            return None;
        }
        request.answers.push(None);
        request.missing += 1;
        Some((key.index as u64) << 40 | u64::from(key.serial) << 16 | part as u64)
    }

    /// Closes a request: from `now` on it waits for its answers for `timeout`, and longer if they may come late. If all are there already, [`Self::expire`] returns
    /// it, not this call: its response may begin the connection's next call, and pipelined calls would recurse once for
    /// each.
    pub(super) fn close(&mut self, key: PendingKey, now: Instant, timeout: Duration) {
        let request = self.requests.get_mut(key.index).filter(|request| request.serial == key.serial);
        let Some(request) = request else { return };
        request.open = false;
        match request.missing {
            0 => self.complete.push_back(key),
            _ if request.waits() => self.late_deadlines.push_back((now + timeout + limits::WAIT_MAX, key)),
            _ => self.deadlines.push_back((now + timeout, key)),
        }
    }

    /// Records an answer; returns the request if it was the last one. Drops an answer that comes after the deadline.
    pub(super) fn answer(&mut self, key: RequestKey, answer: Answer) -> Option<Complete> {
        let (index, serial, part) = ((key >> 40) as usize, (key >> 16) as u32 & SERIAL_MASK, (key & 0xffff) as usize);
        let request = self.requests.get_mut(index).filter(|request| request.serial == serial)?;
        let place = request.answers.get_mut(part).filter(|place| place.is_none())?;
        *place = Some(answer);
        debug_assert!(request.missing > 0, "a part is answered once");
        request.missing -= 1;
        let whole = request.missing == 0 && !request.open;
        if whole { self.remove(PendingKey { index, serial }) } else { None }
    }

    /// Takes one request that was complete when it was closed, or whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Complete> {
        while let Some(key) = self.complete.pop_front() {
            if let Some(complete) = self.remove(key) {
                return Some(complete);
            }
        }
        self.poll_timeout();
        let is_due = |queue: &&mut VecDeque<(Instant, PendingKey)>| queue.front().is_some_and(|(at, _)| *at <= now);
        let queue = [&mut self.deadlines, &mut self.late_deadlines].into_iter().find(is_due)?;
        let (_, key) = queue.pop_front()?;
        self.remove(key)
    }

    /// When [`PendingRequests::expire`] is due.
    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        for queue in [&mut self.deadlines, &mut self.late_deadlines] {
            let is_over = |(_, key): &(Instant, PendingKey)| {
                self.requests.get(key.index).is_none_or(|request| request.serial != key.serial)
            };
            while queue.front().is_some_and(is_over) {
                queue.pop_front();
            }
        }
        let first = |queue: &VecDeque<(Instant, PendingKey)>| queue.front().map(|(at, _)| *at);
        [first(&self.deadlines), first(&self.late_deadlines)].into_iter().flatten().min()
    }

    /// Queues a request for its next slice.
    pub(super) fn push_slice(&mut self, key: PendingKey) {
        self.slices.push_back(key);
    }

    /// Takes the next request with a slice to make, and the state that makes it.
    pub(super) fn pop_slice(&mut self) -> Option<(PendingKey, LinkKey, Pending)> {
        loop {
            let key = self.slices.pop_front()?;
            let request = self.requests.get_mut(key.index).filter(|request| request.serial == key.serial);
            let Some(request) = request else { continue };
            let link = request.link;
            match request.then.take() {
                Some(Continuation::Call(pending)) => return Some((key, link, pending)),
                _ => debug_assert!(false, "only a call has slices"),
            }
        }
    }

    /// Returns the state after a slice was made.
    pub(super) fn put_back(&mut self, key: PendingKey, pending: Pending) {
        let request = self.requests.get_mut(key.index).filter(|request| request.serial == key.serial);
        if let Some(request) = request {
            request.then = Some(Continuation::Call(pending));
        }
    }

    /// Drops a request without continuing it.
    pub(super) fn forget(&mut self, key: PendingKey) {
        self.remove(key);
    }

    /// Whether any request is pending.
    pub(super) fn is_waiting(&self) -> bool {
        !self.requests.is_empty()
    }

    fn remove(&mut self, key: PendingKey) -> Option<Complete> {
        self.requests.get(key.index).filter(|request| request.serial == key.serial)?;
        let request = self.requests.remove(key.index);
        debug_assert!(request.missing <= request.answers.len() && request.answers.len() <= self.in_flight);
        self.in_flight -= request.answers.len();
        let answers = request.answers.into_iter().map(|answer| answer.unwrap_or(Answer::TimedOut)).collect();
        Some(Complete { link: request.link, then: request.then?, answers })
    }
}

// A part's key packs index, serial and part: 24, 24 and 16 bits.
const SERIAL_MASK: u32 = 0x00ff_ffff;
const PARTS_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Reply;

    const LINK: LinkKey = LinkKey { index: 0, serial: 1 };

    fn yes() -> Answer {
        Answer::Shard(Reply::Attempt(Ok(())))
    }

    fn at(micros: u64) -> Instant {
        Instant(micros)
    }

    #[test]
    fn a_request_completes_with_its_last_answer_and_answers_keep_their_order() {
        let mut pending = PendingRequests::default();
        let request = pending.open(LINK, Continuation::Admit(Presented::default()));
        let parts = [(); 3].map(|()| pending.add_part(request).unwrap());
        assert!(pending.answer(parts[2], Answer::Overloaded).is_none());
        pending.close(request, at(0), Duration::from_micros(10));
        assert!(pending.answer(parts[0], yes()).is_none());
        assert!(pending.answer(parts[0], Answer::Overloaded).is_none(), "each part is answered once");
        let complete = pending.answer(parts[1], yes()).expect("complete");
        assert!(matches!(complete.answers[..], [Answer::Shard(_), Answer::Shard(_), Answer::Overloaded]));
        assert!(!pending.is_waiting() && pending.in_flight == 0 && pending.poll_timeout().is_none());
    }

    #[test]
    fn an_open_request_waits_even_if_all_parts_are_answered() {
        let mut pending = PendingRequests::default();
        let request = pending.open(LINK, Continuation::Admit(Presented::default()));
        let part = pending.add_part(request).unwrap();
        assert!(pending.answer(part, yes()).is_none());
        pending.close(request, at(0), Duration::from_micros(10));
        assert!(pending.expire(at(0)).is_some());
    }

    #[test]
    fn an_unanswered_part_times_out_and_a_late_answer_is_dropped() {
        let mut pending = PendingRequests::default();
        let request = pending.open(LINK, Continuation::Admit(Presented::default()));
        let part = pending.add_part(request).unwrap();
        pending.close(request, at(0), Duration::from_micros(10));
        assert!(pending.expire(at(9)).is_none());
        assert!(matches!(pending.expire(at(10)).unwrap().answers[..], [Answer::TimedOut]));
        let next = pending.open(LINK, Continuation::Admit(Presented::default()));
        pending.add_part(next);
        assert!(pending.answer(part, yes()).is_none());
        assert_eq!(pending.in_flight, 1);
    }

    #[test]
    fn parts_in_flight_are_bounded() {
        let mut pending = PendingRequests::default();
        let request = pending.open(LINK, Continuation::Admit(Presented::default()));
        for _ in 0..limits::REQUESTS_IN_FLIGHT_MAX {
            assert!(pending.add_part(request).is_some());
        }
        assert!(pending.add_part(request).is_none());
        pending.forget(request);
        assert_eq!(pending.in_flight, 0);
    }
}
