//! Turns the answers of shards and of the store into HTTP statuses and texts.

use super::call::{Answer, Answers};
use crate::{
    model::{Kept, StoreOutcome},
    shard::Reply,
    wire::http::Response,
};

/// Seconds in `Retry-After` for causes that usually end within a second: a full queue, a busy store.
const RETRY_SOON: &str = "1";

const STORE_UNAVAILABLE: &str = "the store cannot do this now";
const CHANGE_UNKNOWN: &str = "the store failed, and the change may have been made; check before you repeat it";

/// Why an [`super::Ask`] has no usable answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unanswered {
    /// It was not sent, because the queue is full.
    Overloaded,
    /// It was sent, but the answer did not come in time.
    TimedOut,
    /// The answer is of another kind: a bug of the hub.
    Mismatched,
}

impl Unanswered {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Overloaded | Self::TimedOut => 503,
            Self::Mismatched => 500,
        }
    }

    /// Whether an event that was to be published may have been kept.
    pub fn kept(self) -> Option<Kept> {
        match self {
            Self::Overloaded => Some(Kept::No),
            Self::TimedOut => Some(Kept::Unknown),
            Self::Mismatched => None,
        }
    }

    /// The `description` in the response.
    pub fn description(self) -> &'static str {
        match self {
            Self::Overloaded => "the hub is overloaded and did nothing; try again",
            Self::TimedOut => "the hub did not answer in time; the call may have been carried out",
            Self::Mismatched => "internal error: an answer within the hub did not match the call",
        }
    }
}

impl From<Unanswered> for Response {
    fn from(unanswered: Unanswered) -> Self {
        debug_assert!(unanswered != Unanswered::Mismatched, "answers have the order and the kind of their asks");
        let response = Response::error(unanswered.status(), unanswered.description());
        if unanswered.status() == 503 { response.with("Retry-After", RETRY_SOON) } else { response }
    }
}

impl Answer {
    /// The reply of a shard.
    pub(super) fn shard(self) -> Result<Reply, Unanswered> {
        match self {
            Self::Shard(reply) => Ok(reply),
            Self::Store(_) => Err(Unanswered::Mismatched),
            Self::Overloaded => Err(Unanswered::Overloaded),
            Self::TimedOut => Err(Unanswered::TimedOut),
        }
    }

    /// The outcome of a store job that reads. An `Err` is the response to the caller.
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
            // The store's text may name a file of the hub, so it is only logged.
            StoreOutcome::Unavailable(..) => {
                Err(Response::error(503, STORE_UNAVAILABLE).with("Retry-After", RETRY_SOON))
            }
            done => Ok(done),
        }
    }

    /// The outcome of a store job that changes something. An `Err` is the response to the caller; a 503 says whether
    /// the change may have been made.
    pub(super) fn change(self) -> Result<StoreOutcome, Response> {
        // A caller that repeats a change which was made gets a conflict, or a second token. So it must learn whether it
        // was.
        let (description, kept) = match &self {
            Self::Overloaded => (Unanswered::Overloaded.description(), Kept::No),
            Self::TimedOut => (Unanswered::TimedOut.description(), Kept::Unknown),
            Self::Store(StoreOutcome::Unavailable(_, Kept::No)) => (STORE_UNAVAILABLE, Kept::No),
            Self::Store(StoreOutcome::Unavailable(_, Kept::Unknown)) => (CHANGE_UNKNOWN, Kept::Unknown),
            Self::Store(_) | Self::Shard(_) => return self.read(),
        };
        Err(not_done(description, kept))
    }
}

/// The 503 to a call that changes something: it says whether that was kept.
pub(super) fn not_done(description: &str, kept: Kept) -> Response {
    Response::error_with_kept(503, description, kept).with("Retry-After", RETRY_SOON)
}

/// The answer of a call that had one [`super::Ask`].
pub(super) fn only(answers: Answers) -> Result<Answer, Response> {
    let [answer] = answers.into_inner().map_err(|_| Unanswered::Mismatched)?;
    Ok(answer)
}
