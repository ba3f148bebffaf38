//! HTTP calls to commands, replies to answers; pure, so that every row of the route table is tested without a socket.
//!
//! ```text
//! head ── route_request ──> a WebSocket, or a call with the bound of its body, or the refusal
//! call ── handle ─────> Respond
//!                  └──> Ask + Pending ── handle_answers ──> Respond, or one more Ask
//!                  └──> Slice + Pending ── handle_more ───> the next slice of something long, or Ask
//! ```

mod answer;
mod auth;
mod batch;
mod body;
mod deploy;
mod gateways;
mod health;
mod manifest;
mod metrics;
mod publish;
mod query;
mod routes;
mod spread;
mod stats;
mod tokens;

pub use routes::{CONNECT_PATH, Matched, Routed, route_request};

#[cfg(test)]
mod tests;

use crate::{
    model::{KeyHash, ShardId, StoreOp, StoreOutcome},
    shard::{Command, Directory, Placement, Reply},
    wire::http::Response,
};

/// Answers a call that [`route_request`] has let in, or says what must be asked first.
pub fn handle(matched: &Matched, call: &Call<'_>, view: &View<'_>) -> Step {
    let (handler, params) = match routes::resume(matched, call, view) {
        Ok(resumed) => resumed,
        Err(refusal) => return Step::Respond(refusal),
    };
    if call.body.len() > matched.body_bytes_max() {
        return Step::Respond(body::too_large(matched.body_bytes_max()));
    }
    handler(call, view, params).unwrap_or_else(Step::Respond)
}

/// A request with its body, ready to be routed.
#[derive(Debug)]
pub struct Call<'a> {
    /// The method's token, one that the parser knows (`GET`, `POST`, …; `HEAD` is routed as `GET`).
    pub method: &'a str,
    /// The path, not decoded, without the query.
    pub path: &'a str,
    /// What followed `?`.
    pub query: Option<&'a str>,
    /// The value of `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// The value of `api-key`.
    pub api_key: Option<&'a [u8]>,
    /// The body, whole and within its bound.
    pub body: &'a [u8],
}

/// What a call may look at on its own core.
pub struct View<'a> {
    /// Gateways and keys.
    pub directory: &'a Directory,
    /// Who owns what.
    pub placement: &'a Placement,
    /// Wall clock.
    pub now: crate::model::Now,
    /// The hub's phase.
    pub phase: Phase,
    /// For the statistics.
    pub connections_max: usize,
    /// Whether the store cannot write now; gateways connect and events flow all the same.
    pub degraded: bool,
    /// The hash of the admin token in force.
    pub admin_token: KeyHash,
    /// 128 random bits, for new ids.
    pub random: &'a dyn Fn() -> u128,
}

/// Where the hub is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Not all workers are up.
    Starting,
    /// Takes connections.
    Ready,
    /// Goes away.
    Draining,
}

/// One question that must be answered before the call is.
#[derive(Debug)]
pub enum Ask {
    /// To a shard.
    Shard(ShardId, Command),
    /// To the store.
    Store(StoreOp),
}

/// The answer to one [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// The shard's.
    Shard(Reply),
    /// The store's.
    Store(StoreOutcome),
    /// It was not asked: its queue is full. Becomes 503 with `Retry-After`.
    Overloaded,
    /// It did not answer in time.
    TimedOut,
}

/// What to do next about a call.
#[derive(Debug)]
pub enum Step {
    /// This is the answer.
    Respond(Response),
    /// Ask all of these. Once they and what earlier slices asked are answered, bring all answers in the order of the asks to
    /// [`Pending::handle_answers`].
    Ask(Vec<Ask>, Pending),
    /// Ask all of these, let others have their turn, and go on by [`Pending::handle_more`]: there is more to do than fits
    /// into one turn.
    Slice(Vec<Ask>, Pending),
}

/// A call that waits for answers or for its next turn: one variant for each that does.
#[derive(Debug)]
pub enum Pending {
    /// One event is on its way.
    Publish(publish::Waiting),
    /// Many are.
    Batch(batch::Waiting),
    /// A deployment is being announced.
    Deploy(deploy::Waiting),
    /// Gateways are made, shown or deleted.
    Gateways(gateways::Waiting),
    /// Tokens are made, listed or revoked.
    Tokens(tokens::Waiting),
    /// A manifest is being kept.
    Manifest(manifest::Waiting),
    /// The shards are being counted.
    Stats(stats::Waiting),
    /// The same, for Prometheus.
    Metrics(metrics::Waiting),
}

impl Pending {
    /// Goes on with something long, a slice at a time.
    pub fn handle_more(self, call: &Call<'_>, view: &View<'_>) -> Step {
        match self {
            Self::Batch(waiting) => waiting.handle_more(call, view),
            other => other.handle_answers(Vec::new(), view),
        }
    }

    /// Goes on with the answers, one for each [`Ask`], in the order of the asks.
    pub fn handle_answers(self, answers: Vec<Answer>, view: &View<'_>) -> Step {
        let handled = match self {
            Self::Publish(waiting) => waiting.handle_answers(answers),
            Self::Batch(waiting) => Ok(waiting.handle_answers(answers)),
            Self::Deploy(waiting) => waiting.handle_answers(answers),
            Self::Gateways(waiting) => waiting.handle_answers(answers, view),
            Self::Tokens(waiting) => waiting.handle_answers(answers),
            Self::Manifest(waiting) => waiting.handle_answers(answers),
            Self::Stats(waiting) => waiting.handle_answers(answers, view),
            Self::Metrics(waiting) => waiting.handle_answers(answers, view),
        };
        handled.unwrap_or_else(Step::Respond)
    }
}

/// What a handler returns; an `Err` is an answer too, the one that ends the call early.
type Handled = Result<Step, Response>;
