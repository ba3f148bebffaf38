//! The engine's interface to sockets, other cores, the store, the clock and random numbers.
//!
//! Every call returns at once and never calls back, so that the engine alone decides the order of work. The driver
//! implements the calls with system calls and channels. The simulation implements them in memory, where each costs
//! time.

use super::{link::LinkKey, notice::Notice, slots::Slot};
use crate::{
    model::{
        Change, GatewayId, KeyHash, Now, Position, ShardId, Side, StoreOp, StoreOutcome, TokenId,
        log::{Busy, LogReply, LogRequest},
    },
    session::Session,
    shard::{Command, Origin, Reply, RequestKey},
};
use rustls::ServerConfig;
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// The I/O of one core.
pub trait Io {
    /// A connected socket that the core owns. Dropping it closes it as well.
    type Socket;
    /// The same socket on its way to another core.
    type Detached;
    /// Comes with each change. Dropping it tells the store that this core has applied the change.
    type Receipt;

    /// Reads both clocks. The engine computes the attended time itself.
    fn now(&mut self) -> Now;
    /// Draws 128 random bits, the engine's only source of randomness.
    fn random(&self) -> u128;
    /// Reports a rare event for log and metrics. Successful deliveries are only counted.
    fn notice(&mut self, now: Now, notice: Notice<'_>);

    /// Accepts the next connection.
    fn accept(&mut self) -> Accepted<Self::Socket>;
    /// Closes the listeners.
    fn stop_accepting(&mut self);
    /// Begins to report the socket's readiness under `key`; returns whether that succeeded.
    fn attach(&mut self, socket: &mut Self::Socket, key: LinkKey) -> bool;
    /// Reads into `room`, once.
    fn receive(&mut self, socket: &mut Self::Socket, room: &mut [u8]) -> Received;
    /// Writes, once. After a short write the socket is reported as writable when it takes bytes again.
    fn send(&mut self, socket: &mut Self::Socket, bytes: &[u8]) -> Sent;
    /// Sends a FIN after the written bytes.
    fn shutdown_write(&mut self, socket: &mut Self::Socket);
    /// Reads the kernel's state of the connection to the peer.
    fn peer(&mut self, socket: &Self::Socket) -> PeerState;
    /// Closes the socket.
    fn close(&mut self, socket: Self::Socket, how: Ending);
    /// Takes the socket away from this core, to be sent to another.
    fn detach(&mut self, socket: Self::Socket) -> Self::Detached;
    /// Takes over a socket from another core; [`Io::attach`] must follow.
    fn adopt(&mut self, detached: Self::Detached) -> Self::Socket;

    /// Sends a request to another core.
    ///
    /// # Errors
    /// Returns the request if that core's lane is full or the core has ended.
    fn request(&mut self, to: ShardId, request: Request<Self::Detached>) -> Result<(), Request<Self::Detached>>;
    /// Answers another core's request. Its lane has room for the replies to all its requests in flight; returns false
    /// if it is full anyway.
    fn reply(&mut self, to: ShardId, key: RequestKey, reply: Reply) -> bool;
    /// Sends an operation to the store; the outcome comes by [`Lane::Replies`]. Returns false if the store's queue is
    /// full or a core has too many unread changes.
    fn store(&mut self, op: StoreOp, key: RequestKey) -> bool;
    /// Asks the log of events. A log in memory replies at once.
    ///
    /// # Errors
    /// Returns the request if too much waits for its reply.
    fn log(&mut self, request: LogRequest, replies: &mut Vec<LogReply>) -> Result<(), Busy<LogRequest>>;
    /// Takes replies of the log that have come, of about `bytes_max` bytes of events.
    fn take_log_replies(&mut self, bytes_max: usize, replies: &mut Vec<LogReply>);
    /// Takes the next value from a lane.
    fn take(&mut self, lane: Lane) -> Option<Incoming<Self::Detached, Self::Receipt>>;
}

/// The result of [`Io::accept`].
pub enum Accepted<S> {
    /// A connection.
    Socket {
        /// The socket; [`Io::attach`] must follow.
        socket: S,
        /// The peer's address.
        peer: SocketAddr,
        /// Who may connect to the listener that it came from: gateways, the platform, or both.
        side: Side,
    },
    /// No connection waits. The next one is reported by [`super::Engine::handle_acceptable`].
    Blocked,
    /// The process or the machine has no free descriptor. Connections wait in the kernel's backlog.
    Exhausted(std::io::Error),
    /// Another error. Connections wait in the kernel's backlog.
    Failed(std::io::Error),
}

/// The result of [`Io::receive`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// Number of bytes read, at least 1.
    Bytes(usize),
    /// No bytes yet.
    Blocked,
    /// The peer has sent its FIN, and everything before it was read.
    End,
    /// The socket is broken.
    Broken,
}

