//! Events as WebSocket text messages (RFC 6455), with tungstenite over memory.

use super::{Inbound, Transport};
use crate::{
    limits,
    model::{CloseReason, Frame, Position, PositionBuffer, log::Record},
    wire::{envelope, frames::FrameGuard},
};
use std::{
    io::{self, Read, Write},
    sync::Arc,
};
use tungstenite::{
    Error, Message, Utf8Bytes,
    protocol::{
        CloseFrame, Role, WebSocketConfig, WebSocketContext,
        frame::{
            FrameHeader,
            coding::{CloseCode, Data, OpCode},
        },
    },
};

/// The server's side of one WebSocket.
pub struct WebSocket {
    /// Only inside a message, and once the close handshake has begun. Between two messages a context has no state.
    context: Option<Box<WebSocketContext>>,
    guard: FrameGuard,
    message_bytes_max: u32,
    phase: Phase,
}

/// What the connections of one core read with in turn, so that an idle one holds nothing for it.
#[derive(Default)]
pub struct Reading {
    /// The messages of one read.
    pub inbound: Vec<Inbound>,
    /// A context for the next connection that reads.
    context: Option<Box<WebSocketContext>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Our close frame is sent, the peer's has not arrived.
    CloseSent,
    /// Both close frames were exchanged; nothing more is read or written.
    Closed,
}

/// The header of a fragment: two bytes and a 16-bit length.
const FRAGMENT_HEADER_BYTES: usize = 4;
/// From the start of one fragment to that of the next.
const STRIDE: usize = FRAGMENT_HEADER_BYTES + limits::FRAGMENT_BYTES;

impl WebSocket {
    /// A WebSocket right after its 101, which accepts messages of up to `message_bytes_max` bytes.
    pub fn new(message_bytes_max: usize) -> Self {
        let message_bytes_max = u32::try_from(message_bytes_max).unwrap_or(u32::MAX);
        Self { context: None, guard: FrameGuard::default(), message_bytes_max, phase: Phase::Open }
    }

    fn read(&mut self, input: &[u8], reading: &mut Reading, out: &mut Vec<u8>) -> Result<(), CloseReason> {
        let mut memory = Memory { input, out };
        let kept = self.context.take();
        // How large a message was that came in earlier reads is not known.
        let mut may_be_large = kept.is_some();
        let mut context =
            kept.or_else(|| reading.context.take()).unwrap_or_else(|| new_context(self.message_bytes_max as usize));
        let result = loop {
            match context.read(&mut memory) {
                Ok(message) => {
                    may_be_large |= message.len() > KEPT_BYTES_MAX;
                    let close = matches!(message, Message::Close(_));
                    reading.inbound.extend(inbound_of(message));
                    if close && self.phase == Phase::Open {
                        // tungstenite has only queued the answering close frame; the next read writes it.
                        let _ = context.read(&mut memory);
                        self.phase = Phase::Closed;
                        break Ok(());
                    }
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    self.phase = Phase::Closed;
                    break Ok(());
                }
                Err(error) => break Err(close_reason(&error)),
            }
        };
        if result.is_err() || self.phase != Phase::Open || !memory.input.is_empty() || !self.guard.between_messages() {
            self.context = Some(context);
        } else if !may_be_large {
            reading.context = Some(context);
        }
        result
    }
}

/// Bytes of a message up to which the context that has read it is used again: tungstenite keeps the buffer that grew for the
/// message.
const KEPT_BYTES_MAX: usize = 1024;

fn new_context(message_bytes_max: usize) -> Box<WebSocketContext> {
    // No buffers of its own: it reads from and writes to buffers that all connections of the core share.
    let config = WebSocketConfig::default()
        .read_buffer_size(0)
        .write_buffer_size(0)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max));
    Box::new(WebSocketContext::new(Role::Server, Some(config)))
}

impl Transport for WebSocket {
    fn encode(record: &Record, with_ping: bool, buffer: Vec<u8>) -> Frame {
        let Record { position, accepted, ref event, .. } = *record;
        let mut texts = buffer;
        texts.reserve(TEXTS_BYTES + event.kind.as_str().len());
        // The header says how long the message is, which the texts behind it decide.
        texts.extend_from_slice(&[0; FRAGMENT_HEADER_BYTES]);
        envelope::event_prefix(event, &mut texts);
        let payload_at = texts.len();
        envelope::event_suffix(event, position, accepted, &mut texts);
        let length = texts.len() - FRAGMENT_HEADER_BYTES + event.payload.len();
        let is_whole = length > limits::FRAGMENT_BYTES;
        if is_whole {
            let (prefix, suffix) = texts[FRAGMENT_HEADER_BYTES..].split_at(payload_at - FRAGMENT_HEADER_BYTES);
            texts = text_message(&[prefix, &event.payload, suffix], PING_BYTES_MAX);
        } else {
            debug_assert!(length > 125, "the texts alone are too long for the short form of a header");
            let [.., high, low] = (length as u32).to_be_bytes();
            texts[..FRAGMENT_HEADER_BYTES].copy_from_slice(&[TEXT, LENGTH_16, high, low]);
        }
        let event_bytes = texts.len();
        if with_ping {
            put_ping(Some(position), &mut texts);
        }
        let ping_bytes = texts.len() - event_bytes;
        if is_whole {
            Frame::whole(texts, ping_bytes)
        } else {
            Frame::around(Arc::clone(event), texts, payload_at, ping_bytes)
        }
    }

