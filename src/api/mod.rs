//! HTTP calls to commands, replies to answers; pure, so that every row of the route table is tested without a socket.

use crate::{
    model::{GatewayId, ShardId},
    shard::{Command, Directory, Placement, Reply},
    store::{Op, Outcome},
    wire::http::Response,
};

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
    /// The admin token in force.
    pub admin_token: &'a str,
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
    Store(Op),
}

/// The answer to one [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// The shard's.
    Shard(Reply),
    /// The store's.
    Store(Outcome),
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
    /// Ask all of these, and bring the answers in the same order to [`Pending::handle_answers`].
    Ask(Vec<Ask>, Pending),
}

/// A call that waits for answers.
#[derive(Debug)]
pub struct Pending {
    _todo: GatewayId,
}
