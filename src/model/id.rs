//! The ids of gateways, connections, tokens, events and shards.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new random id (UUID version 4, RFC 9562 section 5.4).
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// An id from 128 random bits, for code that gets its random numbers as parameters.
            pub fn from_random(bits: u128) -> Self {
                Self(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid())
            }

            /// Parses a UUID in any textual form; `None` for anything else.
            pub fn parse(text: &str) -> Option<Self> {
                Uuid::try_parse(text).ok().map(Self)
            }

            /// Appends the text of `Display`, without formatting machinery.
            pub fn append_to(self, out: &mut Vec<u8>) {
                out.extend_from_slice(self.0.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        // The same as `Display`, so that ids look alike in logs and in failed assertions.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

uuid_id!(
    /// The id of a gateway, which may have several connections.
    GatewayId
);
uuid_id!(
    /// The id of one connection; never used again.
    ConnectionId
);
uuid_id!(
    /// The id of a gateway's token. It is not the secret, and may be logged.
    TokenId
);
uuid_id!(
    /// The id that an event has in logs, answers and acknowledgements.
    CorrelationId
);

/// The index of a shard, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
#[serde(transparent)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard's index in a list with one entry for each shard.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
