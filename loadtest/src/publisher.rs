//! One keep-alive connection of the platform, on which the events of its gateways are published one request at a time.

use crate::{clock::Nanos, http, link::Link, marker::Marker};
use serde::Deserialize;
use std::io;

/// An event that is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueEvent {
    /// The gateway, by its number in this run.
    pub gateway: usize,
    /// When it is meant to be sent.
    pub intended: Nanos,
}

/// What the hub answered to one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct PublishResult {
    /// Of a line in a batch; 0 in the answer to a single event.
    #[serde(default)]
    pub status: u16,
    /// Live connections of the gateway.
    #[serde(default)]
    pub connections: u64,
    /// Those that have it.
    #[serde(default)]
    pub delivered: u64,
    /// Those that will not.
    #[serde(default)]
    pub failed: u64,
    /// Those undecided.
    #[serde(default)]
    pub pending: u64,
}

/// How requests are made.
pub struct RequestTemplate {
    /// `Host`.
    pub host: String,
    /// The admin token.
    pub token: String,
    /// Ids of the gateways.
    pub ids: Vec<String>,
    /// Bytes of a payload.
    pub size: usize,
    /// Events in one request; 1 is a call for each.
    pub batch: usize,
}

/// A connection.
#[derive(Default)]
pub struct Publisher {
    /// Its bytes, while it stands.
    pub link: Option<Link>,
    /// What was sent and is not answered.
    pub in_flight: Vec<Marker>,
    rest: Vec<u8>,
}

impl Publisher {
    /// Sends these events in one request; none may be under way. `number` gives an event its sequence.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(
        &mut self,
        template: &RequestTemplate,
        events: &[DueEvent],
        mut number: impl FnMut(usize) -> u64,
    ) -> io::Result<()> {
        debug_assert!(self.is_idle(), "one request at a time");
        let mark =
            |due: &DueEvent| Marker { gateway: due.gateway, sequence: number(due.gateway), intended: due.intended };
        self.in_flight.extend(events.iter().map(mark));
        let link = self.link.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        link.write(&template.request(&self.in_flight))
    }

    /// Reads; gives each event's fate when its answer is there. `false` says that the hub has ended the connection.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn read(
        &mut self,
        scratch: &mut [u8],
        plain: &mut Vec<u8>,
        mut handle: impl FnMut(Marker, PublishResult),
    ) -> io::Result<bool> {
        let Some(link) = self.link.as_mut() else { return Ok(false) };
        plain.clear();
        plain.append(&mut self.rest);
        let mut more = link.read(scratch, plain, usize::MAX)?;
        let mut at = 0;
        while let Some(answer) = http::answer(&plain[at..]).map_err(io::Error::other)? {
            at += answer.length;
            more &= !answer.closes;
            let sent = std::mem::take(&mut self.in_flight);
            for (marker, result) in sent.into_iter().zip(results(&answer)) {
                handle(marker, result);
            }
        }
        self.rest = plain[at..].to_vec();
        Ok(more)
    }

    /// The connection is gone; what was under way has an unknown fate.
    pub fn lose(&mut self) -> Vec<Marker> {
        self.link = None;
        self.rest.clear();
        std::mem::take(&mut self.in_flight)
    }

    /// Whether it waits for no answer.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }
}

impl RequestTemplate {
    fn request(&self, events: &[Marker]) -> Vec<u8> {
        let Self { host, token, ids, size, batch } = self;
        let mut body = Vec::with_capacity(events.len() * (size + 128));
        for event in events {
            let id = &ids[event.gateway];
            body.extend_from_slice(format!(r#"{{"gatewayId":"{id}","type":"api.deployed","payload":"#).as_bytes());
            event.push_payload(*size, &mut body);
            body.extend_from_slice(b"}\n");
        }
        let path = match events {
            [event] if *batch == 1 => format!("/api/v1/gateways/{}/events", ids[event.gateway]),
            _ => "/api/v1/events".to_owned(),
        };
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), &body].concat()
    }
}

/// The fates in an answer, in order: one, or one a line; an answer that says no says it to all.
fn results<'a>(answer: &http::Answer<'a>) -> impl Iterator<Item = PublishResult> + use<'a> {
    let (status, body) = (answer.status, answer.body);
    let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    std::iter::from_fn(move || {
        let told = if status == 200 {
            serde_json::from_slice(lines.next()?).unwrap_or_default()
        } else {
            PublishResult::default()
        };
        Some(PublishResult { status: if told.status == 0 { status } else { told.status }, ..told })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates_are_told_one_an_event() {
        let check = |status: u16, body: &str, expected: &[(u16, u64)]| {
            let answer = http::Answer { status, body: body.as_bytes(), closes: false, length: 0 };
            let found: Vec<_> = results(&answer).take(2).map(|result| (result.status, result.delivered)).collect();
            assert_eq!(found, expected, "{body}");
        };
        check(200, r#"{"connections":3,"delivered":3,"failed":0}"#, &[(200, 3)]);
        check(200, "{\"status\":200,\"delivered\":2}\n{\"status\":404,\"error\":\"x\"}\n", &[(200, 2), (404, 0)]);
        check(503, "", &[(503, 0), (503, 0)]);
    }
}
