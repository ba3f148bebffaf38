//! What ports and the log's threads share: for each port two queues of requests and one of answers, each behind a lock
//! that nobody holds for longer than a push or a swap takes.

use super::settings::{EVENT_OVERHEAD_BYTES, Tuning};
use crate::{
    model::log::{FollowKey, Health, LogReply, LogRequest, Record, Why},
    store::log::{LogStats, Waker},
};
use rusqlite::Connection;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::Thread,
    time::Duration,
};

/// Which thread a request is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// Appends, follows, forgets and progress, in order.
    Write,
    /// Reads.
    Read,
}

/// A request that waits for a thread.
pub(super) struct Queued {
    pub request: LogRequest,
    /// When it was submitted.
    pub at: Duration,
}

/// What an answer gives back of its lane's bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Freed {
    pub lane: Lane,
    pub requests: usize,
    pub bytes: usize,
}

/// An answer that waits for its port.
pub(super) struct Answer {
    /// `None` for a read that was cancelled.
    pub reply: Option<LogReply>,
    pub freed: Option<Freed>,
}

impl Answer {
    pub fn told(reply: LogReply) -> Self {
        Self { reply: Some(reply), freed: None }
    }

    /// Answers a request that counts as `bytes`.
    pub fn to(lane: Lane, bytes: usize, reply: LogReply) -> Self {
        Self { reply: Some(reply), freed: Some(Freed { lane, requests: 1, bytes }) }
    }
}

/// What live events count as while a port leaves them.
pub(super) fn live_bytes(records: &[Record]) -> usize {
    // Small events have to be bounded, too.
    payload_bytes(records) + records.len() * (EVENT_OVERHEAD_BYTES as usize)
}

/// Bytes of payloads.
pub(super) fn payload_bytes(records: &[Record]) -> usize {
    records.iter().map(|record| record.event.payload.len()).sum()
}

/// One queue of requests.
#[derive(Default)]
struct Requests {
    queue: VecDeque<Queued>,
    /// Why no thread takes requests any more.
    closed: Option<Why>,
}

struct LaneShared {
    requests: Mutex<Requests>,
    /// When the oldest request was submitted that is not answered yet, in microseconds; `u64::MAX` if there is none.
    oldest: AtomicU64,
}

impl Default for LaneShared {
    fn default() -> Self {
        Self { requests: Mutex::default(), oldest: AtomicU64::new(u64::MAX) }
    }
}

/// What one port shares with the threads.
pub(super) struct PortShared {
    write: LaneShared,
    read: LaneShared,
    answers: Mutex<VecDeque<Answer>>,
    /// Bytes of live events in `answers`, and of those that the port has taken from it and not passed on.
    pub live_bytes: AtomicUsize,
    /// Set by the writer while a follow waits for room for its past.
    pub wants_room: AtomicBool,
    waker: Waker,
}

fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX - 1)
}

/// A thread that panics while it holds one of these locks leaves what it guards whole: each holds it for one operation.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl PortShared {
    pub fn new(waker: Waker) -> Self {
        Self {
            write: LaneShared::default(),
            read: LaneShared::default(),
            answers: Mutex::default(),
            live_bytes: AtomicUsize::new(0),
            wants_room: AtomicBool::new(false),
            waker,
        }
    }

    fn lane(&self, lane: Lane) -> &LaneShared {
        match lane {
            Lane::Write => &self.write,
            Lane::Read => &self.read,
        }
    }

    /// Queues a request.
    ///
    /// # Errors
    /// Gives it back, with the reason, if the thread has ended.
    pub fn push(&self, lane: Lane, queued: Queued) -> Result<(), (LogRequest, Why)> {
        let lane = self.lane(lane);
        let mut requests = lock(&lane.requests);
        if let Some(why) = requests.closed {
            return Err((queued.request, why));
        }
        // Under the lock, so that the thread does not overwrite it with what it saw before.
        lane.oldest.fetch_min(micros(queued.at), Ordering::Relaxed);
        requests.queue.push_back(queued);
        Ok(())
    }

    /// Moves all queued requests to the end of `into`.
    pub fn take(&self, lane: Lane, into: &mut VecDeque<Queued>) {
        let mut requests = lock(&self.lane(lane).requests);
        if into.is_empty() {
            std::mem::swap(&mut requests.queue, into);
        } else {
            into.append(&mut requests.queue);
        }
    }

    /// Notes the oldest of the requests that the thread holds. Called before others are answered, so that a port is not called stuck
    /// for what it has the answer to.
    pub fn note_oldest(&self, lane: Lane, held: Option<Duration>) {
        let lane = self.lane(lane);
        let requests = lock(&lane.requests);
        let oldest = [held, requests.queue.front().map(|it| it.at)].into_iter().flatten().min();
        lane.oldest.store(oldest.map_or(u64::MAX, micros), Ordering::Relaxed);
    }

    /// From now on requests are given back. Returns those that nobody took.
    pub fn close(&self, lane: Lane, why: Why) -> VecDeque<Queued> {
        let mut requests = lock(&self.lane(lane).requests);
        requests.closed = Some(why);
        std::mem::take(&mut requests.queue)
    }

    /// For how long the oldest request of a lane has waited.
    pub fn oldest_age(&self, lane: Lane, now: Duration) -> Duration {
        let oldest = self.lane(lane).oldest.load(Ordering::Relaxed);
        if oldest == u64::MAX { Duration::ZERO } else { now.saturating_sub(Duration::from_micros(oldest)) }
    }

    /// Tells the port answers, and wakes its shard.
    pub fn answer(&self, answers: &mut Vec<Answer>) {
        if answers.is_empty() {
            return;
        }
        lock(&self.answers).extend(answers.drain(..));
        (self.waker)();
    }

    /// Moves all answers to `into`, which is empty.
    pub fn take_answers(&self, into: &mut VecDeque<Answer>) {
        std::mem::swap(&mut *lock(&self.answers), into);
    }
}

