//! What a shard asks of the log of events, and what the log answers: plain values.

use super::{Event, Life, Position, Timestamp};
use smallvec::SmallVec;
use std::{fmt, sync::Arc};

/// Names one [`LogRequest::Append`] among those that are not answered yet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AppendKey(pub u64);

/// Names one [`LogRequest::Follow`], so that an answer to an older follow of the same gateway is told apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FollowKey(pub u64);

/// Names one [`LogRequest::Read`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadKey(pub u64);

/// Names one [`LogRequest::Forget`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ForgetKey(pub u64);

/// An event that is to be appended.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The gateway that it is for, and which of that id.
    pub life: Life,
    /// The event. The record shares it.
    pub event: Arc<Event>,
    /// When the hub accepted it.
    pub accepted: Timestamp,
}

/// An event at its position.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it stands. No other event ever stands there.
    pub position: Position,
    /// When the hub accepted it.
    pub accepted: Timestamp,
    /// Bytes of the gateway's events up to this one, itself included, since its log began. So the bytes between two
    /// positions are a subtraction.
    pub bytes: u64,
    /// The event.
    pub event: Arc<Event>,
}

/// What the log tells of a gateway at once: mostly one event, which needs no memory of its own here.
pub type Records = SmallVec<[Record; 1]>;

/// The ends of one gateway's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The epoch of its positions.
    pub epoch: u64,
    /// The last offset when the epoch began; its first event is at `base + 1`.
    pub base: u64,
    /// The lowest offset that is retained; `last + 1` if none is. It never falls.
    pub first: u64,
    /// The offset of the last event; `base` before the first.
    pub last: u64,
    /// [`Record::bytes`] of the last event.
    pub bytes: u64,
}

/// How far a gateway has processed its events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Each event up to this position was processed, or passed over by a rule. It may lie before the base of its epoch.
    pub position: Position,
    /// Connections that have ended with the event behind it in the gateway's hands.
    pub attempts: u32,
    /// Milliseconds between the first and the last of those ends, in time for which the hub ran.
    pub attempts_ms: u64,
}

/// A step of [`LogRequest::Progress`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgressStep {
    /// It is kept from now on, and begins at the last event. No effect if it is kept already.
    Begin,
    /// It begins at the last event, whatever is kept.
    Restart,
    /// It has come this far. No effect if what is kept is further, or the position is of another epoch, above the last event or nothing is kept.
    Reach(Progress),
    /// It is not kept any more.
    End,
}

/// Where a read begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadFrom {
    /// With the oldest event that is retained.
    Oldest,
    /// After this position.
    After(Position),
    /// With the last events, this many; with the oldest if fewer are retained.
    Last(u64),
}

impl ReadFrom {
    /// The position after which the read begins, in a log with these ends.
    pub fn after(self, head: Head) -> Position {
        let offset = match self {
            Self::After(position) => return position,
            Self::Oldest => head.first - 1,
            Self::Last(count) => head.last.saturating_sub(count).max(head.first - 1),
        };
        Position { epoch: head.epoch, offset }
    }
}

/// How much one [`LogReply::Chunk`] may hold. One record always fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Records.
    pub records: usize,
    /// Bytes of payloads.
    pub bytes: usize,
}

/// What a shard asks. Each has exactly one answer, unless the port is [`Busy`]; `Unfollow`, `Cancel` and `Progress` have none.
#[derive(Clone, Debug)]
pub enum LogRequest {
    /// Keep these events, in this order.
    Append {
        /// For the answer.
        key: AppendKey,
        /// The events.
        drafts: Vec<Draft>,
        /// It is a part of something long. Appends that are not overtake it; appends of one kind keep their order.
        bulk: bool,
    },
    /// Send the gateway's events from now on, as [`LogReply::Live`].
    Follow {
        /// For the answers.
        key: FollowKey,
        /// The gateway.
        life: Life,
        /// Begin after this position; `None` begins at the end.
        behind: Option<Position>,
    },
    /// Send no more events for this follow.
    Unfollow(FollowKey),
    /// Read events of the past.
    Read {
        /// For the answer.
        key: ReadKey,
        /// The gateway.
        life: Life,
        /// Where it begins.
        from: ReadFrom,
        /// End with this one; `None` ends with the last.
        upto: Option<Position>,
        /// What the answer may hold.
        room: Room,
    },
    /// The connection that a read was for has gone: it need not be answered.
    Cancel(ReadKey),
    /// How far a gateway has processed its events. It is never busy, and the newest value wins. Not answered.
    Progress {
        /// The gateway.
        life: Life,
        /// What has changed.
        step: ProgressStep,
    },
    /// The gateway was deleted: remove its events and its head. Sent after its last append.
    Forget {
        /// For the answer.
        key: ForgetKey,
        /// The gateway.
        life: Life,
    },
}

