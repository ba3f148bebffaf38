//! The demo's gateway that is stopped, misses events, and gets them when it comes back.

use super::{
    super::{
        Failure,
        link::{Link, LinkError},
    },
    DemoRun, OFFLINE_GATEWAY,
    instance::Received,
    step_printer::expect,
    text,
};
use crate::model::Position;
use serde_json::{Value, json};

/// The events that the gateway misses.
const MISSED: usize = 2;

impl DemoRun {
    /// Stops a gateway, publishes to it, and starts it again with the position that it has stored.
    pub(super) fn miss_and_resume(&mut self) -> Result<(), Failure> {
        self.printer.step(&format!("Stop {OFFLINE_GATEWAY}, publish two events, and start it again"))?;
        let (id, token) = {
            let gateway = self.offline_gateway()?;
            (gateway.id.clone(), gateway.token.clone())
        };
        let (link, ack) = self.connect_after(&token, None)?;
        let stored = text(&ack, "position")?;
        link.close();
        self.printer.success(&format!("{OFFLINE_GATEWAY:<10}  connected, stored position {stored}, stopped"))?;

        let mut published = Vec::new();
        for number in 1..=MISSED {
            let event = json!({ "type": "demo.missed", "payload": { "number": number } });
            let outcome = self.client.post(&format!("/api/v1/gateways/{id}/events"), &event.to_string())?.json();
            published.push(text(&outcome, "position")?);
        }

        let (mut link, ack) = self.connect_after(&token, Position::parse(&stored))?;
        expect("`resumed` in the ack", &ack["resumed"], &json!(true))?;
        for position in published {
            let raw = link.receive().map_err(failed)?;
            let event = Received::parse(&raw)?;
            expect("position of a missed event", event.position.as_str(), position.as_str())?;
            let what = format!("{} {}, position {position}", event.kind, event.payload.get());
            self.printer.success(&format!("{OFFLINE_GATEWAY:<10}  {what}"))?;
        }
        link.close();
        self.printer.note("It asks for what follows its position (`last-position`), and the hub has it in its log.")
    }

    /// Connects the gateway and receives its ack.
    fn connect_after(&self, token: &str, position: Option<Position>) -> Result<(Link, Value), Failure> {
        let mut link = Link::connect_after(&self.endpoint, token, position).map_err(failed)?;
        let ack = link.receive().map_err(failed)?;
        Ok((link, serde_json::from_str(&ack).unwrap_or_default()))
    }
}

fn failed(error: LinkError) -> Failure {
    Failure::Failed(format!("{OFFLINE_GATEWAY}: {error}"))
}