/// What all ports and both threads share.
pub(super) struct Shared {
    pub tuning: Tuning,
    pub stats: Arc<LogStats>,
    /// Set once, by [`crate::store::log::EventLog::ports`].
    pub ports: OnceLock<Box<[PortShared]>>,
    pub stopped: AtomicBool,
    /// The reader's connection; `None` until it is needed. The writer holds the lock while it opens or replaces the file.
    pub read_connection: Mutex<Option<Connection>>,
    /// Bytes of the write-ahead log that are not in the file yet, as the writer guesses and a checkpoint corrects.
    pub wal_pending: AtomicU64,
    /// Set by the reader when the write-ahead log is so long that the writer must begin it anew.
    pub wal_restart: AtomicBool,
    /// Set by the reader when a checkpoint could not be synced.
    pub unsynced: AtomicBool,
    pub writer: OnceLock<Thread>,
    pub reader: OnceLock<Thread>,
    health: Mutex<Told>,
}

/// The health that was told last, with the text for people.
struct Told {
    health: Health,
    texts: [String; 2],
}

impl Shared {
    pub fn new(tuning: Tuning, stats: Arc<LogStats>) -> Self {
        let told = Told { health: Health { append: Ok(()), read: Ok(()) }, texts: Default::default() };
        Self {
            tuning,
            stats,
            ports: OnceLock::new(),
            stopped: AtomicBool::new(false),
            read_connection: Mutex::default(),
            wal_pending: AtomicU64::new(0),
            wal_restart: AtomicBool::new(false),
            unsynced: AtomicBool::new(false),
            writer: OnceLock::new(),
            reader: OnceLock::new(),
            health: Mutex::new(told),
        }
    }

    /// All ports; none before they are made.
    pub fn ports(&self) -> &[PortShared] {
        self.ports.get().map_or(&[], |ports| ports)
    }

    pub fn now(&self) -> Duration {
        (self.tuning.uptime)()
    }

    /// For how long the oldest request has waited in each lane, over all ports.
    pub fn waits(&self) -> [Duration; 2] {
        let now = self.now();
        let oldest = |lane| self.ports().iter().map(|port| port.oldest_age(lane, now)).max().unwrap_or_default();
        [Lane::Write, Lane::Read].map(oldest)
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Wakes a thread.
    pub fn wake(&self, lane: Lane) {
        let thread = match lane {
            Lane::Write => &self.writer,
            Lane::Read => &self.reader,
        };
        if let Some(thread) = thread.get() {
            thread.unpark();
        }
    }

    /// Notes whether the log can append (lane `Write`) or read, and tells each port if that has changed.
    pub fn report(&self, lane: Lane, state: Result<(), Why>, text: &str) {
        let mut told = lock(&self.health);
        let (known, index) = match lane {
            Lane::Write => (&mut told.health.append, 0),
            Lane::Read => (&mut told.health.read, 1),
        };
        if *known == state {
            return;
        }
        *known = state;
        text.clone_into(&mut told.texts[index]);
        let verb = ["append", "read"][index];
        match state {
            Ok(()) => tracing::info!("the event log can {verb} again"),
            Err(_) => tracing::error!(why = text, "the event log cannot {verb}"),
        }
        let texts: Vec<_> = told.texts.iter().filter(|text| !text.is_empty()).map(String::as_str).collect();
        self.stats.set_health(texts.join("; "));
        let health = told.health;
        for port in self.ports() {
            port.answer(&mut vec![Answer::told(LogReply::Health(health))]);
        }
    }

    /// The health that was told last.
    pub fn health(&self) -> Health {
        lock(&self.health).health
    }
}

/// Whether a reply is one that an ended follow must not get.
pub(super) fn followed_by(reply: &LogReply) -> Option<FollowKey> {
    match reply {
        LogReply::Live { key, .. } | LogReply::Interrupted(key) => Some(*key),
        _ => None,
    }
}
