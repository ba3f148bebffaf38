//! Events: a type, a payload that is never decoded or re-encoded, and the ids that trace it.

use super::{CorrelationId, Timestamp, id::GatewayId};
use crate::limits;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::fmt;

/// A valid event type, without memory of its own up to 23 characters: 1 to 128 characters of `A-Z a-z 0-9 . _ -` (contract section 2).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EventType(SmolStr);

impl EventType {
    /// The type of the deployment hook's events.
    pub const API_DEPLOYED: &str = "api.deployed";

    /// Parses a type; `None` if it breaks the rule.
    pub fn parse(text: &str) -> Option<Self> {
        // The type goes into JSON and log lines without escaping, so the rule leaves no character that would need it.
        let valid = (1..=limits::EVENT_TYPE_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        valid.then(|| Self(text.into()))
    }

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether payloads of this type may have secrets. They are kept for a shorter time, and the API does not show them.
    pub fn carries_secret(&self) -> bool {
        self.0.starts_with("apikey.") || self.0.starts_with("subscription.")
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event as it was published, before it has a position. `Debug` does not show the payload, which may contain
/// secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// The gateway that receives it.
    pub gateway: GatewayId,
    /// Its type.
    pub kind: EventType,
    /// The payload's JSON text, byte for byte as published; empty once it was erased.
    pub payload: Bytes,
    /// The publisher's correlation id, or a random one.
    pub correlation: CorrelationId,
    /// Whether the publisher gave `correlation`.
    pub correlation_given: bool,
    /// The publisher's `userId`, which is passed through.
    pub user_id: Option<Box<str>>,
}

impl Event {
    /// Whether its payload was erased, because it carried a secret. No publisher can give an empty payload: that is not JSON.
    pub fn is_erased(&self) -> bool {
        self.payload.is_empty()
    }

    /// Adds `performedAt` as the last member of the payload, which must be an object whose last member is a string.
    pub fn add_performed_at(&mut self, at: Timestamp) {
        debug_assert!(
            self.payload.ends_with(b"\"}"),
            "the deployment hook's payload is an object that ends with a string"
        );
        // On the text, not on a JSON value: only the owner's shard knows the time, and it would have to decode and
        // encode the payload again.
        let members = self.payload.strip_suffix(b"}").unwrap_or(&self.payload);
        let mut payload = Vec::with_capacity(members.len() + 48);
        payload.extend_from_slice(members);
        payload.extend_from_slice(b",\"performedAt\":\"");
        at.append_to(&mut payload);
        payload.extend_from_slice(b"\"}");
        self.payload = payload.into();
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("gateway", &self.gateway)
            .field("kind", &self.kind)
            .field("payload_bytes", &self.payload.len())
            .field("correlation", &self.correlation)
            .finish_non_exhaustive()
    }
}

/// The payload of `api.deployed`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiDeployed {
    /// The API's id.
    pub api_uuid: String,
    /// The revision of the API.
    pub revision_id: String,
    /// The host name under which it is served.
    pub vhost: String,
    /// The environment; `production` by default.
    pub environment: String,
    /// The API's id again, under the name that gateways read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_id: Option<String>,
    /// The revision again, under the name that gateways read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// The time at which it was accepted. A gateway ignores a deployment that is not later than its last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performed_at: Option<String>,
}

/// The payload of `api.undeployed`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiUndeployed {
    /// The API's id.
    pub api_uuid: String,
    /// The host name under which it was served.
    pub vhost: String,
    /// The environment from which it is removed.
    pub environment: String,
}

/// The payload of `gateway.config.updated`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayConfigUpdated {
    /// The gateway's settings; the hub does not interpret them.
    pub configuration: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_to_the_byte() {
        for good in ["api.deployed", "A", "a_b-c.9", &"x".repeat(128)] {
            assert!(EventType::parse(good).is_some(), "{good}");
        }
        for bad in ["", "a b", "a/b", "ä", "a\n", &"x".repeat(129)] {
            assert!(EventType::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_time_of_a_deployment_is_its_last_member() {
        let mut event = Event {
            gateway: GatewayId::random(),
            kind: EventType::parse(EventType::API_DEPLOYED).unwrap(),
            payload: Bytes::from_static(br#"{"apiUuid":"a"}"#),
            correlation: CorrelationId::random(),
            correlation_given: false,
            user_id: None,
        };
        event.add_performed_at(Timestamp(1_700_000_000_007));
        assert_eq!(event.payload, br#"{"apiUuid":"a","performedAt":"2023-11-14T22:13:20.007Z"}"#.as_slice());
    }

    #[test]
    fn debug_shows_no_payload() {
        let event = Event {
            gateway: GatewayId::random(),
            kind: EventType::parse("apikey.created").unwrap(),
            payload: Bytes::from_static(br#"{"secret":"hunter2"}"#),
            correlation: CorrelationId::random(),
            correlation_given: false,
            user_id: None,
        };
        assert!(!format!("{event:?}").contains("hunter2"));
    }
}
