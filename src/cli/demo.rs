//! `gatecast demo`: starts a hub, connects gateways and deploys an API on this machine, and checks the result of each
//! step.

mod comeback;
mod demo_dir;
mod deployment;
mod instance;
mod step_printer;

use super::{
    Failure,
    client::Client,
    endpoint::{Endpoint, HubArgs},
    log, serve, signals,
};
use crate::{Config, Hub};
use clap::Args;
use demo_dir::DemoDir;
use instance::{Arrival, Instance, InstanceName, Received};
use serde_json::{Value, json};
use std::{
    fs,
    sync::mpsc::{self, Receiver},
    time::Duration,
};
use step_printer::{StepPrinter, expect};

/// The gateways of the demo, and the number of instances of each that connect.
const GATEWAYS: [(&str, u32); 3] = [("edge-eu", 2), ("edge-us", 1), (OFFLINE_GATEWAY, 0)];
/// The gateway that is registered but does not connect.
const OFFLINE_GATEWAY: &str = "edge-lab";

/// Show a hub at work.
#[derive(Args)]
pub struct Demo {
    /// Exit after the steps instead of keeping the hub running
    #[arg(long)]
    once: bool,
}

/// A registered gateway.
struct Gateway {
    name: &'static str,
    instances: u32,
    id: String,
    token: String,
}

/// The state that the steps share.
struct DemoRun {
    printer: StepPrinter,
    client: Client,
    endpoint: Endpoint,
    gateways: Vec<Gateway>,
    instances: Vec<Instance>,
}

impl Demo {
    /// Runs the steps. Fails at the first one with an unexpected result.
    pub fn run(self) -> Result<(), Failure> {
        let demo_dir = DemoDir::new()?;
        let (config, port_free) = demo_dir.config();
        let mut printer = StepPrinter::new();
        printer.title("Gatecast: one hub, three gateways, one deployment")?;
        printer.step("Start a hub on this machine")?;
        let hub = serve::start(&config)?;
        signals::prepare()
            .and_then(|signals| signals::watch(signals, hub.handle()))
            .map_err(|error| Failure::Failed(format!("cannot handle signals: {error}")))?;

        let (arrivals_out, arrivals) = mpsc::channel();
        let result = print_started(&printer, &config, &hub, port_free)
            .and_then(|()| DemoRun::new(printer, &config, &hub))
            .and_then(|mut run| run.run_steps(arrivals_out, &arrivals).map(|()| run));
        // The hub logs nothing during the steps, so that the output is theirs alone. It does once the reader uses the
        // hub.
        let (done, _log) = match result {
            Ok(run) if !self.once => {
                let log = log::start(&config).map_err(Failure::Failed)?;
                (run.serve_on(&demo_dir, &arrivals), Some(log))
            }
            Ok(run) => (run.printer.title("Every step went as expected."), None),
            Err(failure) => (Err(failure), None),
        };
        // Without --once, `serve_on` returns after a signal has started the drain. In the other cases it starts here.
        if self.once || done.is_err() {
            hub.drain();
        }
        let ended = hub.join().map_err(|error| Failure::Failed(error.to_string()));
        done.and(ended)
    }
}

fn print_started(printer: &StepPrinter, config: &Config, hub: &Hub, port_free: bool) -> Result<(), Failure> {
    printer.success(&format!("{} accepts gateways and the platform's calls", config.url(hub.addr())))?;
    if !port_free {
        let port = Config::default().listen.port();
        printer
            .note(&format!("Port {port}, the default, is in use by another program, so the hub uses a free one."))?;
    }
    let data = config.data.display();
    printer.note(&format!("Its certificate, admin token and store are in {data}, which is deleted when the demo ends."))
}

impl DemoRun {
    fn new(printer: StepPrinter, config: &Config, hub: &Hub) -> Result<Self, Failure> {
        let endpoint = HubArgs { data: Some(config.data.clone()), ..HubArgs::default() }.endpoint(&|_| None)?;
        let client = Client::new(&endpoint.base, endpoint.trusted.as_deref(), hub.admin_token());
        Ok(Self { printer, client, endpoint, gateways: Vec::new(), instances: Vec::new() })
    }

