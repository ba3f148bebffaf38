//! `gatecast demo`: a hub, its gateways and a deployment on this machine, told step by step and checked at each.

mod deployment;
mod instance;
mod narrator;
mod place;

use super::{
    Failure,
    client::Client,
    endpoint::{Endpoint, HubArgs},
    log, serve, signals,
};
use crate::{Config, Hub};
use clap::Args;
use instance::{Heard, Instance, Name, Received};
use narrator::{Narrator, expect};
use place::Place;
use serde_json::{Value, json};
use std::{
    fs,
    sync::mpsc::{self, Receiver},
    time::Duration,
};

/// The gateways of the demo, and how many instances of each connect.
const GATEWAYS: [(&str, u32); 3] = [("edge-eu", 2), ("edge-us", 1), (ABSENT, 0)];
/// The gateway that is registered and does not connect.
const ABSENT: &str = "edge-lab";

/// See it work.
#[derive(Args)]
pub struct Demo {
    /// End after the steps instead of serving on
    #[arg(long)]
    once: bool,
}

/// A gateway that the demo has registered.
struct Gateway {
    name: &'static str,
    instances: u32,
    id: String,
    token: String,
}

/// What the steps share.
struct Story {
    narrator: Narrator,
    client: Client,
    endpoint: Endpoint,
    gateways: Vec<Gateway>,
    instances: Vec<Instance>,
}

impl Demo {
    /// Tells the story; fails at the first step that does not go as it should.
    pub fn run(self) -> Result<(), Failure> {
        let place = Place::new()?;
        let (config, port_free) = place.config();
        let mut narrator = Narrator::new();
        narrator.title("Gatecast: one hub, three gateways, one deployment")?;
        narrator.step("Start a hub on this machine")?;
        let hub = serve::start(&config)?;
        signals::prepare()
            .and_then(|signals| signals::steer(signals, hub.handle()))
            .map_err(|error| Failure::Failed(format!("signals cannot be taken: {error}")))?;

        let (heard, hears) = mpsc::channel();
        let told = started(&narrator, &config, &hub, port_free)
            .and_then(|()| Story::new(narrator, &config, &hub))
            .and_then(|mut story| story.tell(heard, &hears).map(|()| story));
        let (done, _log) = match told {
            Ok(story) if !self.once => {
                let log = log::start(&config).map_err(Failure::Failed)?;
                (story.serve_on(&place, &hears), Some(log))
            }
            Ok(story) => (story.narrator.title("All of it was as expected."), None),
            Err(failure) => (Err(failure), None),
        };
        if self.once || done.is_err() {
            hub.drain();
        }
        let ended = hub.join().map_err(|error| Failure::Failed(error.to_string()));
        done.and(ended)
    }
}

fn started(narrator: &Narrator, config: &Config, hub: &Hub, port_free: bool) -> Result<(), Failure> {
    narrator.good(&format!("{} takes gateways and the platform's calls", config.url(hub.addr())))?;
    if !port_free {
        let port = Config::default().listen.port();
        narrator.note(&format!("Port {port}, the default, is taken by another program: the hub took a free one."))?;
    }
    let data = config.data.display();
    narrator.note(&format!("Its certificate, its admin token and its store are in {data}; they go with the demo."))
}

impl Story {
    fn new(narrator: Narrator, config: &Config, hub: &Hub) -> Result<Self, Failure> {
        let endpoint = HubArgs { data: Some(config.data.clone()), ..HubArgs::default() }.endpoint(&|_| None)?;
        let client = Client::new(&endpoint.base, endpoint.trusted.as_deref(), hub.admin_token());
        Ok(Self { narrator, client, endpoint, gateways: Vec::new(), instances: Vec::new() })
    }

    /// The steps, each with its expectations.
    fn tell(&mut self, heard: mpsc::Sender<Heard>, hears: &Receiver<Heard>) -> Result<(), Failure> {
        self.register()?;
        self.connect(&heard)?;
        // The instances have copies: when the last of them has ended, there is nothing more to hear.
        drop(heard);
        let announced = self.deploy()?;
        self.check_received(hears, &announced)?;
        self.publish_to_nobody()?;
        self.statistics()
    }

    fn register(&mut self) -> Result<(), Failure> {
        self.narrator.step("Register three gateways over HTTP, each with a token to connect with")?;
        for (name, instances) in GATEWAYS {
            let body = json!({ "name": name, "organizationId": "demo" }).to_string();
            let id = text(&self.client.post("/api/v1/gateways", &body)?.json(), "id")?;
            let token = text(&self.client.post(&format!("/api/v1/gateways/{id}/tokens"), "{}")?.json(), "token")?;
            self.narrator.good(&format!("{name:<10}  {id}"))?;
            self.gateways.push(Gateway { name, instances, id, token });
        }
        self.narrator.note("A token is shown once; the store keeps only its SHA-256.")
    }

    fn connect(&mut self, heard: &mpsc::Sender<Heard>) -> Result<(), Failure> {
        self.narrator.step("Connect two instances of edge-eu and one of edge-us over wss")?;
        for gateway in &self.gateways {
            for number in 1..=gateway.instances {
                let name = Name(gateway.name, number);
                let instance = Instance::connect(&self.endpoint, name, &gateway.id, &gateway.token, heard.clone())?;
                let Instance { connection, took, .. } = &instance;
                self.narrator.good(&format!("{name:<10}  ack after {:>7}, connection {connection}", millis(*took)))?;
                self.instances.push(instance);
            }
        }
        self.narrator.note("The first frame of every connection is its connection.ack.")
    }

