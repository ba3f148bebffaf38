//! Who may connect: this core's own copy of gateways and token hashes, so that checking a key costs one hash and no lock.

use crate::model::{Change, GatewayId, KeyHash, Life, TokenId};
use ahash::HashMap;

/// The gateways and keys as of the last change applied.
#[derive(Default)]
pub struct Directory {
    /// With their incarnations.
    gateways: HashMap<GatewayId, u64>,
    keys: HashMap<KeyHash, (GatewayId, TokenId)>,
    /// Changes that were applied.
    version: u64,
}

impl Directory {
    /// Takes over one committed change. Changes arrive in commit order.
    pub fn apply(&mut self, change: Change) {
        self.version += 1;
        match change {
            Change::GatewayCreated(Life { gateway, incarnation }) => {
                self.gateways.insert(gateway, incarnation);
            }
            Change::GatewayDeleted(gateway) => {
                self.gateways.remove(&gateway);
                self.keys.retain(|_, (owner, _)| *owner != gateway);
            }
            Change::TokenCreated { gateway, token, hash } => {
                self.keys.insert(hash, (gateway, token));
            }
            Change::TokenRevoked { hash, .. } => {
                self.keys.remove(&hash);
            }
        }
    }

    /// Changes with every change that is applied.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether there is such a gateway.
    pub fn knows(&self, gateway: GatewayId) -> bool {
        self.gateways.contains_key(&gateway)
    }

    /// Which gateway bears this id now; `None` where none does.
    pub fn life_of(&self, gateway: GatewayId) -> Option<Life> {
        self.gateways.get(&gateway).map(|incarnation| Life { gateway, incarnation: *incarnation })
    }

    /// How many gateways there are.
    pub fn gateways(&self) -> usize {
        self.gateways.len()
    }

    /// Whose key this is; `None` where it is nobody's.
    pub fn owner_of(&self, hash: &KeyHash) -> Option<(GatewayId, TokenId)> {
        self.keys.get(hash).copied()
    }
}
