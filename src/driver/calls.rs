//! HTTP calls on this core: the view that they get, the questions that they ask, the answers that they become.

use super::{
    asks::{Then, TooMany},
    link::Link,
    mesh::{Answered, Request},
    worker::Worker,
};
use crate::{
    api::{self, Answer, Ask, Call, Phase, Step, View},
    model::{ShardId, StoreOp},
    session::{Role, Session},
    shard::{Command, Directory, RequestKey},
    wire::http::Response,
};
use std::rc::Rc;

impl Worker {
    /// Decides by a request's head whether it may go on.
    pub(super) fn preflight(&self, link: &Link) {
        let directory = self.directory.borrow();
        let verdict = {
            let session = link.session.borrow();
            match call(&session) {
                Some(call) if is_served(session.role(), call.path) => api::preflight(&call, &self.view(&directory)),
                Some(_) => Err(Response::error(404, "There is no such path here.")),
                None => return,
            }
        };
        if let Err(response) = &verdict
            && response.status == 401
        {
            self.warn_unauthorized(link, None);
        }
        link.session.borrow_mut().handle_preflight(self.now(), verdict);
    }

    /// Answers a whole request, at once or when its questions are answered.
    pub(super) fn call(&self, link: &Rc<Link>) {
        let step = {
            let directory = self.directory.borrow();
            let session = link.session.borrow();
            let Some(call) = call(&session) else { return };
            api::handle(&call, &self.view(&directory))
        };
        self.step(link, step);
    }

    /// Goes on with a call.
    pub(super) fn step(&self, link: &Rc<Link>, step: Step) {
        match step {
            Step::Respond(mut response) => {
                response.close |= self.shared.phase() == Phase::Draining;
                link.session.borrow_mut().handle_response(self.now(), &response);
            }
            Step::Ask(asks, pending) => self.ask(link, asks, Then::Call(pending)),
        }
    }

    /// Asks shards and the store; what cannot be asked is answered as overloaded.
    pub(super) fn ask(&self, link: &Rc<Link>, asks: Vec<Ask>, then: Then) {
        let parts = asks.len();
        let deadline = self.now().instant + self.shared.answer_timeout;
        let opened = self.asks.borrow_mut().open(link, then, parts, deadline);
        let key = match opened {
            Ok(key) => key,
            Err(TooMany(then)) => {
                let answers = asks.iter().map(|_| Answer::Overloaded).collect();
                return self.complete(super::asks::Complete { link: Rc::clone(link), then, answers });
            }
        };
        for (part, ask) in asks.into_iter().enumerate() {
            let asked = match ask {
                Ask::Shard(shard, command) => self.ask_shard(shard, key(part), command),
                Ask::Store(op) => self.ask_store(op, key(part)),
            };
            if !asked {
                self.handle_answer(key(part), Answer::Overloaded);
            }
        }
    }

    fn ask_shard(&self, shard: ShardId, key: RequestKey, command: Command) -> bool {
        if shard == self.id {
            self.shard.borrow_mut().handle_command(self.now(), self.local(key), command);
            return true;
        }
        let request = Request::Command { from: self.id, key, command };
        self.peers[shard.index()].requests.try_send(request).is_ok()
    }

    fn ask_store(&self, op: StoreOp, key: RequestKey) -> bool {
        let replies = self.peers[self.id.index()].replies.clone();
        let reply = move |outcome| {
            // Only a worker that has ended takes no answers.
            let _ = replies.try_send(Answered::Store(key, outcome));
        };
        self.shared.store.submit(op, Box::new(reply)).is_ok()
    }

    /// An answer has come.
    pub(super) fn handle_answer(&self, key: RequestKey, answer: Answer) {
        let complete = self.asks.borrow_mut().answer(key, answer);
        if let Some(complete) = complete {
            self.complete(complete);
        }
    }

    /// All answers to a question are there.
    pub(super) fn complete(&self, complete: super::asks::Complete) {
        let super::asks::Complete { link, then, answers } = complete;
        match then {
            Then::Call(pending) => {
                let step = {
                    let directory = self.directory.borrow();
                    pending.handle_answers(answers, &self.view(&directory))
                };
                self.step(&link, step);
            }
            Then::Admit(key) => self.handle_attempt(&link, key, answers),
        }
        self.enqueue(&link);
    }

    fn view<'a>(&'a self, directory: &'a Directory) -> View<'a> {
        View {
            directory,
            placement: &self.shared.placement,
            now: self.now(),
            phase: self.shared.phase(),
            connections_max: self.shared.connections_max,
            degraded: self.shared.store.is_degraded(),
            admin_token: self.shared.admin_hash,
        }
    }
}

/// The request that a session has, as the calls see it.
pub(crate) fn call(session: &Session) -> Option<Call<'_>> {
    let request = session.request()?;
    Some(Call {
        method: request.head.method.as_str(),
        path: request.head.path(),
        query: request.head.query(),
        authorization: request.head.only_field("authorization"),
        api_key: request.head.only_field("api-key"),
        body: &request.body,
    })
}

/// With an address of the platform's own, the gateways' address serves only what gateways call.
fn is_served(role: Role, path: &str) -> bool {
    role != Role::Gateways || GATEWAY_PATHS.iter().any(|prefix| path.starts_with(prefix))
}

const GATEWAY_PATHS: [&str; 4] = ["/api/internal/v1/gateways/", "/internal/gateway/", "/health", "/ready"];
