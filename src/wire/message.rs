//! Parses the text messages of gateways.

use super::token_text;
use crate::{
    limits::ACK_TEXT_BYTES_MAX,
    model::{DeploymentAck, Message},
};
use simd_json::prelude::*;

/// Parses a message. The parser does not recurse, so deep nesting cannot overflow the stack.
pub fn parse(text: &[u8]) -> Message {
    // simd-json unescapes strings in place, so it gets a copy.
    let mut bytes = text.to_vec();
    let Ok(tape) = simd_json::to_tape(&mut bytes) else { return Message::Malformed };
    let value = tape.as_value();
    let Some(object) = value.as_object() else { return Message::Malformed };
    let Some(kind) = object.get("type").and_then(|kind| kind.into_string()) else { return Message::Malformed };
    if kind != "deployment.ack" {
        return Message::Unknown;
    }
    let Some(payload) = object.get("payload") else { return Message::Malformed };
    let Some(payload) = payload.as_object() else { return Message::Malformed };
    let text = |name: &str| payload.get(name).and_then(|value| value.into_string()).map(truncate);
    Message::DeploymentAck(DeploymentAck {
        deployment_id: text("deploymentId"),
        artifact_id: text("artifactId"),
        resource_type: text("resourceType"),
        action: text("action"),
        status: text("status"),
        performed_at: text("performedAt"),
        error_code: text("errorCode"),
    })
}

/// At most [`ACK_TEXT_BYTES_MAX`] bytes of the text: it goes into a log line.
fn truncate(text: &str) -> String {
    text[..token_text::cut(text.as_bytes(), text.floor_char_boundary(ACK_TEXT_BYTES_MAX))].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_parsed() {
        let text = br#"{"type":"deployment.ack","payload":{"deploymentId":"d","artifactId":"a","resourceType":"api",
            "action":"deploy","status":"failed","performedAt":"2026-01-01T00:00:00.123456789Z","errorCode":"E"}}"#;
        let Message::DeploymentAck(ack) = parse(text) else { panic!("not read") };
        assert_eq!((ack.deployment_id.as_deref(), ack.error_code.as_deref()), (Some("d"), Some("E")));
        assert_eq!(ack.performed_at.as_deref(), Some("2026-01-01T00:00:00.123456789Z"));
    }

    #[test]
    fn other_messages_are_unknown_or_malformed_and_never_panic() {
        for (text, expected) in [
            (r#"{"type":"x"}"#, Message::Unknown),
            (r#"{"type":1}"#, Message::Malformed),
            ("[]", Message::Malformed),
            ("", Message::Malformed),
            ("{", Message::Malformed),
            (r#"{"type":"deployment.ack"}"#, Message::Malformed),
            (r#"{"type":"deployment.ack","payload":[]}"#, Message::Malformed),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_parsed_and_long_texts_are_truncated() {
        let deep = format!(r#"{{"type":"x","payload":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(parse(deep.as_bytes()), Message::Unknown);
        assert_eq!(parse("[".repeat(65_536).as_bytes()), Message::Malformed);
        let long = format!(r#"{{"type":"deployment.ack","payload":{{"status":"{}"}}}}"#, "ä".repeat(1_000));
        let Message::DeploymentAck(ack) = parse(long.as_bytes()) else { panic!("not read") };
        assert_eq!(ack.status.map(|status| status.len()), Some(ACK_TEXT_BYTES_MAX));
    }

    #[test]
    fn a_word_at_the_cut_is_left_out_whole() {
        let word = "0123456789-abcdefghijklmnopqrstuvwxyz_ABCDE";
        let text = format!("{} key={word} and more", "é ".repeat(80));
        assert!(truncate(&text).ends_with("key="), "{}", truncate(&text));
        assert_eq!(truncate(word), word);
    }
}
