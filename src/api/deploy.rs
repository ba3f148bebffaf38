//! The deployment hook: `POST /api/v1/apis/{apiUuid}/deploy-revision` publishes a deployment to each gateway in its
//! body.

use super::{
    answer::Unanswered,
    body,
    call::{Answers, Call, Continuation, Handled, Pending, Step, View},
    params::Params,
    publish::{NO_SUCH_GATEWAY, not_kept_text},
    query::Query,
    spread::{Asked, Spread},
    wait::Wait,
};
use crate::{
    limits,
    model::{
        ApiDeployed, Awaiting, CorrelationId, Event, EventType, GatewayId, Kept, Position, PublishOutcome, ShardId,
    },
    shard::{Command, Published, Reply},
    wire::http::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const ENVIRONMENT_DEFAULT: &str = "production";

/// One gateway to deploy to, as the platform sends it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    gateway_id: String,
    vhost: String,
    environment: Option<String>,
}

/// The result for one gateway.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    gateway_id: GatewayId,
    status: Status,
    live_gateway_count: u32,
    deployed_gateway_count: u32,
    failed_gateway_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_gateway_count: Option<u32>,
    correlation_id: CorrelationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
    #[serde(flatten)]
    awaiting: Option<Awaiting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The result over all connections of one gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// Delivered to every connection, or processed if the caller has waited for that.
    Success,
    /// Delivered to some connections, failed for others.
    Partial,
    /// Failed, and delivered to no connection.
    Failed,
    /// Nothing failed, but some deliveries were undecided at the timeout.
    Pending,
    /// The gateway has no connection, and gets the deployment when it comes back.
    Waiting,
}

/// Deploys a revision to all gateways in the body. If one item is invalid, nothing is published.
pub(super) fn handle(call: &Call<'_>, view: &View<'_>, params: Params<'_>) -> Handled {
    let refuse = |what: String| Response::error(400, &what);
    let api = uuid::Uuid::try_parse(params.first).map_err(|_| refuse("the API's id is not a UUID".to_owned()))?;
    let revision_id = Query(call.query)
        .value("revisionId")?
        .ok_or_else(|| refuse("query parameter `revisionId` is missing".to_owned()))?;
    body::check_text("revisionId", &revision_id, limits::NAME_BYTES_MAX).map_err(refuse)?;

    let wait = Wait::of(Query(call.query))?;
    let mut spread = Spread::over(view.placement);
    let mut sent = Vec::new();
    for (gateway, vhost, environment) in read_targets(call.body)? {
        let payload = ApiDeployed {
            api_uuid: api.to_string(),
            revision_id: revision_id.clone(),
            vhost,
            environment,
            api_id: Some(api.to_string()),
            deployment_id: Some(revision_id.clone()),
            // The shard that owns the gateway adds it, since it must be later than the gateway's previous deployment.
            performed_at: None,
        };
        // An unknown gateway is an item of the answer and not an error: the others still get the deployment.
        let event = deployed_event(gateway, &payload, view);
        let owner = view.directory.knows(gateway).then(|| view.placement.of_gateway(gateway));
        sent.push(Sent { gateway, correlation: event.correlation, owner });
        if let Some(owner) = owner {
            spread.push(owner, event);
        }
    }
    let (asks, asked) = spread.into_asks(|events| wait.command(Command::Deploy(events)));
    let waiting = Waiting { sent, asked, wait };
    if asks.is_empty() {
        Box::new(waiting).handle_answers(Answers::new(), view)
    } else {
        Ok(Step::Ask(asks, Pending::new(waiting)))
    }
}

fn read_targets(body: &[u8]) -> Result<Vec<(GatewayId, String, String)>, Response> {
    let refuse = |what: &str| Response::error(400, what);
    // As raw texts first, so that an error in one of them names its index.
    let items: Vec<&RawValue> = body::parse_array(body::text(body)?).map_err(|what| refuse(&what))?;
    if items.is_empty() || items.len() > limits::DEPLOY_TARGETS_MAX {
        return Err(refuse(&format!("the body must be an array of 1 to {} gateways", limits::DEPLOY_TARGETS_MAX)));
    }
    let targets = items.iter().enumerate().map(|(index, item)| {
        read_target(item.get()).map_err(|what| refuse(&format!("item {index} of the array: {what}")))
    });
    targets.collect()
}

