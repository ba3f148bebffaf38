//! What a path names: the gateway, the token.

use crate::{
    model::{GatewayId, TokenId},
    wire::http::Response,
};

/// The segments of the path that stood for `{}`, as they came.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Params<'a> {
    /// The first.
    pub first: &'a str,
    /// The second.
    pub second: &'a str,
}

impl Params<'_> {
    /// The gateway that the path names. What is no UUID names none.
    pub fn gateway(&self) -> Result<GatewayId, Response> {
        GatewayId::parse(self.first).ok_or_else(|| Response::error(404, "there is no such gateway"))
    }

    /// The token that the path names.
    pub fn token(&self) -> Result<TokenId, Response> {
        TokenId::parse(self.second).ok_or_else(|| Response::error(404, "there is no such token"))
    }
}
