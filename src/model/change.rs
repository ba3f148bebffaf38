//! Changes in the set of gateways and tokens. The store announces each after its commit, and every core applies it.

use super::{DeliveryMode, GatewayId, KeyHash, Life, TokenId};

/// One committed change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A gateway was created.
    GatewayCreated {
        /// The gateway.
        life: Life,
        /// How its events are delivered; `None` for the hub's default.
        delivery: Option<DeliveryMode>,
    },
    /// The delivery of a gateway was changed, perhaps to what it was.
    DeliveryChanged {
        /// The gateway.
        life: Life,
        /// How its events are delivered from now on; `None` for the hub's default.
        delivery: Option<DeliveryMode>,
    },
    /// A gateway was deleted, and all its tokens with it.
    GatewayDeleted(GatewayId),
    /// A token was created, and is accepted from now on.
    TokenCreated {
        /// The gateway it belongs to.
        gateway: GatewayId,
        /// The token's id.
        token: TokenId,
        /// The SHA-256 of the token.
        hash: KeyHash,
    },
    /// A token was revoked.
    TokenRevoked {
        /// The gateway it belongs to.
        gateway: GatewayId,
        /// The token's id.
        token: TokenId,
        /// The SHA-256 of the token, by which the directories find it.
        hash: KeyHash,
    },
}
