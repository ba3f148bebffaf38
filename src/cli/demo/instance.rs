//! One instance of a gateway: a real connection whose messages a separate thread receives.

use super::super::{
    Failure,
    endpoint::Endpoint,
    link::{Link, LinkError},
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::{
    fmt,
    sync::mpsc::Sender,
    thread,
    time::{Duration, Instant},
};

/// Something that an instance received.
pub(super) struct Arrival {
    /// The instance.
    pub who: InstanceName,
    /// A text message, or how the connection ended.
    pub what: Result<String, LinkError>,
    /// The time of arrival.
    pub at: Instant,
}

/// A gateway's name and the number of the instance, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct InstanceName(pub &'static str, pub u32);

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.0, self.1))
    }
}

/// A connected instance that has received its ack.
pub(super) struct Instance {
    /// The name of the instance.
    pub name: InstanceName,
    /// The connection's id, from its ack.
    pub connection: String,
    /// Time from the start of the TCP connect to the ack.
    pub took: Duration,
}

/// An event as a gateway receives it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Received<'a> {
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The payload, byte for byte.
    #[serde(borrow)]
    pub payload: &'a RawValue,
    /// The gateway to which the event was published.
    pub gateway_id: String,
    /// The id that the publisher's answer has as well.
    pub correlation_id: String,
    /// The event's position in the gateway's sequence.
    pub position: String,
}

impl<'a> Received<'a> {
    /// Parses a text message as an event.
    pub(super) fn parse(text: &'a str) -> Result<Self, Failure> {
        serde_json::from_str(text)
            .map_err(|error| Failure::Failed(format!("expected an event ({error}), found {text}")))
    }
}

impl Instance {
    /// Connects and receives the ack. From then on, a thread sends what arrives to `arrivals_out`.
    ///
    /// # Errors
    /// The connection was refused, or its first message is not an ack for this gateway.
    pub(super) fn connect(
        endpoint: &Endpoint,
        name: InstanceName,
        gateway: &str,
        token: &str,
        arrivals_out: Sender<Arrival>,
    ) -> Result<Self, Failure> {
        let begun = Instant::now();
        let failed = |error: LinkError| Failure::Failed(format!("{name}: cannot connect: {error}"));
        let mut link = Link::connect(endpoint, token).map_err(failed)?;
        let first = link.receive().map_err(failed)?;
        let took = begun.elapsed();
        let ack: Value = serde_json::from_str(&first).unwrap_or_default();
        if ack["type"] != "connection.ack" || ack["gatewayId"] != gateway {
            return Err(Failure::Failed(format!(
                "{name}: expected a connection.ack of {gateway} first, found {first}"
            )));
        }
        let connection = ack["connectionId"].as_str().unwrap_or_default().to_owned();
        let listen = move || {
            loop {
                let what = link.receive();
                let over = what.is_err();
                // The receiver is gone once the demo has ended.
                if arrivals_out.send(Arrival { who: name, what, at: Instant::now() }).is_err() || over {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name(name.to_string()).spawn(listen);
        thread.map_err(|error| Failure::Failed(format!("cannot create a thread: {error}")))?;
        Ok(Self { name, connection, took })
    }
}
