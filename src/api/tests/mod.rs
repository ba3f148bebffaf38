//! Tests of each row of the route table (contract sections 2 and 3): a request, a scripted hub, a response.

mod access;
mod accidents;
mod batch;
mod deploy;
mod events;
mod gateways;
mod manifest;
mod metrics;
mod publish;
mod resend;
mod routing;
mod stats;
mod tokens;

use super::*;
use crate::{
    limits,
    model::{
        Buffers, Change, CorrelationId, GatewayId, Kept, KeyHash, Life, LogStats, Now, Position, PublishOutcome,
        ShardId, Side, StoreOp, StoreOutcome, Timestamp, TokenId,
    },
    shard::{
        Command, Directory, Placement, Published, Reply,
        command::{DeliveryStats, Totals},
    },
    wire::http::Response,
};
use serde_json::Value;

const ADMIN: &str = "admin-token";
const KEY: &str = "gateway-key";

/// A hub with three shards and two gateways. `KEY` is a key of the first gateway.
struct World {
    directory: Directory,
    placement: Placement,
    phase: Phase,
    degraded: bool,
    log: LogStats,
    buffers: Buffers,
    stuck: Option<ShardId>,
    gateway: GatewayId,
    other: GatewayId,
}

impl World {
    fn new() -> Self {
        let (gateway, other) = (GatewayId::random(), GatewayId::random());
        let mut directory = Directory::default();
        directory.apply(created(gateway));
        directory.apply(created(other));
        directory.apply(Change::TokenCreated { gateway, token: TokenId::random(), hash: KeyHash::of(KEY.as_bytes()) });
        Self {
            directory,
            placement: Placement::new(3, 7),
            phase: Phase::Ready,
            degraded: false,
            log: LogStats::default(),
            buffers: Buffers::default(),
            stuck: None,
            gateway,
            other,
        }
    }

    fn in_phase(phase: Phase) -> Self {
        Self { phase, ..Self::new() }
    }

    fn view(&self) -> View<'_> {
        View {
            directory: &self.directory,
            placement: &self.placement,
            now: Now::new(Default::default(), Timestamp(1_700_000_000_000)),
            phase: self.phase,
            connections_max: 1000,
            store_degraded: self.degraded,
            log: &self.log,
            stuck: self.stuck,
            admin_token: crate::model::KeyHash::of(ADMIN.as_bytes()),
            panics: 3,
            stalls: 1,
            lateness_max: std::time::Duration::from_micros(26_500),
            buffers: &self.buffers,
            random: &|| uuid::Uuid::new_v4().as_u128(),
        }
    }

    /// Creates one gateway on each shard.
    fn gateway_of_each_shard(&mut self) -> Vec<GatewayId> {
        let shards = (0..self.placement.shards()).map(ShardId);
        let gateways: Vec<_> = shards
            .map(|shard| {
                loop {
                    let gateway = GatewayId::random();
                    if self.placement.of_gateway(gateway) == shard {
                        break gateway;
                    }
                }
            })
            .collect();
        gateways.iter().for_each(|gateway| self.directory.apply(created(*gateway)));
        gateways
    }

    /// The maximum size of the request's body, or the response to its head.
    fn preflight(&self, request: &Request) -> Result<usize, Response> {
        match route_request(&request.call(), Side::Both, &self.view())? {
            Routed::Call(matched) => Ok(matched.body_bytes_max()),
            Routed::WebSocket => panic!("{request:?} is a WebSocket"),
        }
    }

    /// The first step of a call.
    fn begin(&self, request: &Request) -> Step {
        match route_request(&request.call(), Side::Both, &self.view()) {
            Ok(Routed::Call(matched)) => handle(&matched, &request.call(), &self.view()),
            Ok(Routed::WebSocket) => panic!("{request:?} is a WebSocket"),
            Err(refusal) => Step::Respond(refusal),
        }
    }

    /// Runs a call to its end; `hub` answers its asks.
    fn run(&self, request: &Request, mut hub: impl FnMut(Ask) -> Answer) -> Response {
        let mut step = self.begin(request);
        let mut answers = Answers::new();
        for _ in 0..1_000 {
            match step {
                Step::Respond(response) => return response,
                Step::Ask(asks, pending) => {
                    answers.extend(asks.into_iter().map(&mut hub));
                    assert!(!answers.is_empty(), "a call without asks would wait forever");
                    step = pending.handle_answers(std::mem::take(&mut answers), &self.view());
                }
                Step::Slice(asks, pending) => {
                    answers.extend(asks.into_iter().map(&mut hub));
                    step = pending.handle_more(&request.call(), &self.view());
                }
            }
        }
        panic!("the call did not end within 1,000 steps: {request:?}");
    }

    /// The response to a call that must not have asks.
    fn respond(&self, request: &Request) -> Response {
        self.run(request, |ask| panic!("{request:?} asked {ask:?}"))
    }

    /// The first asks of a call.
    fn asks(&self, request: &Request) -> Asks {
        match self.begin(request) {
            Step::Ask(asks, _) | Step::Slice(asks, _) => asks,
            Step::Respond(response) => panic!("{request:?} was answered with {response:?}"),
        }
    }

    /// The one event that a call publishes.
    fn event(&self, request: &Request) -> crate::model::Event {
        match self.asks(request).pop() {
            Some(Ask::Shard(owner, Command::Publish(event))) => {
                assert_eq!(owner, self.placement.of_gateway(event.gateway));
                std::sync::Arc::unwrap_or_clone(event)
            }
            other => panic!("{other:?} is not a publish"),
        }
    }
}

