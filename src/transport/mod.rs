//! How a stream of events looks on the wire, whatever carries it.

mod websocket;

pub use websocket::WebSocket;

use crate::model::{CloseReason, Event, Position, Timestamp};
use bytes::Bytes;

/// What came from a gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inbound {
    /// A whole text message.
    Text(Bytes),
    /// A whole binary message; nobody asked for one.
    Binary,
    /// The answer to a ping, or an unsolicited one.
    Pong,
    /// A ping; it has been answered.
    Ping,
    /// The gateway closes; the answer is in the output.
    Close(u16),
}

/// A protocol that carries events to a gateway and its messages back.
///
/// Nothing here knows sockets, shards or the time. Whatever it has to say is appended to `out`, and only while `out` stands
/// at a frame boundary: the caller puts nothing of a frame there in part.
pub trait Transport {
    /// One event as it goes over every connection: made once, shared by all.
    fn encode(event: &Event, position: Position, at: Timestamp) -> Bytes;

    /// The next place in an encoded event at which another frame may stand; `encoded` is its length.
    fn boundary(encoded: usize, offset: usize) -> usize;

    /// The first message of a connection.
    fn open(&mut self, ack: &[u8], out: &mut Vec<u8>);

    /// Takes what the gateway sent; returns how many control frames were in it.
    ///
    /// # Errors
    /// Why the connection has to end. What came before is in `inbound`.
    fn handle_bytes(&mut self, input: &[u8], inbound: &mut Vec<Inbound>, out: &mut Vec<u8>)
    -> Result<u32, CloseReason>;

    /// Asks for a sign of life.
    fn ping(&mut self, out: &mut Vec<u8>);

    /// Says why the connection ends. What the gateway sends from now on only matters until it has answered.
    fn close(&mut self, reason: CloseReason, out: &mut Vec<u8>);

    /// Whether both sides have said that they close.
    fn closed(&self) -> bool;
}
