//! HTTP calls on this core: what a request becomes, the questions that it asks, the answers that it gets.

use super::{
    bodies::Whose,
    core::Engine,
    guard::guarded,
    io::{Io, Request},
    link::LinkKey,
    notice::Notice,
    pending_requests::{Complete, QuestionKey, Then},
    schedule::Visit,
};
use crate::{
    api::{self, Answer, Ask, Call, Matched, Phase, Routed, Step, View},
    model::{Now, ShardId},
    session::Session,
    shard::{self, Command, Failed, Origin, Reply, RequestKey},
    wire::http::{Framing, Response},
};

impl<I: Io> Engine<I> {
    /// Decides by a request's head what it becomes.
    pub(super) fn route(&mut self, io: &mut I, now: Now, key: LinkKey) {
        let Some(link) = self.links.get(key) else { return };
        let routed = guarded(|| {
            let call = call_of(&link.session)?;
            Some(self.with_view(io, now, |view| api::route_request(&call, link.side, view)))
        });
        let Some(routed) = routed else {
            let verdict = Err(self.panicked(io, now, key));
            self.with_session(io, now, key, |session, _| session.handle_route(now, verdict));
            return;
        };
        let verdict = match routed {
            None => return,
            Some(Ok(Routed::WebSocket)) => {
                self.with_session(io, now, key, |session, _| session.handle_upgrade(now));
                return;
            }
            Some(Ok(Routed::Call(matched))) => {
                if matched.is_authenticated() {
                    self.links.prove(key);
                }
                if let Some(link) = self.links.get_mut(key) {
                    link.matched = Some(matched);
                }
                self.promise_body(io, now, key, &matched).map(|()| matched.body_bytes_max())
            }
            Some(Err(response)) => {
                if response.status == 401 {
                    let address = self.links.get(key).map(|link| link.session.peer());
                    address.into_iter().for_each(|address| io.notice(now, Notice::Unauthorized { address, key: None }));
                }
                Err(response)
            }
        };
        self.with_session(io, now, key, |session, _| session.handle_route(now, verdict));
    }

    /// Makes room for the body that the head announces, or says that there is none.
    fn promise_body(&mut self, io: &mut I, now: Now, key: LinkKey, matched: &Matched) -> Result<(), Response> {
        let bound = matched.body_bytes_max();
        let Some(link) = self.links.get_mut(key) else { return Ok(()) };
        debug_assert!(link.promise.is_none(), "one request at a time, and each gives back what it was promised");
        let bytes = match link.session.request().map(|request| request.head.framing) {
            Some(Framing::Length(length)) => usize::try_from(length).unwrap_or(usize::MAX),
            Some(Framing::Chunked) => bound,
            Some(Framing::None) | None => 0,
        };
        // What is too long is refused for that.
        if bytes == 0 || bytes > bound {
            return Ok(());
        }
        let whose = matched.gateway().map_or(Whose::Platform, Whose::Gateway);
        let Ok((promise, before)) = self.bodies.promise(whose, bytes, key) else {
            return Err(Response::error(503, "too many bodies are under way").with("Retry-After", "1"));
        };
        link.promise = Some(promise);
        if let Some(before) = before {
            let response = Response::error(503, "a newer request of this gateway has begun").with("Retry-After", "1");
            self.with_session(io, now, before, |session, _| session.abandon(now, response));
            self.wake_writer(before);
            self.settle(io, now, before);
        }
        Ok(())
    }

    /// Answers a whole request, at once or when its questions are answered.
    pub(super) fn call(&mut self, io: &mut I, now: Now, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        if let (Some(promise), Some(request)) = (&mut link.promise, link.session.request()) {
            self.bodies.shrink(promise, request.body.len());
        }
        let Some(link) = self.links.get(key) else { return };
        let step = guarded(|| {
            #[cfg(test)]
            super::faults::strike_call(link.session.peer());
            let (call, matched) = (call_of(&link.session)?, link.matched.as_ref()?);
            Some(self.with_view(io, now, |view| api::handle(matched, &call, view)))
        });
        match step {
            Some(Some(step)) => self.handle_step(io, now, key, step),
            Some(None) => debug_assert!(false, "a call is made of a request that has a route"),
            None => self.respond_panicked(io, now, key),
        }
    }

