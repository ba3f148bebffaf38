//! One keep-alive connection of the platform, which publishes events, one request at a time.

use crate::{clock::Nanos, http, link::Link, marker::Marker};
use serde::Deserialize;
use std::io;

/// An event to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueEvent {
    /// The gateway, by its number in this run.
    pub gateway: usize,
    /// When it should be sent; latencies are measured from here.
    pub intended: Nanos,
}

/// The hub's answer about one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct PublishResult {
    /// The status of a line in a batch; absent in the answer to a single event.
    #[serde(default)]
    pub status: u16,
    /// Connections of the gateway.
    #[serde(default)]
    pub connections: u64,
    /// Deliveries made.
    #[serde(default)]
    pub delivered: u64,
    /// Deliveries that failed.
    #[serde(default)]
    pub failed: u64,
    /// Deliveries that were undecided at the publish timeout.
    #[serde(default)]
    pub pending: u64,
}

/// Everything that publish requests have in common.
pub struct RequestTemplate {
    /// Value of the `Host` field.
    pub host: String,
    /// The admin token.
    pub token: String,
    /// The ids of the gateways, by their number in this run.
    pub ids: Vec<String>,
    /// Size of a payload in bytes.
    pub size: usize,
    /// Events in one request; 1 uses the single publish endpoint.
    pub batch: usize,
}

/// One connection.
#[derive(Default)]
pub struct Publisher {
    /// The TCP connection; `None` until the first request, and after a failure.
    pub link: Option<Link>,
    /// The events of the request that is not answered yet.
    pub in_flight: Vec<Marker>,
    rest: Vec<u8>,
}

impl Publisher {
    /// Sends events in one request; there must be no request in flight. `number` returns a gateway's next sequence
    /// number.
    ///
    /// # Errors
    /// The connection failed.
    pub fn send(
        &mut self,
        template: &RequestTemplate,
        events: &[DueEvent],
        mut number: impl FnMut(usize) -> u64,
    ) -> io::Result<()> {
        debug_assert!(self.is_idle(), "one request at a time");
        let mark =
            |due: &DueEvent| Marker { gateway: due.gateway, sequence: number(due.gateway), intended: due.intended };
        // Before the write: if that fails, `lose` has to return these events.
        self.in_flight.extend(events.iter().map(mark));
        let link = self.link.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        link.write(&template.request(&self.in_flight))
    }

    /// Reads, and calls `handle` for each event that is answered. Returns `false` if the connection has ended.
    ///
    /// # Errors
    /// The connection failed.
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
            // The connection ends with this answer even if its FIN has not come yet; a request sent now would be lost.
            more &= !answer.closes;
            let sent = std::mem::take(&mut self.in_flight);
            for (marker, result) in sent.into_iter().zip(results(&answer)) {
                handle(marker, result);
            }
        }
        // `plain` is shared by all connections; what is incomplete is kept here.
        self.rest = plain[at..].to_vec();
        Ok(more)
    }

    /// Drops the connection, and returns the events in flight, whose outcome is unknown.
    pub fn lose(&mut self) -> Vec<Marker> {
        self.link = None;
        self.rest.clear();
        std::mem::take(&mut self.in_flight)
    }

    /// Whether no request is in flight.
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
            // With --batch even a single event goes as a batch, so that all latencies of a run are of one kind.
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

/// The results in an answer, in the order of the events: one for each line. The status of an error answer applies to
/// all events, so the iterator is then endless.
fn results<'a>(answer: &http::Answer<'a>) -> impl Iterator<Item = PublishResult> + use<'a> {
    let (status, body) = (answer.status, answer.body);
    let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    std::iter::from_fn(move || {
        let result = if status == 200 {
            serde_json::from_slice(lines.next()?).unwrap_or_default()
        } else {
            PublishResult::default()
        };
        Some(PublishResult { status: if result.status == 0 { status } else { result.status }, ..result })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_of_a_request_gets_its_result() {
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
