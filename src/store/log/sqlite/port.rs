//! A shard's port: bounds what it has asked for, queues requests for the log's threads, and passes on their answers.

use super::{
    queue::{Answer, Freed, Lane, PortShared, Queued, Shared, followed_by, live_bytes},
    settings::LogSync,
};
use crate::{
    limits::{EVENT_LOG_OLDEST_MAX, EVENT_LOG_REQUESTS_BYTES_MAX, EVENT_LOG_REQUESTS_MAX},
    model::log::{Busy, Draft, End, FollowKey, LogReply, LogRequest, NotAppended, Promise, Why},
    store::log::LogPort,
};
use ahash::HashSet;
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

/// What a draft counts as besides its payload.
const DRAFT_BYTES: usize = 256;

/// What one draft counts as in the bounds of a port.
pub(super) fn draft_bytes(draft: &Draft) -> usize {
    draft.event.payload.len() + DRAFT_BYTES
}

/// What a request counts as until its answer is drained.
fn request_bytes(request: &LogRequest) -> usize {
    match request {
        LogRequest::Append { drafts, .. } => drafts.iter().map(draft_bytes).sum(),
        LogRequest::Read { room, .. } => room.bytes,
        _ => 0,
    }
}

/// What is not answered yet in one lane.
#[derive(Default)]
struct Unanswered {
    requests: usize,
    bytes: usize,
}

/// A port of a log in SQLite.
pub(super) struct SqlitePort {
    shared: Arc<Shared>,
    index: usize,
    sync: LogSync,
    write: Unanswered,
    read: Unanswered,
    /// Follows that were not ended. Events that were queued for another one before it ended are left out.
    follows: HashSet<FollowKey>,
    /// Answers that were taken from the threads and not passed on.
    answers: VecDeque<Answer>,
}

impl SqlitePort {
    pub fn new(shared: Arc<Shared>, index: usize, sync: LogSync) -> Self {
        Self {
            shared,
            index,
            sync,
            write: Unanswered::default(),
            read: Unanswered::default(),
            follows: HashSet::default(),
            answers: VecDeque::new(),
        }
    }

    fn port(&self) -> &PortShared {
        &self.shared.ports()[self.index]
    }

    fn unanswered(&mut self, lane: Lane) -> &mut Unanswered {
        match lane {
            Lane::Write => &mut self.write,
            Lane::Read => &mut self.read,
        }
    }

    /// Whether a lane takes another request of this size.
    fn has_room(&mut self, lane: Lane, bytes: usize, now: std::time::Duration) -> bool {
        let stuck = self.port().oldest_age(lane, now) > EVENT_LOG_OLDEST_MAX;
        let waiting = self.unanswered(lane);
        let fits = waiting.requests < EVENT_LOG_REQUESTS_MAX
            && (waiting.requests == 0 || waiting.bytes + bytes <= EVENT_LOG_REQUESTS_BYTES_MAX);
        fits && !stuck
    }

    fn pass_on(&mut self, answer: Answer, out: &mut Vec<LogReply>) -> usize {
        if let Some(Freed { lane, requests, bytes }) = answer.freed {
            let waiting = self.unanswered(lane);
            waiting.requests -= requests;
            waiting.bytes -= bytes;
        }
        let Some(reply) = answer.reply else { return 0 };
        let size = size(&reply);
        if let LogReply::Live { records, .. } = &reply {
            self.port().live_bytes.fetch_sub(live_bytes(records), Ordering::SeqCst);
        }
        let ended = match &reply {
            LogReply::Interrupted(key) => !self.follows.remove(key),
            LogReply::NotFollowing { key, .. } => {
                self.follows.remove(key);
                false
            }
            other => followed_by(other).is_some_and(|key| !self.follows.contains(&key)),
        };
        if ended {
            return 0;
        }
        out.push(reply);
        size
    }
}

/// What a reply counts as when it is passed on: thousands of small events are work, too.
fn size(reply: &LogReply) -> usize {
    match reply {
        LogReply::Live { records, .. } => live_bytes(records),
        LogReply::Chunk { records, .. } => live_bytes(records),
        _ => 0,
    }
}

/// Answers a request that no thread will take.
pub(super) fn refuse(request: LogRequest, why: Why, out: &mut Vec<LogReply>) {
    let reply = match request {
        LogRequest::Append { key, drafts, .. } => {
            let results = drafts.iter().map(|_| Err(NotAppended::Refused(why))).collect();
            LogReply::Appended { key, from: 0, results, last: true }
        }
        LogRequest::Follow { key, .. } => LogReply::NotFollowing { key, why: End::Failed(why) },
        LogRequest::Read { key, .. } => LogReply::Chunk { key, records: Vec::new(), end: End::Failed(why) },
        LogRequest::Forget { key, .. } => LogReply::Forgotten(key, Err(why)),
        LogRequest::Unfollow(_) | LogRequest::Cancel(_) | LogRequest::Progress { .. } => return,
    };
    out.push(reply);
}

impl LogPort for SqlitePort {
    fn submit(&mut self, request: LogRequest, out: &mut Vec<LogReply>) -> Result<(), Busy<LogRequest>> {
        if self.shared.is_stopped() {
            refuse(request, Why::Stopping, out);
            return Ok(());
        }
        let lane = match request {
            LogRequest::Read { .. } | LogRequest::Cancel(_) => Lane::Read,
            _ => Lane::Write,
        };
        let bounded =
            matches!(request, LogRequest::Append { .. } | LogRequest::Follow { .. } | LogRequest::Read { .. });
        let answered = bounded || matches!(request, LogRequest::Forget { .. });
        let (bytes, at) = (request_bytes(&request), self.shared.now());
        if bounded && !self.has_room(lane, bytes, at) {
            return Err(Busy(request));
        }
        match &request {
            LogRequest::Follow { key, .. } => drop(self.follows.insert(*key)),
            LogRequest::Unfollow(key) => drop(self.follows.remove(key)),
            _ => {}
        }
        if let Err((request, why)) = self.port().push(lane, Queued { request, at }) {
            if let LogRequest::Follow { key, .. } = &request {
                self.follows.remove(key);
            }
            refuse(request, why, out);
            return Ok(());
        }
        if answered {
            let waiting = self.unanswered(lane);
            waiting.requests += 1;
            waiting.bytes += bytes;
        }
        self.shared.wake(lane);
        Ok(())
    }

    fn drain(&mut self, bytes_max: usize, out: &mut Vec<LogReply>) {
        let mut given = 0;
        loop {
            if self.answers.is_empty() {
                let mut taken = std::mem::take(&mut self.answers);
                self.port().take_answers(&mut taken);
                self.answers = taken;
            }
            let Some(next) = self.answers.front() else { break };
            let bytes = next.reply.as_ref().map_or(0, size);
            if given > 0 && given + bytes > bytes_max {
                break;
            }
            if let Some(answer) = self.answers.pop_front() {
                given += self.pass_on(answer, out);
            }
        }
        if self.port().wants_room.load(Ordering::SeqCst) {
            self.shared.wake(Lane::Write);
        }
    }

    fn promise(&self) -> Promise {
        self.sync.promise()
    }
}
