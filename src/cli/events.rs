//! `gatecast events`: shows the log of a gateway, its last events or those after a position, and follows it.

mod filter;
mod line;
mod pages;

use super::{
    Failure,
    client::{CallError, Client},
    endpoint::AdminArgs,
    gateway::gateway_id,
    output,
};
use crate::{
    limits::PAGE_ROWS_MAX,
    model::{CorrelationId, GatewayId, Position},
};
use clap::Args;
use filter::{Filter, TypePattern};
use line::Width;
use pages::{Event, Page, Pages};
use std::{collections::VecDeque, thread, time::Duration};

/// Events that are shown if neither `--limit` nor `--after` is given.
const LIMIT_DEFAULT: usize = 20;
/// Time between two looks at the end of the log with `--follow`.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Show the log of a gateway.
#[derive(Args)]
pub struct Events {
    /// The gateway's UUID
    #[arg(value_parser = gateway_id)]
    gateway: GatewayId,
    /// Show the events after this position, instead of the last ones
    #[arg(long, value_name = "POSITION", value_parser = position)]
    after: Option<Position>,
    /// Most events to show: the last ones, or with --after the first ones after the position [default: 20; with --after
    /// all]
    #[arg(long, value_name = "N", value_parser = limit)]
    limit: Option<usize>,
    /// Show only events of this type, or with a * at its end of all types that begin so, such as api.*
    #[arg(long = "type", value_name = "PATTERN", value_parser = TypePattern::parse)]
    event_type: Option<TypePattern>,
    /// Show only events with this correlation id
    #[arg(long, value_name = "UUID", value_parser = correlation_id)]
    correlation: Option<CorrelationId>,
    /// Go on with new events, looked for every second, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// Print each event unchanged, as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Parses a position.
pub(super) fn position(text: &str) -> Result<Position, String> {
    Position::parse(text).ok_or_else(|| "expected a position, as `gatecast events` shows it".to_owned())
}

fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| *limit > 0);
    limit.ok_or_else(|| "expected a number of events, 1 or more".to_owned())
}

fn correlation_id(text: &str) -> Result<CorrelationId, String> {
    CorrelationId::parse(text).ok_or_else(|| "expected a UUID".to_owned())
}

impl Events {
    /// Shows the events; with `--follow` it returns only if the hub refuses in a way that another try cannot change.
    pub fn run(self) -> Result<(), Failure> {
        if let (Some(_), Some(_), true) = (self.after, self.limit, self.follow) {
            let sentence = "--limit with --after and --follow would leave a gap: give only two of them";
            return Err(Failure::Usage(sentence.to_owned()));
        }
        let client = self.admin.client()?;
        let end = self.show(&client).map_err(|error| explain(error, self.after))?;
        if self.follow { self.follow(&client, end) } else { Ok(()) }
    }

    fn filter(&self) -> Filter<'_> {
        Filter { event_type: self.event_type.as_ref(), correlation: self.correlation }
    }

    fn print(&self, event: &Event, width: Width) -> Result<(), Failure> {
        output::line(&if self.json { output::one_line(event.raw()) } else { line::describe(event, width) })
    }

    /// Shows the events that are there. Returns the position after which to go on.
    fn show(&self, client: &Client) -> Result<String, CallError> {
        if let Some(after) = self.after {
            return self.show_after(Pages::new(client, self.gateway, pages::after(after)));
        }
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if self.filter().is_empty() && limit <= PAGE_ROWS_MAX {
            return self.show_after(Pages::new(client, self.gateway, format!("tail={limit}")));
        }
        // The hub does not filter, so the last matching events are known only at the end.
        self.show_last(Pages::of_whole_log(client, self.gateway), limit)
    }

    fn show_after(&self, pages: Pages<'_>) -> Result<String, CallError> {
        let (filter, width) = (self.filter(), Width::of_output());
        let (mut left, mut end) = (self.limit.unwrap_or(usize::MAX), String::new());
        for page in pages {
            let Page { events, last, .. } = page?;
            for event in events.iter().filter(|event| filter.matches(event)).take(left) {
                self.print(event, width)?;
                left -= 1;
            }
            end = last;
            if left == 0 {
                break;
            }
        }
        Ok(end)
    }

    fn show_last(&self, pages: Pages<'_>, limit: usize) -> Result<String, CallError> {
        let (filter, width) = (self.filter(), Width::of_output());
        let (mut found, mut end) = (VecDeque::new(), String::new());
        for page in pages {
            let Page { events, last, .. } = page?;
            for event in events.into_iter().filter(|event| filter.matches(event)) {
                found.push_back(event);
                if found.len() > limit {
                    found.pop_front();
                }
            }
            end = last;
        }
        found.iter().try_for_each(|event| self.print(event, width))?;
        Ok(end)
    }

    /// Shows new events, for as long as the hub can be asked for them.
    fn follow(&self, client: &Client, mut end: String) -> Result<(), Failure> {
        let mut trouble = None;
        loop {
            thread::sleep(POLL_INTERVAL);
            for page in Pages::new(client, self.gateway, pages::after(&end)) {
                match page {
                    Ok(page) => {
                        trouble = None;
                        let filter = self.filter();
                        for event in page.events.iter().filter(|event| filter.matches(event)) {
                            self.print(event, Width::of_output())?;
                        }
                        end = page.next;
                    }
                    Err(error) => end = after_trouble(error, end, &mut trouble)?,
                }
            }
        }
    }
}

