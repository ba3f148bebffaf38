//! A call as its handlers see it: the request, what may be looked at, what is asked, what comes next.

use crate::{
    model::{KeyHash, ShardId, StoreOp, StoreOutcome},
    shard::{Command, Directory, Placement, Reply},
    wire::http::Response,
};
use std::{fmt, time::Duration};

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
    /// Whether there is an `Idempotency-Key`, or several.
    pub idempotency_key: bool,
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
    /// A core that has not turned for a second: connections that the kernel gives to it hang.
    pub stuck: Option<ShardId>,
    /// The hash of the admin token in force.
    pub admin_token: KeyHash,
    /// Connections and calls whose code panicked.
    pub panics: u64,
    /// How often a core was found not to have turned for a second.
    pub stalls: u64,
    /// The latest that a core served a deadline of a connection.
    pub lateness_max: Duration,
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

/// What a call goes on with, once what it asked is answered or it has its next turn.
pub(super) trait Continuation: fmt::Debug {
    /// Goes on with the answers, one for each [`Ask`], in the order of the asks.
    fn handle_answers(self: Box<Self>, answers: Vec<Answer>, view: &View<'_>) -> Handled;

    /// Goes on with the next slice, where the call has slices.
    fn handle_more(self: Box<Self>, call: &Call<'_>, view: &View<'_>) -> Handled {
        debug_assert!(false, "{} {} has no slices", call.method, call.path);
        self.handle_answers(Vec::new(), view)
    }
}

/// A call that waits for answers or for its next turn.
#[derive(Debug)]
pub struct Pending(Box<dyn Continuation>);

impl Pending {
    pub(super) fn new(continuation: impl Continuation + 'static) -> Self {
        Self(Box::new(continuation))
    }

    /// Goes on with the answers, one for each [`Ask`], in the order of the asks.
    pub fn handle_answers(self, answers: Vec<Answer>, view: &View<'_>) -> Step {
        self.0.handle_answers(answers, view).unwrap_or_else(Step::Respond)
    }

    /// Goes on with something long, a slice at a time.
    pub fn handle_more(self, call: &Call<'_>, view: &View<'_>) -> Step {
        self.0.handle_more(call, view).unwrap_or_else(Step::Respond)
    }
}

/// What a handler returns; an `Err` is an answer too, the one that ends the call early.
pub(super) type Handled = Result<Step, Response>;
