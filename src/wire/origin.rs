//! Which origins may open a WebSocket (RFC 6454): the listed ones and the hub's own.
//!
//! Browsers send the origin of the page. Some other clients (Netty, Vert.x) send the origin of the hub itself.

/// The scheme of an origin, which gives the default port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Whether the origin is one of `listed`: the same scheme, host and port (RFC 6454 section 5). Case is ignored, and the scheme's
/// own port may be left out on either side.
pub fn is_listed(origin: &[u8], listed: &[String]) -> bool {
    let Some(origin) = parts(origin) else { return false };
    listed
        .iter()
        .filter_map(|allowed| parts(allowed.as_bytes()))
        .any(|(scheme, name, port)| (scheme, port) == (origin.0, origin.2) && name.eq_ignore_ascii_case(origin.1))
}

/// Scheme, host and port of an origin; a port that is left out is the scheme's.
fn parts(origin: &[u8]) -> Option<(Scheme, &[u8], u16)> {
    let (scheme, authority) = split_scheme(origin)?;
    let (name, port) = split_port(authority)?;
    Some((scheme, name, port.unwrap_or(scheme.default_port())))
}

/// Whether the origin is that of the request's own `Host`. Without TLS both schemes are accepted, because a proxy may
/// terminate TLS before the hub.
pub fn is_own(origin: &[u8], host: &[u8], tls: bool) -> bool {
    let Some((scheme, name, port)) = parts(origin) else { return false };
    // A page that was loaded without TLS may have been changed on its way, so it is not the hub's own.
    if tls && scheme == Scheme::Http {
        return false;
    }
    split_port(host).is_some_and(|(own, own_port)| {
        name.eq_ignore_ascii_case(own) && port == own_port.unwrap_or(scheme.default_port())
    })
}

fn split_scheme(origin: &[u8]) -> Option<(Scheme, &[u8])> {
    let schemes = [(b"https://".as_slice(), Scheme::Https), (b"http://", Scheme::Http)];
    schemes.into_iter().find_map(|(prefix, scheme)| {
        let (begin, authority) = origin.split_at_checked(prefix.len())?;
        begin.eq_ignore_ascii_case(prefix).then_some((scheme, authority))
    })
}

/// Splits `host[:port]`; an IPv6 address is in brackets. `None` if it has another form.
fn split_port(authority: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let name_end = authority.iter().position(|byte| *byte == b']').map_or(0, |at| at + 1);
    let colon = memchr::memchr(b':', &authority[name_end..]).map(|at| name_end + at);
    let (name, port) = authority.split_at(colon.unwrap_or(authority.len()));
    if name.is_empty() {
        return None;
    }
    match port.strip_prefix(b":") {
        // An empty port means the default port (RFC 3986 section 3.2.3).
        None | Some([]) => Some((name, None)),
        // Checked before `parse`, which would accept a plus sign.
        Some(digits) if digits.iter().all(u8::is_ascii_digit) => {
            Some((name, Some(std::str::from_utf8(digits).ok()?.parse().ok()?)))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_the_hubs_own_by_scheme_host_and_port() {
        let check = |origin: &str, host: &str, own: (bool, bool)| {
            let is = |tls| is_own(origin.as_bytes(), host.as_bytes(), tls);
            assert_eq!((is(true), is(false)), own, "{origin} for {host}, with TLS and without");
        };
        let both = (true, true);
        check("https://hub.example:9243", "hub.example:9243", both);
        check("HTTPS://HUB.example:9243", "Hub.Example:9243", both);
        check("https://hub.example", "hub.example", both);
        check("https://hub.example", "hub.example:443", both);
        check("https://hub.example:443", "hub.example", both);
        check("https://[2001:db8::1]:9243", "[2001:DB8::1]:9243", both);
        check("https://[::1]", "[::1]:443", both);
        check("http://hub.example:9243", "hub.example:9243", (false, true));
        check("http://hub.example", "hub.example:80", (false, true));
        let neither = (false, false);
        check("https://hub.example", "hub.example:80", neither);
        check("http://hub.example", "hub.example:443", neither);
        check("https://hub.example:9243", "hub.example", neither);
        check("https://hub.example", "hub.example:9243", neither);
        check("https://hub.example:9244", "hub.example:9243", neither);
        check("https://hub.example.evil:9243", "hub.example:9243", neither);
        check("https://evil.hub.example:9243", "hub.example:9243", neither);
        check("https://hub.example:9243/", "hub.example:9243", neither);
        check("https://hub.example:+9243", "hub.example:9243", neither);
        check("https://hub.example:99999", "hub.example:99999", neither);
        check("https://[::1]:443", "[::1", neither);
        check("https://", "", neither);
        check("https://:443", ":443", neither);
        check("null", "null", neither);
        check("hub.example:9243", "hub.example:9243", neither);
        check("wss://hub.example:9243", "hub.example:9243", neither);
    }

    #[test]
    fn a_listed_origin_is_the_same_with_and_without_its_default_port() {
        let listed = ["https://console.example:443".to_owned(), "http://intra.example".to_owned()];
        for origin in [
            "https://console.example",
            "HTTPS://Console.example:443",
            "http://intra.example:80",
            "http://intra.example",
        ] {
            assert!(is_listed(origin.as_bytes(), &listed), "{origin}");
        }
        for origin in
            ["http://console.example", "https://console.example:8443", "https://intra.example", "null", "https://"]
        {
            assert!(!is_listed(origin.as_bytes(), &listed), "{origin}");
        }
    }
}
