//! The gateways and keys of a world, and when each was created and removed: requested, committed and answered.

use super::rng::Rng;
use crate::model::{Change, DeliveryMode, GatewayId, Instant, KeyHash, Life, TokenId};

/// When a change was requested, committed by the store, and answered.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Stages {
    pub(super) begun: Option<Instant>,
    pub(super) committed: Option<Instant>,
    pub(super) answered: Option<Instant>,
}

/// One gateway.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    pub(super) id: GatewayId,
    /// It exists from the start.
    pub(super) is_initial: bool,
    pub(super) creation: Stages,
    pub(super) deletion: Stages,
    /// Its delivery when it is created; `None` is the hub's default.
    pub(super) delivery: Option<DeliveryMode>,
    /// The delivery that it certainly has, and since when; `None` while a change is under way, or was perhaps carried out.
    pub(super) mode: Option<(DeliveryMode, Instant)>,
    /// A change of its delivery was requested at some time.
    pub(super) was_changed: bool,
    /// Changes of its delivery that were requested and not answered.
    pub(super) changes: u32,
    /// When the last change was answered while another one was under way.
    overlapped: Option<Instant>,
}

impl Gateway {
    fn new(id: GatewayId, is_initial: bool) -> Self {
        Self {
            id,
            is_initial,
            creation: Stages::default(),
            deletion: Stages::default(),
            delivery: None,
            mode: Some((DeliveryMode::Written, Instant(0))),
            was_changed: false,
            changes: 0,
            overlapped: None,
        }
    }

    /// A change of the delivery is requested.
    pub(super) fn begin_change(&mut self) {
        (self.mode, self.was_changed) = (None, true);
        self.changes += 1;
    }

    /// The hub has answered that it has changed the delivery. Which of two changes at the same time was the last is not known.
    pub(super) fn end_change(&mut self, now: Instant, mode: DeliveryMode, begun: Instant) {
        self.changes -= 1;
        let alone = self.changes == 0 && self.overlapped.is_none_or(|at| at < begun);
        self.overlapped = (self.changes > 0).then_some(now).or(self.overlapped);
        self.mode = alone.then_some((mode, now));
    }
}

/// One key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Its gateway, as an index into [`Roster::gateways`].
    pub(super) gateway: usize,
    pub(super) token: TokenId,
    pub(super) secret: String,
    pub(super) hash: KeyHash,
    /// It exists from the start.
    pub(super) is_initial: bool,
    pub(super) creation: Stages,
    pub(super) revocation: Stages,
}

/// All gateways and keys of a world.
#[derive(Clone, Default, Debug)]
pub(super) struct Roster {
    pub(super) gateways: Vec<Gateway>,
    pub(super) keys: Vec<Key>,
}

impl Roster {
    /// `count` initial gateways with one or two keys each; if `later`, one more that is created while the world runs.
    pub(super) fn new(count: usize, later: bool, rng: &mut Rng) -> Self {
        let mut roster = Self::default();
        for index in 0..count + usize::from(later) {
            let is_initial = index < count;
            let id = GatewayId(rng.uuid());
            roster.gateways.push(Gateway::new(id, is_initial));
            for _ in 0..rng.within(1..=2) {
                roster.add_key(index, is_initial, rng);
            }
        }
        roster
    }

    /// `count` initial gateways with one key each.
    pub(super) fn of(count: usize, rng: &mut Rng) -> Self {
        let mut roster = Self::default();
        for index in 0..count {
            let id = GatewayId(rng.uuid());
            roster.gateways.push(Gateway::new(id, true));
            roster.add_key(index, true, rng);
        }
        roster
    }

    fn add_key(&mut self, gateway: usize, is_initial: bool, rng: &mut Rng) {
        let secret = rng.uuid().to_string();
        self.keys.push(Key {
            gateway,
            token: TokenId(rng.uuid()),
            hash: KeyHash::of(secret.as_bytes()),
            secret,
            is_initial,
            creation: Stages::default(),
            revocation: Stages::default(),
        });
    }

    /// The index of a gateway.
    pub(super) fn place(&self, id: GatewayId) -> Option<usize> {
        self.gateways.iter().position(|gateway| gateway.id == id)
    }

    /// The stages of a key's removal: by its own revocation or its gateway's deletion, whichever is earlier.
    pub(super) fn removal_of(&self, key: usize) -> Stages {
        let (own, all) = (self.keys[key].revocation, self.gateways[self.keys[key].gateway].deletion);
        let first = |one: Option<Instant>, other: Option<Instant>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Stages {
            begun: first(own.begun, all.begun),
            committed: first(own.committed, all.committed),
            answered: first(own.answered, all.answered),
        }
    }

    /// Whether the key was certainly valid all the time from `since` on.
    pub(super) fn is_good(&self, key: usize, since: Instant) -> bool {
        let entry = &self.keys[key];
        let known = entry.is_initial || entry.creation.answered.is_some_and(|at| at < since);
        known && self.removal_of(key).begun.is_none()
    }

    /// Whether the delivery of the key's gateway may have been changed from `since` on.
    pub(super) fn may_change_since(&self, key: usize, since: Instant) -> bool {
        let entry = &self.gateways[self.keys[key].gateway];
        entry.was_changed && entry.mode.is_none_or(|(_, changed)| changed >= since)
    }

    /// Whether the gateway certainly existed all the time from `since` on.
    pub(super) fn is_known(&self, gateway: usize, since: Instant) -> bool {
        let entry = &self.gateways[gateway];
        let known = entry.is_initial || entry.creation.answered.is_some_and(|at| at < since);
        known && entry.deletion.begun.is_none()
    }

    /// The store has committed a change.
    pub(super) fn committed(&mut self, now: Instant, change: Change) {
        match change {
            Change::GatewayCreated { life: Life { gateway: id, .. }, .. } | Change::GatewayDeleted(id) => {
                let Some(place) = self.place(id) else { return };
                let entry = &mut self.gateways[place];
                let created = matches!(change, Change::GatewayCreated { .. });
                let stages = if created { &mut entry.creation } else { &mut entry.deletion };
                stages.committed = Some(now);
            }
            Change::DeliveryChanged { .. } => {}
            Change::TokenCreated { hash, .. } | Change::TokenRevoked { hash, .. } => {
                let created = matches!(change, Change::TokenCreated { .. });
                for key in self.keys.iter_mut().filter(|key| key.hash == hash) {
                    let stages = if created { &mut key.creation } else { &mut key.revocation };
                    stages.committed = Some(now);
                }
            }
        }
    }
}
