//! Authenticates callers: the platform by the admin token (RFC 6750 section 2.1), a gateway by its key.

use super::call::{Call, View};
use crate::{
    model::{GatewayId, KeyHash},
    wire::http::Response,
};
use subtle::ConstantTimeEq;

/// Checks for the admin token; 401 without it.
pub(super) fn check_admin(call: &Call<'_>, view: &View<'_>) -> Result<(), Response> {
    let presented = call.authorization.and_then(bearer);
    if presented.is_some_and(|token| is_secret(token, &view.admin_token)) {
        return Ok(());
    }
    Err(Response::error(401, "this call needs the admin token in `Authorization: Bearer`")
        .with("WWW-Authenticate", "Bearer"))
}

/// Checks for a key of this gateway. A missing key, an unknown one and one of another gateway get the same 401, so that
/// it does not tell which keys exist.
pub(super) fn check_key(call: &Call<'_>, view: &View<'_>, gateway: Option<GatewayId>) -> Result<(), Response> {
    let owner = call.api_key.and_then(|key| view.directory.owner_of(&KeyHash::of(key)));
    match (owner, gateway) {
        (Some((owner, _)), Some(gateway)) if owner == gateway => Ok(()),
        _ => Err(gateway_key_required()),
    }
}

/// The response to a call without a key of the gateway in the path.
pub(super) fn gateway_key_required() -> Response {
    Response::error(401, "this call needs a key of this gateway in `api-key`").with("WWW-Authenticate", "ApiKey")
}

/// The token in `Bearer <token>`; the scheme is case-insensitive (RFC 9110 section 11.1).
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.split_at_checked(b"bearer".len())?;
    let bare = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && token.starts_with(b" ") && !bare.is_empty()).then_some(bare)
}

/// Whether `presented` is the admin token. An empty one never is.
fn is_secret(presented: &[u8], expected: &KeyHash) -> bool {
    // Constant time, and over hashes: the time depends neither on how many bytes match nor on the token's length.
    let same = KeyHash::of(presented).0.ct_eq(&expected.0);
    bool::from(same) && !presented.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_read_with_any_case_of_the_scheme() {
        let check = |field: &str, token: Option<&str>| {
            assert_eq!(bearer(field.as_bytes()), token.map(str::as_bytes), "{field:?}");
        };
        check("Bearer abc", Some("abc"));
        check("bearer abc", Some("abc"));
        check("BEARER   abc", Some("abc"));
        check("Bearer", None);
        check("Bearer ", None);
        check("Bearerabc", None);
        check("Basic abc", None);
        check("abc", None);
        check("", None);
    }

    #[test]
    fn an_empty_admin_token_is_never_accepted() {
        assert!(!is_secret(b"", &KeyHash::of(b"")));
        assert!(!is_secret(b"a", &KeyHash::of(b"")));
        assert!(!is_secret(b"a", &KeyHash::of(b"ab")));
        assert!(is_secret(b"ab", &KeyHash::of(b"ab")));
    }
}
