//! Carries out what sessions and the shard ask for.

use super::{link::Link, mesh::Answered, socket, worker::Worker};
use crate::{
    api::Answer,
    model::Message,
    session::{Effect, End},
    shard::{self, RequestKey},
    wire::message,
};
use std::rc::Rc;

impl Worker {
    /// Carries out what the session asks for.
    pub(super) fn carry_out_session(&self, link: &Rc<Link>) {
        loop {
            // A statement of its own: the borrow must not last while the effect is carried out.
            let effect = link.session.borrow_mut().poll_effect();
            let Some(effect) = effect else { return };
            self.carry_out(link, effect);
        }
    }

    fn carry_out(&self, link: &Rc<Link>, effect: Effect) {
        let now = self.now();
        let member = link.member.get();
        match effect {
            Effect::Preflight => self.preflight(link),
            Effect::Call => self.call(link),
            Effect::Admit(key) => self.admit(link, key),
            Effect::Life(round_trip) => {
                if let Some(key) = member {
                    self.shard.borrow_mut().handle_life(now, key, round_trip);
                }
            }
            Effect::Message(text) => self.handle_message(link, &text),
            Effect::Ignored => tracing::debug!(address = %link.session.borrow().peer(), "message ignored"),
            Effect::Closing(reason) => {
                if let Some(key) = member {
                    self.shard.borrow_mut().handle_closing(now, key, reason);
                }
            }
            Effect::Probe => {
                let reachable = link.stream.borrow().as_ref().is_some_and(socket::is_acknowledged);
                if let Some(key) = member.filter(|_| reachable) {
                    self.shard.borrow_mut().handle_stale(key);
                }
                link.session.borrow_mut().handle_peer_state(now, reachable);
            }
            Effect::ShutdownWrite => {
                if let Some(stream) = link.stream.borrow().as_ref() {
                    socket::shutdown_write(stream);
                }
            }
            Effect::Over(end) => self.handle_over(link, end),
        }
    }

    fn handle_message(&self, link: &Link, text: &[u8]) {
        let Some(key) = link.member.get() else { return };
        let shard = self.shard.borrow();
        let Some(connection) = shard.connection(key) else { return };
        let (gateway, id) = (connection.gateway, connection.id);
        match message::parse(text) {
            Message::DeploymentAck(ack) => {
                let text = |field: &Option<String>| field.clone().unwrap_or_default();
                tracing::info!(%gateway, connection = %id, deployment = text(&ack.deployment_id), artifact = text(&ack.artifact_id),
                    action = text(&ack.action), status = text(&ack.status), error = text(&ack.error_code), "deployment acknowledged");
                drop(shard);
                self.shard.borrow_mut().handle_ack(ack.status.as_deref() == Some("success"));
            }
            Message::Unknown => tracing::debug!(%gateway, connection = %id, "message of an unknown type ignored"),
            Message::Malformed => {
                drop(shard);
                self.shard.borrow_mut().handle_malformed();
                let address = link.session.borrow().peer().ip();
                if let Some(left_out) = self.quiet.borrow_mut().allow(self.now().instant, address, "malformed message")
                {
                    tracing::warn!(%gateway, connection = %id, left_out, "message is not JSON with a type; ignored");
                }
            }
        }
    }

    fn handle_over(&self, link: &Link, end: End) {
        match end {
            End::Closed(reason) => self.leave(link, reason),
            End::Tls(error) => {
                tracing::debug!(address = %link.session.borrow().peer(), error, "TLS failed");
            }
            End::Gone | End::Answered | End::BadRequest(_) | End::Refused(_) | End::TimedOut | End::Stalled => {}
        }
    }

    /// Carries out what the shard asks for.
    pub(super) fn carry_out_shard(&self) {
        loop {
            let effect = self.shard.borrow_mut().poll_effect();
            match effect {
                None => return,
                Some(shard::Effect::Reply(request, reply)) => self.route(request, reply),
                Some(shard::Effect::Close(key, reason)) => {
                    let link = self.members.borrow().get(key.index as usize).cloned().flatten();
                    if let Some(link) = link.filter(|link| link.member.get() == Some(key)) {
                        link.session.borrow_mut().close(self.now(), reason);
                        self.enqueue(&link);
                    }
                }
                Some(shard::Effect::Failed(failure)) => {
                    let connection = failure.connection.map(|id| id.to_string()).unwrap_or_default();
                    tracing::error!(gateway = %failure.gateway, connection, kind = %failure.kind,
                        correlation = %failure.correlation, reason = failure.reason, "delivery failed");
                }
            }
        }
    }

    /// The key by which the shard knows a question of this core.
    pub(super) fn local(&self, key: RequestKey) -> RequestKey {
        self.remote.borrow_mut().insert((self.id, key)) as RequestKey
    }

    /// Brings the shard's reply to whoever asked.
    fn route(&self, request: RequestKey, reply: shard::Reply) {
        let Some((from, key)) = self.remote.borrow_mut().try_remove(request as usize) else { return };
        if from == self.id {
            self.handle_answer(key, Answer::Shard(reply));
        } else if self.peers[from.index()].replies.try_send(Answered::Shard(key, reply)).is_err() {
            tracing::error!(from = %self.id, to = %from, "a reply found no room");
        }
    }
}
