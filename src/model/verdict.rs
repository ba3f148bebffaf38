//! Key hashes, and the reasons to refuse a gateway's connection.

use std::fmt;

/// The SHA-256 of a key. The key itself is never kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// Hashes a key.
    pub fn of(key: &[u8]) -> Self {
        // SHA-256 and not a slow password hash: keys are long and random, so their hash does not help to guess them.
        use sha2::Digest;
        Self(sha2::Sha256::digest(key).into())
    }

    /// Parses 64 hexadecimal digits; `None` for anything else.
    pub fn parse_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |b: u8| char::from(b).to_digit(16);
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
        }
        Some(Self(hash))
    }

    /// Four bytes of the hash in hexadecimal: enough to tell two keys apart in a log, and too little to find the key.
    pub fn fingerprint(&self) -> String {
        self.0[..4].iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({}…)", self.fingerprint())
    }
}

/// Why a connection of a gateway is refused (contract section 1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Refused {
    /// Too many attempts from its address.
    RateLimited {
        /// Seconds until the next attempt is admitted, rounded up, at least 1.
        retry_after: u32,
    },
    /// No key, or one that is unknown or revoked.
    Unauthorized,
    /// The hub or the gateway has its maximum number of connections.
    CapacityExceeded,
    /// The hub is overloaded: another core did not answer in time, or its queue is full. Or the delivery of its gateway was changed while the
    /// connection waited for its begin.
    Unavailable,
    /// The hub is shutting down.
    Draining,
}

impl Refused {
    /// The labels of all reasons.
    pub const LABELS: [&str; 5] = [
        Self::RateLimited { retry_after: 1 }.label(),
        Self::Unauthorized.label(),
        Self::CapacityExceeded.label(),
        Self::Unavailable.label(),
        Self::Draining.label(),
    ];

    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::RateLimited { .. } => 429,
            Self::Unauthorized => 401,
            Self::CapacityExceeded | Self::Unavailable | Self::Draining => 503,
        }
    }

    /// The value of the metric label and of the log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::RateLimited { .. } => "rate limited",
            Self::Unauthorized => "unauthorized",
            Self::CapacityExceeded => "capacity exceeded",
            Self::Unavailable => "unavailable",
            Self::Draining => "draining",
        }
    }

    /// Seconds for `Retry-After`; `None` if trying again does not help.
    pub fn retry_after(self) -> Option<u32> {
        match self {
            Self::RateLimited { retry_after } => Some(retry_after),
            // A gateway takes 401 as final, so it gets no time at which to try again.
            Self::Unauthorized => None,
            Self::CapacityExceeded | Self::Draining => Some(5),
            // A queue that is full drains in less than a second; a slot or the next hub takes longer.
            Self::Unavailable => Some(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_parse_from_hex_and_debug_hides_them() {
        let hash = KeyHash::of(b"k");
        let hex: String = hash.0.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(KeyHash::parse_hex(&hex), Some(hash));
        assert_eq!(KeyHash::parse_hex(&hex[1..]), None);
        assert_eq!(KeyHash::parse_hex(&"g".repeat(64)), None);
        assert!(!format!("{hash:?}").contains(&hex[8..]));
    }
}