    /// The answer to a call whose code panicked; the connection ends with it.
    fn panicked(&mut self, io: &mut I, now: Now, key: LinkKey) -> Response {
        self.tell_panic(io, now, key);
        Response::error(500, "the hub failed inside; its log says where").closing()
    }

    fn respond_panicked(&mut self, io: &mut I, now: Now, key: LinkKey) {
        let response = self.panicked(io, now, key);
        self.respond(io, now, key, response);
    }

    fn handle_step(&mut self, io: &mut I, now: Now, key: LinkKey, step: Step) {
        match step {
            Step::Respond(response) => self.respond(io, now, key, response),
            Step::Ask(asks, pending) => self.ask(io, now, key, asks, Then::Call(pending)),
            Step::Slice(asks, pending) => {
                let question = self.pending.open(key, Then::Call(pending));
                self.ask_parts(io, now, question, asks);
                self.pending.push_slice(question);
            }
        }
    }

    fn respond(&mut self, io: &mut I, now: Now, key: LinkKey, mut response: Response) {
        debug_assert!((200..600).contains(&response.status), "an answer is a final one");
        response.close |= self.hub.phase() == Phase::Draining;
        self.with_session(io, now, key, |session, _| session.handle_response(now, &response));
        self.wake_writer(key);
        self.settle(io, now, key);
    }

    /// Asks shards and the store; `then` goes on when all have answered.
    pub(super) fn ask(&mut self, io: &mut I, now: Now, key: LinkKey, asks: Vec<Ask>, then: Then) {
        let question = self.pending.open(key, then);
        self.ask_parts(io, now, question, asks);
        self.pending.close(question, now.instant + self.hub.answer_timeout);
    }

    /// Asks some more of a question that is open; what cannot be asked is answered as overloaded.
    fn ask_parts(&mut self, io: &mut I, now: Now, question: QuestionKey, asks: Vec<Ask>) {
        for ask in asks {
            let Some(part) = self.pending.add_part(question) else { continue };
            let asked = match ask {
                Ask::Shard(shard, command) if shard == self.id => {
                    self.shard.handle_command(now, Origin { shard, key: part }, command);
                    self.wake_dirty();
                    true
                }
                Ask::Shard(shard, command) => self.ask_core(io, shard, part, command),
                Ask::Store(op) => io.store(op, part),
            };
            if !asked {
                // The question is open, so this answer cannot be its last.
                let complete = self.pending.answer(part, Answer::Overloaded);
                debug_assert!(complete.is_none(), "an open question is not complete");
            }
        }
    }

    fn ask_core(&mut self, io: &mut I, shard: ShardId, key: RequestKey, command: Command) -> bool {
        io.request(shard, Request::Command(Origin { shard: self.id, key }, command)).is_ok()
    }

    /// Carries out one thing that the shard asks for.
    pub(super) fn handle_shard_effect(&mut self, io: &mut I, now: Now) -> Visit {
        match self.shard.poll_effect() {
            None => return Visit::Idle,
            Some(shard::Effect::Reply(origin, reply)) => {
                self.handle_reply(io, now, origin, reply);
                return Visit::Large;
            }
            Some(shard::Effect::Close(member, reason)) => {
                let Some(key) = self.links.of_member(member) else { return Visit::Small };
                self.close_link(io, now, key, reason);
            }
            Some(shard::Effect::Repeated(repeated)) => io.notice(now, Notice::IdRepeated(repeated)),
        }
        Visit::Small
    }

    /// Brings the shard's reply to whoever asked.
    fn handle_reply(&mut self, io: &mut I, now: Now, origin: Origin, reply: Reply) {
        if origin.shard == self.id {
            self.handle_answer(io, now, origin.key, Answer::Shard(reply));
        } else if !io.reply(origin.shard, origin.key, reply) {
            io.notice(now, Notice::ReplyLost);
        }
    }

