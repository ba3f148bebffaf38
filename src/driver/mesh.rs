//! Values between cores over channels, and the doorbell that wakes a core that sleeps.
//!
//! Three lanes to each core, so that one that is full cannot hold up another: *requests* (full: the asker is told at once),
//! *replies* (never full: there are no more of them than requests in flight) and *control* (the store and the server: never
//! full, so that they wait for no core; while one is far behind, changes are not asked of the store). Who sends marks the lane, and rings only where the core may be asleep; the core looks at the marks before it sleeps.

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

/// What travels: sockets as descriptors, and with a change of the store the answer that waits until every core has applied it.
pub(crate) type Message = Incoming<OwnedFd, Arc<Settled>>;

/// The way to one core.
#[derive(Clone)]
pub(crate) struct Address {
    lanes: [Sender<Message>; LANES],
    bell: Arc<Bell>,
}

/// What a core reads from.
pub(crate) struct Inbox {
    lanes: [Receiver<Message>; LANES],
    pub(super) bell: Arc<Bell>,
}

/// Wakes one core.
pub(super) struct Bell {
    pub(super) eventfd: OwnedFd,
    asleep: AtomicBool,
    marked: [AtomicBool; LANES],
}

const LANES: usize = 3;

const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Control => 0,
        Lane::Replies => 1,
        Lane::Requests => 2,
    }
}

/// The addresses of all cores, and an inbox for each.
///
/// # Errors
/// Where the system gives no descriptor.
pub(crate) fn build(shards: u16) -> io::Result<(Vec<Address>, Vec<Inbox>)> {
    let ways = (0..shards).map(|_| {
        let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let bell = Arc::new(Bell { eventfd, asleep: AtomicBool::new(false), marked: Default::default() });
        let (control, control_in) = flume::unbounded();
        let (replies, replies_in) = flume::bounded(limits::REQUESTS_IN_FLIGHT_MAX * ANSWERS_PER_REQUEST);
        let (requests, requests_in) = flume::bounded(limits::INBOX_MAX);
        let address = Address { lanes: [control, replies, requests], bell: Arc::clone(&bell) };
        Ok((address, Inbox { lanes: [control_in, replies_in, requests_in], bell }))
    });
    ways.collect::<io::Result<Vec<_>>>().map(|ways| ways.into_iter().unzip())
}

/// A late answer may still be on its way when its request's place has been given to another.
const ANSWERS_PER_REQUEST: usize = 2;

impl Address {
    /// Tells the core something by its control lane, and waits for nothing. A core that has ended needs to know nothing.
    pub(crate) fn tell(&self, message: Message) {
        let _ = self.lanes[index(Lane::Control)].send(message);
        self.bell.ring(Lane::Control);
    }

    /// Whether so much was told to the core, and not heard yet, that nothing is to be added.
    pub(super) fn is_backlogged(&self) -> bool {
        self.lanes[index(Lane::Control)].len() >= limits::CONTROL_BACKLOG_MAX
    }

    /// Asks the core something.
    ///
    /// # Errors
    /// Gives the request back where the lane is full, or the core has ended.
    pub(super) fn request(&self, request: Request<OwnedFd>) -> Result<(), Request<OwnedFd>> {
        let sent = self.lanes[index(Lane::Requests)].try_send(Incoming::Request(request));
        self.bell.ring(Lane::Requests);
        match sent.map_err(TrySendError::into_inner) {
            Err(Incoming::Request(request)) => Err(request),
            _ => Ok(()),
        }
    }

    /// Answers the core's request; whether there was room.
    pub(super) fn reply(&self, key: RequestKey, reply: Reply) -> bool {
        self.answer(Incoming::Reply(key, reply))
    }

    /// Brings the store's outcome; whether there was room.
    pub(super) fn stored(&self, key: RequestKey, outcome: StoreOutcome) -> bool {
        self.answer(Incoming::Stored(key, outcome))
    }

    fn answer(&self, message: Message) -> bool {
        let sent = self.lanes[index(Lane::Replies)].try_send(message).is_ok();
        self.bell.ring(Lane::Replies);
        sent
    }
}

impl Inbox {
    /// The next value of a lane.
    pub(super) fn take(&self, lane: Lane) -> Option<Message> {
        let (mark, lane) = (&self.bell.marked[index(lane)], &self.lanes[index(lane)]);
        if !mark.load(Ordering::Acquire) {
            return None;
        }
        if let Ok(message) = lane.try_recv() {
            return Some(message);
        }
        // Who sends from now on marks the lane again; who has sent before is found by this look.
        mark.store(false, Ordering::SeqCst);
        let message = lane.try_recv().ok()?;
        mark.store(true, Ordering::SeqCst);
        Some(message)
    }
}

impl Bell {
    fn ring(&self, lane: Lane) {
        self.marked[index(lane)].store(true, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Wakes the core, asleep or not.
    pub(super) fn wake(&self) {
        // It fails only where the counter is full, and the core is awake then.
        let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
    }

    /// The core is about to sleep; false where a lane was marked, and it must not.
    pub(super) fn try_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let quiet = self.marked.iter().all(|mark| !mark.load(Ordering::SeqCst));
        if !quiet {
            self.awake();
        }
        quiet
    }

    /// The core is awake.
    pub(super) fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }
}
