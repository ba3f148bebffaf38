//! Channels between cores, and the doorbell that wakes a sleeping core.
//!
//! Each core has three lanes, so that a full one does not delay the others:
//!
//! - *requests* of other cores; if it is full, the sender gets its request back at once;
//! - *replies* to this core's requests; never full, because it has room for all requests in flight;
//! - *control*, from store and server; not bounded, so that they never wait for a core. The store accepts no change
//!   while a core has too many unread.
//!
//! A sender marks the lane and rings the doorbell only if the core may be asleep: ringing costs a system call. The core
//! checks the marks after it has announced its sleep, and the sender checks for sleep after it has marked: one of them
//! sees the other.

use crate::{
    engine::{Incoming, Lane, Request},
    limits,
    model::StoreOutcome,
    shard::{Reply, RequestKey},
    store::Settled,
};
use flume::{Receiver, Sender, TrySendError};
use rustix::event::EventfdFlags;
use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// A value in a lane. Sockets travel as descriptors. A change carries the store's answer, sent once every core has
/// applied it.
pub(crate) type Message = Incoming<OwnedFd, Arc<Settled>>;

/// The sending side of one core's lanes.
#[derive(Clone)]
pub(crate) struct Address {
    lanes: [Sender<Message>; LANES],
    bell: Arc<Bell>,
}

/// The receiving side of one core's lanes.
pub(crate) struct Inbox {
    lanes: [Receiver<Message>; LANES],
    pub(super) bell: Arc<Bell>,
}

/// The doorbell of one core.
pub(super) struct Bell {
    pub(super) eventfd: OwnedFd,
    /// The core may be asleep, so a sender has to ring.
    asleep: AtomicBool,
    /// Lanes that may hold values.
    marked: [AtomicBool; LANES],
    /// The log may have replies.
    log_marked: AtomicBool,
}

const LANES: usize = 3;

const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Control => 0,
        Lane::Replies => 1,
        Lane::Requests => 2,
    }
}

/// Creates the addresses of all cores, and an inbox for each.
///
/// # Errors
/// If an eventfd cannot be created.
pub(crate) fn build(shards: u16) -> io::Result<(Vec<Address>, Vec<Inbox>)> {
    let ways = (0..shards).map(|_| {
        let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let bell = Arc::new(Bell {
            eventfd,
            asleep: AtomicBool::new(false),
            marked: Default::default(),
            log_marked: AtomicBool::new(false),
        });
        let (control, control_in) = flume::unbounded();
        let (replies, replies_in) = flume::bounded(limits::REQUESTS_IN_FLIGHT_MAX * ANSWERS_PER_REQUEST);
        let (requests, requests_in) = flume::bounded(limits::INBOX_MAX);
        let address = Address { lanes: [control, replies, requests], bell: Arc::clone(&bell) };
        Ok((address, Inbox { lanes: [control_in, replies_in, requests_in], bell }))
    });
    ways.collect::<io::Result<Vec<_>>>().map(|ways| ways.into_iter().unzip())
}

/// Replies in a lane per request in flight. A request that has timed out makes room for another one, and its late reply
/// may still be in the lane.
const ANSWERS_PER_REQUEST: usize = 2;

impl Address {
    /// Sends by the control lane, without waiting. Does nothing if the core has ended.
    pub(crate) fn tell(&self, message: Message) {
        let _ = self.lanes[index(Lane::Control)].send(message);
        self.bell.ring(Lane::Control);
    }

    /// Whether the core has so many unread control values that no change may be added.
    pub(super) fn is_backlogged(&self) -> bool {
        self.lanes[index(Lane::Control)].len() >= limits::CONTROL_BACKLOG_MAX
    }

    /// Sends a request to the core.
    ///
    /// # Errors
    /// Returns the request if the lane is full or the core has ended.
    pub(super) fn request(&self, request: Request<OwnedFd>) -> Result<(), Request<OwnedFd>> {
        let sent = self.lanes[index(Lane::Requests)].try_send(Incoming::Request(request));
        self.bell.ring(Lane::Requests);
        match sent.map_err(TrySendError::into_inner) {
            Err(Incoming::Request(request)) => Err(request),
            _ => Ok(()),
        }
    }

    /// Answers the core's request; returns whether the lane had room.
    pub(super) fn reply(&self, key: RequestKey, reply: Reply) -> bool {
        self.answer(Incoming::Reply(key, reply))
    }

    /// Sends the store's outcome; returns whether the lane had room.
    pub(super) fn stored(&self, key: RequestKey, outcome: StoreOutcome) -> bool {
        self.answer(Incoming::Stored(key, outcome))
    }

    /// Tells the core that the log has replies for it.
    pub(crate) fn log_waker(&self) -> impl Fn() + Send + Sync + 'static {
        let bell = Arc::clone(&self.bell);
        move || {
            bell.log_marked.store(true, Ordering::SeqCst);
            bell.ring_if_asleep();
        }
    }

    fn answer(&self, message: Message) -> bool {
        let sent = self.lanes[index(Lane::Replies)].try_send(message).is_ok();
        self.bell.ring(Lane::Replies);
        sent
    }
}

impl Inbox {
    /// Takes the next value of a lane.
    pub(super) fn take(&self, lane: Lane) -> Option<Message> {
        let (mark, lane) = (&self.bell.marked[index(lane)], &self.lanes[index(lane)]);
        // An empty lane costs one load. `try_recv` would take the channel's lock for each of three lanes in every
        // round.
        if !mark.load(Ordering::Acquire) {
            return None;
        }
        if let Ok(message) = lane.try_recv() {
            return Some(message);
        }
        // A value sent after the mark is cleared sets it again. One sent just before is found by this second look.
        mark.store(false, Ordering::SeqCst);
        let message = lane.try_recv().ok()?;
        mark.store(true, Ordering::SeqCst);
        Some(message)
    }
}

impl Inbox {
    /// Runs `drain` if the log may have replies; it returns whether more may be left.
    pub(super) fn drain_log(&self, drain: impl FnOnce() -> bool) {
        let mark = &self.bell.log_marked;
        if !mark.load(Ordering::Acquire) {
            return;
        }
        // Cleared before the look, so that replies which come during it mark again.
        mark.store(false, Ordering::SeqCst);
        if drain() {
            mark.store(true, Ordering::SeqCst);
        }
    }
}

impl Bell {
    fn ring(&self, lane: Lane) {
        self.marked[index(lane)].store(true, Ordering::SeqCst);
        self.ring_if_asleep();
    }

    fn ring_if_asleep(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Makes the core's epoll set ready.
    pub(super) fn wake(&self) {
        // Fails only if the counter is full, and then the set is ready already.
        let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
    }

    /// Announces that the core will sleep. Returns false if a lane is marked: the core must not sleep.
    pub(super) fn try_sleep(&self) -> bool {
        // Sequentially consistent, like `ring`: this stores `asleep` and then loads the marks, a sender the other way
        // round. With weaker orders both could miss each other's store, and the core would sleep with a value in its
        // lane.
        self.asleep.store(true, Ordering::SeqCst);
        let mut marks = self.marked.iter().chain([&self.log_marked]);
        let quiet = marks.all(|mark| !mark.load(Ordering::SeqCst));
        if !quiet {
            self.awake();
        }
        quiet
    }

    /// Announces that the core is awake.
    pub(super) fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }
}
