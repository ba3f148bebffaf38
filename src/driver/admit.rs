//! Whether a gateway may connect, in the order of the contract: address, key, slot; then to the shard that owns it.

use super::{handoff::Handoff, link::Link, mesh::Request, slots::Slot, worker::Worker};
use crate::{
    api::{Answer, Ask, Phase},
    model::{ConnectionId, GatewayId, KeyHash, Refused, TokenId},
    session::Admitted,
    shard::{Command, Join, Reply},
};
use std::rc::Rc;

/// A gateway whose key was good.
#[derive(Clone, Copy)]
pub(super) struct Entrant {
    pub(super) gateway: GatewayId,
    pub(super) token: TokenId,
    /// To look once more on the owner's core: the key may be revoked while the connection moves.
    pub(super) key: KeyHash,
}

impl Worker {
    /// Asks the shard that owns the peer's address whether it may try.
    pub(super) fn admit(&self, link: &Rc<Link>, key: Option<KeyHash>) {
        if self.shared.phase() != Phase::Ready {
            return self.refuse(link, Refused::Draining);
        }
        let address = link.session.borrow().peer().ip();
        let owner = self.shared.placement.of_address(address);
        self.ask(link, vec![Ask::Shard(owner, Command::Attempt(address))], super::asks::Then::Admit(key));
    }

    /// The address may try, or may not.
    pub(super) fn handle_attempt(&self, link: &Rc<Link>, key: Option<KeyHash>, answers: Vec<Answer>) {
        // The peer went while the question was on its way; nobody would ever take it out of the shard again.
        if link.session.borrow().is_over() {
            return;
        }
        match answers.into_iter().next() {
            Some(Answer::Shard(Reply::Attempt(Ok(())))) => {}
            Some(Answer::Shard(Reply::Attempt(Err(retry_after)))) => {
                return self.refuse(link, Refused::RateLimited { retry_after });
            }
            _ => return self.refuse(link, Refused::Unavailable),
        }
        let Some((key, (gateway, token))) = key.and_then(|key| Some((key, self.directory.borrow().owner_of(&key)?)))
        else {
            self.warn_unauthorized(link, key);
            return self.refuse(link, Refused::Unauthorized);
        };
        let Some(slot) = self.shared.slots.acquire() else {
            return self.refuse(link, Refused::CapacityExceeded);
        };
        let entrant = Entrant { gateway, token, key };
        let owner = self.shared.placement.of_gateway(gateway);
        if owner == self.id {
            return self.join(link, entrant, slot);
        }
        match Handoff::pack(link, entrant, slot) {
            Ok(handoff) => {
                if let Err(refused) = self.peers[owner.index()].requests.try_send(Request::Handoff(handoff))
                    && let Request::Handoff(handoff) = refused.into_inner()
                {
                    handoff.unpack_into(link);
                    self.refuse(link, Refused::Unavailable);
                }
            }
            // Out of descriptors: this one waits for better times.
            Err(_) => self.refuse(link, Refused::Unavailable),
        }
    }

    /// The connection is on its owner's core: 101, ack, events.
    pub(super) fn join(&self, link: &Rc<Link>, entrant: Entrant, slot: Slot) {
        let now = self.now();
        if self.shared.phase() != Phase::Ready {
            return self.refuse(link, Refused::Draining);
        }
        if self.directory.borrow().owner_of(&entrant.key) != Some((entrant.gateway, entrant.token)) {
            self.warn_unauthorized(link, Some(entrant.key));
            return self.refuse(link, Refused::Unauthorized);
        }
        let connection = ConnectionId::random();
        let address = link.session.borrow().peer();
        let join = Join { gateway: entrant.gateway, id: connection, token: entrant.token, address };
        let joined = self.shard.borrow_mut().handle_join(now, join);
        match joined {
            Err(refused) => self.refuse(link, refused),
            Ok((key, position)) => {
                link.member.set(Some(key));
                *link.slot.borrow_mut() = Some(slot);
                self.remember(key, link);
                let admitted = Admitted { gateway: entrant.gateway, connection, position };
                let mut scratch = self.scratch.borrow_mut();
                link.session.borrow_mut().handle_admitted(now, admitted, &mut scratch);
                tracing::info!(gateway = %entrant.gateway, connection = %connection, %address, shard = %self.id, "gateway connected");
            }
        }
    }

    fn refuse(&self, link: &Link, refused: Refused) {
        let address = link.session.borrow().peer();
        if !matches!(refused, Refused::Unauthorized) {
            let allowed = self.quiet.borrow_mut().allow(self.now().instant, address.ip(), refused.label());
            if let Some(left_out) = allowed {
                tracing::warn!(%address, reason = refused.label(), left_out, "gateway not admitted");
            }
        }
        link.session.borrow_mut().handle_refusal(self.now(), refused);
    }

    /// Logs a failed authentication: the address and, of a key, a fingerprint.
    pub(super) fn warn_unauthorized(&self, link: &Link, key: Option<KeyHash>) {
        let address = link.session.borrow().peer();
        let allowed = self.quiet.borrow_mut().allow(self.now().instant, address.ip(), "unauthorized");
        if let Some(left_out) = allowed {
            let key = key.map_or_else(|| "none".to_owned(), |key| key.fingerprint());
            tracing::warn!(%address, key, left_out, "authentication failed");
        }
    }
}
