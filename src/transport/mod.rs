//! The interface of a protocol that carries events to gateways, and its one implementation, WebSocket.

mod websocket;

pub use websocket::{Reading, WebSocket};

use crate::model::{CloseReason, Frame, Position, log::Record};
use bytes::Bytes;

/// A message or control frame from a gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inbound {
    /// A complete text message.
    Text(Bytes),
    /// A complete binary message, which the hub ignores.
    Binary,
    /// The answer to a ping, or an unsolicited one, with its payload.
    Pong(Bytes),
    /// A ping; it has been answered.
    Ping,
    /// A close frame with this code; the answering close frame is in the output.
    Close(u16),
}

/// A protocol that carries events to a gateway and its messages back.
///
/// Nothing here knows sockets, shards or the time. Output is appended to `out` in complete frames, so `out` must end at
/// a frame boundary whenever it is passed in.
pub trait Transport {
    /// Encodes one event, with a ping behind it that names its position if `with_ping`. The bytes are the same for all
    /// connections, which share them. `buffer` is empty, and is for the texts around the payload.
    fn encode(record: &Record, with_ping: bool, buffer: Vec<u8>) -> Frame;

    /// The end of the frame that contains byte `offset` of an encoded event of `encoded` bytes, its ping left out: another frame
    /// may follow there.
    fn boundary(encoded: usize, offset: usize) -> usize;

    /// Writes the ack, the first message of a connection.
    fn open(&mut self, ack: &[u8], out: &mut Vec<u8>);

    /// Handles bytes from the gateway; returns the number of control frames in them. `reading` then has its messages, and no others.
    ///
    /// # Errors
    /// The reason for which the connection must end. `reading` has the messages before the violation.
    fn handle_bytes(&mut self, input: &[u8], reading: &mut Reading, out: &mut Vec<u8>) -> Result<u32, CloseReason>;

    /// Writes a ping, which names a position or nothing.
    fn ping(&mut self, position: Option<Position>, out: &mut Vec<u8>);

    /// Writes a close frame with this reason. Then only the gateway's answering close frame is awaited.
    fn close(&mut self, reason: CloseReason, out: &mut Vec<u8>);

    /// Whether the close handshake is complete.
    fn closed(&self) -> bool;
}