/// What the log answers.
#[derive(Clone, Debug)]
pub enum LogReply {
    /// Answers `Append`, perhaps in several parts.
    Appended {
        /// Which append.
        key: AppendKey,
        /// The draft that the first of the results is for.
        from: usize,
        /// One result for each draft.
        results: Vec<Result<Position, NotAppended>>,
        /// Whether this is the last part.
        last: bool,
    },
    /// Answers `Follow`: events after `behind`, or after `head.last`, come as `Live`.
    Following {
        /// Which follow.
        key: FollowKey,
        /// The ends of the gateway's log now.
        head: Head,
        /// How far the gateway has processed its events, if that is kept: never above the head, and in its epoch.
        progress: Option<Progress>,
    },
    /// Answers `Follow`: `behind` is not a place to begin.
    NotFollowing {
        /// Which follow.
        key: FollowKey,
        /// Why; never [`End::More`] or [`End::Reached`].
        why: End,
    },
    /// The next events of a gateway that is followed: after those before, in order, none left out.
    Live {
        /// Which follow.
        key: FollowKey,
        /// The events; at least one.
        records: Records,
    },
    /// No more `Live` comes for this follow, because the shard took them too slowly. It follows again, from where it stands.
    Interrupted(FollowKey),
    /// Answers `Read`.
    Chunk {
        /// Which read.
        key: ReadKey,
        /// Events from where the read begins, in order, none left out.
        records: Vec<Record>,
        /// What is behind them.
        end: End,
    },
    /// Answers `Forget`.
    Forgotten(ForgetKey, Result<(), Why>),
    /// Whether the log can append and read; sent at each change.
    Health(Health),
}

/// Why an event was not appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotAppended {
    /// It is not kept, and never will be.
    Refused(Why),
    /// It may be kept: a commit failed, or was not answered. It appears whole or never.
    Unknown(Why),
    /// The gateway was deleted.
    NoSuchGateway,
}

/// Where a chunk ends, or why there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// More events follow.
    More {
        /// The ends of the gateway's log.
        head: Head,
    },
    /// It ends with `upto`, or with the last event.
    Reached {
        /// The ends of the gateway's log.
        head: Head,
    },
    /// Something after the position to begin after is not retained any more.
    Gone {
        /// The ends of the gateway's log.
        head: Head,
    },
    /// The position to begin after is not one of this log: of another epoch, or above the last event.
    OtherEpoch {
        /// The ends of the gateway's log.
        head: Head,
    },
    /// It could not be read.
    Failed(Why),
}

/// What is wrong with a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// No room is left on the disk, or what is left is reserved.
    Full,
    /// The file cannot be written.
    ReadOnly,
    /// Another program has locked the file.
    Locked,
    /// The disk failed to write or to sync.
    Io,
    /// The file is damaged.
    Damaged,
    /// The oldest request waits for too long.
    Stuck,
    /// The hub is shutting down.
    Stopping,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "no room is left for events",
            Self::ReadOnly => "the event log cannot be written",
            Self::Locked => "another program has locked the event log",
            Self::Io => "the disk of the event log failed",
            Self::Damaged => "the event log is damaged",
            Self::Stuck => "the event log does not answer in time",
            Self::Stopping => "the hub is shutting down",
        })
    }
}

/// What a log can do now. Appending and reading are judged apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Health {
    /// Whether it takes events, and why not.
    pub append: Result<(), Why>,
    /// Whether it can be read, and why not.
    pub read: Result<(), Why>,
}

/// What an acknowledged event survives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Promise {
    /// Nothing: it is kept for the life of the process.
    Nothing,
    /// The end of the process, however it ends.
    Process,
    /// A loss of power.
    Power,
}

/// The log takes no more requests for now; the request is given back.
#[derive(Debug)]
pub struct Busy<T>(pub T);
