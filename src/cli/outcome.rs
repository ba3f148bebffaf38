//! What became of a published event, in one line: for `gatecast publish` and `gatecast resend`.

use super::{
    Failure,
    client::{Answer, Client},
    output,
};
use crate::{api::wait_time, limits::WAIT_MAX};
use clap::Args;
use serde_json::Value;
use std::time::Duration;

/// Connections that a failure names.
const MISSING_NAMED_MAX: usize = 3;

/// The flag that waits for the gateway.
#[derive(Args, Default)]
pub struct WaitArgs {
    /// Wait until the gateway has processed the event, at most for this time, such as 30s or 500ms (up to 60s); fail if it
    /// has not
    #[arg(long, value_name = "TIME", value_parser = wait)]
    wait: Option<Wait>,
}

/// How long to wait.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Wait {
    time: Duration,
    /// As the user and the API write it.
    text: String,
}

fn wait(text: &str) -> Result<Wait, String> {
    let expected = || format!("expected a time from 1ms to {}s, such as 30s or 500ms", WAIT_MAX.as_secs());
    wait_time(text).map(|time| Wait { time, text: text.to_owned() }).ok_or_else(expected)
}

impl WaitArgs {
    /// Makes the call that publishes, and waits if that was asked for.
    pub fn post(&self, client: &Client, path: &str, body: &str) -> Result<Answer, Failure> {
        match &self.wait {
            Some(wait) => client.post_and_wait(&format!("{path}?wait={}&until=processed", wait.text), body, wait.time),
            None => client.post(path, body),
        }
    }

    /// Prints what became of the event. Fails if a connection did not get it, or has not processed it in the time to wait.
    pub fn report(&self, answer: &Answer, json: bool) -> Result<(), Failure> {
        let outcome = answer.json();
        if json {
            output::line(answer.text.trim_end())?;
        } else {
            let correlation_id = output::cell(&outcome["correlationId"]);
            output::line(&format!("{}, correlation id {correlation_id}", describe(&outcome)))?;
        }
        let failure = match &self.wait {
            Some(wait) if outcome["processed"] != true => Some(not_processed(&outcome, &wait.text)),
            Some(_) => None,
            None => not_delivered(&outcome),
        };
        failure.map_or(Ok(()), |sentence| Err(Failure::Failed(sentence)))
    }
}

fn describe(outcome: &Value) -> String {
    match outcome["skipped"].as_str() {
        None if outcome["processed"] == true => return "processed by the gateway".to_owned(),
        None => {}
        Some("replay") => {
            return "not sent to the gateway, which was away: delivery.replay_skip has its type".to_owned();
        }
        Some("poison") => return "not sent to the gateway any more, which never got past it (poison)".to_owned(),
        Some("trimmed") => return "not sent to the gateway, which was away until the log had trimmed it".to_owned(),
        Some(why) => return format!("not sent to the gateway ({})", output::clean(why)),
    }
    if outcome["waiting"] == true {
        return "waits for the gateway to connect".to_owned();
    }
    let [connections, delivered] = ["connections", "delivered"].map(|member| outcome[member].as_u64().unwrap_or(0));
    format!("delivered to {delivered} of {connections} connections")
}

fn not_delivered(outcome: &Value) -> Option<String> {
    let failed = outcome["failed"].as_u64().filter(|failed| *failed > 0)?;
    // The first reason is enough for one line; `--json` shows all of them.
    let reason = output::cell(&outcome["failures"][0]["reason"]);
    Some(format!("deliveries failed: {failed}, the first because: {reason}"))
}