    /// Runs the steps in order. Each checks its own result.
    fn run_steps(&mut self, arrivals_out: mpsc::Sender<Arrival>, arrivals: &Receiver<Arrival>) -> Result<(), Failure> {
        self.register()?;
        self.connect(&arrivals_out)?;
        // The instances have copies of the sender. With this one dropped, the channel closes when the last instance
        // ends.
        drop(arrivals_out);
        let deploy_answer = self.deploy()?;
        self.check_received(arrivals, &deploy_answer)?;
        self.publish_to_offline_gateway()?;
        self.statistics()?;
        self.miss_and_resume()
    }

    fn register(&mut self) -> Result<(), Failure> {
        self.printer.step("Register three gateways over HTTP, each with a token to connect with")?;
        for (name, instances) in GATEWAYS {
            let body = json!({ "name": name, "organizationId": "demo" }).to_string();
            let id = text(&self.client.post("/api/v1/gateways", &body)?.json(), "id")?;
            let token = text(&self.client.post(&format!("/api/v1/gateways/{id}/tokens"), "{}")?.json(), "token")?;
            self.printer.success(&format!("{name:<10}  {id}"))?;
            self.gateways.push(Gateway { name, instances, id, token });
        }
        self.printer.note("A token is shown once; the store keeps only its SHA-256.")
    }

    fn connect(&mut self, arrivals_out: &mpsc::Sender<Arrival>) -> Result<(), Failure> {
        self.printer.step("Connect two instances of edge-eu and one of edge-us over wss")?;
        for gateway in &self.gateways {
            for number in 1..=gateway.instances {
                let name = InstanceName(gateway.name, number);
                let instance =
                    Instance::connect(&self.endpoint, name, &gateway.id, &gateway.token, arrivals_out.clone())?;
                let Instance { connection, took, .. } = &instance;
                self.printer
                    .success(&format!("{name:<10}  ack after {:>7}, connection {connection}", millis(*took)))?;
                self.instances.push(instance);
            }
        }
        self.printer.note("The first frame of every connection is its connection.ack.")
    }

    fn publish_to_offline_gateway(&mut self) -> Result<(), Failure> {
        self.printer.step(&format!("Publish an event to {OFFLINE_GATEWAY}, which is not connected"))?;
        let path = format!("/api/v1/gateways/{}/events", self.offline_gateway()?.id);
        let outcome = self.client.post(&path, &hello().to_string())?.json();
        let reason = text(&outcome["failures"][0], "reason")?;
        expect("connections of the answer", count(&outcome, "connections"), 0)?;
        expect("failed deliveries of the answer", count(&outcome, "failed"), 1)?;
        expect("reason of the failure", reason.as_str(), "gateway not connected")?;
        self.printer.success(&format!("200: connections 0, failed 1, \"{reason}\""))?;
        self.printer.note("The publisher learns it at once, and the hub logs an error.")
    }

    fn statistics(&mut self) -> Result<(), Failure> {
        self.printer.step("Read the statistics of all shards")?;
        let stats = self.client.get("/api/internal/v1/stats")?.json();
        let (connections, delivery) = (&stats["gatewayConnections"], &stats["eventDelivery"]);
        let live = self.instances.len() as u64;
        let [sent, failed] = ["totalEventsSent", "failedDeliveries"].map(|member| count(delivery, member));
        expect("active connections", count(connections, "totalActive"), live)?;
        expect("events sent", sent, live)?;
        expect("failed deliveries", failed, 1)?;
        let most = count(connections, "maxConnections");
        self.printer.success(&format!("{live} of {most} connections, {sent} events sent, {failed} delivery failed"))?;
        let rows = connections["connections"].as_array();
        for instance in &self.instances {
            let row = rows.into_iter().flatten().find(|row| row["connectionId"] == instance.connection.as_str());
            let Some(row) = row else {
                return Err(Failure::Failed(format!("{}: expected it among the connections: {stats}", instance.name)));
            };
            expect("events sent to one instance", count(&row["deliveryStats"], "totalEventsSent"), 1)?;
            let (status, address, shard) = (text(row, "status")?, text(row, "remoteAddress")?, count(row, "shard"));
            self.printer.line(&format!("  {:<10}  {status} from {address} on shard {shard}, sent 1", instance.name))?;
        }
        Ok(())
    }

