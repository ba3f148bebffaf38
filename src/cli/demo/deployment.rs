//! The deployment of the demo: announced by one HTTP call, and found again at every instance.

use super::{
    super::Failure,
    Gateway, Story, count,
    instance::{Heard, Instance, Name, Received},
    millis,
    narrator::expect,
    text,
};
use serde_json::{Value, json};
use std::{
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// An event that has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is deployed.
const REVISION: &str = "rev-7";

/// What the hub said about the deployment.
pub(super) struct Announced {
    api: Uuid,
    begun: Instant,
    items: Vec<Value>,
}

impl Gateway {
    fn vhost(&self) -> String {
        format!("{}.example.com", self.name)
    }
}

impl Story {
    /// Calls the hook for every gateway that has instances.
    pub(super) fn deploy(&mut self) -> Result<Announced, Failure> {
        self.narrator.step("Deploy an API to edge-eu and edge-us through the HTTP hook")?;
        let api = Uuid::new_v4();
        let path = format!("/api/v1/apis/{api}/deploy-revision?revisionId={REVISION}");
        self.narrator.line(&format!("  POST {path}"))?;
        let targets: Vec<_> = self.gateways.iter().filter(|gateway| gateway.instances > 0).collect();
        let body: Vec<_> = targets.iter().map(|it| json!({ "gatewayId": it.id, "vhost": it.vhost() })).collect();
        let begun = Instant::now();
        let answer = self.client.post(&path, &json!(body).to_string())?.json();
        let took = begun.elapsed();
        let items = answer.as_array().cloned().unwrap_or_default();
        expect("items in the answer", items.len(), targets.len())?;
        for (gateway, item) in targets.iter().zip(&items) {
            let name = gateway.name;
            expect(&format!("{name}: gatewayId"), text(item, "gatewayId")?, gateway.id.as_str())?;
            expect(&format!("{name}: status"), text(item, "status")?, "success")?;
            let [live, deployed, failed] =
                ["liveGatewayCount", "deployedGatewayCount", "failedGatewayCount"].map(|member| count(item, member));
            expect(&format!("{name}: live, deployed and failed"), (live, deployed, failed), {
                let instances = u64::from(gateway.instances);
                (instances, instances, 0)
            })?;
            self.narrator.good(&format!("{name:<10}  success: written to {deployed} of {live} live instances"))?;
        }
        self.narrator.note(&format!("Answered after {}, when every socket had taken it.", millis(took)))?;
        Ok(Announced { api, begun, items })
    }

    /// Waits for the event at every instance, and reads it.
    pub(super) fn check_received(&mut self, hears: &Receiver<Heard>, announced: &Announced) -> Result<(), Failure> {
        self.narrator.step("See what each instance has received")?;
        let mut events = receive(hears, self.instances.len())?;
        for instance in &self.instances {
            let name = instance.name;
            let place = events.iter().position(|(who, ..)| *who == name);
            let place = place.ok_or_else(|| Failure::Failed(format!("{name}: expected one event, found none")))?;
            let (_, raw, at) = events.swap_remove(place);
            let event = Received::parse(&raw)?;
            self.check_event(instance, &event, announced)?;
            let after = millis(at.saturating_duration_since(announced.begun));
            self.narrator.good(&format!("{name:<10}  {} after {after:>7}, position {}", event.kind, event.position))?;
            self.narrator.note(&format!("              {}", event.payload.get()))?;
        }
        Ok(())
    }

    fn check_event(&self, instance: &Instance, event: &Received<'_>, announced: &Announced) -> Result<(), Failure> {
        let name = instance.name;
        let found = self.gateways.iter().zip(&announced.items).find(|(gateway, _)| gateway.name == name.0);
        let (gateway, item) = found.ok_or_else(|| Failure::Failed(format!("{name}: nothing was deployed to it")))?;
        expect(&format!("{name}: type"), event.kind.as_str(), "api.deployed")?;
        expect(&format!("{name}: gatewayId"), event.gateway_id.as_str(), gateway.id.as_str())?;
        expect(
            &format!("{name}: correlationId"),
            event.correlation_id.as_str(),
            text(item, "correlationId")?.as_str(),
        )?;
        let payload: Value = serde_json::from_str(event.payload.get()).unwrap_or_default();
        let expected = json!({
            "apiUuid": announced.api,
            "revisionId": REVISION,
            "vhost": gateway.vhost(),
            "environment": "production",
            "apiId": announced.api,
            "deploymentId": REVISION,
            "performedAt": payload["performedAt"],
        });
        expect(&format!("{name}: payload"), payload, expected)
    }
}

/// One event from each of so many instances, as they came.
fn receive(hears: &Receiver<Heard>, instances: usize) -> Result<Vec<(Name, String, Instant)>, Failure> {
    let mut events = Vec::new();
    while events.len() < instances {
        let found = events.len();
        let Heard { who, what, at } = hears.recv_timeout(PATIENCE).map_err(|_| {
            Failure::Failed(format!("expected {instances} events within {} s, found {found}", PATIENCE.as_secs()))
        })?;
        events.push((who, what.map_err(|error| Failure::Failed(format!("{who}: expected an event: {error}")))?, at));
    }
    Ok(events)
}
