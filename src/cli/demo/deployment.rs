//! The demo's deployment: makes one HTTP call and checks the event that every instance receives.

use super::{
    super::Failure,
    DemoRun, Gateway, count,
    instance::{Arrival, Instance, InstanceName, Received},
    millis,
    step_printer::expect,
    text,
};
use serde_json::{Value, json};
use std::{
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Time to wait for the next event of an instance.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The revision that is deployed.
const REVISION: &str = "rev-7";

/// The hub's answer to the deployment, and when the call began.
pub(super) struct DeployAnswer {
    api: Uuid,
    begun: Instant,
    items: Vec<Value>,
}

impl Gateway {
    fn vhost(&self) -> String {
        format!("{}.example.com", self.name)
    }
}

impl DemoRun {
    /// Calls the deployment hook for every gateway that has instances.
    pub(super) fn deploy(&mut self) -> Result<DeployAnswer, Failure> {
        self.printer.step("Deploy an API to edge-eu and edge-us through the HTTP hook")?;
        let api = Uuid::new_v4();
        let path = format!("/api/v1/apis/{api}/deploy-revision?revisionId={REVISION}");
        self.printer.line(&format!("  POST {path}"))?;
        let targets: Vec<_> = self.gateways.iter().filter(|gateway| gateway.instances > 0).collect();
        let body: Vec<_> = targets.iter().map(|it| json!({ "gatewayId": it.id, "vhost": it.vhost() })).collect();
        // Before the call, because an event can arrive before the call's answer does.
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
            self.printer.success(&format!("{name:<10}  success: written to {deployed} of {live} live instances"))?;
        }
        self.printer.note(&format!("Answered after {}, when the event was written to every socket.", millis(took)))?;
        Ok(DeployAnswer { api, begun, items })
    }

    /// Waits for the event of every instance and checks it.
    pub(super) fn check_received(
        &mut self,
        arrivals: &Receiver<Arrival>,
        deploy_answer: &DeployAnswer,
    ) -> Result<(), Failure> {
        self.printer.step("Check what each instance received")?;
        // Instances receive on their own threads, so that the order of arrival is not the order of the instances.
        let mut events = receive(arrivals, self.instances.len())?;
        for instance in &self.instances {
            let name = instance.name;
            let index = events.iter().position(|(who, ..)| *who == name);
            let index = index.ok_or_else(|| Failure::Failed(format!("{name}: expected one event, found none")))?;
            let (_, raw, at) = events.swap_remove(index);
            let event = Received::parse(&raw)?;
            self.check_event(instance, &event, deploy_answer)?;
            let after = millis(at.saturating_duration_since(deploy_answer.begun));
            self.printer
                .success(&format!("{name:<10}  {} after {after:>7}, position {}", event.kind, event.position))?;
            self.printer.note(&format!("              {}", event.payload.get()))?;
        }
        Ok(())
    }

    fn check_event(
        &self,
        instance: &Instance,
        event: &Received<'_>,
        deploy_answer: &DeployAnswer,
    ) -> Result<(), Failure> {
        let name = instance.name;
        let found = self.gateways.iter().zip(&deploy_answer.items).find(|(gateway, _)| gateway.name == name.0);
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
            "apiUuid": deploy_answer.api,
            "revisionId": REVISION,
            "vhost": gateway.vhost(),
            "environment": "production",
            "apiId": deploy_answer.api,
            "deploymentId": REVISION,
            "performedAt": payload["performedAt"],
        });
        expect(&format!("{name}: payload"), payload, expected)
    }
}

/// Receives as many events as there are instances, in the order of arrival.
fn receive(arrivals: &Receiver<Arrival>, instances: usize) -> Result<Vec<(InstanceName, String, Instant)>, Failure> {
    let mut events = Vec::new();
    while events.len() < instances {
        let found = events.len();
        let Arrival { who, what, at } = arrivals.recv_timeout(RECEIVE_TIMEOUT).map_err(|_| {
            Failure::Failed(format!(
                "expected {instances} events within {} s, found {found}",
                RECEIVE_TIMEOUT.as_secs()
            ))
        })?;
        events.push((who, what.map_err(|error| Failure::Failed(format!("{who}: expected an event: {error}")))?, at));
    }
    Ok(events)
}
