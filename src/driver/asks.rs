//! Questions of this core to shards and to the store, and what to do with the answers. Bounded, and each has a deadline.

use super::link::Link;
use crate::{
    api::{Answer, Pending},
    limits,
    model::{Instant, KeyHash},
    shard::RequestKey,
};
use slab::Slab;
use std::{collections::VecDeque, rc::Rc};

/// What happens when all answers are there.
pub(super) enum Then {
    /// A call goes on.
    Call(Pending),
    /// A gateway's address may try; now its key is looked at.
    Admit(Option<KeyHash>),
}

/// All answers to a question.
pub(super) struct Complete {
    pub(super) link: Rc<Link>,
    pub(super) then: Then,
    pub(super) answers: Vec<Answer>,
}

struct Question {
    link: Rc<Link>,
    then: Then,
    answers: Vec<Option<Answer>>,
    missing: usize,
    serial: u32,
}

/// The questions in flight.
#[derive(Default)]
pub(super) struct Asks {
    questions: Slab<Question>,
    deadlines: VecDeque<(Instant, usize, u32)>,
    serial: u32,
    in_flight: usize,
}

/// Gives `then` back: too many questions are in flight.
pub(super) struct TooMany(pub(super) Then);

impl Asks {
    /// Opens a question with so many parts; returns the key of each.
    pub(super) fn open(
        &mut self,
        link: &Rc<Link>,
        then: Then,
        parts: usize,
        deadline: Instant,
    ) -> Result<impl Fn(usize) -> RequestKey + use<>, TooMany> {
        if self.in_flight + parts > limits::REQUESTS_IN_FLIGHT_MAX || parts == 0 || parts > PARTS_MAX {
            return Err(TooMany(then));
        }
        self.in_flight += parts;
        self.serial = self.serial.wrapping_add(1) & SERIAL_MASK;
        let serial = self.serial;
        let answers = (0..parts).map(|_| None).collect();
        let question = Question { link: Rc::clone(link), then, answers, missing: parts, serial };
        let index = self.questions.insert(question);
        self.deadlines.push_back((deadline, index, serial));
        Ok(move |part| (index as u64) << 40 | u64::from(serial) << 16 | part as u64)
    }

    /// Takes an answer; returns all of them where it was the last. One that comes too late is dropped.
    pub(super) fn answer(&mut self, key: RequestKey, answer: Answer) -> Option<Complete> {
        let (index, serial, part) = ((key >> 40) as usize, (key >> 16) as u32 & SERIAL_MASK, (key & 0xffff) as usize);
        let question = self.questions.get_mut(index).filter(|question| question.serial == serial)?;
        let place = question.answers.get_mut(part).filter(|place| place.is_none())?;
        *place = Some(answer);
        question.missing -= 1;
        (question.missing == 0).then(|| self.close(index))
    }

    /// Ends one question whose time is up; call until it returns `None`.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Complete> {
        while let Some((deadline, index, serial)) = self.deadlines.front().copied() {
            let live = self.questions.get(index).is_some_and(|question| question.serial == serial);
            if live && deadline > now {
                return None;
            }
            self.deadlines.pop_front();
            if live {
                return Some(self.close(index));
            }
        }
        None
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_waiting(&self) -> bool {
        self.in_flight > 0
    }

    fn close(&mut self, index: usize) -> Complete {
        let question = self.questions.remove(index);
        self.in_flight -= question.answers.len();
        let answers = question.answers.into_iter().map(|answer| answer.unwrap_or(Answer::TimedOut)).collect();
        Complete { link: question.link, then: question.then, answers }
    }
}

const SERIAL_MASK: u32 = 0x00ff_ffff;
const PARTS_MAX: usize = 1 << 16;