    fn boundary(encoded: usize, offset: usize) -> usize {
        // Computed, not stored with each event: all fragments but the last have the same length.
        if encoded <= STRIDE { encoded } else { ((offset / STRIDE + 1) * STRIDE).min(encoded) }
    }

    fn open(&mut self, ack: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&text_message(&[ack], 0));
    }

    fn handle_bytes(&mut self, input: &[u8], reading: &mut Reading, out: &mut Vec<u8>) -> Result<u32, CloseReason> {
        // After a panic there are some of another connection.
        reading.inbound.clear();
        if self.phase == Phase::Closed {
            return Ok(0);
        }
        let seen = self.guard.inspect(input, self.message_bytes_max as usize);
        self.read(&input[..seen.valid_bytes], reading, out)?;
        match seen.violation {
            // Bytes after a close frame are ignored, so they cannot violate anything (RFC 6455 section 5.5.1).
            Some(reason) if self.phase != Phase::Closed => Err(reason),
            _ => Ok(seen.controls),
        }
    }

    fn ping(&mut self, position: Option<Position>, out: &mut Vec<u8>) {
        put_ping(position, out);
    }

    fn close(&mut self, reason: CloseReason, out: &mut Vec<u8>) {
        let Some(code) = reason.code() else { return };
        if self.phase != Phase::Open {
            return;
        }
        let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from_static(reason.label()) };
        // tungstenite may refuse after a violation of the peer. Then the connection ends without a close frame.
        let context = self.context.get_or_insert_with(|| new_context(self.message_bytes_max as usize));
        let _ = context.close(&mut Memory { input: &[], out }, Some(frame));
        self.phase = Phase::CloseSent;
    }

    fn closed(&self) -> bool {
        self.phase == Phase::Closed
    }
}

/// The first byte of a text message of one frame, and of a ping: FIN and the opcode (RFC 6455 section 5.2).
const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
/// The second byte of a frame whose length follows in 16 bits: a server does not mask.
const LENGTH_16: u8 = 126;
/// Bytes of the texts around a payload, without the event's type and its user.
const TEXTS_BYTES: usize = 320;
/// Bytes of a ping that names a position.
const PING_BYTES_MAX: usize = 2 + size_of::<PositionBuffer>();
// A control frame has at most 125 bytes of payload (RFC 6455 section 5.5).
const _: () = assert!(PING_BYTES_MAX <= 2 + 125);

/// Appends a ping, whose payload is the text of a position or empty.
fn put_ping(position: Option<Position>, out: &mut Vec<u8>) {
    let mut buffer: PositionBuffer = [0; _];
    let text = position.map_or("", |position| position.encode(&mut buffer));
    out.extend_from_slice(&[PING, u8::try_from(text.len()).expect("a position has fewer than 125 characters")]);
    out.extend_from_slice(text.as_bytes());
}

/// One text message, made of several parts, in memory with room for `extra` bytes more. A long one is cut into fragments, between
/// which a ping can be sent.
fn text_message(parts: &[&[u8]], extra: usize) -> Vec<u8> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let fragments = total.div_ceil(limits::FRAGMENT_BYTES).max(1);
    let mut out = Vec::with_capacity(total + fragments * FRAGMENT_HEADER_BYTES + extra);
    let mut left = total;
    let mut room = 0;
    let mut first = true;
    let mut begin = |out: &mut Vec<u8>, left: usize| {
        let length = left.min(limits::FRAGMENT_BYTES);
        let opcode = OpCode::Data(if first { Data::Text } else { Data::Continue });
        first = false;
        let header = FrameHeader { is_final: length == left, opcode, ..FrameHeader::default() };
        header.format(length as u64, out).expect("a header is written into memory");
        length
    };
    for mut part in parts.iter().copied() {
        while !part.is_empty() {
            if room == 0 {
                room = begin(&mut out, left);
            }
            let (now, later) = part.split_at(part.len().min(room));
            out.extend_from_slice(now);
            (part, room, left) = (later, room - now.len(), left - now.len());
        }
    }
    out
}

fn inbound_of(message: Message) -> Option<Inbound> {
    match message {
        Message::Text(text) => Some(Inbound::Text(text.into())),
        Message::Binary(_) => Some(Inbound::Binary),
        Message::Ping(_) => Some(Inbound::Ping),
        Message::Pong(payload) => Some(Inbound::Pong(payload)),
        // A close frame without a code counts as 1005, which is never sent (RFC 6455 section 7.4.1).
        Message::Close(frame) => Some(Inbound::Close(frame.map_or(1005, |frame| frame.code.into()))),
        Message::Frame(_) => None,
    }
}

fn close_reason(error: &Error) -> CloseReason {
    match error {
        Error::Capacity(_) => CloseReason::MessageTooBig,
        Error::Utf8(_) => CloseReason::NotUtf8,
        _ => CloseReason::ProtocolError,
    }
}

/// Stands in for a socket: bytes that were received, and a buffer for those to be sent.
struct Memory<'a> {
    input: &'a [u8],
    out: &'a mut Vec<u8>,
}

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.input.read(buffer) }
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