    fn publish_to_nobody(&mut self) -> Result<(), Failure> {
        self.narrator.step(&format!("Publish to {ABSENT}, which is not connected"))?;
        let path = format!("/api/v1/gateways/{}/events", self.absent()?.id);
        let outcome = self.client.post(&path, &hello().to_string())?.json();
        let reason = text(&outcome["failures"][0], "reason")?;
        expect("connections of the answer", count(&outcome, "connections"), 0)?;
        expect("failed deliveries of the answer", count(&outcome, "failed"), 1)?;
        expect("reason of the failure", reason.as_str(), "gateway not connected")?;
        self.narrator.good(&format!("200: connections 0, failed 1, \"{reason}\""))?;
        self.narrator.note("The publisher knows at once, and the hub logs it as an error.")
    }

    fn statistics(&mut self) -> Result<(), Failure> {
        self.narrator.step("Ask for the statistics, which cover all shards")?;
        let stats = self.client.get("/api/internal/v1/stats")?.json();
        let (connections, delivery) = (&stats["gatewayConnections"], &stats["eventDelivery"]);
        let live = self.instances.len() as u64;
        let [sent, failed] = ["totalEventsSent", "failedDeliveries"].map(|member| count(delivery, member));
        expect("active connections", count(connections, "totalActive"), live)?;
        expect("events sent", sent, live)?;
        expect("failed deliveries", failed, 1)?;
        let most = count(connections, "maxConnections");
        self.narrator.good(&format!("{live} of {most} connections, {sent} events sent, {failed} delivery failed"))?;
        let rows = connections["connections"].as_array();
        for instance in &self.instances {
            let row = rows.into_iter().flatten().find(|row| row["connectionId"] == instance.connection.as_str());
            let Some(row) = row else {
                return Err(Failure::Failed(format!("{}: expected it among the connections: {stats}", instance.name)));
            };
            expect("events sent to one instance", count(&row["deliveryStats"], "totalEventsSent"), 1)?;
            let (status, address, shard) = (text(row, "status")?, text(row, "remoteAddress")?, count(row, "shard"));
            self.narrator
                .line(&format!("  {:<10}  {status} from {address} on shard {shard}, sent 1", instance.name))?;
        }
        Ok(())
    }

    /// Goes on until the instances have gone, which they do when the hub ends.
    fn serve_on(&self, place: &Place, hears: &Receiver<Heard>) -> Result<(), Failure> {
        self.invite(place)?;
        for Heard { who, what, .. } in hears {
            match what.as_deref().map(Received::parse) {
                Ok(Ok(event)) => self.narrator.good(&format!("{who:<10}  {}  {}", event.kind, event.payload.get()))?,
                Ok(Err(failure)) => self.narrator.line(&failure.to_string())?,
                Err(ended) => self.narrator.line(&format!("  {who:<10}  {ended}"))?,
            }
        }
        Ok(())
    }

    /// What the reader may do next.
    fn invite(&self, place: &Place) -> Result<(), Failure> {
        let absent = self.absent()?;
        let write = |name: &str, content: &str| {
            let file = place.path().join(name);
            fs::write(&file, content)
                .map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", file.display())))
        };
        write(&format!("{ABSENT}.token"), &absent.token)?;
        let program = std::env::current_exe().map_or_else(|_| "gatecast".to_owned(), |it| it.display().to_string());
        let (dir, base) = (place.path().display(), &self.endpoint.base);
        let eu = self.gateways.first().map_or("", |gateway| gateway.id.as_str());
        let curl = |rest: &str| {
            format!("curl -s --cacert {dir}/cert.pem -H \"Authorization: Bearer $(cat {dir}/admin-token)\" {rest}")
        };
        let (hello, lab) = (hello(), &absent.id);
        let payload = &hello["payload"];
        self.narrator.title("All of it was as expected. Now it is yours, until Ctrl-C. In a second terminal:")?;
        let parts = [
            ("be the gateway that is missing,", format!("{program} listen --data {dir} --token @{dir}/{ABSENT}.token")),
            (
                "and publish to it from a third;",
                format!("{program} publish --data {dir} {lab} --type demo.hello --payload '{payload}'"),
            ),
            (
                "publish to both instances of edge-eu, and see them hear it below;",
                curl(&format!("-d '{hello}' {base}/api/v1/gateways/{eu}/events")),
            ),
            ("look at the connections,", format!("{program} stats --data {dir}")),
            ("or at all that is counted.", curl(&format!("{base}/api/internal/v1/stats"))),
        ];
        for (what, command) in parts {
            self.narrator.note(what)?;
            self.narrator.line(&format!("  {command}"))?;
        }
        self.narrator.title("What happens from here on:")
    }

    fn absent(&self) -> Result<&Gateway, Failure> {
        let found = self.gateways.iter().find(|gateway| gateway.name == ABSENT);
        found.ok_or_else(|| Failure::Failed(format!("{ABSENT} is not registered")))
    }
}

/// The event that is published to whoever.
fn hello() -> Value {
    json!({ "type": "demo.hello", "payload": { "hello": "gateway" } })
}

fn text(value: &Value, member: &str) -> Result<String, Failure> {
    let found = value[member].as_str().map(str::to_owned);
    found.ok_or_else(|| Failure::Failed(format!("expected a text {member:?} in {value}")))
}

/// A number of an answer; one that is not there is no number that anybody expects.
fn count(value: &Value, member: &str) -> u64 {
    value[member].as_u64().unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}
