//! What changed in the set of gateways and tokens: announced by the store, applied by every core to its directory.

use super::{GatewayId, KeyHash, Life, TokenId};

/// One change, committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A gateway exists from now on.
    GatewayCreated(Life),
    /// A gateway, and every token of it, is gone.
    GatewayDeleted(GatewayId),
    /// A token is good from now on.
    TokenCreated {
        /// Whose.
        gateway: GatewayId,
        /// Which.
        token: TokenId,
        /// What the SHA-256 of a presented key must be.
        hash: KeyHash,
    },
    /// A token is no longer good.
    TokenRevoked {
        /// Whose.
        gateway: GatewayId,
        /// Which.
        token: TokenId,
        /// What it was known by.
        hash: KeyHash,
    },
}
