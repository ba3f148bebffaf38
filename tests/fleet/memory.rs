//! The engine's `Io` with sockets in memory: each accepts every write, and keeps or counts the bytes.

use super::READABLE;
use gatecast::{
    engine::{Accepted, Ending, Incoming, Io, Lane, LinkKey, Notice, PeerState, Ready, Received, Request, Sent},
    model::{
        Instant, Now, ShardId, Side, StoreOp, Timestamp,
        log::{Busy, LogReply, LogRequest},
    },
    shard::{Reply, RequestKey},
    store::log::{EventLog, LogPort, MemoryLog, MemorySettings},
};
use std::{collections::VecDeque, time::Duration};

/// A socket, as an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketId(usize);

/// Everything outside of one core: clock, sockets and readiness.
pub struct MemoryIo {
    now: Now,
    sockets: Vec<Socket>,
    accepting: VecDeque<SocketId>,
    ready: VecDeque<(LinkKey, Ready)>,
    /// Number and bytes of the writes to sockets that only count.
    moved: (usize, usize),
    log: Box<dyn LogPort>,
}

#[derive(Default)]
struct Socket {
    key: Option<LinkKey>,
    incoming: Vec<u8>,
    sent: Vec<u8>,
    counted_only: bool,
}

/// The port of a log in memory.
fn log() -> Box<dyn LogPort> {
    let settings = MemorySettings { epoch: 1, gateway_bytes_max: 64 << 20, port_bytes_max: 64 << 20 };
    MemoryLog::new(settings).ports(vec![Box::new(|| {})]).pop().expect("one port")
}

impl MemoryIo {
    pub fn new() -> Self {
        Self {
            now: Now::new(Instant(1), Timestamp(1_700_000_000_000)),
            sockets: Vec::new(),
            accepting: VecDeque::new(),
            ready: VecDeque::new(),
            moved: (0, 0),
            log: log(),
        }
    }

    pub fn clock(&self) -> Now {
        self.now
    }

    pub fn pass_time(&mut self, time: Duration) {
        self.now.instant = self.now.instant + time;
    }

    /// Adds a connection that the engine can accept.
    pub fn connect(&mut self) -> SocketId {
        let id = SocketId(self.sockets.len());
        self.sockets.push(Socket::default());
        self.accepting.push_back(id);
        id
    }

    /// Bytes from the peer arrive at the socket.
    pub fn receive_from_peer(&mut self, id: SocketId, bytes: &[u8]) {
        let socket = &mut self.sockets[id.0];
        socket.incoming.extend_from_slice(bytes);
        if let Some(key) = socket.key {
            self.ready.push_back((key, READABLE));
        }
    }

    /// Takes the bytes that were written to the socket.
    pub fn take_sent(&mut self, id: SocketId) -> Vec<u8> {
        let sent = &mut self.sockets[id.0].sent;
        // A copy, not `mem::take`: the socket keeps its capacity, so that counted allocations are the engine's.
        let taken = sent.clone();
        sent.clear();
        taken
    }

    /// From now on, writes to the socket are counted and their bytes dropped.
    pub fn keep_nothing_of(&mut self, id: SocketId) {
        self.sockets[id.0].counted_only = true;
        self.sockets[id.0].sent = Vec::new();
    }

    pub fn take_moved(&mut self) -> (usize, usize) {
        std::mem::take(&mut self.moved)
    }

    pub fn next_ready(&mut self) -> Option<(LinkKey, Ready)> {
        self.ready.pop_front()
    }

    pub fn has_connections(&self) -> bool {
        !self.accepting.is_empty()
    }

    pub fn is_quiet(&self) -> bool {
        self.ready.is_empty() && self.accepting.is_empty()
    }
}

impl Io for MemoryIo {
    type Socket = SocketId;
    type Detached = SocketId;
    type Receipt = ();

    fn log(&mut self, request: LogRequest, replies: &mut Vec<LogReply>) -> Result<(), Busy<LogRequest>> {
        self.log.submit(request, replies)
    }

    fn take_log_replies(&mut self, _: usize, _: &mut Vec<LogReply>) {}

    fn now(&mut self) -> Now {
        self.now
    }

    fn random(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }

    fn notice(&mut self, _: Now, _: Notice<'_>) {}

    fn accept(&mut self) -> Accepted<SocketId> {
        let peer = "127.0.0.1:1".parse().expect("an address");
        self.accepting.pop_front().map_or(Accepted::Blocked, |socket| Accepted::Socket {
            socket,
            peer,
            side: Side::Both,
        })
    }

    fn stop_accepting(&mut self) {}

    fn attach(&mut self, socket: &mut SocketId, key: LinkKey) -> bool {
        let place = &mut self.sockets[socket.0];
        place.key = Some(key);
        if !place.incoming.is_empty() {
            self.ready.push_back((key, READABLE));
        }
        true
    }

    fn receive(&mut self, socket: &mut SocketId, room: &mut [u8]) -> Received {
        let incoming = &mut self.sockets[socket.0].incoming;
        if incoming.is_empty() {
            return Received::Blocked;
        }
        let bytes = incoming.len().min(room.len());
        room[..bytes].copy_from_slice(&incoming[..bytes]);
        incoming.drain(..bytes);
        Received::Bytes(bytes)
    }

    fn send(&mut self, socket: &mut SocketId, bytes: &[u8]) -> Sent {
        let socket = &mut self.sockets[socket.0];
        if socket.counted_only {
            self.moved = (self.moved.0 + 1, self.moved.1 + bytes.len());
        } else {
            socket.sent.extend_from_slice(bytes);
        }
        Sent::Took(bytes.len())
    }

    fn shutdown_write(&mut self, _: &mut SocketId) {}

    fn peer(&mut self, _: &SocketId) -> PeerState {
        PeerState { alive: true, acknowledged_bytes: 0 }
    }

    /// Called only for the platform's connection, after `ping` has advanced the clock beyond the HTTP idle deadline.
    fn close(&mut self, _: SocketId, _: Ending) {}

    fn detach(&mut self, socket: SocketId) -> SocketId {
        socket
    }

    fn adopt(&mut self, detached: SocketId) -> SocketId {
        detached
    }

    fn request(&mut self, _: ShardId, request: Request<SocketId>) -> Result<(), Request<SocketId>> {
        Err(request)
    }

    fn reply(&mut self, _: ShardId, _: RequestKey, _: Reply) -> bool {
        false
    }

    fn store(&mut self, _: StoreOp, _: RequestKey) -> bool {
        false
    }

    fn take(&mut self, _: Lane) -> Option<Incoming<SocketId, ()>> {
        None
    }
}
