//! What a simulated core does about requests: admission, HTTP calls, the drain; as `driver::{admit, calls, drain}` do.

use super::{
    asks::Then,
    core::{Core, LinkKey},
    hub::{Control, Entrant, Handoff, Hub, Request, What},
};
use crate::{
    api::{self, Answer, Ask, Pending, Phase, Step, View},
    driver::{calls::call, slots::Slot},
    model::{Change, CloseReason, ConnectionId, KeyHash, Refused},
    session::Admitted,
    shard::{Command, Directory, Join, Reply},
};
use std::time::Duration;

/// The admin token of every simulated hub.
pub(super) const ADMIN: &str = "the-admin-token-of-this-world";
const PATIENCE: Duration = Duration::from_secs(3);

impl Core {
    pub(super) fn preflight(&mut self, hub: &mut Hub, key: LinkKey) {
        let Some(call) = self.linked(key).and_then(|link| call(&link.session)) else { return };
        let verdict = api::preflight(&call, &view(hub, &self.directory));
        if let Some(link) = self.link(key) {
            link.session.handle_preflight(hub.now, verdict);
        }
    }

    pub(super) fn call(&mut self, hub: &mut Hub, key: LinkKey) {
        let Some(call) = self.linked(key).and_then(|link| call(&link.session)) else { return };
        let step = api::handle(&call, &view(hub, &self.directory));
        self.step(hub, key, step);
    }

    fn step(&mut self, hub: &mut Hub, key: LinkKey, step: Step) {
        match step {
            Step::Respond(mut response) => {
                response.close |= hub.phase == Phase::Draining;
                if let Some(link) = self.link(key) {
                    link.session.handle_response(hub.now, &response);
                }
            }
            Step::Ask(asks, pending) => self.ask(hub, Some(key), asks, Then::Call(pending)),
        }
    }

    pub(super) fn handle_call_answers(&mut self, hub: &mut Hub, key: LinkKey, pending: Pending, answers: Vec<Answer>) {
        let step = pending.handle_answers(answers, &view(hub, &self.directory));
        self.step(hub, key, step);
    }

    pub(super) fn admit(&mut self, hub: &mut Hub, key: LinkKey, presented: Option<KeyHash>) {
        if hub.phase != Phase::Ready {
            return self.refuse(hub, key, Refused::Draining);
        }
        let Some(link) = self.link(key) else { return };
        let address = link.session.peer().ip();
        let owner = hub.placement.of_address(address);
        self.ask(hub, Some(key), vec![Ask::Shard(owner, Command::Attempt(address))], Then::Admit(presented));
    }

    pub(super) fn handle_attempt(
        &mut self,
        hub: &mut Hub,
        key: LinkKey,
        presented: Option<KeyHash>,
        answers: Vec<Answer>,
    ) {
        match answers.into_iter().next() {
            Some(Answer::Shard(Reply::Attempt(Ok(())))) => {}
            Some(Answer::Shard(Reply::Attempt(Err(retry_after)))) => {
                return self.refuse(hub, key, Refused::RateLimited { retry_after });
            }
            _ => return self.refuse(hub, key, Refused::Unavailable),
        }
        let Some(entrant) = presented.and_then(|presented| self.entrant(presented)) else {
            return self.refuse(hub, key, Refused::Unauthorized);
        };
        let Some(slot) = hub.slots.acquire() else { return self.refuse(hub, key, Refused::CapacityExceeded) };
        let owner = hub.placement.of_gateway(entrant.gateway);
        if owner == self.id {
            return self.join(hub, key, entrant, slot);
        }
        let Some(link) = self.link(key) else { return };
        let Some(line) = link.line.take() else { return };
        let handoff = Box::new(Handoff { line, session: link.session.depart(), entrant, slot });
        hub.lines[line].owner = None;
        if hub.dice.chance(20) {
            // By chance alone this race is too rare to be met in every run.
            let Entrant { gateway, token, key } = entrant;
            hub.tell(Control::Change(Change::TokenRevoked { gateway, token, hash: key }));
        }
        if let Err(Request::Handoff(handoff)) = hub.request(owner, Request::Handoff(handoff))
            && let Some(link) = self.link(key)
        {
            link.line = Some(line);
            link.session = handoff.session;
            hub.lines[line].owner = Some((self.id.index(), key));
            self.refuse(hub, key, Refused::Unavailable);
        }
    }