fn read_target(text: &str) -> Result<(GatewayId, String, String), String> {
    let Target { gateway_id, vhost, environment } = body::parse_object(text)?;
    let gateway = GatewayId::parse(&gateway_id).ok_or("`gatewayId` is not a UUID")?;
    body::check_text("vhost", &vhost, limits::VHOST_BYTES_MAX)?;
    let environment = environment.unwrap_or_else(|| ENVIRONMENT_DEFAULT.to_owned());
    body::check_text("environment", &environment, limits::NAME_BYTES_MAX)?;
    Ok((gateway, vhost, environment))
}

fn deployed_event(gateway: GatewayId, payload: &ApiDeployed, view: &View<'_>) -> Event {
    Event {
        gateway,
        kind: EventType::parse(EventType::API_DEPLOYED).expect("our own event type follows the rule"),
        payload: serde_json::to_vec(payload).expect("a structure of strings serializes").into(),
        correlation: CorrelationId::from_random((view.random)()),
        correlation_given: false,
        user_id: None,
    }
}

/// One published deployment. `owner` is the shard it was sent to; `None` if the gateway does not exist.
#[derive(Debug)]
struct Sent {
    gateway: GatewayId,
    correlation: CorrelationId,
    owner: Option<ShardId>,
}

/// A call that waits for the owners of the gateways.
#[derive(Debug)]
struct Waiting {
    sent: Vec<Sent>,
    asked: Asked,
    wait: Wait,
}

impl Continuation for Waiting {
    fn waits(&self) -> bool {
        self.wait.is_asked()
    }

    fn handle_answers(self: Box<Self>, answers: Answers, _: &View<'_>) -> Handled {
        let mut outcomes = self.asked.gather(answers, |reply| match reply {
            Reply::PublishedMany(outcomes) => Some(outcomes),
            _ => None,
        });
        let items = self.sent.into_iter().map(|Sent { gateway, correlation, owner }| {
            match owner.map_or(Ok(Published::NoSuchGateway), |owner| outcomes.next_of(owner)) {
                Ok(Published::Outcome(outcome)) => Item::of(gateway, outcome),
                Ok(Published::NoSuchGateway) => {
                    Item::without_outcome(gateway, correlation, Status::Failed, NO_SUCH_GATEWAY.to_owned())
                }
                Ok(Published::NotKept(not)) => {
                    let status = if not.kept == Kept::No { Status::Failed } else { Status::Pending };
                    Item::without_outcome(gateway, correlation, status, not_kept_text(not))
                }
                // The shard may still deliver it, so it is not a failure.
                Err(why @ Unanswered::TimedOut) => {
                    Item::without_outcome(gateway, correlation, Status::Pending, why.description().to_owned())
                }
                Err(why) => Item::without_outcome(gateway, correlation, Status::Failed, why.description().to_owned()),
            }
        });
        Ok(Step::Respond(Response::json(200, &items.collect::<Vec<_>>())))
    }
}

impl Item {
    fn of(gateway_id: GatewayId, outcome: PublishOutcome) -> Self {
        // A failure is final and a pending delivery is not, so the failures decide first.
        let status = match (outcome.delivered, outcome.failed, outcome.pending) {
            _ if outcome.awaiting.as_ref().is_some_and(|awaiting| awaiting.processed) => Status::Success,
            _ if outcome.waiting => Status::Waiting,
            (_, 0, 0) => Status::Success,
            (_, 0, _) => Status::Pending,
            (0, _, _) => Status::Failed,
            (_, _, _) => Status::Partial,
        };
        Self {
            gateway_id,
            status,
            live_gateway_count: outcome.connections,
            deployed_gateway_count: outcome.delivered,
            failed_gateway_count: outcome.failed,
            pending_gateway_count: (outcome.pending > 0).then_some(outcome.pending),
            correlation_id: outcome.correlation_id,
            position: Some(outcome.position),
            awaiting: outcome.awaiting,
            error: None,
        }
    }

    fn without_outcome(gateway_id: GatewayId, correlation_id: CorrelationId, status: Status, error: String) -> Self {
        Self {
            gateway_id,
            status,
            live_gateway_count: 0,
            deployed_gateway_count: 0,
            failed_gateway_count: u32::from(status == Status::Failed),
            pending_gateway_count: None,
            correlation_id,
            position: None,
            awaiting: None,
            error: Some(error),
        }
    }
}
