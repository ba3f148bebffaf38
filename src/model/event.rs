//! What is sent to a gateway: a type, a payload that nobody re-encodes, and what traces it.

use super::{CorrelationId, Timestamp, id::GatewayId};
use crate::limits;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A valid event type: 1 to 128 characters of `A-Z a-z 0-9 . _ -` (contract section 2).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EventType(Box<str>);

impl EventType {
    /// What the deployment hook broadcasts.
    pub const API_DEPLOYED: &str = "api.deployed";

    /// Takes a type that follows the rule; `None` for any other.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = (1..=limits::EVENT_TYPE_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        valid.then(|| Self(text.into()))
    }

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event as published, not yet at a position. `Debug` leaves the payload out: it may carry secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// To whom.
    pub gateway: GatewayId,
    /// What kind.
    pub kind: EventType,
    /// The payload's JSON text, byte for byte as published.
    pub payload: Bytes,
    /// The publisher's, or one made for it.
    pub correlation: CorrelationId,
    /// Whether the publisher gave it.
    pub correlation_given: bool,
    /// Passed through where the publisher gave one.
    pub user_id: Option<Box<str>>,
}

impl Event {
    /// Adds `performedAt` to the members of the payload, which is an object with at least one other.
    pub fn add_performed_at(&mut self, at: Timestamp) {
        debug_assert!(
            self.payload.ends_with(b"\"}"),
            "a payload of the hub's own has members, and nothing behind them"
        );
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
    /// The API.
    pub api_uuid: String,
    /// Which revision of it.
    pub revision_id: String,
    /// The host name that it is served under.
    pub vhost: String,
    /// `production` unless said otherwise.
    pub environment: String,
    /// The API once more, under the name that gateways read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_id: Option<String>,
    /// The revision once more, under the name that gateways read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// When it was accepted; a gateway takes a deployment with an earlier or equal time as stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performed_at: Option<String>,
}

/// The payload of `api.undeployed`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiUndeployed {
    /// The API.
    pub api_uuid: String,
    /// The host name that it was served under.
    pub vhost: String,
    /// The environment that it leaves.
    pub environment: String,
}

/// The payload of `gateway.config.updated`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayConfigUpdated {
    /// The settings, as the gateway knows them.
    pub configuration: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_follow_the_rule_to_the_byte() {
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
