//! The pages of a gateway's log, fetched one after the other.

use super::super::{
    Failure,
    client::{CallError, Client},
};
use crate::{limits::PAGE_ROWS_MAX, model::GatewayId};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

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

/// Fetches pages until no more follow, or until the first error.
pub(super) struct Pages<'a> {
    client: &'a Client,
    gateway: GatewayId,
    /// The query of the next page; `None` after the last.
    query: Option<String>,
}

impl<'a> Pages<'a> {
    /// Begins with this query.
    pub(super) fn new(client: &'a Client, gateway: GatewayId, query: String) -> Self {
        Self { client, gateway, query: Some(query) }
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
            self.query = Some(format!("limit={PAGE_ROWS_MAX}&after={next}"));
        }
        Ok(Page { events, last, next })
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<Page, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        let query = self.query.take()?;
        Some(self.fetch(&query))
    }
}
