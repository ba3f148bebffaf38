//! The JSON of a publish's outcome. Written by hand: each publish has one, and each line of a batch.

use super::json;
use crate::model::PublishOutcome;

/// Appends the members of an outcome (contract section 2), without the braces around them.
pub(super) fn append_members(outcome: &PublishOutcome, out: &mut Vec<u8>) {
    let PublishOutcome { correlation_id, position, connections, delivered, failed, .. } = outcome;
    out.extend_from_slice(b"\"correlationId\":\"");
    correlation_id.append_to(out);
    out.extend_from_slice(b"\",\"position\":\"");
    position.append_to(out);
    out.extend_from_slice(b"\",\"connections\":");
    append_number(*connections, out);
    out.extend_from_slice(b",\"delivered\":");
    append_number(*delivered, out);
    out.extend_from_slice(b",\"failed\":");
    append_number(*failed, out);
    if outcome.pending > 0 {
        out.extend_from_slice(b",\"pending\":");
        append_number(outcome.pending, out);
    }
    if outcome.waiting {
        out.extend_from_slice(b",\"waiting\":true");
    }
    if !outcome.failures.is_empty() {
        out.extend_from_slice(b",\"failures\":");
        json::append(&outcome.failures, out);
    }
    if let Some(awaiting) = &outcome.awaiting {
        // Its members, behind a comma in the place of the brace.
        let begin = out.len();
        json::append(awaiting, out);
        out[begin] = b',';
        let end = out.pop();
        debug_assert_eq!(end, Some(b'}'), "an object with at least one member");
    }
}

fn append_number(number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Awaiting, CorrelationId, Failure, Missing, Position};

    fn json(outcome: &PublishOutcome) -> String {
        let mut out = Vec::new();
        append_members(outcome, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_outcome_has_the_members_of_the_contract() {
        let id = "01234567-89ab-4def-8123-456789abcdef";
        let mut outcome = PublishOutcome {
            correlation_id: CorrelationId::parse(id).unwrap(),
            position: Position { epoch: 10, offset: 42 },
            connections: 3,
            delivered: 3,
            failed: 0,
            pending: 0,
            waiting: false,
            failures: Vec::new(),
            awaiting: None,
        };
        let begin = format!(r#""correlationId":"{id}","position":"000000000000000a-42","#);
        assert_eq!(json(&outcome), format!(r#"{begin}"connections":3,"delivered":3,"failed":0"#));
        (outcome.delivered, outcome.failed, outcome.pending, outcome.waiting) = (1, 1, 1, true);
        outcome.failures = vec![Failure { connection_id: None, reason: "why" }];
        let missing = vec![Missing { connection_id: None, reason: "behind", before: Some(2) }];
        outcome.awaiting = Some(Awaiting { processed: false, skipped: None, missing });
        let rest = r#""pending":1,"waiting":true,"failures":[{"connectionId":null,"reason":"why"}],"processed":false,"#;
        let missing = r#""missing":[{"connectionId":null,"reason":"behind","before":2}]"#;
        assert_eq!(json(&outcome), format!(r#"{begin}"connections":3,"delivered":1,"failed":1,{rest}{missing}"#));
        serde_json::from_str::<serde_json::Value>(&format!("{{{}}}", json(&outcome))).unwrap();
    }
}
