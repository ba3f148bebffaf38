//! Creates, lists and revokes the tokens of a gateway. A token's secret is shown once, when it is created.

use super::{
    answer::{Unanswered, only},
    body,
    call::{Answers, Ask, Call, Continuation, Handled, Pending, Step, View},
    params::Params,
};
use crate::{
    model::{KeyHash, StoreOp, StoreOutcome, Timestamp, TokenId, TokenRecord},
    wire::http::Response,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use smallvec::smallvec;
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of randomness in a token (contract section 2).
const SECRET_BYTES: usize = 32;

/// The body of a call that creates a token. With `sha256` it imports a token that another system has issued.
#[derive(Default, Deserialize)]
struct Draft {
    sha256: Option<String>,
}

/// The answer to a created token; without `token` if only its hash is known.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created<'a> {
    id: TokenId,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    created_at: Timestamp,
}

#[derive(Serialize)]
struct Listing {
    count: usize,
    list: Vec<TokenRecord>,
}

/// `POST /api/v1/gateways/{gatewayId}/tokens`.
pub(super) fn handle_create(call: &Call<'_>, view: &View<'_>, params: Params<'_>) -> Handled {
    let gateway = params.gateway()?;
    // An empty body is allowed, so that the call without options needs none.
    let draft: Draft = if call.body.trim_ascii().is_empty() { Draft::default() } else { body::object(call.body)? };
    let (secret, hash) = match &draft.sha256 {
        Some(hex) => {
            let hash = KeyHash::parse_hex(hex);
            (None, hash.ok_or_else(|| Response::error(400, "`sha256` must be 64 hexadecimal digits"))?)
        }
        None => {
            let secret = new_secret()?;
            let hash = KeyHash::of(secret.0.as_bytes());
            (Some(secret), hash)
        }
    };
    // The store gets the hash only. The secret stays in this call, until it is shown.
    let op =
        StoreOp::CreateToken { gateway, token: TokenId::from_random((view.random)()), hash, created_at: view.now.wall };
    Ok(Step::Ask(smallvec![Ask::Store(op)], Pending::new(Waiting(Stage::Create(secret)))))
}

/// `GET /api/v1/gateways/{gatewayId}/tokens`.
pub(super) fn handle_list(_: &Call<'_>, _: &View<'_>, params: Params<'_>) -> Handled {
    let op = StoreOp::Tokens(params.gateway()?);
    Ok(Step::Ask(smallvec![Ask::Store(op)], Pending::new(Waiting(Stage::List))))
}

/// `DELETE /api/v1/gateways/{gatewayId}/tokens/{tokenId}`.
pub(super) fn handle_revoke(_: &Call<'_>, _: &View<'_>, params: Params<'_>) -> Handled {
    let op = StoreOp::RevokeToken { gateway: params.gateway()?, token: params.token()? };
    Ok(Step::Ask(smallvec![Ask::Store(op)], Pending::new(Waiting(Stage::Revoke))))
}

/// A call that waits for the store.
#[derive(Debug)]
struct Waiting(Stage);

#[derive(Debug)]
enum Stage {
    /// Waits for the hash to be stored before the secret is shown; `None` if only the hash is known.
    Create(Option<Secret>),
    List,
    Revoke,
}

impl Continuation for Waiting {
    fn handle_answers(self: Box<Self>, answers: Answers, _: &View<'_>) -> Handled {
        let answer = only(answers)?;
        let outcome = if let Stage::List = self.0 { answer.read()? } else { answer.change()? };
        let response = match (self.0, outcome) {
            (Stage::Create(secret), StoreOutcome::Token(TokenRecord { id, created_at })) => {
                let token = secret.as_ref().map(|secret| secret.0.as_str());
                Response::json(201, &Created { id, token, created_at })
            }
            (Stage::List, StoreOutcome::Tokens(list)) => Response::json(200, &Listing { count: list.len(), list }),
            (Stage::Revoke, StoreOutcome::Done) => Response::empty(204),
            _ => return Err(Unanswered::Mismatched.into()),
        };
        Ok(Step::Respond(response))
    }
}

/// A token in plain text. It is wiped when it is dropped, and `Debug` does not show it.
struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Creates a token: random bytes of the system as base64url without padding.
fn new_secret() -> Result<Secret, Response> {
    // From the system and not from `view.random`, whose generator was chosen for speed and is meant for ids.
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|_| {
        Response::error(503, "the system provides no random numbers; try again").with("Retry-After", "1")
    })?;
    Ok(Secret(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()))))
}
