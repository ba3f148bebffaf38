//! The store's jobs and their outcomes: gateways, tokens and manifests as values.

use super::{DeliveryMode, GatewayId, KeyHash, Timestamp, TokenId};
use serde::Serialize;

/// A registered gateway.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRecord {
    /// Its id.
    pub id: GatewayId,
    /// Its name, unique in its organization.
    pub name: String,
    /// A name for people.
    pub display_name: Option<String>,
    /// The organization it belongs to.
    pub organization_id: Option<String>,
    /// How its events are delivered; `None` for the hub's default.
    pub delivery: Option<DeliveryMode>,
    /// Time of its creation.
    pub created_at: Timestamp,
}

/// A gateway's token without its secret.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRecord {
    /// Its id.
    pub id: TokenId,
    /// Time of its creation.
    pub created_at: Timestamp,
}

/// One job for the store. Each is one transaction.
#[derive(Clone, Debug)]
pub enum StoreOp {
    /// Answered by [`StoreOutcome::Gateway`], or a conflict if the id exists or the name exists in the organization.
    CreateGateway(GatewayRecord),
    /// Changes a gateway; a member that is `None` keeps its value. Answered by [`StoreOutcome::Gateway`].
    ChangeGateway {
        /// The gateway.
        gateway: GatewayId,
        /// The new name for people, or none.
        display_name: Option<Option<String>>,
        /// How its events are delivered from now on; `Some(None)` for the hub's default.
        delivery: Option<Option<DeliveryMode>>,
    },
    /// Deletes the gateway with its tokens and its manifest. Answered by [`StoreOutcome::Done`].
    DeleteGateway(GatewayId),
    /// Answered by [`StoreOutcome::Gateway`] with its manifest.
    Gateway(GatewayId),
    /// Answered by [`StoreOutcome::Gateways`], in order of creation.
    Gateways {
        /// Maximum number of rows.
        limit: usize,
        /// Number of rows to skip.
        offset: usize,
    },
    /// Answered by [`StoreOutcome::Token`]; a conflict if the gateway has two live tokens or the hash exists.
    CreateToken {
        /// The gateway it belongs to.
        gateway: GatewayId,
        /// The id of the new token.
        token: TokenId,
        /// The SHA-256 of the secret.
        hash: KeyHash,
        /// The time to store.
        created_at: Timestamp,
    },
    /// Answered by [`StoreOutcome::Done`].
    RevokeToken {
        /// The gateway it belongs to.
        gateway: GatewayId,
        /// The token's id.
        token: TokenId,
    },
    /// Answered by [`StoreOutcome::Tokens`], oldest first.
    Tokens(GatewayId),
    /// Replaces the gateway's manifest. Answered by [`StoreOutcome::Done`].
    PutManifest {
        /// The gateway it belongs to.
        gateway: GatewayId,
        /// JSON text, which the caller has checked.
        manifest: String,
        /// The time to store.
        received_at: Timestamp,
    },
}

impl StoreOp {
    /// Whether it can cause a [`super::Change`], which is announced to every core.
    pub fn makes_a_change(&self) -> bool {
        // A manifest is only ever read from the store, so cores keep no copy of it that would have to change.
        match self {
            Self::CreateGateway(_) | Self::DeleteGateway(_) | Self::CreateToken { .. } | Self::RevokeToken { .. } => {
                true
            }
            // Cores keep the delivery of a gateway, but not its display name. Whether the delivery differs from before is known
            // only to the store.
            Self::ChangeGateway { delivery, .. } => delivery.is_some(),
            Self::Gateway(_) | Self::Gateways { .. } | Self::Tokens(_) | Self::PutManifest { .. } => false,
        }
    }
}

/// The outcome of a [`StoreOp`].
#[derive(Clone, Debug, PartialEq)]
pub enum StoreOutcome {
    /// Committed.
    Done,
    /// One gateway, and its manifest (JSON text) if it was asked for and exists.
    Gateway(GatewayRecord, Option<String>),
    /// A page of gateways, and the number of all gateways.
    Gateways(Vec<GatewayRecord>, usize),
    /// The token that was created.
    Token(TokenRecord),
    /// The tokens of a gateway.
    Tokens(Vec<TokenRecord>),
    /// The gateway or the token does not exist; the text says which.
    NotFound(&'static str),
    /// The job would break a rule; the text says which.
    Conflict(String),
    /// The store is busy, full, read-only or failing. If [`Kept`] is `Unknown` the change may have been made, and may
    /// still be announced later.
    Unavailable(String, Kept),
}

/// Whether a change that was answered as unavailable was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// No: the store did not begin to commit it, or has rolled it back.
    No,
    /// It was made whole or not at all: the commit failed, or no answer came in time.
    Unknown,
}