fn not_processed(outcome: &Value, wait: &str) -> String {
    if let Some(why) = outcome["skipped"].as_str() {
        return format!("not processed: skipped ({})", output::clean(why));
    }
    let missing = outcome["missing"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut named: Vec<_> = missing.iter().take(MISSING_NAMED_MAX).map(describe_missing).collect();
    if let Some(more) = missing.len().checked_sub(named.len()).filter(|more| *more > 0) {
        named.push(format!("and {more} more (--json shows them)"));
    }
    // A hub of a version that cannot wait answers at once, without a word about it.
    if named.is_empty() {
        named.push("the hub does not say why".to_owned());
    }
    format!("not processed within {wait}: {}", named.join("; "))
}

fn describe_missing(missing: &Value) -> String {
    let reason = match (missing["reason"].as_str(), missing["before"].as_u64()) {
        (Some("processing"), _) => "is at work on it".to_owned(),
        (Some("behind"), Some(before)) => format!("has {} to process before it", output::count(before, "event")),
        _ => output::cell(&missing["reason"]),
    };
    match missing["connectionId"].as_str() {
        Some(connection) => format!("connection {} {reason}", output::clean(connection)),
        None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_line_says_what_became_of_the_event() {
        let check = |outcome: Value, expected: &str| assert_eq!(describe(&outcome), expected);
        check(json!({ "connections": 2, "delivered": 1, "failed": 1 }), "delivered to 1 of 2 connections");
        check(json!({ "connections": 0, "delivered": 0, "waiting": true }), "waits for the gateway to connect");
        check(
            json!({ "connections": 0, "waiting": true, "processed": false, "missing": [] }),
            "waits for the gateway to connect",
        );
        check(json!({ "connections": 1, "delivered": 1, "processed": true }), "processed by the gateway");
        check(json!({ "waiting": true, "processed": true }), "processed by the gateway");
        let passed_over = |why| json!({ "processed": why == "replay", "skipped": why });
        check(passed_over("replay"), "not sent to the gateway, which was away: delivery.replay_skip has its type");
        check(passed_over("poison"), "not sent to the gateway any more, which never got past it (poison)");
        check(passed_over("other"), "not sent to the gateway (other)");
    }

    #[test]
    fn the_command_succeeds_only_with_what_was_asked_for() {
        let check = |waits: Option<&str>, outcome: Value, expected: Option<&str>| {
            let waits = WaitArgs { wait: waits.map(|text| wait(text).expect("it is valid")) };
            let result = waits.report(&Answer { text: outcome.to_string(), at: None }, false);
            let expected = expected.map_or(Ok(()), |sentence| Err(Failure::Failed(sentence.to_owned())));
            assert_eq!(result, expected, "{outcome}");
        };
        let delivered = json!({ "connections": 1, "delivered": 1, "failed": 0 });
        check(None, delivered.clone(), None);
        check(None, json!({ "connections": 0, "failed": 0, "waiting": true }), None);
        check(
            None,
            json!({ "connections": 1, "failed": 1, "failures": [{ "reason": "slow consumer" }] }),
            Some("deliveries failed: 1, the first because: slow consumer"),
        );
        let with = |member: &str, value: Value| {
            let mut outcome = delivered.clone();
            outcome[member] = value;
            outcome["processed"] = json!(member != "missing");
            outcome
        };
        check(Some("1s"), with("processed", json!(true)), None);
        check(Some("1s"), with("skipped", json!("replay")), None);
        let poisoned = json!({ "connections": 1, "processed": false, "skipped": "poison" });
        check(Some("1s"), poisoned, Some("not processed: skipped (poison)"));
        check(
            Some("500ms"),
            with(
                "missing",
                json!([
                    { "connectionId": "a", "reason": "processing", "before": 0 },
                    { "connectionId": "b", "reason": "behind", "before": 1 },
                    { "connectionId": null, "reason": "gateway not connected" },
                    { "connectionId": "c", "reason": "behind", "before": 2 },
                    { "connectionId": "d", "reason": "behind", "before": 3 },
                ]),
            ),
            Some(
                "not processed within 500ms: connection a is at work on it; connection b has 1 event to process before it; \
                 gateway not connected; and 2 more (--json shows them)",
            ),
        );
        check(Some("1s"), delivered.clone(), Some("not processed within 1s: the hub does not say why"));
    }

    #[test]
    fn a_time_to_wait_is_that_of_the_api() {
        assert_eq!(wait("60s"), Ok(Wait { time: WAIT_MAX, text: "60s".to_owned() }));
        for bad in ["61s", "0s", "30", "", "1m", "-1s", "soon"] {
            let error = wait(bad).expect_err(bad);
            assert_eq!(error, "expected a time from 1ms to 60s, such as 30s or 500ms");
        }
    }
}
