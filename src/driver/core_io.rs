//! One core's I/O: implements the engine's [`Io`] with system calls and channels.

use super::{
    clock,
    epoll_set::{EpollEvent, EpollSet},
    line_limit::LineLimit,
    mesh::{Address, Inbox},
    notices::Notices,
    socket,
};
use crate::{
    engine::{Accepted, Ending, Engine, Incoming, Io, Lane, LinkKey, Notice, PeerState, Received, Request, Sent},
    model::{
        Now, ShardId, Side, StoreOp,
        log::{Busy, LogReply, LogRequest},
    },
    shard::{Reply, RequestKey},
    store::{Settled, StoreHandle, log::LogPort},
};
use std::{io, os::fd::OwnedFd, sync::Arc, time::Duration};

/// The I/O of one core.
pub(super) struct CoreIo {
    id: ShardId,
    pub(super) set: EpollSet,
    listeners: Vec<(OwnedFd, Side)>,
    /// Index of the listener to try first, modulo their number.
    next_listener: usize,
    inbox: Inbox,
    peers: Vec<Address>,
    store: StoreHandle,
    log: Box<dyn LogPort>,
    notices: Notices,
}

impl CoreIo {
    pub(super) fn new(
        id: ShardId,
        inbox: Inbox,
        peers: Vec<Address>,
        store: StoreHandle,
        log: Box<dyn LogPort>,
        listeners: Vec<(OwnedFd, Side)>,
        lines: Arc<LineLimit>,
    ) -> io::Result<Self> {
        let set = EpollSet::new(Arc::clone(&inbox.bell), Arc::clone(&lines))?;
        for (listener, _) in &listeners {
            set.add_listener(listener)?;
        }
        let notices = Notices::new(id, lines);
        Ok(Self { id, set, listeners, next_listener: 0, inbox, peers, store, log, notices })
    }

    /// Waits for events for at most `wait` and passes them to the engine; returns their number.
    pub(super) fn harvest(&mut self, engine: &mut Engine<Self>, wait: Duration) -> usize {
        self.set.harvest(wait, |woken| match woken {
            EpollEvent::Link(key, ready) => engine.handle_ready(key, ready),
            EpollEvent::Acceptable => engine.handle_acceptable(),
            // The next pass looks at the lanes and the deadlines anyway.
            EpollEvent::Wake => {}
        })
    }
}

impl Io for CoreIo {
    type Socket = OwnedFd;
    type Detached = OwnedFd;
    type Receipt = Arc<Settled>;

    fn now(&mut self) -> Now {
        clock::now()
    }

    fn random(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }

    fn notice(&mut self, now: Now, notice: Notice<'_>) {
        self.notices.write(now, &notice);
    }

    fn accept(&mut self) -> Accepted<OwnedFd> {
        for _ in 0..self.listeners.len() {
            let (listener, side) = &self.listeners[self.next_listener % self.listeners.len()];
            match socket::accept(listener) {
                Ok(Some((socket, peer))) => {
                    // Alternate: a listener with an endless backlog must not starve the other one.
                    self.next_listener = self.next_listener.wrapping_add(1);
                    return Accepted::Socket { socket, peer, side: *side };
                }
                Ok(None) => self.next_listener = self.next_listener.wrapping_add(1),
                Err(error) if socket::is_exhausted(&error) => return Accepted::Exhausted(error),
                Err(error) => return Accepted::Failed(error),
            }
        }
        Accepted::Blocked
    }

    fn stop_accepting(&mut self) {
        // Removed and closed, not shut down: a shut-down listener would report a hang-up for ever.
        for (listener, _) in self.listeners.drain(..) {
            self.set.remove(&listener);
        }
    }

    fn attach(&mut self, socket: &mut OwnedFd, key: LinkKey) -> bool {
        self.set.add(&*socket, key).is_ok()
    }

    fn receive(&mut self, socket: &mut OwnedFd, room: &mut [u8]) -> Received {
        socket::receive(socket, room)
    }

    fn send(&mut self, socket: &mut OwnedFd, bytes: &[u8]) -> Sent {
        socket::send(socket, bytes)
    }

    fn shutdown_write(&mut self, socket: &mut OwnedFd) {
        socket::shutdown_write(socket);
    }

    fn peer(&mut self, socket: &OwnedFd) -> PeerState {
        socket::peer(socket)
    }

    // Closing also removes the socket from the epoll set, because no other descriptor refers to it.
    fn close(&mut self, socket: OwnedFd, how: Ending) {
        if how == Ending::Abort {
            socket::abort_on_close(&socket);
        }
        drop(socket);
    }

    fn detach(&mut self, socket: OwnedFd) -> OwnedFd {
        self.set.remove(&socket);
        socket
    }

    fn adopt(&mut self, detached: OwnedFd) -> OwnedFd {
        detached
    }

    fn request(&mut self, to: ShardId, request: Request<OwnedFd>) -> Result<(), Request<OwnedFd>> {
        self.peers[to.index()].request(request)
    }

    fn reply(&mut self, to: ShardId, key: RequestKey, reply: Reply) -> bool {
        self.peers[to.index()].reply(key, reply)
    }

    fn store(&mut self, op: StoreOp, key: RequestKey) -> bool {
        // The control lane is not bounded, because a lost revocation would leave a connection open. The bound is here
        // instead: no new change while any core has too many unread ones.
        if op.makes_a_change() && self.peers.iter().any(Address::is_backlogged) {
            return false;
        }
        let me = self.peers[self.id.index()].clone();
        let reply = move |outcome| {
            // Fails only if this core has ended, and then nobody waits for the outcome.
            let _ = me.stored(key, outcome);
        };
        self.store.submit(op, Box::new(reply)).is_ok()
    }

    fn log(&mut self, request: LogRequest, replies: &mut Vec<LogReply>) -> Result<(), Busy<LogRequest>> {
        self.log.submit(request, replies)
    }

    fn take_log_replies(&mut self, bytes_max: usize, replies: &mut Vec<LogReply>) {
        let log = &mut self.log;
        self.inbox.drain_log(|| {
            log.drain(bytes_max, replies);
            let first = replies.len();
            // The second look usually finds nothing. Without it the core would have to make another pass to learn that.
            log.drain(bytes_max, replies);
            replies.len() > first
        });
    }

    fn take(&mut self, lane: Lane) -> Option<Incoming<OwnedFd, Arc<Settled>>> {
        self.inbox.take(lane)
    }
}
