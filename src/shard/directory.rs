//! This core's copy of all gateways and token hashes. Checking a key costs one hash and one lookup, and no lock.

use crate::model::{Change, GatewayId, KeyHash, Life, TokenId};
use ahash::HashMap;

/// The gateways and keys after the last change applied.
#[derive(Default)]
pub struct Directory {
    gateways: HashMap<GatewayId, Entry>,
    keys: HashMap<KeyHash, (GatewayId, TokenId)>,
    /// Number of changes applied.
    version: u64,
}

/// One gateway.
struct Entry {
    incarnation: u64,
    /// Its keys in [`Directory::keys`], so that its deletion does not scan the keys of all gateways. At most
    /// [`crate::limits::TOKENS_PER_GATEWAY_MAX`].
    keys: Vec<KeyHash>,
}

impl Directory {
    /// Applies one committed change. The caller passes changes in commit order.
    pub fn apply(&mut self, change: Change) {
        self.version += 1;
        match change {
            Change::GatewayCreated { life: Life { gateway, incarnation }, .. } => {
                self.gateways.insert(gateway, Entry { incarnation, keys: Vec::new() });
            }
            Change::DeliveryChanged { .. } => {}
            Change::GatewayDeleted(gateway) => {
                let keys = self.gateways.remove(&gateway).map(|entry| entry.keys).unwrap_or_default();
                for hash in keys {
                    self.keys.remove(&hash);
                }
            }
            Change::TokenCreated { gateway, token, hash } => {
                let before = self.keys.insert(hash, (gateway, token));
                debug_assert!(before.is_none(), "a key belongs to one gateway and is created once");
                // The store creates tokens only for gateways that exist, so this branch is always taken.
                if let Some(entry) = self.gateways.get_mut(&gateway) {
                    entry.keys.push(hash);
                }
            }
            Change::TokenRevoked { gateway, hash, .. } => {
                self.keys.remove(&hash);
                if let Some(entry) = self.gateways.get_mut(&gateway) {
                    entry.keys.retain(|key| *key != hash);
                }
            }
        }
    }

    /// A number that is different after each change, so that a caller can tell that nothing has changed since.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns whether this gateway exists.
    pub fn knows(&self, gateway: GatewayId) -> bool {
        self.gateways.contains_key(&gateway)
    }

    /// The life of the gateway that has this id now, or `None` if no gateway has it.
    pub fn life_of(&self, gateway: GatewayId) -> Option<Life> {
        self.gateways.get(&gateway).map(|entry| Life { gateway, incarnation: entry.incarnation })
    }

    /// Number of gateways.
    pub fn gateways(&self) -> usize {
        self.gateways.len()
    }

    /// The gateway and token that this key belongs to, or `None` if it is not a live key.
    pub fn owner_of(&self, hash: &KeyHash) -> Option<(GatewayId, TokenId)> {
        self.keys.get(hash).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(gateway: GatewayId) -> Change {
        Change::GatewayCreated { life: Life { gateway, incarnation: 1 }, delivery: None }
    }

    fn token(gateway: GatewayId, key: &str) -> Change {
        Change::TokenCreated { gateway, token: TokenId::random(), hash: KeyHash::of(key.as_bytes()) }
    }

    fn revoked(gateway: GatewayId, key: &str) -> Change {
        Change::TokenRevoked { gateway, token: TokenId::random(), hash: KeyHash::of(key.as_bytes()) }
    }

    #[test]
    fn deleting_a_gateway_removes_its_keys_and_no_others() {
        let mut directory = Directory::default();
        let (gone, stays) = (GatewayId::random(), GatewayId::random());
        for change in [
            created(gone),
            created(stays),
            token(gone, "a"),
            token(stays, "b"),
            token(gone, "c"),
            token(gone, "d"),
            revoked(gone, "a"),
            Change::GatewayDeleted(gone),
            // The same id is created again, and one of its former keys is given to another gateway.
            created(gone),
            token(stays, "c"),
            Change::GatewayDeleted(gone),
        ] {
            directory.apply(change);
        }
        let owner = |key: &str| directory.owner_of(&KeyHash::of(key.as_bytes())).map(|(gateway, _)| gateway);
        assert_eq!(["a", "b", "c", "d"].map(owner), [None, Some(stays), Some(stays), None]);
        assert_eq!((directory.keys.len(), directory.gateways.len()), (2, 1));
    }

    #[test]
    fn each_gateway_lists_its_own_keys() {
        let mut directory = Directory::default();
        let gateways: Vec<_> = (0..1_000).map(|_| GatewayId::random()).collect();
        for (n, gateway) in gateways.iter().enumerate() {
            directory.apply(created(*gateway));
            (0..2).for_each(|key| directory.apply(token(*gateway, &format!("{n}-{key}"))));
        }
        for (n, gateway) in gateways.iter().enumerate() {
            let own = [0, 1].map(|key| KeyHash::of(format!("{n}-{key}").as_bytes()));
            assert_eq!(directory.gateways[gateway].keys, own);
            directory.apply(revoked(*gateway, &format!("{n}-0")));
            assert_eq!(directory.gateways[gateway].keys, own[1..]);
        }
        assert_eq!(directory.keys.len(), gateways.len());
        gateways.iter().for_each(|gateway| directory.apply(Change::GatewayDeleted(*gateway)));
        assert!(directory.keys.is_empty() && directory.gateways.is_empty());
    }
}
