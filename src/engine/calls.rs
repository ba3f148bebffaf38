//! HTTP calls on this core: routing a request, sending its commands to shards and store, and making its response.

use super::{
    bodies::BodyOwner,
    core::Engine,
    guard::guarded,
    io::{Io, Request},
    link::LinkKey,
    live_tokens::LiveTokens,
    notice::Notice,
    pending_requests::{Complete, Continuation, PendingKey},
    schedule::Visit,
};
use crate::{
    api::{self, Answer, Ask, Asks, Call, Matched, Phase, Routed, Step, View},
    model::{Now, ShardId},
    session::Session,
    shard::{self, Command, Failed, Origin, Reply, RequestKey},
    wire::http::{Framing, Response},
};

impl<I: Io> Engine<I> {
    /// Routes a request by its head: a WebSocket upgrade, a call, or an error response.
    pub(super) fn route(&mut self, io: &mut I, now: Now, key: LinkKey) {
        let Some(link) = self.links.get(key) else { return };
        let routed = guarded(|| {
            let call = call_of(&link.session)?;
            Some(self.with_view(io, now, |view| api::route_request(&call, link.side, view)))
        });
        let Some(routed) = routed else {
            let verdict = Err(self.panic_response(io, now, key));
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
                // An authenticated connection is closed to make room for others only while it is idle.
                if matched.is_authenticated() {
                    self.links.set_authenticated(key);
                }
                if let Some(link) = self.links.get_mut(key) {
                    link.set_request(matched);
                }
                self.reserve_body(io, now, key, &matched).map(|()| matched.body_bytes_max())
            }
            Some(Err(response)) => {
                if response.status == 401 {
                    let address = self.links.get(key).map(|link| link.session.peer());
                    address.into_iter().for_each(|address| io.notice(now, Notice::Unauthorized { address, key: None }));
                }
                Err(response)
            }
        };
        if let Err(response) = &verdict {
            self.shard.count_answer(response.status);
        }
        self.with_session(io, now, key, |session, _| session.handle_route(now, verdict));
    }

    /// Reserves memory for the body that the head announces; 503 if the budget is used up.
    fn reserve_body(&mut self, io: &mut I, now: Now, key: LinkKey, matched: &Matched) -> Result<(), Response> {
        let bound = matched.body_bytes_max();
        let Some(link) = self.links.get_mut(key) else { return Ok(()) };
        let Some(request) = link.request.as_mut() else { return Ok(()) };
        debug_assert!(request.reservation.is_none(), "a link has one request at a time and releases its reservation");
        let bytes = match link.session.request().map(|request| request.head.framing) {
            Some(Framing::Length(length)) => usize::try_from(length).unwrap_or(usize::MAX),
            // A chunked body does not announce its length, so it reserves the largest that its route allows.
            Some(Framing::Chunked) => bound,
            Some(Framing::None) | None => 0,
        };
        // A body over the bound is refused by the session with 413 and needs no memory.
        if bytes == 0 || bytes > bound {
            return Ok(());
        }
        let owner = matched.gateway().map_or(BodyOwner::Platform, BodyOwner::Gateway);
        let Ok((reservation, before)) = self.bodies.reserve(owner, bytes, key) else {
            return Err(Response::error(503, "too many request bodies in progress").with("Retry-After", "1"));
        };
        request.reservation = Some(reservation);
        // One unfinished body per gateway: otherwise one gateway that never finishes its bodies takes the whole budget.
        if let Some(before) = before {
            let response = Response::error(503, "replaced by a newer request").with("Retry-After", "1");
            self.shard.count_answer(response.status);
            self.with_session(io, now, before, |session, _| session.abandon(now, response));
            self.wake_writer(before);
            self.finish_visit(io, now, before);
        }
        Ok(())
    }

    /// Handles a complete request: responds at once, or after shards and store have answered.
    pub(super) fn call(&mut self, io: &mut I, now: Now, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        let body = link.session.request().map(|request| request.body.len());
        if let (Some(reservation), Some(bytes)) = (link.reservation(), body) {
            self.bodies.shrink(reservation, bytes);
        }
        let Some(link) = self.links.get(key) else { return };
        let step = guarded(|| {
            #[cfg(test)]
            super::faults::inject_call(link.session.peer());
            let (call, matched) = (call_of(&link.session)?, &link.request.as_ref()?.matched);
            Some(self.with_view(io, now, |view| api::handle(matched, &call, view)))
        });
        match step {
            Some(Some(step)) => {
                // Only a call in slices reads on in its body.
                if !matches!(step, Step::Slice(..))
                    && let Some(link) = self.links.get_mut(key)
                {
                    link.session.release_body();
                }
                self.handle_step(io, now, key, step);
            }
            Some(None) => debug_assert!(false, "a call has a request and a route"),
            None => self.respond_after_panic(io, now, key),
        }
    }

    /// The response to a call whose code panicked; it closes the connection.
    fn panic_response(&mut self, io: &mut I, now: Now, key: LinkKey) -> Response {
        self.report_panic(io, now, key);
        Response::error(500, "internal error; see the hub's log").closing()
    }

    fn respond_after_panic(&mut self, io: &mut I, now: Now, key: LinkKey) {
        let response = self.panic_response(io, now, key);
        self.respond(io, now, key, response);
    }

    fn handle_step(&mut self, io: &mut I, now: Now, key: LinkKey, step: Step) {
        match step {
            Step::Respond(response) => self.respond(io, now, key, response),
            Step::Ask(asks, pending) => self.ask(io, now, key, asks, Continuation::Call(pending)),
            Step::Slice(asks, pending) => {
                let pending_key = self.pending.open(key, Continuation::Call(pending));
                self.send_parts(io, now, pending_key, asks);
                self.pending.push_slice(pending_key);
            }
        }
    }

    fn respond(&mut self, io: &mut I, now: Now, key: LinkKey, mut response: Response) {
        debug_assert!((200..600).contains(&response.status), "a response has a final status");
        // A drain waits for requests in progress, so a connection must not begin another.
        response.close |= self.hub.phase() == Phase::Draining;
        self.shard.count_answer(response.status);
        self.with_session(io, now, key, |session, scratch| session.handle_response(now, &response, scratch));
        if response.reuses {
            self.scratch.buffers.put(response.body);
        }
        self.wake_writer(key);
        self.finish_visit(io, now, key);
    }

    /// Sends requests to shards and store; `then` continues when all have answered or timed out.
    pub(super) fn ask(&mut self, io: &mut I, now: Now, key: LinkKey, asks: Asks, then: Continuation) {
        let pending_key = self.pending.open(key, then);
        self.send_parts(io, now, pending_key, asks);
        self.close_request(now, pending_key);
    }

    /// From now on the request waits for its answers.
    fn close_request(&mut self, now: Now, pending_key: PendingKey) {
        self.pending.close(pending_key, now.instant, self.hub.answer_timeout);
    }

    /// Adds parts to an open pending request and sends them; a part that finds a full lane is answered as overloaded.
    fn send_parts(&mut self, io: &mut I, now: Now, pending_key: PendingKey, asks: Asks) {
        for ask in asks {
            let Some(part) = self.pending.add_part(pending_key) else { continue };
            let asked = match ask {
                Ask::Shard(shard, command) if shard == self.id => {
                    self.shard.handle_command(now, Origin { shard, key: part }, command);
                    true
                }
                Ask::Shard(shard, command) => self.request_from_core(io, shard, part, command),
                Ask::Store(op) => io.store(op, part),
            };
            if !asked {
                // The pending request is still open, so this answer does not complete it.
                let complete = self.pending.answer(part, Answer::Overloaded);
                debug_assert!(complete.is_none(), "an open request is not complete");
            }
        }
    }

    fn request_from_core(&mut self, io: &mut I, shard: ShardId, key: RequestKey, command: Command) -> bool {
        io.request(shard, Request::Command(Origin { shard: self.id, key }, command)).is_ok()
    }

    /// Handles one effect of the shard.
    pub(super) fn handle_shard_effect(&mut self, io: &mut I, now: Now) -> Visit {
        match self.shard.poll_effect() {
            None => return Visit::Idle,
            Some(shard::Effect::Reply(origin, reply)) => {
                self.handle_reply(io, now, origin, reply);
                return Visit::Large;
            }
            Some(shard::Effect::Admit(member, begin)) => {
                self.handle_begin(io, now, member, begin);
                return Visit::Large;
            }
            Some(shard::Effect::Refuse(member)) => self.handle_unresumable(io, now, member),
            Some(shard::Effect::Close(member, reason)) => {
                let Some(key) = self.links.of_member(member) else { return Visit::Small };
                self.close_link(io, now, key, reason);
            }
            Some(shard::Effect::Repeated(repeated)) => io.notice(now, Notice::IdRepeated(repeated)),
            Some(shard::Effect::Missed(missed)) => io.notice(now, Notice::Missed(missed)),
            Some(shard::Effect::Skipped(skipped)) => {
                let tokens = self.live_tokens();
                io.notice(now, Notice::Skipped { skipped: &skipped, tokens });
            }
        }
        Visit::Small
    }

    /// Routes the shard's reply to the core that sent the command.
    fn handle_reply(&mut self, io: &mut I, now: Now, origin: Origin, reply: Reply) {
        if origin.shard == self.id {
            self.handle_answer(io, now, origin.key, Answer::Shard(reply));
        } else if !io.reply(origin.shard, origin.key, reply) {
            io.notice(now, Notice::ReplyLost);
        }
    }

    /// Reports one failed delivery.
    pub(super) fn report_failure(&mut self, io: &mut I, now: Now) -> Visit {
        // One a visit: a connection that closes with thousands of queued events must not hold up the core with its
        // notices.
        match self.shard.poll_failure() {
            None => return Visit::Idle,
            Some(Failed::One(failure)) => {
                let tokens = self.live_tokens();
                io.notice(now, Notice::DeliveryFailed { failure: &failure, tokens });
            }
            Some(Failed::Waiting(waiting)) => {
                let tokens = self.live_tokens();
                io.notice(now, Notice::Waiting { waiting: &waiting, tokens });
            }
            Some(Failed::LeftOut(count)) => io.notice(now, Notice::FailuresLeftOut(count)),
        }
        Visit::Small
    }

    /// Handles the answer to one part of a pending request.
    pub(super) fn handle_answer(&mut self, io: &mut I, now: Now, key: RequestKey, answer: Answer) {
        if let Some(complete) = self.pending.answer(key, answer) {
            self.complete(io, now, complete);
        }
    }

    /// Continues with a pending request whose answers are complete.
    pub(super) fn complete(&mut self, io: &mut I, now: Now, complete: Complete) {
        let Complete { link: key, then, answers } = complete;
        // The connection may have closed while the answers were on their way.
        if self.links.get(key).is_none_or(|link| link.session.is_over()) {
            return;
        }
        match then {
            Continuation::Call(pending) => {
                let step = guarded(|| self.with_view(io, now, |view| pending.handle_answers(answers, view)));
                match step {
                    Some(step) => self.handle_step(io, now, key, step),
                    None => self.respond_after_panic(io, now, key),
                }
            }
            Continuation::Admit(presented) => self.handle_attempt_answer(io, now, key, presented, answers),
        }
        self.follow_up(io, now, key);
    }

    /// Handles the next slice of a long call. Slices have a queue of their own, so that a batch of 8 MiB does not hold
    /// up the events of other gateways.
    pub(super) fn slice_next(&mut self, io: &mut I, now: Now) -> Visit {
        let Some((pending_key, key, pending)) = self.pending.pop_slice() else { return Visit::Idle };
        let Some(link) = self.links.get(key).filter(|link| !link.session.is_over()) else {
            self.pending.forget(pending_key);
            return Visit::Small;
        };
        let step = guarded(|| {
            let call = call_of(&link.session)?;
            Some(self.with_view(io, now, |view| pending.handle_more(&call, view)))
        });
        match step {
            Some(Some(Step::Slice(asks, pending))) => {
                self.pending.put_back(pending_key, pending);
                self.send_parts(io, now, pending_key, asks);
                self.pending.push_slice(pending_key);
            }
            Some(Some(Step::Ask(asks, pending))) => {
                self.pending.put_back(pending_key, pending);
                self.send_parts(io, now, pending_key, asks);
                // The last slice: the deadline of the answers begins now.
                self.close_request(now, pending_key);
            }
            Some(Some(Step::Respond(response))) => {
                self.pending.forget(pending_key);
                self.respond(io, now, key, response);
                self.handle_effects(io, now, key);
            }
            Some(None) => self.pending.forget(pending_key),
            None => {
                self.pending.forget(pending_key);
                self.respond_after_panic(io, now, key);
            }
        }
        self.finish_visit(io, now, key);
        Visit::Large
    }

    /// The tokens that no log line may hold.
    pub(super) fn live_tokens(&self) -> LiveTokens<'_> {
        LiveTokens::new(&self.directory, self.hub.admin_token)
    }

    /// Runs `what` with the read-only view that calls have of their core.
    fn with_view<T>(&self, io: &I, now: Now, what: impl FnOnce(&View<'_>) -> T) -> T {
        what(&View {
            directory: &self.directory,
            placement: &self.hub.placement,
            now,
            phase: self.hub.phase(),
            connections_max: self.hub.connections_max,
            store_degraded: self.hub.is_degraded(),
            log: &self.hub.log,
            stuck: self.hub.stuck(),
            admin_token: self.hub.admin_token,
            panics: self.hub.panics(),
            stalls: self.hub.stalls(),
            lateness_max: self.hub.lateness_max(),
            buffers: &self.scratch.buffers,
            random: &|| io.random(),
        })
    }
}

/// The session's current request, in the form that the API takes.
fn call_of(session: &Session) -> Option<Call<'_>> {
    let request = session.request()?;
    Some(Call {
        method: request.head.method.as_str(),
        path: request.head.path(),
        query: request.head.query(),
        authorization: request.head.only_field("authorization"),
        api_key: request.head.only_field("api-key"),
        idempotency_key: request.head.field("idempotency-key").is_some(),
        body: request.body,
    })
}
