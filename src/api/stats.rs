//! `GET /api/internal/v1/stats` (contract section 3): asks the shards for their totals, and then for the rows of the
//! page.

use super::{
    answer::Unanswered,
    call::{Answers, Ask, Asks, Call, Continuation, Handled, Pending, Step, View},
    params::Params,
    query::{Page, Query},
};
use crate::{
    model::{GatewayId, ShardId},
    shard::{
        Command, Placement, Reply,
        command::{ConnectionRow, DeliveryStats, Totals},
    },
    wire::http::Response,
};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    gateway_connections: GatewayConnections,
    event_delivery: DeliveryStats,
    shards: Vec<ShardRow>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GatewayConnections {
    total_active: usize,
    max_connections: usize,
    connections: Vec<ConnectionRow>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShardRow {
    shard: ShardId,
    connections: usize,
    gateways: usize,
    events_sent: u64,
}

/// Asks every shard for its totals and, if the query names a gateway, that gateway's shard for the gateway's totals. An
/// unknown gateway is not refused, because a deleted gateway's last connections may still be closing.
pub(super) fn handle(call: &Call<'_>, view: &View<'_>, _: Params<'_>) -> Handled {
    let query = Query(call.query);
    let page = query.page()?;
    let gateway = match query.value("gatewayId")? {
        Some(text) => Some(GatewayId::parse(&text).ok_or_else(|| Response::error(400, "`gatewayId` is not a UUID"))?),
        None => None,
    };
    let mut asks = ask_totals(view.placement);
    if let Some(gateway) = gateway {
        asks.push(Ask::Shard(view.placement.of_gateway(gateway), Command::Totals(Some(gateway))));
    }
    Ok(Step::Ask(asks, Pending::new(Waiting(Stage::Totals { page, gateway }))))
}

/// Requests for the totals of every shard.
pub(super) fn ask_totals(placement: &Placement) -> Asks {
    (0..placement.shards()).map(|shard| Ask::Shard(ShardId(shard), Command::Totals(None))).collect()
}

/// Reads the totals in the order of the requests. A missing answer of one shard fails the call, because sums without it
/// would look like lost connections.
pub(super) fn read_totals(answers: Answers) -> Result<Vec<Totals>, Unanswered> {
    let totals = answers.into_iter().map(|answer| match answer.shard()? {
        Reply::Totals(totals) => Ok(totals),
        _ => Err(Unanswered::Mismatched),
    });
    totals.collect()
}

/// Waits for the shards' answers.
#[derive(Debug)]
struct Waiting(Stage);

#[derive(Debug)]
enum Stage {
    /// Waits for the totals of all shards and, last, those of the gateway.
    Totals { page: Page, gateway: Option<GatewayId> },
    /// Waits for the rows of the page.
    Rows { limit: usize, total_active: usize, totals: Vec<Totals> },
}

impl Continuation for Waiting {
    fn handle_answers(self: Box<Self>, answers: Answers, view: &View<'_>) -> Handled {
        match self.0 {
            Stage::Totals { page, gateway } => {
                let mut totals = read_totals(answers)?;
                let sources = match gateway {
                    Some(_) => totals.pop().into_iter().collect(),
                    None => totals.clone(),
                };
                ask_rows(page, gateway, &sources, totals, view)
            }
            Stage::Rows { limit, total_active, totals } => {
                let mut connections = read_rows(answers)?;
                // Connections may have come and gone since the totals, so the rows may be more than the page holds.
                connections.truncate(limit);
                Ok(Step::Respond(assemble(connections, total_active, &totals, view)))
            }
        }
    }
}

/// Asks each shard for its rows on the page. The whole list is the rows of the first shard, then those of the next.
fn ask_rows(
    page: Page,
    gateway: Option<GatewayId>,
    sources: &[Totals],
    totals: Vec<Totals>,
    view: &View<'_>,
) -> Handled {
    let Page { limit, mut offset } = page;
    let mut remaining = limit;
    let mut asks = Asks::new();
    for source in sources {
        let skip = offset.min(source.connections);
        let take = remaining.min(source.connections - skip);
        offset -= skip;
        remaining -= take;
        if take > 0 {
            asks.push(Ask::Shard(source.shard, Command::Connections { gateway, skip, take }));
        }
    }
    let total_active = sources.iter().map(|source| source.connections).sum();
    if asks.is_empty() {
        return Ok(Step::Respond(assemble(Vec::new(), total_active, &totals, view)));
    }
    Ok(Step::Ask(asks, Pending::new(Waiting(Stage::Rows { limit, total_active, totals }))))
}

fn read_rows(answers: Answers) -> Result<Vec<ConnectionRow>, Unanswered> {
    let mut rows = Vec::new();
    for answer in answers {
        match answer.shard()? {
            Reply::Connections(mut more) => rows.append(&mut more),
            _ => return Err(Unanswered::Mismatched),
        }
    }
    Ok(rows)
}

fn assemble(connections: Vec<ConnectionRow>, total_active: usize, totals: &[Totals], view: &View<'_>) -> Response {
    let mut event_delivery = DeliveryStats::default();
    for total in totals {
        event_delivery.add(&total.deliveries);
    }
    let shards = totals.iter().map(|total| ShardRow {
        shard: total.shard,
        connections: total.connections,
        gateways: total.gateways,
        events_sent: total.deliveries.total_events_sent,
    });
    let max_connections = view.connections_max;
    Response::json(
        200,
        &Stats {
            gateway_connections: GatewayConnections { total_active, max_connections, connections },
            event_delivery,
            shards: shards.collect(),
        },
    )
}
