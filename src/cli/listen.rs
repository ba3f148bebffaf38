//! `gatecast listen`: connects as a gateway and prints the events that arrive.

use super::{
    Failure,
    endpoint::{HubArgs, process_variable, read_secret},
    link::{Link, LinkError},
    output::{self, one_line},
    resume::{Begin, FILE_DEFAULT, Resume},
};
use crate::model::{GatewayId, Position};
use clap::Args;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use std::{borrow::Cow, collections::HashMap, path::PathBuf, thread, time::Duration};

/// The first and the longest pause before another attempt.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Connect as a gateway.
#[derive(Args)]
pub struct Listen {
    /// The gateway's token, or @FILE to read it from a file [default: $GATECAST_TOKEN]
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    token: Option<String>,
    /// Answer each deployment with a deployment.ack
    #[arg(long)]
    ack: bool,
    /// Exit when the connection ends instead of reconnecting
    #[arg(long)]
    once: bool,
    /// Exit after this many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Keep the position of the last printed event in FILE and go on after it, so that no event is missed between two
    /// runs or connections
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = FILE_DEFAULT)]
    resume: Option<PathBuf>,
    /// Print each message unchanged, as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

impl Listen {
    /// Listens until the count is reached or the hub refuses in a way that another attempt cannot change.
    pub fn run(self) -> Result<(), Failure> {
        let endpoint = self.hub.endpoint(&process_variable)?;
        let no_token = || {
            Failure::Usage(
                "missing gateway token: give --token or GATECAST_TOKEN; `gatecast token create` creates one".to_owned(),
            )
        };
        let token =
            read_secret(&self.token.clone().or_else(|| process_variable("GATECAST_TOKEN")).ok_or_else(no_token)?)?;
        // Before the first attempt: what is wrong with the file is told at once.
        let mut resume = self.resume.clone().map(Resume::open).transpose()?;
        let mut backoff = Backoff::default();
        let mut events = 0;
        loop {
            let after = resume.as_ref().and_then(Resume::position);
            let error = match Link::connect_after(&endpoint, &token, after) {
                Ok(mut link) => {
                    // Only an open connection resets the pause: a hub that accepts TCP and then refuses must not be
                    // flooded.
                    backoff = Backoff::default();
                    match self.print_events(&mut link, &mut events, resume.as_mut())? {
                        None => {
                            link.close();
                            return Ok(());
                        }
                        // With --once, an orderly close by the hub (RFC 6455 section 7.4.1) is the expected end.
                        Some(LinkError::Closed { code: 1000 | 1001, .. }) if self.once => return Ok(()),
                        Some(error) => error,
                    }
                }
                Err(error) => error,
            };
            if self.once || is_final(&error) {
                return Err(error.into());
            }
            let pause = backoff.next(&error);
            eprintln!("gatecast: {error}; reconnecting in {:.1} s", pause.as_secs_f32());
            thread::sleep(pause);
        }
    }

    /// Prints what arrives. Returns how the connection ended, or `None` when the count was reached.
    fn print_events(
        &self,
        link: &mut Link,
        events: &mut u64,
        mut resume: Option<&mut Resume>,
    ) -> Result<Option<LinkError>, Failure> {
        while self.count.is_none_or(|count| *events < count) {
            let text = match link.receive() {
                Ok(text) => text,
                Err(error) => return Ok(Some(error)),
            };
            let event = Event::parse(&text);
            // Printed before it is acknowledged, so that no event is acknowledged that the user has not seen.
            output::line(&if self.json { one_line(&text) } else { event.describe(&text) })?;
            if let Some(resume) = resume.as_deref_mut().filter(|_| event.is_ack()) {
                eprintln!("gatecast: {}", resume.handle_ack(event.begin())?);
            }
            if !event.is_event() {
                continue;
            }
            *events += 1;
            if let Some(answer) = event.deployment_ack().filter(|_| self.ack)
                && let Err(error) = link.send(answer)
            {
                return Ok(Some(error));
            }
            // Last: if this command ends before it, the event is printed again by the next run, and not missed.
            if let Some(resume) = resume.as_deref_mut() {
                resume.keep(GatewayId::parse(&event.gateway_id), Position::parse(&event.position))?;
            }
        }
        Ok(None)
    }
}

/// Whether another attempt would be refused in the same way.
fn is_final(error: &LinkError) -> bool {
    match error {
        LinkError::Usage(_) => true,
        // Too many attempts and errors of the server pass by themselves; a wrong token does not.
        LinkError::Refused { status, .. } => !matches!(status, 429 | 500..=599),
        _ => false,
    }
}

/// The pause before the next attempt. It doubles each time and is randomized, so that many clients do not reconnect at
/// once.
#[derive(Default)]
struct Backoff {
    tries: u32,
}

impl Backoff {
    fn next(&mut self, error: &LinkError) -> Duration {
        let (first, longest) = BACKOFF;
        let pause = first.saturating_mul(1 << self.tries.min(16)).min(longest);
        self.tries += 1;
        // Between half of the pause and all of it; all of it if the system provides no random numbers.
        let share = getrandom::u32().map_or(1.0, |random| 0.5 + 0.5 * (f64::from(random) / f64::from(u32::MAX)));
        let requested = match error {
            LinkError::Refused { retry_after, .. } => retry_after.unwrap_or_default().min(Duration::from_secs(300)),
            _ => Duration::ZERO,
        };
        requested + pause.mul_f64(share)
    }
}

