//! What the answers of shards and store mean over HTTP.

use super::call::Answer;
use crate::{
    model::{Kept, StoreOutcome},
    shard::Reply,
    wire::http::Response,
};

/// Seconds in `Retry-After` where the cause passes at once: a full queue, a busy store.
const RETRY_SOON: &str = "1";

const CANNOT_NOW: &str = "the store cannot do this now";
const IN_DOUBT: &str = "the store failed; the change may have been made: look before you repeat it";

/// Why a question has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unanswered {
    /// It was not asked: the queue is full.
    Overloaded,
    /// It was asked, and nothing came back in time.
    TimedOut,
    /// What came back answers another question: a bug of ours.
    Mismatched,
}

impl Unanswered {
    /// The status that says so.
    pub fn status(self) -> u16 {
        match self {
            Self::Overloaded | Self::TimedOut => 503,
            Self::Mismatched => 500,
        }
    }

    /// The sentence that says so.
    pub fn description(self) -> &'static str {
        match self {
            Self::Overloaded => "the hub is overloaded and has done nothing; try again",
            Self::TimedOut => "the hub did not answer in time; what was asked may have been done",
            Self::Mismatched => "the hub got an answer that it cannot use",
        }
    }
}

impl From<Unanswered> for Response {
    fn from(unanswered: Unanswered) -> Self {
        debug_assert!(unanswered != Unanswered::Mismatched, "answers come in the order and the form of their asks");
        let response = Response::error(unanswered.status(), unanswered.description());
        if unanswered.status() == 503 { response.with("Retry-After", RETRY_SOON) } else { response }
    }
}

impl Answer {
    /// The shard's reply.
    pub(super) fn shard(self) -> Result<Reply, Unanswered> {
        match self {
            Self::Shard(reply) => Ok(reply),
            Self::Store(_) => Err(Unanswered::Mismatched),
            Self::Overloaded => Err(Unanswered::Overloaded),
            Self::TimedOut => Err(Unanswered::TimedOut),
        }
    }

    /// What the store has read; an `Err` is the answer to the caller where it has not.
    pub(super) fn read(self) -> Result<StoreOutcome, Response> {
        let outcome = match self {
            Self::Store(outcome) => outcome,
            Self::Shard(_) => return Err(Unanswered::Mismatched.into()),
            Self::Overloaded => return Err(Unanswered::Overloaded.into()),
            Self::TimedOut => return Err(Unanswered::TimedOut.into()),
        };
        match outcome {
            StoreOutcome::NotFound(what) => Err(Response::error(404, what)),
            StoreOutcome::Conflict(what) => Err(Response::error(409, &what)),
            // What exactly fails may name a file; the operator reads it in the store's log.
            StoreOutcome::Unavailable(..) => Err(Response::error(503, CANNOT_NOW).with("Retry-After", RETRY_SOON)),
            done => Ok(done),
        }
    }

    /// What the store has changed; an `Err` is the answer to the caller where it has not, and a 503 says whether it may have.
    pub(super) fn change(self) -> Result<StoreOutcome, Response> {
        let (description, kept) = match &self {
            Self::Overloaded => (Unanswered::Overloaded.description(), Kept::No),
            Self::TimedOut => (Unanswered::TimedOut.description(), Kept::Unknown),
            Self::Store(StoreOutcome::Unavailable(_, Kept::No)) => (CANNOT_NOW, Kept::No),
            Self::Store(StoreOutcome::Unavailable(_, Kept::Unknown)) => (IN_DOUBT, Kept::Unknown),
            Self::Store(_) | Self::Shard(_) => return self.read(),
        };
        Err(Response::error_with_kept(503, description, kept).with("Retry-After", RETRY_SOON))
    }
}

/// The answer of a call that asked one question.
pub(super) fn only(answers: Vec<Answer>) -> Result<Answer, Response> {
    let [answer] = <[Answer; 1]>::try_from(answers).map_err(|_| Unanswered::Mismatched)?;
    Ok(answer)
}
