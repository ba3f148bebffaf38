//! Who may call: the admin by bearer token (RFC 6750 section 2.1), a gateway by its key.

use super::call::{Call, View};
use crate::{
    model::{GatewayId, KeyHash},
    wire::http::Response,
};
use subtle::ConstantTimeEq;

/// Lets the admin pass.
pub(super) fn check_admin(call: &Call<'_>, view: &View<'_>) -> Result<(), Response> {
    let presented = call.authorization.and_then(bearer);
    if presented.is_some_and(|token| is_secret(token, &view.admin_token)) {
        return Ok(());
    }
    Err(Response::error(401, "this call needs the admin token").with("WWW-Authenticate", "Bearer"))
}

/// Lets the gateway pass that `gateway` names, and no other: no key, an unknown one and another's look the same.
pub(super) fn check_key(call: &Call<'_>, view: &View<'_>, gateway: Option<GatewayId>) -> Result<(), Response> {
    let owner = call.api_key.and_then(|key| view.directory.owner_of(&KeyHash::of(key)));
    match (owner, gateway) {
        (Some((owner, _)), Some(gateway)) if owner == gateway => Ok(()),
        _ => Err(not_this_gateway()),
    }
}

/// The answer to whoever has not shown the key of the gateway that the path names.
pub(super) fn not_this_gateway() -> Response {
    Response::error(401, "this call needs the gateway's key").with("WWW-Authenticate", "ApiKey")
}

/// The token in `Bearer <token>`; the scheme is case-insensitive (RFC 9110 section 11.1).
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.split_at_checked(b"bearer".len())?;
    let bare = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && token.starts_with(b" ") && !bare.is_empty()).then_some(bare)
}

/// Compares in constant time, and hashes, so that not even the length shows. Nothing at all is never the secret.
fn is_secret(presented: &[u8], expected: &KeyHash) -> bool {
    let same = KeyHash::of(presented).0.ct_eq(&expected.0);
    bool::from(same) && !presented.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_read_in_any_case_of_the_scheme_and_no_other_form() {
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
    fn an_empty_admin_token_lets_nobody_in() {
        assert!(!is_secret(b"", &KeyHash::of(b"")));
        assert!(!is_secret(b"a", &KeyHash::of(b"")));
        assert!(!is_secret(b"a", &KeyHash::of(b"ab")));
        assert!(is_secret(b"ab", &KeyHash::of(b"ab")));
    }
}
