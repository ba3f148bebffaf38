//! Questions between simulated cores and their answers, as `driver::{asks, calls, mesh}` handle them.

use super::{
    core::{Core, LinkKey},
    hub::{Control, Handoff, Hub, Request},
};
use crate::{
    api::{Answer, Ask, Pending},
    model::{Instant, KeyHash, ShardId},
    shard::{self, Command, RequestKey},
};
use std::time::Duration;

/// What happens when all answers are there.
pub(super) enum Then {
    Admit(Option<KeyHash>),
    Call(Pending),
    /// A publisher inside the simulation; which of its publishes.
    Published(usize),
}

pub(super) struct Question {
    link: Option<LinkKey>,
    then: Then,
    answers: Vec<Option<Answer>>,
    missing: usize,
    deadline: Instant,
}

impl Core {
    pub(super) fn route(&mut self, hub: &mut Hub, request: RequestKey, reply: shard::Reply) {
        hub.oracle.replied(hub.now.instant, (self.id, request), &reply);
        let Some((from, key)) = self.remote.try_remove(request as usize) else {
            return hub.oracle.fail("a request is answered once", None, format!("{} {request}", self.id));
        };
        if from == self.id {
            self.handle_answer(hub, key, Answer::Shard(reply));
        } else {
            hub.reply(from, key, reply);
        }
    }

    /// Hands a command to the shard; the oracle writes down what it must come to.
    fn command(&mut self, hub: &mut Hub, from: ShardId, key: RequestKey, command: Command) {
        let request = self.remote.insert((from, key)) as RequestKey;
        let run = hub.oracle.accept(hub.now.instant, (self.id, request), &command, &self.directory);
        self.shard.handle_command(hub.now, request, command);
        if let Some(run) = run {
            hub.oracle.accepted(hub.now.instant, run, &self.shard);
        }
    }

    /// Asks shards; what cannot be asked is answered as overloaded.
    pub(super) fn ask(&mut self, hub: &mut Hub, link: Option<LinkKey>, asks: Vec<Ask>, then: Then) {
        self.asked += 1;
        let id = self.asked << 16;
        let deadline = hub.now.instant + hub.scenario.publish_timeout + ANSWER_GRACE;
        let answers = asks.iter().map(|_| None).collect::<Vec<_>>();
        self.questions.insert(id, Question { link, then, missing: answers.len(), answers, deadline });
        for (part, ask) in asks.into_iter().enumerate() {
            let key = id | part as u64;
            let asked = match ask {
                Ask::Shard(shard, command) if shard == self.id => {
                    self.command(hub, self.id, key, command);
                    true
                }
                Ask::Shard(shard, command) => {
                    hub.request(shard, Request::Command { from: self.id, key, command }).is_ok()
                }
                Ask::Store(_) => false,
            };
            if !asked {
                self.handle_answer(hub, key, Answer::Overloaded);
            }
        }
    }

    fn handle_answer(&mut self, hub: &mut Hub, key: RequestKey, answer: Answer) {
        let id = key & !0xffff;
        let Some(question) = self.questions.get_mut(&id) else { return };
        let place = &mut question.answers[(key & 0xffff) as usize];
        if place.is_some() {
            return hub.oracle.fail("a request is answered once", None, format!("{} {key:x}", self.id));
        }
        *place = Some(answer);
        question.missing -= 1;
        if question.missing == 0 {
            self.complete(hub, id);
        }
    }

    fn complete(&mut self, hub: &mut Hub, id: u64) {
        let Some(question) = self.questions.remove(&id) else { return };
        let answers = question.answers.into_iter().map(|answer| answer.unwrap_or(Answer::TimedOut)).collect::<Vec<_>>();
        match (question.then, question.link) {
            (Then::Published(run), _) => hub.oracle.answered(hub.now.instant, run, &answers),
            (Then::Admit(presented), Some(key)) => self.handle_attempt(hub, key, presented, answers),
            (Then::Call(pending), Some(key)) => self.handle_call_answers(hub, key, pending, answers),
            (Then::Admit(_) | Then::Call(_), None) => {}
        }
        if let Some(key) = question.link {
            self.enqueue(key);
        }
    }

    /// Takes what has arrived, a batch of each lane.
    pub(super) fn handle_mail(&mut self, hub: &mut Hub) {
        let me = self.id.index();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= hub.now.instant);
        let requests = hub.mail[me].requests.iter().take_while(|(at, _)| is_due(Some(*at))).count().min(INBOX_BATCH);
        for _ in 0..requests {
            match hub.mail[me].requests.pop_front() {
                Some((_, Request::Command { from, key, command })) => self.command(hub, from, key, command),
                Some((_, Request::Handoff(handoff))) => self.handle_handoff(hub, *handoff),
                None => {}
            }
        }
        while hub.mail[me].replies.front().is_some_and(|(at, _)| *at <= hub.now.instant)
            && let Some((_, (key, reply))) = hub.mail[me].replies.pop_front()
        {
            self.handle_answer(hub, key, Answer::Shard(reply));
        }
        while hub.mail[me].control.front().is_some_and(|(at, _)| *at <= hub.now.instant)
            && let Some((_, control)) = hub.mail[me].control.pop_front()
        {
            self.handle_control(hub, control);
        }
    }

    fn handle_control(&mut self, hub: &mut Hub, control: Control) {
        match control {
            Control::Change(change) => {
                self.directory.apply(change);
                hub.oracle.changed(self.id, change);
                self.shard.handle_change(change);
            }
            Control::Drain => self.begin_drain(hub),
        }
    }

    fn handle_handoff(&mut self, hub: &mut Hub, handoff: Handoff) {
        let Handoff { line, session, entrant, slot } = handoff;
        hub.oracle.sight("handoff");
        if let Some(key) = self.adopt(hub, line, session) {
            self.join(hub, key, entrant, slot);
            self.enqueue(key);
        }
    }

    /// Ends the questions whose time is up.
    pub(super) fn expire(&mut self, hub: &mut Hub) {
        while let Some((id, question)) = self.questions.first_key_value()
            && question.deadline <= hub.now.instant
        {
            let id = *id;
            self.complete(hub, id);
        }
    }
}

const INBOX_BATCH: usize = 256;
/// How much longer than a publish its answer may take on its way.
const ANSWER_GRACE: Duration = Duration::from_secs(3);