/// A request as the session parsed it.
#[derive(Clone, Debug)]
struct Request {
    method: &'static str,
    path: String,
    query: Option<String>,
    authorization: Option<String>,
    api_key: Option<String>,
    body: Vec<u8>,
}

impl Request {
    /// A request with the admin token.
    fn new(method: &'static str, target: impl Into<String>) -> Self {
        let target = target.into();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (target, None),
        };
        let authorization = Some(format!("Bearer {ADMIN}"));
        Self { method, path, query, authorization, api_key: None, body: Vec::new() }
    }

    fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    fn authorization(self, value: Option<&str>) -> Self {
        Self { authorization: value.map(str::to_owned), ..self }
    }

    fn api_key(self, value: &str) -> Self {
        Self { api_key: Some(value.to_owned()), ..self.authorization(None) }
    }

    fn call(&self) -> Call<'_> {
        Call {
            method: self.method,
            path: &self.path,
            query: self.query.as_deref(),
            authorization: self.authorization.as_deref().map(str::as_bytes),
            api_key: self.api_key.as_deref().map(str::as_bytes),
            idempotency_key: false,
            body: &self.body,
        }
    }
}

/// Checks the status, and the members of an error.
#[track_caller]
fn check(response: &Response, status: u16) {
    assert_eq!(response.status, status, "{}", String::from_utf8_lossy(&response.body));
    if status >= 400 {
        let body = json(response);
        assert_eq!(body["code"], status);
        assert!(body["message"].is_string());
        assert!(body["description"].is_string());
        // An error of a change also says whether the change was made.
        let members = 3 + usize::from(status == 503 && body.get("kept").is_some());
        assert_eq!(body.as_object().unwrap().len(), members, "{body}");
    }
    let retry = field(response, "Retry-After");
    assert_eq!(status == 503, retry.is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{response:?}");
}

#[track_caller]
fn json(response: &Response) -> Value {
    assert_eq!(response.content_type, Some("application/json"));
    serde_json::from_slice(&response.body).unwrap()
}

fn field<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.fields.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
}

fn created(gateway: GatewayId) -> Change {
    Change::GatewayCreated { life: Life { gateway, incarnation: 1 }, delivery: None }
}

fn description(response: &Response) -> String {
    json(response)["description"].as_str().unwrap().to_owned()
}

/// A shard's outcome of one event.
fn outcome(correlation_id: CorrelationId, connections: u32, delivered: u32, failed: u32) -> PublishOutcome {
    let pending = connections.saturating_sub(delivered + failed);
    let position = Position { epoch: 1, offset: 2 };
    PublishOutcome {
        correlation_id,
        position,
        connections,
        delivered,
        failed,
        pending,
        waiting: false,
        failures: Vec::new(),
        awaiting: None,
    }
}

/// The command that a shard is to run and then wait for, if this ask waits 30 s.
fn waited_30s(ask: Ask) -> Command {
    match ask {
        Ask::Shard(_, Command::AndWait(publish, wait)) if wait.as_secs() == 30 => *publish,
        other => panic!("{other:?} does not wait for 30 s"),
    }
}

/// Answers every publish as delivered to two connections.
fn deliver(ask: Ask) -> Answer {
    let outcome = |event: &crate::model::Event| outcome(event.correlation, 2, 2, 0);
    Answer::Shard(match ask {
        Ask::Shard(_, Command::Publish(event)) => Reply::Published(Published::Outcome(outcome(&event))),
        Ask::Shard(_, Command::PublishMany(events) | Command::Deploy(events)) => {
            Reply::PublishedMany(events.iter().map(outcome).map(Published::Outcome).collect())
        }
        other => panic!("{other:?} is not a publish"),
    })
}

/// The totals of one shard.
fn totals(shard: ShardId, connections: usize, sent: u64, failed: u64) -> Totals {
    let deliveries = DeliveryStats { total_events_sent: sent, failed_deliveries: failed, ..DeliveryStats::default() };
    Totals {
        shard,
        connections,
        gateways: connections.min(1),
        deliveries,
        behind: 1,
        behind_bytes_max: 2,
        unprocessed_max: 6,
        recent_bytes: 4,
        ids_repeated: 3,
        inbound: Default::default(),
        counters: Default::default(),
    }
}

/// A valid request for every call of the route table.
fn every_call(world: &World) -> Vec<Request> {
    let gateway = world.gateway;
    let at = |rest: &str| format!("/api/v1/gateways/{gateway}{rest}");
    vec![
        Request::new("GET", "/health"),
        Request::new("GET", "/ready"),
        Request::new("GET", "/metrics"),
        Request::new("GET", "/api/internal/v1/stats"),
        Request::new("POST", format!("/api/internal/v1/gateways/{gateway}/manifest")).body("{}").api_key(KEY),
        Request::new("GET", "/api/v1/gateways"),
        Request::new("POST", "/api/v1/gateways").body(r#"{"name":"edge"}"#),
        Request::new("GET", at("")),
        Request::new("DELETE", at("")),
        Request::new("GET", at("/tokens")),
        Request::new("POST", at("/tokens")),
        Request::new("DELETE", at(&format!("/tokens/{}", TokenId::random()))),
        Request::new("GET", at("/events")),
        Request::new("POST", at("/events")).body(r#"{"type":"api.deployed","payload":{}}"#),
        Request::new("POST", at("/events/0000000000000001-2/resend")),
        Request::new("POST", "/api/v1/events")
            .body(format!(r#"{{"gatewayId":"{gateway}","type":"api.deployed","payload":{{}}}}"#)),
        Request::new("POST", format!("/api/v1/apis/{gateway}/deploy-revision?revisionId=1"))
            .body(format!(r#"[{{"gatewayId":"{gateway}","vhost":"a.example"}}]"#)),
    ]
}
