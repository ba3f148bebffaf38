//! What one core asks of the world: sockets, the other cores, the store, time and chance.
//!
//! Every call returns at once and never calls back, so the order of work is the engine's alone. The driver carries the calls
//! out with system calls and channels; the simulation carries them out in memory, where each of them costs time.

use super::{link::LinkKey, notice::Notice, slots::Slot};
use crate::{
    model::{Change, GatewayId, KeyHash, Now, ShardId, Side, StoreOp, StoreOutcome, TokenId},
    session::Session,
    shard::{Command, Origin, Reply, RequestKey},
};
use rustls::ServerConfig;
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// The world around one core.
pub trait Io {
    /// A connected socket that the core owns; dropping it without [`Io::close`] closes it, too.
    type Socket;
    /// The same socket on its way to another core.
    type Detached;
    /// What comes with a change of the store; dropped once the change is applied here.
    type Receipt;

    /// Both clocks; the attended time is the engine's to find.
    fn now(&mut self) -> Now;
    /// 128 random bits. The engine draws nothing itself.
    fn random(&self) -> u128;
    /// Tells what happened: what is rare, for log and metrics. Successful deliveries are counters.
    fn notice(&mut self, now: Now, notice: Notice<'_>);

    /// The next connection that the kernel has accepted.
    fn accept(&mut self) -> Accepted<Self::Socket>;
    /// Listens no more.
    fn stop_accepting(&mut self);
    /// Reports the socket's readiness under `key` from now on. False where the world has no room for it.
    fn attach(&mut self, socket: &mut Self::Socket, key: LinkKey) -> bool;
    /// Reads into `room`.
    fn receive(&mut self, socket: &mut Self::Socket, room: &mut [u8]) -> Received;
    /// Writes; what is less than all makes the world report when the socket takes bytes again.
    fn send(&mut self, socket: &mut Self::Socket, bytes: &[u8]) -> Sent;
    /// Sends a FIN behind what was written.
    fn shutdown_write(&mut self, socket: &mut Self::Socket);
    /// What the kernel knows about the peer.
    fn peer(&mut self, socket: &Self::Socket) -> PeerState;
    /// Closes the socket.
    fn close(&mut self, socket: Self::Socket, how: Ending);
    /// Takes the socket away from this core.
    fn detach(&mut self, socket: Self::Socket) -> Self::Detached;
    /// Makes a socket from another core this one's.
    fn adopt(&mut self, detached: Self::Detached) -> Self::Socket;

    /// Asks another core.
    ///
    /// # Errors
    /// Gives the request back where that core's lane is full.
    fn request(&mut self, to: ShardId, request: Request<Self::Detached>) -> Result<(), Request<Self::Detached>>;
    /// Answers another core. Its lane has room for every request that it has in flight; false where it has none all the same.
    fn reply(&mut self, to: ShardId, key: RequestKey, reply: Reply) -> bool;
    /// Asks the store; the outcome comes by [`Lane::Replies`]. False where its queue is full.
    fn store(&mut self, op: StoreOp, key: RequestKey) -> bool;
    /// The next value from a lane.
    fn take(&mut self, lane: Lane) -> Option<Incoming<Self::Detached, Self::Receipt>>;
}

/// What an accept brings.
pub enum Accepted<S> {
    /// A connection.
    Socket {
        /// Its socket, not attached yet.
        socket: S,
        /// The other end.
        peer: SocketAddr,
        /// Whom the address that it came to serves.
        side: Side,
    },
    /// Nobody waits; the world reports the next one.
    Blocked,
    /// No descriptor is left. Others wait in the kernel's queue.
    Exhausted(std::io::Error),
    /// The kernel cannot. Others wait in its queue.
    Failed(std::io::Error),
}

/// What a read brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// This many bytes.
    Bytes(usize),
    /// Nothing now.
    Blocked,
    /// The peer sends no more.
    End,
    /// The socket is broken.
    Broken,
}

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// The socket took this many bytes; less than all means that it takes no more now.
    Took(usize),
    /// The socket is broken.
    Broken,
}

/// What the kernel knows about a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerState {
    /// Nothing is unacknowledged, or the last acknowledgement is recent.
    pub alive: bool,
    /// Bytes that the peer's kernel has acknowledged since the connection began.
    pub acknowledged_bytes: u64,
}

/// How a socket is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// What was written still goes out, and a FIN behind it.
    Orderly,
    /// What the kernel holds is thrown away, and the peer gets a reset.
    Abort,
}

/// What is ready about a socket.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Ready {
    /// Bytes can be read, or the end.
    pub readable: bool,
    /// Bytes can be written.
    pub writable: bool,
    /// The peer has ended its side: after its last bytes a read brings the end.
    pub ended: bool,
    /// The socket is broken.
    pub broken: bool,
}

/// The three ways by which values reach a core; one that is full holds up no other.
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
    /// Another core asks.
    Request(Request<D>),
    /// Another core's shard answers.
    Reply(RequestKey, Reply),
    /// The store answers.
    Stored(RequestKey, StoreOutcome),
    /// Gateways or tokens changed; the receipt is dropped once this core has applied it.
    Change(Change, R),
    /// A new certificate.
    Tls(Arc<ServerConfig>),
    /// Close everything, over the window, and end.
    Drain,
}

/// What one core asks another.
pub enum Request<D> {
    /// A command for the shard; the reply goes to its origin.
    Command(Origin, Command),
    /// A connection whose gateway lives there.
    Handoff(Box<Handoff<D>>),
    /// Close one of a crowd, so that this core can accept a connection; answered by [`Request::RoomMade`].
    MakeRoom(ShardId),
    /// Whether one was closed.
    RoomMade(bool),
}

/// A connection on its way to the core that owns its gateway.
///
/// It moves once, while it waits for its verdict: nothing is read then, and nothing waits to be written. The socket keeps
/// what the peer sends meanwhile, so no byte is lost.
pub struct Handoff<D> {
    pub(super) socket: D,
    pub(super) session: Session,
    /// Time that the core it comes from has lost.
    pub(super) lost: Duration,
    pub(super) side: Side,
    pub(super) credentials: Credentials,
    pub(super) slot: Slot,
}

/// A gateway whose key was good.
#[derive(Clone, Copy, Debug)]
pub struct Credentials {
    /// Who.
    pub gateway: GatewayId,
    /// By which token.
    pub token: TokenId,
    /// To look once more on the owner's core: the key may be revoked while the connection moves.
    pub key: KeyHash,
}