/// The members of a message that this command uses. Missing ones are empty.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    correlation_id: Cow<'a, str>,
    #[serde(borrow)]
    gateway_id: Cow<'a, str>,
    #[serde(borrow)]
    position: Cow<'a, str>,
    resumed: Option<bool>,
}

impl<'a> Event<'a> {
    fn parse(text: &'a str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    fn is_event(&self) -> bool {
        !self.event_type.is_empty() && !self.is_ack()
    }

    fn is_ack(&self) -> bool {
        self.event_type == "connection.ack"
    }

    /// Where the connection begins; of an ack.
    fn begin(&self) -> Begin {
        Begin {
            gateway: GatewayId::parse(&self.gateway_id),
            position: Position::parse(&self.position),
            resumed: self.resumed == Some(true),
        }
    }

    fn describe(&self, text: &str) -> String {
        match self.payload {
            Some(payload) if self.is_event() => {
                one_line(&format!("{} {} {} {}", self.timestamp, self.event_type, self.correlation_id, payload.get()))
            }
            _ => one_line(text),
        }
    }

    /// The `deployment.ack` for a deployment (contract section 1); `None` for other events. Ids and `performedAt` are
    /// returned byte for byte.
    fn deployment_ack(&self) -> Option<String> {
        let (resource, verb) = self.event_type.rsplit_once('.')?;
        let action = match verb {
            "deployed" => "deploy",
            "undeployed" => "undeploy",
            _ => return None,
        };
        let members: HashMap<String, &RawValue> = serde_json::from_str(self.payload?.get()).ok()?;
        // The types of the platform's events differ in what they call an id; the first name that is there is taken.
        let first = |names: &[&str]| names.iter().find_map(|name| members.get(*name).copied());
        let performed_at =
            first(&["performedAt"]).map_or_else(|| json!(self.timestamp).to_string(), |it| it.get().to_owned());
        let id = |names: &[&str]| first(names).map_or("null", RawValue::get).to_owned();
        // Formatted by hand because ids may be numbers that no Rust integer holds.
        Some(format!(
            "{{\"type\":\"deployment.ack\",\"payload\":{{\"deploymentId\":{},\"artifactId\":{},\"resourceType\":{},\
             \"action\":\"{action}\",\"status\":\"success\",\"performedAt\":{performed_at}}}}}",
            id(&["deploymentId", "revisionId"]),
            id(&["artifactId", "apiId", "apiUuid", "id"]),
            json!(resource),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_ack_repeats_the_deployments_ids_and_time() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Event::parse(text).deployment_ack().as_deref(), expected, "{text}");
        };
        check(
            r#"{"type":"api.deployed","payload":{"deploymentId":"d","apiId":"a","performedAt":"2026-01-01T00:00:00.123456789Z"}}"#,
            Some(
                r#"{"type":"deployment.ack","payload":{"deploymentId":"d","artifactId":"a","resourceType":"api","action":"deploy","status":"success","performedAt":"2026-01-01T00:00:00.123456789Z"}}"#,
            ),
        );
        check(
            r#"{"type":"llmproxy.undeployed","timestamp":"T","payload":{"revisionId":12345678901234567890123}}"#,
            Some(
                r#"{"type":"deployment.ack","payload":{"deploymentId":12345678901234567890123,"artifactId":null,"resourceType":"llmproxy","action":"undeploy","status":"success","performedAt":"T"}}"#,
            ),
        );
        check(r#"{"type":"apikey.created","payload":{}}"#, None);
        check(r#"{"type":"api.deployed","payload":[]}"#, None);
        check(r#"{"type":"api.deployed"}"#, None);
        check(r#"{"type":"connection.ack"}"#, None);
        check("not JSON", None);
    }

    #[test]
    fn each_message_is_printed_on_one_line() {
        let check = |text: &str, expected: &str| assert_eq!(Event::parse(text).describe(text), expected);
        check(
            "{\"type\":\"api.deployed\",\"payload\":{\n\"a\":1},\"timestamp\":\"T\",\"correlationId\":\"C\"}",
            "T api.deployed C { \"a\":1}",
        );
        check(
            "{\"type\":\"connection.ack\",\r\n\"gatewayId\":\"g\"}",
            "{\"type\":\"connection.ack\",  \"gatewayId\":\"g\"}",
        );
        check("nonsense", "nonsense");
    }

    #[test]
    fn only_temporary_errors_are_retried() {
        let refused = |status| LinkError::Refused { status, why: String::new(), retry_after: None };
        for status in [429, 500, 503] {
            assert!(!is_final(&refused(status)), "{status}");
        }
        for status in [400, 401, 403, 404, 426] {
            assert!(is_final(&refused(status)), "{status}");
        }
        assert!(!is_final(&LinkError::Lost(String::new())));
        assert!(!is_final(&LinkError::Closed { code: 1001, reason: String::new() }));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_respect_retry_after() {
        let mut backoff = Backoff::default();
        let lost = LinkError::Lost(String::new());
        for tries in 0..40 {
            let pause = backoff.next(&lost);
            let whole = BACKOFF.0.saturating_mul(1 << tries.min(16)).min(BACKOFF.1);
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
        }
        let requested = Duration::from_secs(7);
        let busy = LinkError::Refused { status: 503, why: String::new(), retry_after: Some(requested) };
        assert!(Backoff::default().next(&busy) >= requested);
    }
}
