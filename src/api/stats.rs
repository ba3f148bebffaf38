//! `GET /api/internal/v1/stats` (contract section 3): asks the shards for their totals, and then for the rows of the
//! page, some at a time.

use super::{
    answer::Unanswered,
    call::{Answers, Ask, Asks, Call, Continuation, Handled, Pending, Step, View},
    json,
    params::Params,
    query::{Page, Query},
};
use crate::{
    limits,
    model::{GatewayId, ShardId},
    shard::{
        Command, Placement, Reply,
        command::{DeliveryStats, Rows, Totals},
    },
    wire::http::Response,
};
use serde::Serialize;

/// One of `shards` in the answer.
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
    /// Waits for the next rows of the page.
    Rows(Reading),
}

/// A page that is being made. Its rows are written as they come.
#[derive(Debug)]
struct Reading {
    gateway: Option<GatewayId>,
    totals: Vec<Totals>,
    total_active: usize,
    /// One for each shard that the page meets. The whole list is the rows of the first shard, then those of the next.
    parts: Vec<Part>,
}

/// The rows of one shard that are on the page.
#[derive(Debug)]
struct Part {
    shard: ShardId,
    /// Where the rows that are not read yet begin.
    from: usize,
    /// How many of them are passed over.
    skip: usize,
    /// Number of rows that are not read yet.
    left: usize,
    /// Number of rows that it is asked for.
    asked: usize,
    /// The rows that were read, as JSON, each with a comma behind it.
    rows: Vec<u8>,
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
                Ok(Reading::new(page, gateway, &sources, totals).next_step(view))
            }
            Stage::Rows(mut reading) => {
                reading.take(answers)?;
                Ok(reading.next_step(view))
            }
        }
    }
}

impl Reading {
    fn new(page: Page, gateway: Option<GatewayId>, sources: &[Totals], totals: Vec<Totals>) -> Self {
        let Page { limit, mut offset } = page;
        let mut remaining = limit;
        let parts = sources.iter().map(|source| {
            let skip = offset.min(source.connections);
            let left = remaining.min(source.connections - skip);
            offset -= skip;
            remaining -= left;
            Part { shard: source.shard, from: 0, skip, left, asked: 0, rows: Vec::new() }
        });
        let parts = parts.filter(|part| part.left > 0).collect();
        let total_active = sources.iter().map(|source| source.connections).sum();
        Self { gateway, totals, total_active, parts }
    }

    /// Asks for the next rows, or responds with the page. A thousand rows at once would hold up the core for milliseconds.
    fn next_step(mut self, view: &View<'_>) -> Step {
        let shards = self.parts.iter().filter(|part| part.left > 0).count();
        let most = (limits::STATS_SLICE_ROWS / shards.max(1)).max(1);
        let gateway = self.gateway;
        let ask = |part: &mut Part| {
            part.asked = most.min(part.left);
            let Part { shard, from, skip, asked: take, .. } = *part;
            Ask::Shard(shard, Command::Connections { gateway, from, skip, take })
        };
        let asks: Asks = self.parts.iter_mut().filter(|part| part.left > 0).map(ask).collect();
        if asks.is_empty() {
            return Step::Respond(self.respond(view.connections_max));
        }
        Step::Ask(asks, Pending::new(Waiting(Stage::Rows(self))))
    }

    /// Adds the rows that were asked for.
    fn take(&mut self, answers: Answers) -> Result<(), Unanswered> {
        for (part, answer) in self.parts.iter_mut().filter(|part| part.left > 0).zip(answers) {
            let Reply::Connections(Rows { rows, next }) = answer.shard()? else { return Err(Unanswered::Mismatched) };
            // Connections may have come and gone since the totals.
            for row in rows.iter().take(part.asked) {
                json::append(row, &mut part.rows);
                part.rows.push(b',');
            }
            let left = if rows.len() < part.asked { 0 } else { part.left - part.asked };
            (part.from, part.skip, part.left) = (next, 0, left);
        }
        Ok(())
    }

    fn respond(self, max: usize) -> Response {
        let mut event_delivery = DeliveryStats::default();
        for total in &self.totals {
            event_delivery.add(&total.deliveries);
        }
        let shards = self.totals.iter().map(|total| ShardRow {
            shard: total.shard,
            connections: total.connections,
            gateways: total.gateways,
            events_sent: total.deliveries.total_events_sent,
        });
        let active = self.total_active;
        let mut body =
            format!(r#"{{"gatewayConnections":{{"totalActive":{active},"maxConnections":{max},"connections":["#)
                .into_bytes();
        self.parts.iter().for_each(|part| body.extend_from_slice(&part.rows));
        body.pop_if(|last| *last == b',');
        body.extend_from_slice(b"]},\"eventDelivery\":");
        json::append(&event_delivery, &mut body);
        body.extend_from_slice(b",\"shards\":");
        json::append(&shards.collect::<Vec<_>>(), &mut body);
        body.push(b'}');
        Response::json_text(body)
    }
}