/// The position after which to go on following. Says what is wrong, once, and fails if another try would fail as well.
fn after_trouble(error: CallError, end: String, trouble: &mut Option<String>) -> Result<String, Failure> {
    let next = match &error {
        CallError::Refused { status: 410, body, .. } => {
            let last = body["last"].as_str().map(str::to_owned).ok_or_else(|| Failure::from(error.clone()))?;
            eprintln!("gatecast: {error}");
            eprintln!("gatecast: events were missed; going on with new ones after {last}");
            return Ok(last);
        }
        // A hub that restarts, or whose log cannot be read now.
        CallError::Refused { status: 500..=599, .. } | CallError::Failed(Failure::Failed(_)) => end,
        _ => return Err(error.into()),
    };
    let what = error.to_string();
    if trouble.as_ref() != Some(&what) {
        eprintln!("gatecast: {what}; trying again every second");
        *trouble = Some(what);
    }
    Ok(next)
}

/// Adds to a refused position what the user can do about it.
fn explain(error: CallError, after: Option<Position>) -> Failure {
    let (CallError::Refused { status: 410, body, .. }, Some(after)) = (&error, after) else { return error.into() };
    let shown =
        |member: &str| Some(&body[member]).filter(|it| !it.is_null()).map_or_else(|| "none".to_owned(), output::cell);
    let (first, last) = (shown("first"), shown("last"));
    Failure::Failed(format!(
        "cannot show what follows {after}: the log does not have this position, or events after it are no longer kept. It has \
         the events from {first} to {last}: omit --after to see the last of them"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn gone(last: Value) -> CallError {
        let body = serde_json::json!({ "first": null, "last": last });
        CallError::Refused { status: 410, why: "gone".to_owned(), body }
    }

    #[test]
    fn following_goes_on_after_trouble_that_passes_and_after_missed_events() {
        let failed = || CallError::Failed(Failure::Failed("nothing listens".to_owned()));
        let refused = |status| CallError::Refused { status, why: String::new(), body: Value::Null };
        let next = |error| after_trouble(error, "here".to_owned(), &mut None);
        assert_eq!(next(failed()), Ok("here".to_owned()));
        assert_eq!(next(refused(503)), Ok("here".to_owned()));
        assert_eq!(next(gone("there".into())), Ok("there".to_owned()));
        for error in [refused(401), refused(404), gone(Value::Null), CallError::Failed(Failure::OutputClosed)] {
            next(error.clone()).expect_err(&error.to_string());
        }
    }

    #[test]
    fn a_refused_position_is_explained() {
        let after = Position { epoch: 1, offset: 2 };
        let text = explain(gone("there".into()), Some(after)).to_string();
        assert!(text.contains("0000000000000001-2") && text.contains("from none to there"), "{text}");
        assert!(text.contains("omit --after"), "{text}");
    }

    #[test]
    fn positions_and_limits_are_checked() {
        assert!(position("x").is_err() && position("0000000000000001-2").is_ok());
        assert!(limit("0").is_err() && limit("-1").is_err() && limit("5000") == Ok(5_000));
    }
}