    /// The connection is on its owner's core.
    pub(super) fn join(&mut self, hub: &mut Hub, key: LinkKey, entrant: Entrant, slot: Slot) {
        if hub.phase != Phase::Ready {
            return self.refuse(hub, key, Refused::Draining);
        }
        if self.directory.owner_of(&entrant.key) != Some((entrant.gateway, entrant.token)) {
            hub.oracle.sight("key revoked on its way");
            return self.refuse(hub, key, Refused::Unauthorized);
        }
        let Some(link) = self.link(key) else { return };
        let (Some(line), address) = (link.line, link.session.peer()) else { return };
        let id = ConnectionId(hub.dice.uuid());
        let join = Join { gateway: entrant.gateway, id, token: entrant.token, address };
        match self.shard.handle_join(hub.now, join) {
            Err(refused) => self.refuse(hub, key, refused),
            Ok((member, position)) => {
                hub.story.tell(hub.now.instant, Some(line), || {
                    format!("joins {} on shard {} at {position}", entrant.gateway, self.id)
                });
                hub.oracle.joined(hub.now.instant, line, join, member, self.id);
                self.set_member(key, member);
                let admitted = Admitted { gateway: entrant.gateway, connection: id, position };
                let Some((scratch, link)) = self.scratch_and_link(key) else { return };
                link.member = Some(member);
                link.slot = Some(slot);
                link.session.handle_admitted(hub.now, admitted, scratch);
            }
        }
    }

    fn refuse(&mut self, hub: &mut Hub, key: LinkKey, refused: Refused) {
        if let Some(link) = self.link(key) {
            if let Some(line) = link.line {
                hub.story.tell(hub.now.instant, Some(line), || format!("refused: {}", refused.label()));
            }
            link.session.handle_refusal(hub.now, refused);
            hub.oracle.sight(refused.label());
        }
    }

    pub(super) fn begin_drain(&mut self, hub: &mut Hub) {
        let mut queue: Vec<_> = self.members().map(|link| link.key).collect();
        for at in (1..queue.len()).rev() {
            queue.swap(at, hub.dice.below(at as u64 + 1) as usize);
        }
        let window = hub.scenario.drain_window;
        for place in 0..queue.len() {
            let share = window.mul_f64(place as f64 / queue.len() as f64);
            hub.schedule(hub.now.instant + share, What::DrainNext(self.id.index()));
        }
        self.draining = queue;
        hub.schedule(hub.now.instant + window + PATIENCE, What::Force(self.id.index()));
    }

    pub(super) fn drain_next(&mut self, hub: &mut Hub) {
        let Some(key) = self.draining.pop() else { return };
        if let Some(link) = self.link(key) {
            link.session.close(hub.now, CloseReason::Shutdown);
            if let Some(line) = link.line {
                hub.oracle.shutdown(line);
            }
            self.enqueue(key);
        }
    }

    /// Ends what is left by force.
    pub(super) fn force(&mut self, hub: &mut Hub) {
        self.stop();
        for (_, link) in &self.links {
            if let Some(line) = link.line {
                hub.lines[line].pipe.reset = true;
                self.ready.push(link.key);
            }
        }
    }
}

fn view<'a>(hub: &'a Hub, directory: &'a Directory) -> View<'a> {
    View {
        directory,
        placement: &hub.placement,
        now: hub.now,
        phase: hub.phase,
        connections_max: hub.scenario.connections_max,
        degraded: false,
        admin_token: crate::model::KeyHash::of(ADMIN.as_bytes()),
    }
}
