//! One running instance of a gateway: a real connection, listened to on a thread of its own.

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

/// What an instance heard.
pub(super) struct Arrival {
    /// Which instance.
    pub who: InstanceName,
    /// A text, or how the connection ended.
    pub what: Result<String, LinkError>,
    /// When.
    pub at: Instant,
}

/// A gateway's name and the number of the instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct InstanceName(pub &'static str, pub u32);

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.0, self.1))
    }
}

/// A connection that has its ack.
pub(super) struct Instance {
    /// Which instance.
    pub name: InstanceName,
    /// The connection's id, as its ack says.
    pub connection: String,
    /// From the first byte to the ack.
    pub took: Duration,
}

/// An event as a gateway reads it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Received<'a> {
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The payload, byte for byte.
    #[serde(borrow)]
    pub payload: &'a RawValue,
    /// To whom.
    pub gateway_id: String,
    /// What ties it to the publisher's answer.
    pub correlation_id: String,
    /// Where it stands in the gateway's sequence.
    pub position: String,
}

impl<'a> Received<'a> {
    /// Reads a text as an event.
    pub(super) fn parse(text: &'a str) -> Result<Self, Failure> {
        serde_json::from_str(text).map_err(|error| Failure::Failed(format!("an event was expected ({error}): {text}")))
    }
}

impl Instance {
    /// Connects, takes the ack, and tells `heard` from then on what arrives.
    ///
    /// # Errors
    /// The connection was refused, or its first frame is no ack of this gateway.
    pub(super) fn connect(
        endpoint: &Endpoint,
        name: InstanceName,
        gateway: &str,
        token: &str,
        arrivals_out: Sender<Arrival>,
    ) -> Result<Self, Failure> {
        let begun = Instant::now();
        let failed = |error: LinkError| Failure::Failed(format!("{name} was expected to connect: {error}"));
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
                // Nobody hears it any more once the demo has ended.
                if arrivals_out.send(Arrival { who: name, what, at: Instant::now() }).is_err() || over {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name(name.to_string()).spawn(listen);
        thread.map_err(|error| Failure::Failed(format!("the system gives no thread: {error}")))?;
        Ok(Self { name, connection, took })
    }
}
