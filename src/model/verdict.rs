//! Whether a gateway may connect, and what it is told if not.

use std::fmt;

/// The SHA-256 of a key. The key itself is never kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// Hashes a presented key.
    pub fn of(key: &[u8]) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(key).into())
    }

    /// Reads 64 hexadecimal digits; `None` for anything else.
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

    /// Four bytes of the hash in hexadecimal: enough to tell two keys apart in a log, and useless to an attacker.
    pub fn fingerprint(&self) -> String {
        self.0[..4].iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({}…)", self.fingerprint())
    }
}

/// Why a gateway may not connect (contract section 1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Refused {
    /// Too many attempts from its address; come back after so many seconds.
    RateLimited {
        /// Seconds, rounded up, at least 1.
        retry_after: u32,
    },
    /// No key, or one proven unknown, revoked or expired.
    Unauthorized,
    /// Every slot is taken.
    CapacityExceeded,
    /// The key cannot be checked right now.
    Unavailable,
    /// The hub is going away.
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

    /// The status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::RateLimited { .. } => 429,
            Self::Unauthorized => 401,
            Self::CapacityExceeded | Self::Unavailable | Self::Draining => 503,
        }
    }

    /// The metric label and log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::RateLimited { .. } => "rate limited",
            Self::Unauthorized => "unauthorized",
            Self::CapacityExceeded => "capacity exceeded",
            Self::Unavailable => "unavailable",
            Self::Draining => "draining",
        }
    }

    /// Seconds for `Retry-After`, where the refusal passes.
    pub fn retry_after(self) -> Option<u32> {
        match self {
            Self::RateLimited { retry_after } => Some(retry_after),
            Self::Unauthorized => None,
            Self::CapacityExceeded | Self::Draining => Some(5),
            Self::Unavailable => Some(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_read_from_hex_and_debug_hides_them() {
        let hash = KeyHash::of(b"k");
        let hex: String = hash.0.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(KeyHash::parse_hex(&hex), Some(hash));
        assert_eq!(KeyHash::parse_hex(&hex[1..]), None);
        assert_eq!(KeyHash::parse_hex(&"g".repeat(64)), None);
        assert!(!format!("{hash:?}").contains(&hex[8..]));
    }
}
