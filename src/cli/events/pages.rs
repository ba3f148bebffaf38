//! The pages of a gateway's log, fetched one after the other.

use super::super::{
    Failure,
    client::{CallError, Client},
};
use crate::{limits::PAGE_ROWS_MAX, model::GatewayId};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt::Display;

/// A page of the log.
pub(super) struct Page {
    /// Its events.
    pub events: Vec<Event>,
    /// The position of the last event in the log.
    pub last: String,
    /// The position after which the next page begins.
    pub next: String,
}

/// An event as the hub shows it.
pub(super) struct Event {
    raw: Box<RawValue>,
    /// Its members.
    pub members: Members,
}

/// The members of an event that this command uses.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Members {
    /// Its position.
    pub position: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// When the hub accepted it.
    pub timestamp: String,
    /// The correlation id.
    pub correlation_id: String,
    /// The payload; `None` if the hub does not show it.
    #[serde(default, deserialize_with = "present")]
    pub payload: Option<Box<RawValue>>,
}

impl Event {
    pub(super) fn parse(raw: Box<RawValue>) -> Result<Self, serde_json::Error> {
        let members = serde_json::from_str(raw.get())?;
        Ok(Self { raw, members })
    }

    /// The event byte for byte as the hub sent it.
    pub(super) fn raw(&self) -> &str {
        self.raw.get()
    }
}

/// Reads a member that is there, also if it is `null`, which is a payload like any other.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Deserialize::deserialize(value).map(Some)
}

/// The hub's answer. Events stay text: a payload may have a number that no Rust type holds.
#[derive(Deserialize)]
struct Listing {
    list: Vec<Box<RawValue>>,
    last: String,
    more: bool,
}

/// The query of the oldest events: a page of as many as the hub gives.
const OLDEST: &str = "limit=1000";
const _: () = assert!(PAGE_ROWS_MAX == 1_000);

/// The query of the events after a position.
pub(super) fn after(position: impl Display) -> String {
    format!("{OLDEST}&after={position}")
}

/// Fetches pages until no more follow, or until the first error.
pub(super) struct Pages<'a> {
    client: &'a Client,
    gateway: GatewayId,
    /// The query of the next page; `None` after the last.
    query: Option<String>,
    /// Whether what the hub trims between two pages is passed over, and is no error.
    passes_over_trimmed: bool,
}

impl<'a> Pages<'a> {
    /// Begins with this query.
    pub(super) fn new(client: &'a Client, gateway: GatewayId, query: String) -> Self {
        Self { client, gateway, query: Some(query), passes_over_trimmed: false }
    }

    /// All events that the hub keeps, also if it trims some of them meanwhile.
    pub(super) fn of_whole_log(client: &'a Client, gateway: GatewayId) -> Self {
        Self { passes_over_trimmed: true, ..Self::new(client, gateway, OLDEST.to_owned()) }
    }

    fn fetch(&mut self, query: &str) -> Result<Page, CallError> {
        let answer = self.client.try_get(&format!("/api/v1/gateways/{}/events?{query}", self.gateway))?;
        let unknown =
            |error| Failure::Failed(format!("cannot read the hub's answer: expected a page of events: {error}"));
        let Listing { list, last, more } = serde_json::from_str(&answer.text).map_err(unknown)?;
        let events = list.into_iter().map(Event::parse).collect::<Result<Vec<_>, _>>().map_err(unknown)?;
        let next = events.last().map_or_else(|| last.clone(), |event| event.members.position.clone());
        // Without an event there is no way on, whatever the hub says.
        if more && !events.is_empty() {
            self.query = Some(after(&next));
        }
        Ok(Page { events, last, next })
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<Page, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        let query = self.query.take()?;
        let page = self.fetch(&query);
        if self.passes_over_trimmed && matches!(page, Err(CallError::Refused { status: 410, .. })) {
            return Some(self.fetch(OLDEST));
        }
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::testing::{TlsHub, answer_http},
        *,
    };
    use std::sync::Mutex;

    /// A hub that gives these answers, the first one first.
    fn hub(answers: &[(u16, &str)]) -> TlsHub {
        let answer = |(status, body): &(u16, &str)| {
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        };
        let left = Mutex::new(answers.iter().rev().map(answer).collect::<Vec<_>>());
        TlsHub::start(move |stream| {
            let answer = left.lock().expect("no test panics with it").pop().expect("an answer for each request");
            answer_http(stream, &answer);
        })
    }

    /// The positions of all pages, up to the first error.
    fn positions(pages: Pages<'_>) -> Result<Vec<String>, CallError> {
        let pages = pages.collect::<Result<Vec<_>, _>>()?;
        Ok(pages.into_iter().flat_map(|page| page.events).map(|event| event.members.position).collect())
    }

    fn page(position: &str, more: bool) -> String {
        let event =
            format!(r#"{{"position":"{position}","type":"t","timestamp":"T","correlationId":"C","payload":1e400}}"#);
        format!(r#"{{"count":1,"list":[{event}],"first":null,"last":"9","more":{more}}}"#)
    }

    #[test]
    fn what_is_trimmed_between_two_pages_is_passed_over_only_in_a_search() {
        let (first, last) = (page("1", true), page("7", false));
        let answers = [(200, first.as_str()), (410, "{}"), (200, last.as_str())];
        let client = |hub: &TlsHub| Client::new(&hub.endpoint.base, hub.endpoint.trusted.as_deref(), "t");
        let gateway = GatewayId::random();
        let searched = client(&hub(&answers));
        assert_eq!(positions(Pages::of_whole_log(&searched, gateway)), Ok(vec!["1".to_owned(), "7".to_owned()]));
        let listed = client(&hub(&answers));
        let error = positions(Pages::new(&listed, gateway, after("0"))).expect_err("an event is missing");
        assert!(matches!(error, CallError::Refused { status: 410, .. }), "{error}");
    }
}