/// The result of [`Io::send`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// Number of bytes taken. Fewer than offered means that the socket is full.
    Took(usize),
    /// The socket is broken.
    Broken,
}

/// The kernel's state of the connection to a peer (`TCP_INFO`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerState {
    /// No byte is unacknowledged, or the peer's kernel acknowledged something recently.
    pub alive: bool,
    /// Bytes that the peer's kernel acknowledged since the connection began.
    pub acknowledged_bytes: u64,
}

/// How a socket is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The kernel still sends what was written, then a FIN.
    Orderly,
    /// The kernel discards what it holds and sends a reset. An orderly close would go on delivering to a revoked peer.
    Abort,
}

/// The readiness of a socket.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Ready {
    /// A read returns bytes or the end.
    pub readable: bool,
    /// A write takes bytes.
    pub writable: bool,
    /// The peer's FIN has arrived. A read returns the end after the bytes before it.
    pub ended: bool,
    /// The socket has failed, for example by a reset.
    pub broken: bool,
}

/// The three channels by which values reach a core. A full one does not delay the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// From the store and the server: [`Incoming::Change`], [`Incoming::Tls`], [`Incoming::Drain`].
    Control,
    /// Answers to this core's requests: [`Incoming::Reply`], [`Incoming::Stored`].
    Replies,
    /// Requests of other cores: [`Incoming::Request`].
    Requests,
}

/// A value from a lane.
pub enum Incoming<D, R> {
    /// A request of another core.
    Request(Request<D>),
    /// The answer of another core's shard.
    Reply(RequestKey, Reply),
    /// The answer of the store.
    Stored(RequestKey, StoreOutcome),
    /// A change of gateways or tokens. Drop the receipt once the change is applied.
    Change(Change, R),
    /// A new certificate.
    Tls(Arc<ServerConfig>),
    /// Begin the drain: close all connections, spread over the drain window, and end.
    Drain,
}

/// A request of one core to another.
pub enum Request<D> {
    /// A command for the shard. The reply goes to its origin.
    Command(Origin, Command),
    /// A connection whose gateway the other core owns.
    Handoff(Box<Handoff<D>>),
    /// Close an unauthenticated connection, so that the core with this id can accept one. Answered by
    /// [`Request::RoomMade`].
    MakeRoom(ShardId),
    /// The answer to [`Request::MakeRoom`]: whether a connection was closed.
    RoomMade(bool),
}

/// A connection on its way to the core that owns its gateway.
///
/// It moves once, in the stage in which it waits for admission: the session neither reads nor has anything to write
/// then, and what the peer sends meanwhile stays in the kernel, so no byte is lost or duplicated.
pub struct Handoff<D> {
    pub(super) socket: D,
    pub(super) session: Session,
    /// The lost time of the core that it comes from.
    pub(super) lost: Duration,
    pub(super) side: Side,
    pub(super) credentials: Credentials,
    pub(super) slot: Slot,
}

/// A valid key, and the gateway and token that it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Credentials {
    /// The gateway.
    pub gateway: GatewayId,
    /// The token.
    pub token: TokenId,
    /// The hash of the key, looked up again on the owner's core: it may be revoked while the connection moves.
    pub key: KeyHash,
    /// The position behind which the gateway asks to go on.
    pub resume: Option<Position>,
    /// It asks that its pongs prove nothing.
    pub written_only: bool,
}
