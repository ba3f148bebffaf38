//! Creates, lists, shows, changes and deletes gateways.

use super::{
    answer::{Unanswered, only},
    body,
    call::{Answer, Answers, Ask, Call, Continuation, Handled, Pending, Step, View},
    params::Params,
    query::{Page, Query},
    spread::{Asked, Spread},
};
use crate::{
    limits,
    model::{DeliveryMode, GatewayId, GatewayRecord, StoreOp, StoreOutcome},
    shard::{Command, Reply},
    wire::http::Response,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use smallvec::smallvec;

/// The body of a call that creates a gateway.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Draft<'a> {
    name: String,
    display_name: Option<String>,
    organization_id: Option<String>,
    id: Option<String>,
    #[serde(borrow)]
    delivery: Option<&'a RawValue>,
}

/// The body of a call that changes a gateway. An absent member is `None`, and `null` is a value.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edit<'a> {
    #[serde(default, deserialize_with = "given")]
    display_name: Option<Option<String>>,
    #[serde(default, borrow, deserialize_with = "given")]
    delivery: Option<&'a RawValue>,
}

/// A page of gateways (contract section 2).
#[derive(Serialize)]
struct Listing {
    count: usize,
    list: Vec<Row>,
    pagination: Pagination,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    record: GatewayRecord,
    connections: u32,
}

#[derive(Serialize)]
struct Pagination {
    total: usize,
    offset: usize,
    limit: usize,
}

/// The answer about one gateway. The manifest is as it was received, or `null`.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    record: &'a GatewayRecord,
    connections: u32,
    manifest: Option<&'a RawValue>,
}

/// `POST /api/v1/gateways`.
pub(super) fn handle_create(call: &Call<'_>, view: &View<'_>, _: Params<'_>) -> Handled {
    let draft: Draft<'_> = body::object(call.body)?;
    let record = draft.into_record(view).map_err(|what| Response::error(400, &what))?;
    Ok(Step::Ask(smallvec![Ask::Store(StoreOp::CreateGateway(record))], Pending::new(Waiting(Stage::Create))))
}

/// `GET /api/v1/gateways`.
pub(super) fn handle_list(call: &Call<'_>, _: &View<'_>, _: Params<'_>) -> Handled {
    let page = Query(call.query).page()?;
    let op = StoreOp::Gateways { limit: page.limit, offset: page.offset };
    Ok(Step::Ask(smallvec![Ask::Store(op)], Pending::new(Waiting(Stage::Page(page)))))
}

/// `GET /api/v1/gateways/{gatewayId}`. Asks the store and the owner at the same time.
pub(super) fn handle_one(_: &Call<'_>, view: &View<'_>, params: Params<'_>) -> Handled {
    let gateway = params.gateway()?;
    let owner = view.placement.of_gateway(gateway);
    let asks = smallvec![Ask::Store(StoreOp::Gateway(gateway)), Ask::Shard(owner, Command::Live(vec![gateway]))];
    Ok(Step::Ask(asks, Pending::new(Waiting(Stage::One))))
}

/// `PATCH /api/v1/gateways/{gatewayId}`.
pub(super) fn handle_change(call: &Call<'_>, _: &View<'_>, params: Params<'_>) -> Handled {
    let gateway = params.gateway()?;
    let edit: Edit<'_> = body::object(call.body)?;
    let op = edit.into_op(gateway).map_err(|what| Response::error(400, &what))?;
    Ok(Step::Ask(smallvec![Ask::Store(op)], Pending::new(Waiting(Stage::Change))))
}

/// `DELETE /api/v1/gateways/{gatewayId}`.
pub(super) fn handle_delete(_: &Call<'_>, _: &View<'_>, params: Params<'_>) -> Handled {
    let op = StoreOp::DeleteGateway(params.gateway()?);
    Ok(Step::Ask(smallvec![Ask::Store(op)], Pending::new(Waiting(Stage::Delete))))
}

/// Reads a member that is there, also if it is `null`. serde would otherwise take `null` for an absent member.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Parses the value of `delivery`; `null` is the hub's default.
fn parse_delivery(value: &RawValue) -> Result<Option<DeliveryMode>, String> {
    let word: Result<Option<String>, _> = serde_json::from_str(value.get());
    let mode = word.ok().and_then(|word| word.map_or(Some(None), |word| DeliveryMode::parse(&word).map(Some)));
    mode.ok_or_else(|| {
        let words = DeliveryMode::WORDS.join("\" or \"");
        format!("invalid `delivery`: expected \"{words}\", or null for the hub's default")
    })
}

impl Edit<'_> {
    fn into_op(self, gateway: GatewayId) -> Result<StoreOp, String> {
        if self.display_name.is_none() && self.delivery.is_none() {
            return Err("nothing to change: expected `delivery`, `displayName` or both".to_owned());
        }
        if let Some(Some(text)) = &self.display_name {
            body::check_text("displayName", text, limits::NAME_BYTES_MAX)?;
        }
        let delivery = self.delivery.map(parse_delivery).transpose()?;
        Ok(StoreOp::ChangeGateway { gateway, display_name: self.display_name, delivery })
    }
}

