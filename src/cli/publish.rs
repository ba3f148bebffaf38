//! `gatecast publish`: publishes one event to a gateway.

use super::{Failure, endpoint::AdminArgs, gateway::gateway_id, outcome::WaitArgs};
use crate::model::{CorrelationId, GatewayId};
use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use std::io::Read;

/// Publish one event.
#[derive(Args)]
pub struct Publish {
    /// The gateway's UUID
    #[arg(value_parser = gateway_id)]
    gateway: GatewayId,
    /// The event's type, such as api.deployed
    #[arg(long = "type", value_name = "TYPE")]
    event_type: String,
    /// The payload as JSON, @FILE to read it from a file, or - for standard input; it is delivered byte for byte
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    payload: String,
    /// The UUID under which the hub logs and answers this event [default: a new one]
    #[arg(long, value_name = "UUID", value_parser = correlation_id)]
    correlation_id: Option<CorrelationId>,
    /// The user who caused the event; passed on to the gateway
    #[arg(long, value_name = "ID")]
    user_id: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
    /// Print the hub's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// The body of the HTTP call.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    // Raw, because parsing into a `Value` would reorder members and lose digits of long numbers.
    payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<CorrelationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
}

fn correlation_id(text: &str) -> Result<CorrelationId, String> {
    CorrelationId::parse(text).ok_or_else(|| "expected a UUID".to_owned())
}

impl Publish {
    /// Publishes the event. The command fails if a connection did not get it, or with --wait has not processed it, although the
    /// call itself succeeded.
    pub fn run(self) -> Result<(), Failure> {
        let body = self.body(&read_payload(&self.payload)?)?;
        let path = format!("/api/v1/gateways/{}/events", self.gateway);
        let answer = self.wait.post(&self.admin.client()?, &path, &body)?;
        self.wait.report(&answer, self.json)
    }

    fn body(&self, payload: &str) -> Result<String, Failure> {
        let not_json = |error| Failure::Usage(format!("invalid `--payload`: expected JSON, @FILE or -: {error}"));
        let payload: &RawValue = serde_json::from_str(payload).map_err(not_json)?;
        let body = Body {
            event_type: &self.event_type,
            payload,
            correlation_id: self.correlation_id,
            user_id: self.user_id.as_deref(),
        };
        serde_json::to_string(&body).map_err(|error| Failure::Failed(error.to_string()))
    }
}

fn read_payload(given: &str) -> Result<String, Failure> {
    let (what, read) = match given.strip_prefix('@') {
        Some(file) => (file, std::fs::read_to_string(file)),
        None if given == "-" => {
            let mut text = String::new();
            ("standard input", std::io::stdin().read_to_string(&mut text).map(|_| text))
        }
        None => return Ok(given.to_owned()),
    };
    read.map_err(|error| Failure::Usage(format!("cannot read the payload from {what}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(user_id: Option<&str>) -> Publish {
        Publish {
            gateway: GatewayId::random(),
            event_type: "api.deployed".to_owned(),
            payload: String::new(),
            correlation_id: None,
            user_id: user_id.map(str::to_owned),
            wait: WaitArgs::default(),
            json: false,
            admin: AdminArgs::default(),
        }
    }

    #[test]
    fn the_payload_is_sent_byte_for_byte() {
        let check = |payload: &str, user_id, expected: &str| {
            assert_eq!(publish(user_id).body(payload).expect("it is JSON"), expected);
        };
        let odd = r#"{"b":12345678901234567890123,"a":"\u0041", "a":1e400}"#;
        check(odd, None, &format!(r#"{{"type":"api.deployed","payload":{odd}}}"#));
        check(" 1 ", Some("me"), r#"{"type":"api.deployed","payload":1,"userId":"me"}"#);
    }

    #[test]
    fn a_payload_that_is_not_json_is_refused() {
        for payload in ["", "{", "{} {}", "nil"] {
            assert!(matches!(publish(None).body(payload), Err(Failure::Usage(_))), "{payload}");
        }
        assert!(matches!(read_payload("@/nowhere/at/all"), Err(Failure::Usage(_))));
    }
}
