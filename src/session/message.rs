//! What a gateway says: its acknowledgement of a deployment, or something that nobody knows (contract section 1).

use simd_json::prelude::*;

/// One inbound text message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// `deployment.ack`.
    DeploymentAck(DeploymentAck),
    /// Valid, and of a type that is not known here.
    Unknown,
    /// Not a JSON object with a type.
    Malformed,
}

/// How a deployment went, as its gateway says. Texts are cut at [`TEXT_BYTES_MAX`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeploymentAck {
    /// Which deployment.
    pub deployment_id: Option<String>,
    /// Of what.
    pub artifact_id: Option<String>,
    /// What kind of thing that is.
    pub resource_type: Option<String>,
    /// `deploy` or `undeploy`.
    pub action: Option<String>,
    /// `success` or `failed`.
    pub status: Option<String>,
    /// The equality token of the event that is acknowledged.
    pub performed_at: Option<String>,
    /// Why it failed.
    pub error_code: Option<String>,
}

/// A text of an acknowledgement, at most.
pub const TEXT_BYTES_MAX: usize = 256;

impl Message {
    /// Reads a message. Nesting is walked without recursion, so its depth costs nothing.
    pub fn parse(text: &[u8]) -> Self {
        let mut bytes = text.to_vec();
        let Ok(tape) = simd_json::to_tape(&mut bytes) else { return Self::Malformed };
        let value = tape.as_value();
        let Some(object) = value.as_object() else { return Self::Malformed };
        let Some(kind) = object.get("type").and_then(|kind| kind.into_string()) else { return Self::Malformed };
        if kind != "deployment.ack" {
            return Self::Unknown;
        }
        let Some(payload) = object.get("payload") else { return Self::Malformed };
        let Some(payload) = payload.as_object() else { return Self::Malformed };
        let text = |name: &str| payload.get(name).and_then(|value| value.into_string()).map(cut);
        Self::DeploymentAck(DeploymentAck {
            deployment_id: text("deploymentId"),
            artifact_id: text("artifactId"),
            resource_type: text("resourceType"),
            action: text("action"),
            status: text("status"),
            performed_at: text("performedAt"),
            error_code: text("errorCode"),
        })
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_read() {
        let text = br#"{"type":"deployment.ack","payload":{"deploymentId":"d","artifactId":"a","resourceType":"api",
            "action":"deploy","status":"failed","performedAt":"2026-01-01T00:00:00.123456789Z","errorCode":"E"}}"#;
        let Message::DeploymentAck(ack) = Message::parse(text) else { panic!("not read") };
        assert_eq!((ack.deployment_id.as_deref(), ack.error_code.as_deref()), (Some("d"), Some("E")));
        assert_eq!(ack.performed_at.as_deref(), Some("2026-01-01T00:00:00.123456789Z"));
    }

    #[test]
    fn the_rest_is_unknown_or_malformed_and_never_a_panic() {
        for (text, expected) in [
            (r#"{"type":"x"}"#, Message::Unknown),
            (r#"{"type":1}"#, Message::Malformed),
            ("[]", Message::Malformed),
            ("", Message::Malformed),
            ("{", Message::Malformed),
            (r#"{"type":"deployment.ack"}"#, Message::Malformed),
            (r#"{"type":"deployment.ack","payload":[]}"#, Message::Malformed),
        ] {
            assert_eq!(Message::parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn depth_and_length_are_harmless() {
        let deep = format!(r#"{{"type":"x","payload":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(Message::parse(deep.as_bytes()), Message::Unknown);
        assert_eq!(Message::parse("[".repeat(65_536).as_bytes()), Message::Malformed);
        let long = format!(r#"{{"type":"deployment.ack","payload":{{"status":"{}"}}}}"#, "ä".repeat(1_000));
        let Message::DeploymentAck(ack) = Message::parse(long.as_bytes()) else { panic!("not read") };
        assert_eq!(ack.status.map(|status| status.len()), Some(TEXT_BYTES_MAX));
    }
}
