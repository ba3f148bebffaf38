//! The parameters in a path: the ids of a gateway and of a token.

use crate::{
    model::{GatewayId, TokenId},
    wire::http::Response,
};

/// The segments of the path in the places of `{}`, not decoded.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Params<'a> {
    /// The first parameter.
    pub first: &'a str,
    /// The second parameter.
    pub second: &'a str,
}

impl Params<'_> {
    /// The first parameter as a gateway's id.
    pub fn gateway(&self) -> Result<GatewayId, Response> {
        // 404 and not 400: a text that is not a UUID is the id of no gateway.
        GatewayId::parse(self.first).ok_or_else(|| Response::error(404, "there is no such gateway"))
    }

    /// The second parameter as a token's id.
    pub fn token(&self) -> Result<TokenId, Response> {
        TokenId::parse(self.second).ok_or_else(|| Response::error(404, "there is no such token"))
    }
}