impl Draft<'_> {
    fn into_record(self, view: &View<'_>) -> Result<GatewayRecord, String> {
        body::check_text("name", &self.name, limits::NAME_BYTES_MAX)?;
        for (name, text) in [("displayName", &self.display_name), ("organizationId", &self.organization_id)] {
            if let Some(text) = text {
                body::check_text(name, text, limits::NAME_BYTES_MAX)?;
            }
        }
        let id = match &self.id {
            // A platform that already knows its gateways by an id keeps it. It also makes repeating the call safe.
            Some(text) => GatewayId::parse(text).ok_or("`id` is not a UUID")?,
            None => GatewayId::from_random((view.random)()),
        };
        Ok(GatewayRecord {
            id,
            name: self.name,
            display_name: self.display_name,
            organization_id: self.organization_id,
            delivery: self.delivery.map_or(Ok(None), parse_delivery)?,
            created_at: view.now.wall,
        })
    }
}

/// A call that waits for answers.
#[derive(Debug)]
struct Waiting(Stage);

#[derive(Debug)]
enum Stage {
    /// Waits for the store to create a gateway.
    Create,
    /// Waits for the store to change a gateway.
    Change,
    /// Waits for the store to delete a gateway.
    Delete,
    /// Waits for the record from the store and the number of connections from the owner.
    One,
    /// Waits for a page of records from the store.
    Page(Page),
    /// Waits for the numbers of connections of the gateways on the page.
    Counts { page: Page, total: usize, records: Vec<GatewayRecord>, asked: Asked },
}

impl Continuation for Waiting {
    fn handle_answers(self: Box<Self>, answers: Answers, view: &View<'_>) -> Handled {
        match self.0 {
            Stage::Create => match only(answers)?.change()? {
                StoreOutcome::Gateway(record, _) => {
                    let location = format!("/api/v1/gateways/{}", record.id);
                    Ok(Step::Respond(Response::json(201, &record).with("Location", location)))
                }
                _ => Err(Unanswered::Mismatched.into()),
            },
            Stage::Change => match only(answers)?.change()? {
                StoreOutcome::Gateway(record, _) => Ok(Step::Respond(Response::json(200, &record))),
                _ => Err(Unanswered::Mismatched.into()),
            },
            Stage::Delete => match only(answers)?.change()? {
                StoreOutcome::Done => Ok(Step::Respond(Response::empty(204))),
                _ => Err(Unanswered::Mismatched.into()),
            },
            Stage::One => show(answers),
            Stage::Page(page) => match only(answers)?.read()? {
                StoreOutcome::Gateways(records, total) => count(page, records, total, view),
                _ => Err(Unanswered::Mismatched.into()),
            },
            Stage::Counts { page, total, records, asked } => {
                list(page, records, total, asked, answers, view).map(Step::Respond)
            }
        }
    }
}

fn show(answers: Answers) -> Handled {
    let [record, live] = <[Answer; 2]>::try_from(answers.into_vec()).map_err(|_| Unanswered::Mismatched)?;
    let StoreOutcome::Gateway(record, manifest) = record.read()? else { return Err(Unanswered::Mismatched.into()) };
    let connections = match live.shard()? {
        Reply::Live(counts) if counts.len() == 1 => counts[0],
        _ => return Err(Unanswered::Mismatched.into()),
    };
    // It was checked before it was stored. If it cannot be parsed nevertheless, the answer goes out without it.
    let manifest = manifest.as_deref().and_then(|text| serde_json::from_str(text).ok());
    Ok(Step::Respond(Response::json(200, &Shown { record: &record, connections, manifest })))
}

/// Asks the owners of the gateways on a page for their numbers of connections.
fn count(page: Page, records: Vec<GatewayRecord>, total: usize, view: &View<'_>) -> Handled {
    // A second round of asks: which shards to ask is known only once the store has returned the page.
    let mut spread = Spread::over(view.placement);
    for record in &records {
        spread.push(view.placement.of_gateway(record.id), record.id);
    }
    let (asks, asked) = spread.into_asks(Command::Live);
    if asks.is_empty() {
        return list(page, records, total, asked, Answers::new(), view).map(Step::Respond);
    }
    Ok(Step::Ask(asks, Pending::new(Waiting(Stage::Counts { page, total, records, asked }))))
}

fn list(
    page: Page,
    records: Vec<GatewayRecord>,
    total: usize,
    asked: Asked,
    answers: Answers,
    view: &View<'_>,
) -> Result<Response, Response> {
    let mut counts = asked.gather(answers, |reply| match reply {
        Reply::Live(counts) => Some(counts),
        _ => None,
    });
    let rows = records.into_iter().map(|record| {
        let connections = counts.next_of(view.placement.of_gateway(record.id))?;
        Ok(Row { record, connections })
    });
    let list = rows.collect::<Result<Vec<_>, Unanswered>>()?;
    let pagination = Pagination { total, offset: page.offset, limit: page.limit };
    Ok(Response::json(200, &Listing { count: list.len(), list, pagination }))
}
