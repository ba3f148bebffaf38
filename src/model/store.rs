//! What the store is asked and what it answers: gateways, tokens and manifests as values.

use super::{GatewayId, KeyHash, Timestamp, TokenId};
use serde::Serialize;

/// A registered gateway.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRecord {
    /// Its identity.
    pub id: GatewayId,
    /// Unique in its organization.
    pub name: String,
    /// For people.
    pub display_name: Option<String>,
    /// To whom it belongs.
    pub organization_id: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
}

/// A gateway's token without its secret.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRecord {
    /// Its identity.
    pub id: TokenId,
    /// Since when.
    pub created_at: Timestamp,
}

/// One job for the store. Each is a transaction of its own: done whole, or not at all.
#[derive(Clone, Debug)]
pub enum StoreOp {
    /// Answered by [`StoreOutcome::Gateway`], or a conflict: the name is taken in that organization, or the id is.
    CreateGateway(GatewayRecord),
    /// Answered by [`StoreOutcome::Done`]; its tokens and its manifest go with it.
    DeleteGateway(GatewayId),
    /// Answered by [`StoreOutcome::Gateway`] with its manifest.
    Gateway(GatewayId),
    /// Answered by [`StoreOutcome::Gateways`], in order of creation.
    Gateways {
        /// Rows at the most.
        limit: usize,
        /// Rows left out at the front.
        offset: usize,
    },
    /// Answered by [`StoreOutcome::Token`]; a conflict where the gateway has its two live tokens or the hash is known already.
    CreateToken {
        /// Whose.
        gateway: GatewayId,
        /// With this identity.
        token: TokenId,
        /// The SHA-256 of the secret.
        hash: KeyHash,
        /// The time to note.
        created_at: Timestamp,
    },
    /// Answered by [`StoreOutcome::Done`].
    RevokeToken {
        /// Whose.
        gateway: GatewayId,
        /// Which.
        token: TokenId,
    },
    /// Answered by [`StoreOutcome::Tokens`], oldest first.
    Tokens(GatewayId),
    /// Keeps the latest manifest (JSON text). Answered by [`StoreOutcome::Done`].
    PutManifest {
        /// Whose.
        gateway: GatewayId,
        /// JSON text, checked by the caller.
        manifest: String,
        /// The time to note.
        received_at: Timestamp,
    },
}

impl StoreOp {
    /// Whether it may make a change that every core is told of.
    pub fn makes_a_change(&self) -> bool {
        match self {
            Self::CreateGateway(_) | Self::DeleteGateway(_) | Self::CreateToken { .. } | Self::RevokeToken { .. } => {
                true
            }
            Self::Gateway(_) | Self::Gateways { .. } | Self::Tokens(_) | Self::PutManifest { .. } => false,
        }
    }
}

/// What became of an [`StoreOp`].
#[derive(Clone, Debug, PartialEq)]
pub enum StoreOutcome {
    /// Committed (and nothing more to say).
    Done,
    /// One gateway; the manifest (JSON text) only where it was asked for and there is one.
    Gateway(GatewayRecord, Option<String>),
    /// A page of them, and how many there are in all.
    Gateways(Vec<GatewayRecord>, usize),
    /// A token that now exists.
    Token(TokenRecord),
    /// A gateway's tokens.
    Tokens(Vec<TokenRecord>),
    /// There is no such gateway, or no such token; the text says which.
    NotFound(&'static str),
    /// It would break a rule; the text says which.
    Conflict(String),
    /// The store cannot do it now: busy, full, read-only or failing; and whether it may have been done all the same. What was in
    /// doubt may still come as a change.
    Unavailable(String, Kept),
}

/// Whether a change that was not acknowledged is in the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// Surely not: the store did not begin to commit it, or has undone it.
    No,
    /// It is there whole or not at all: the commit failed, or no answer came in time.
    Unknown,
}