    /// Tells of one failed delivery.
    pub(super) fn tell_failure(&mut self, io: &mut I, now: Now) -> Visit {
        match self.shard.poll_failure() {
            None => return Visit::Idle,
            Some(Failed::One(failure)) => io.notice(now, Notice::DeliveryFailed(&failure)),
            Some(Failed::LeftOut(count)) => io.notice(now, Notice::FailuresLeftOut(count)),
        }
        Visit::Small
    }

    /// An answer has come.
    pub(super) fn handle_answer(&mut self, io: &mut I, now: Now, key: RequestKey, answer: Answer) {
        if let Some(complete) = self.pending.answer(key, answer) {
            self.complete(io, now, complete);
        }
    }

    /// All answers to a question are there.
    pub(super) fn complete(&mut self, io: &mut I, now: Now, complete: Complete) {
        let Complete { link: key, then, answers } = complete;
        // The connection may have gone while its question was on the way.
        if self.links.get(key).is_none_or(|link| link.session.is_over()) {
            return;
        }
        match then {
            Then::Call(pending) => {
                let step = guarded(|| self.with_view(io, now, |view| pending.handle_answers(answers, view)));
                match step {
                    Some(step) => self.handle_step(io, now, key, step),
                    None => self.respond_panicked(io, now, key),
                }
            }
            Then::Admit(presented) => self.handle_attempt_answer(io, now, key, presented, answers),
        }
        self.conclude(io, now, key);
    }

    /// Goes on with a call that is too long for one turn.
    pub(super) fn slice_next(&mut self, io: &mut I, now: Now) -> Visit {
        let Some((question, key, pending)) = self.pending.pop_slice() else { return Visit::Idle };
        let Some(link) = self.links.get(key).filter(|link| !link.session.is_over()) else {
            self.pending.forget(question);
            return Visit::Small;
        };
        let step = guarded(|| {
            let call = call_of(&link.session)?;
            Some(self.with_view(io, now, |view| pending.handle_more(&call, view)))
        });
        match step {
            Some(Some(Step::Slice(asks, pending))) => {
                self.pending.put_back(question, pending);
                self.ask_parts(io, now, question, asks);
                self.pending.push_slice(question);
            }
            Some(Some(Step::Ask(asks, pending))) => {
                self.pending.put_back(question, pending);
                self.ask_parts(io, now, question, asks);
                self.pending.close(question, now.instant + self.hub.answer_timeout);
            }
            Some(Some(Step::Respond(response))) => {
                self.pending.forget(question);
                self.respond(io, now, key, response);
                self.carry_out(io, now, key);
            }
            Some(None) => self.pending.forget(question),
            None => {
                self.pending.forget(question);
                self.respond_panicked(io, now, key);
            }
        }
        self.settle(io, now, key);
        Visit::Large
    }

    /// Gives `what` the view that calls have of their core.
    fn with_view<T>(&self, io: &I, now: Now, what: impl FnOnce(&View<'_>) -> T) -> T {
        what(&View {
            directory: &self.directory,
            placement: &self.hub.placement,
            now,
            phase: self.hub.phase(),
            connections_max: self.hub.connections_max,
            degraded: self.hub.is_degraded(),
            stuck: self.hub.stuck(),
            admin_token: self.hub.admin_token,
            lateness_max: self.hub.lateness_max(),
            random: &|| io.random(),
        })
    }
}

/// The request that a session has, as the calls see it.
fn call_of(session: &Session) -> Option<Call<'_>> {
    let request = session.request()?;
    Some(Call {
        method: request.head.method.as_str(),
        path: request.head.path(),
        query: request.head.query(),
        authorization: request.head.only_field("authorization"),
        api_key: request.head.only_field("api-key"),
        idempotency_key: request.head.field("idempotency-key").is_some(),
        body: &request.body,
    })
}