    /// Prints what the instances receive until all of them have ended, which they do when the hub ends.
    fn serve_on(&self, demo_dir: &DemoDir, arrivals: &Receiver<Arrival>) -> Result<(), Failure> {
        self.print_next_commands(demo_dir)?;
        for Arrival { who, what, .. } in arrivals {
            match what.as_deref().map(Received::parse) {
                Ok(Ok(event)) => {
                    self.printer.success(&format!("{who:<10}  {}  {}", event.kind, event.payload.get()))?
                }
                Ok(Err(failure)) => self.printer.line(&failure.to_string())?,
                Err(ended) => self.printer.line(&format!("  {who:<10}  {ended}"))?,
            }
        }
        Ok(())
    }

    /// Prints commands with which the reader can use the running hub.
    fn print_next_commands(&self, demo_dir: &DemoDir) -> Result<(), Failure> {
        let offline = self.offline_gateway()?;
        let write = |name: &str, content: &str| {
            let file = demo_dir.path().join(name);
            fs::write(&file, content)
                .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", file.display())))
        };
        // In a file, so that the command below does not show the token in the process list.
        write(&format!("{OFFLINE_GATEWAY}.token"), &offline.token)?;
        // The reader may have started the program by a path or with cargo, so that `gatecast` alone need not be in
        // PATH.
        let program = std::env::current_exe().map_or_else(|_| "gatecast".to_owned(), |it| it.display().to_string());
        let (dir, base) = (demo_dir.path().display(), &self.endpoint.base);
        let eu = self.gateways.first().map_or("", |gateway| gateway.id.as_str());
        let curl = |rest: &str| {
            format!("curl -s --cacert {dir}/cert.pem -H \"Authorization: Bearer $(cat {dir}/admin-token)\" {rest}")
        };
        let (hello, lab) = (hello(), &offline.id);
        let payload = &hello["payload"];
        self.printer
            .title("Every step went as expected. The hub runs until Ctrl-C. Try these in a second terminal:")?;
        let parts = [
            (
                "Connect as the offline gateway:",
                format!("{program} listen --data {dir} --token @{dir}/{OFFLINE_GATEWAY}.token"),
            ),
            (
                "Publish to it from a third terminal:",
                format!("{program} publish --data {dir} {lab} --type demo.hello --payload '{payload}'"),
            ),
            (
                "Publish to both instances of edge-eu, which print the event below:",
                curl(&format!("-d '{hello}' {base}/api/v1/gateways/{eu}/events")),
            ),
            ("Show what was sent to it:", format!("{program} events --data {dir} {lab}")),
            ("Show the connections:", format!("{program} stats --data {dir}")),
            ("Show all statistics as JSON:", curl(&format!("{base}/api/internal/v1/stats"))),
        ];
        for (what, command) in parts {
            self.printer.note(what)?;
            self.printer.line(&format!("  {command}"))?;
        }
        self.printer.title("Events received from now on:")
    }

    fn offline_gateway(&self) -> Result<&Gateway, Failure> {
        let found = self.gateways.iter().find(|gateway| gateway.name == OFFLINE_GATEWAY);
        found.ok_or_else(|| Failure::Failed(format!("{OFFLINE_GATEWAY} is not registered")))
    }
}

/// The event that the demo publishes and suggests to publish.
fn hello() -> Value {
    json!({ "type": "demo.hello", "payload": { "hello": "gateway" } })
}

fn text(value: &Value, member: &str) -> Result<String, Failure> {
    let found = value[member].as_str().map(str::to_owned);
    found.ok_or_else(|| Failure::Failed(format!("expected a string {member:?} in {value}")))
}

/// Reads a number of an answer. A missing one is `u64::MAX`, which no check expects.
fn count(value: &Value, member: &str) -> u64 {
    value[member].as_u64().unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}
