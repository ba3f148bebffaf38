//! Questions of this core to shards and to the store, and what to do with the answers. Bounded, and each has a deadline.

use super::link::LinkKey;
use crate::{
    api::{Answer, Pending},
    limits,
    model::{Instant, KeyHash},
    shard::RequestKey,
};
use slab::Slab;
use std::collections::VecDeque;

/// What happens when all answers are there.
#[derive(Debug)]
pub(super) enum Continuation {
    /// A call goes on.
    Call(Pending),
    /// A gateway's address may try to connect; now its key is looked at.
    Admit(Option<KeyHash>),
}

/// All answers to a request.
pub(super) struct Complete {
    pub(super) link: LinkKey,
    pub(super) then: Continuation,
    pub(super) answers: Vec<Answer>,
}

/// A request's place; the serial tells it from one that had the same place before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PendingKey {
    index: usize,
    serial: u32,
}

struct PendingRequest {
    link: LinkKey,
    /// `None` while its next slice is being made.
    then: Option<Continuation>,
    answers: Vec<Option<Answer>>,
    missing: usize,
    serial: u32,
    /// More may be asked.
    open: bool,
}

/// The questions in flight.
#[derive(Default)]
pub(super) struct PendingRequests {
    requests: Slab<PendingRequest>,
    deadlines: VecDeque<(Instant, PendingKey)>,
    /// Questions that were complete when they were closed.
    complete: VecDeque<PendingKey>,
    /// Questions whose next slice is to be asked.
    slices: VecDeque<PendingKey>,
    serial: u32,
    /// Parts that were asked, of questions that are not complete.
    in_flight: usize,
}

impl PendingRequests {
    /// Opens a request, which stays open until [`PendingRequests::close`].
    pub(super) fn open(&mut self, link: LinkKey, then: Continuation) -> PendingKey {
        self.serial = self.serial.wrapping_add(1) & SERIAL_MASK;
        let serial = self.serial;
        let request = PendingRequest { link, then: Some(then), answers: Vec::new(), missing: 0, serial, open: true };
        PendingKey { index: self.requests.insert(request), serial }
    }

    /// Adds a part to an open request; returns its key. Where too many are in flight it is answered as overloaded at once.
    pub(super) fn add_part(&mut self, key: PendingKey) -> Option<RequestKey> {
        let room = self.in_flight < limits::REQUESTS_IN_FLIGHT_MAX;
        let request = self.requests.get_mut(key.index).filter(|request| request.serial == key.serial)?;
        debug_assert!(request.open, "a question is asked whole before it is closed");
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

    /// The question is asked whole, and waits until `deadline`. Where all answers are there already it is [`Self::expire`] that
    /// gives it: its answer may make the next call, and that one's the next.
    pub(super) fn close(&mut self, key: PendingKey, deadline: Instant) {
        let request = self.requests.get_mut(key.index).filter(|request| request.serial == key.serial);
        let Some(request) = request else { return };
        request.open = false;
        match request.missing {
            0 => self.complete.push_back(key),
            _ => self.deadlines.push_back((deadline, key)),
        }
    }

    /// Takes an answer; returns all of them where it was the last. One that comes too late is dropped.
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

    /// Ends one question that was complete when it was closed, or whose time is up.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Complete> {
        while let Some(key) = self.complete.pop_front() {
            if let Some(complete) = self.remove(key) {
                return Some(complete);
            }
        }
        if self.poll_timeout()? > now {
            return None;
        }
        let (_, key) = self.deadlines.pop_front()?;
        self.remove(key)
    }

    /// When [`PendingRequests::expire`] is due.
    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        while let Some((deadline, key)) = self.deadlines.front() {
            if self.requests.get(key.index).is_some_and(|request| request.serial == key.serial) {
                return Some(*deadline);
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// The request's next slice is to be asked.
    pub(super) fn push_slice(&mut self, key: PendingKey) {
        self.slices.push_back(key);
    }

    /// The next question that has a slice to ask, with what makes it.
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

    /// A slice was made.
    pub(super) fn put_back(&mut self, key: PendingKey, pending: Pending) {
        let request = self.requests.get_mut(key.index).filter(|request| request.serial == key.serial);
        if let Some(request) = request {
            request.then = Some(Continuation::Call(pending));
        }
    }

    /// Nobody waits for the answers any more.
    pub(super) fn forget(&mut self, key: PendingKey) {
        self.remove(key);
    }

    /// Whether somebody waits for an answer.
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
    fn a_question_is_complete_with_its_last_answer_and_answers_stay_in_order() {
        let mut pending = PendingRequests::default();
        let request = pending.open(LINK, Continuation::Admit(None));
        let parts = [(); 3].map(|()| pending.add_part(request).unwrap());
        assert!(pending.answer(parts[2], Answer::Overloaded).is_none());
        pending.close(request, at(10));
        assert!(pending.answer(parts[0], yes()).is_none());
        assert!(pending.answer(parts[0], Answer::Overloaded).is_none(), "answered once");
        let complete = pending.answer(parts[1], yes()).expect("complete");
        assert!(matches!(complete.answers[..], [Answer::Shard(_), Answer::Shard(_), Answer::Overloaded]));
        assert!(!pending.is_waiting() && pending.in_flight == 0 && pending.poll_timeout().is_none());
    }

    #[test]
    fn an_open_question_waits_although_all_is_answered() {
        let mut pending = PendingRequests::default();
        let request = pending.open(LINK, Continuation::Admit(None));
        let part = pending.add_part(request).unwrap();
        assert!(pending.answer(part, yes()).is_none());
        pending.close(request, at(10));
        assert!(pending.expire(at(0)).is_some());
    }

    #[test]
    fn what_is_not_answered_in_time_is_timed_out_and_a_late_answer_is_nobodys() {
        let mut pending = PendingRequests::default();
        let request = pending.open(LINK, Continuation::Admit(None));
        let part = pending.add_part(request).unwrap();
        pending.close(request, at(10));
        assert!(pending.expire(at(9)).is_none());
        assert!(matches!(pending.expire(at(10)).unwrap().answers[..], [Answer::TimedOut]));
        let next = pending.open(LINK, Continuation::Admit(None));
        pending.add_part(next);
        assert!(pending.answer(part, yes()).is_none());
        assert_eq!(pending.in_flight, 1);
    }

    #[test]
    fn parts_in_flight_are_bounded() {
        let mut pending = PendingRequests::default();
        let request = pending.open(LINK, Continuation::Admit(None));
        for _ in 0..limits::REQUESTS_IN_FLIGHT_MAX {
            assert!(pending.add_part(request).is_some());
        }
        assert!(pending.add_part(request).is_none());
        pending.forget(request);
        assert_eq!(pending.in_flight, 0);
    }
}
