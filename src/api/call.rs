//! The types between a call's handler and the engine: the request, the view of the core, asks and answers, and the next
//! step.
//!
//! A handler never waits. It returns what it needs to know and a continuation, and the engine calls that with the
//! answers.

use crate::{
    model::{Buffers, KeyHash, LogStats, ShardId, StoreOp, StoreOutcome},
    shard::{Command, Directory, Placement, Reply},
    wire::http::Response,
};
use smallvec::SmallVec;
use std::{fmt, time::Duration};

/// A request with its body.
#[derive(Debug)]
pub struct Call<'a> {
    /// The method, one that the parser knows (`GET`, `POST`, …; `HEAD` is routed as `GET`).
    pub method: &'a str,
    /// The path, not decoded, without the query.
    pub path: &'a str,
    /// The query: the text behind `?`, not decoded.
    pub query: Option<&'a str>,
    /// The value of `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// The value of `api-key`.
    pub api_key: Option<&'a [u8]>,
    /// Whether there is at least one `Idempotency-Key`.
    pub idempotency_key: bool,
    /// The complete body; empty while only the head is routed.
    pub body: &'a [u8],
}

/// The state of its core that a call can read.
pub struct View<'a> {
    /// This core's copy of gateways and keys.
    pub directory: &'a Directory,
    /// The owners of gateways.
    pub placement: &'a Placement,
    /// The time of the call.
    pub now: crate::model::Now,
    /// The hub's phase.
    pub phase: Phase,
    /// Maximum number of gateway connections, for the statistics.
    pub connections_max: usize,
    /// Whether the store cannot write now. Gateways can connect and events are delivered anyway.
    pub store_degraded: bool,
    /// The counters of the log of events, and what is wrong with it.
    pub log: &'a LogStats,
    /// A core that has not run for a second. Connections that the kernel assigns to it are not served.
    pub stuck: Option<ShardId>,
    /// The SHA-256 of the admin token.
    pub admin_token: KeyHash,
    /// Connections and calls whose code panicked.
    pub panics: u64,
    /// How often a core had not run for a second.
    pub stalls: u64,
    /// The longest delay with which a core has handled a deadline of a connection.
    pub lateness_max: Duration,
    /// For a response's body. The engine puts it back.
    pub buffers: &'a Buffers,
    /// 128 random bits, for new ids.
    pub random: &'a dyn Fn() -> u128,
}

/// The phase of the hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Not all cores are running.
    Starting,
    /// The hub accepts connections and calls.
    Ready,
    /// The hub is shutting down.
    Draining,
}

/// A request to a shard or to the store, which must be answered before the call can be.
#[derive(Debug)]
pub enum Ask {
    /// A command to a shard.
    Shard(ShardId, Command),
    /// A job for the store.
    Store(StoreOp),
}

/// The answer to one [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// The reply of a shard.
    Shard(Reply),
    /// The outcome of a store job.
    Store(StoreOutcome),
    /// It was not sent, because the queue is full.
    Overloaded,
    /// The answer did not come in time.
    TimedOut,
}

/// The asks of one step. Most calls have one.
pub type Asks = SmallVec<[Ask; 1]>;

/// The answers to all asks of a call, in their order.
pub type Answers = SmallVec<[Answer; 1]>;

/// The next step of a call.
#[derive(Debug)]
pub enum Step {
    /// Send this response.
    Respond(Response),
    /// Send these asks. Once they and those of earlier slices are answered, pass all answers, in the order of the asks,
    /// to [`Pending::handle_answers`].
    Ask(Asks, Pending),
    /// Send these asks, do other work of the core, and then call [`Pending::handle_more`].
    Slice(Asks, Pending),
}

/// The rest of a call, after its asks or its slice.
pub(super) trait Continuation: fmt::Debug {
    /// Continues with the answers, one for each [`Ask`], in the order of the asks.
    fn handle_answers(self: Box<Self>, answers: Answers, view: &View<'_>) -> Handled;

    /// Whether an answer may come only after [`crate::limits::WAIT_MAX`].
    fn waits(&self) -> bool {
        false
    }

    /// Continues with the next slice, for calls that return [`Step::Slice`].
    fn handle_more(self: Box<Self>, call: &Call<'_>, view: &View<'_>) -> Handled {
        debug_assert!(false, "{} {} has no slices", call.method, call.path);
        self.handle_answers(Answers::new(), view)
    }
}

/// A call that waits for answers or for its next slice.
#[derive(Debug)]
pub struct Pending(Box<dyn Continuation>);

impl Pending {
    pub(super) fn new(continuation: impl Continuation + 'static) -> Self {
        Self(Box::new(continuation))
    }

    /// Continues with the answers, one for each [`Ask`], in the order of the asks.
    pub fn handle_answers(self, answers: Answers, view: &View<'_>) -> Step {
        self.0.handle_answers(answers, view).unwrap_or_else(Step::Respond)
    }

    /// Whether an answer may come only after [`crate::limits::WAIT_MAX`].
    pub fn waits(&self) -> bool {
        self.0.waits()
    }

    /// Continues with the next slice.
    pub fn handle_more(self, call: &Call<'_>, view: &View<'_>) -> Step {
        self.0.handle_more(call, view).unwrap_or_else(Step::Respond)
    }
}

/// The result of a handler. An `Err` is a response as well, so that `?` can end a call.
pub(super) type Handled = Result<Step, Response>;
