//! Events as WebSocket text messages (RFC 6455), by tungstenite over memory.

use super::{Inbound, Transport};
use crate::{
    limits,
    model::{CloseReason, Event, Position, Timestamp},
    wire::{envelope, frames::FrameGuard},
};
use bytes::Bytes;
use std::io::{self, Read, Write};
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
    context: WebSocketContext,
    guard: FrameGuard,
    message_bytes_max: usize,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Our close frame is out, the peer's is not in.
    WeClosed,
    /// Nothing more is read or written.
    Done,
}

/// A fragment's header: two bytes and a 16-bit length.
const FRAGMENT_HEADER_BYTES: usize = 4;
const STRIDE: usize = FRAGMENT_HEADER_BYTES + limits::FRAGMENT_BYTES;

impl WebSocket {
    /// A WebSocket right after its 101, which takes inbound messages up to a bound.
    pub fn new(message_bytes_max: usize) -> Self {
        Self {
            context: context(message_bytes_max),
            guard: FrameGuard::default(),
            message_bytes_max,
            phase: Phase::Open,
        }
    }

    fn read(&mut self, input: &[u8], inbound: &mut Vec<Inbound>, out: &mut Vec<u8>) -> Result<(), CloseReason> {
        let mut memory = Memory { input, out };
        let mut largest = 0;
        let result = loop {
            match self.context.read(&mut memory) {
                Ok(message) => {
                    largest = largest.max(message.len());
                    let close = matches!(message, Message::Close(_));
                    inbound.extend(meaning(message));
                    if close && self.phase == Phase::Open {
                        // The next read writes the answer and then has nothing more to do.
                        let _ = self.context.read(&mut memory);
                        self.phase = Phase::Done;
                        break Ok(());
                    }
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    self.phase = Phase::Done;
                    break Ok(());
                }
                Err(error) => break Err(fault(&error)),
            }
        };
        if largest > SHRINK_ABOVE
            && self.phase == Phase::Open
            && memory.input.is_empty()
            && self.guard.between_messages()
        {
            // The buffer that grew for a large message goes back to the allocator.
            self.context = context(self.message_bytes_max);
        }
        result
    }
}

const SHRINK_ABOVE: usize = 1024;

fn context(message_bytes_max: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(0)
        .write_buffer_size(0)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max));
    WebSocketContext::new(Role::Server, Some(config))
}

impl Transport for WebSocket {
    fn encode(event: &Event, position: Position, at: Timestamp) -> Bytes {
        let mut prefix = Vec::with_capacity(160);
        envelope::event_prefix(event, &mut prefix);
        let mut suffix = Vec::with_capacity(256);
        envelope::event_suffix(event, position, at, &mut suffix);
        text_message(&[&prefix, &event.payload, &suffix]).into()
    }

    fn boundary(encoded: usize, offset: usize) -> usize {
        if encoded <= STRIDE { encoded } else { ((offset / STRIDE + 1) * STRIDE).min(encoded) }
    }

    fn open(&mut self, ack: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&text_message(&[ack]));
    }

    fn handle_bytes(
        &mut self,
        input: &[u8],
        inbound: &mut Vec<Inbound>,
        out: &mut Vec<u8>,
    ) -> Result<u32, CloseReason> {
        if self.phase == Phase::Done {
            return Ok(0);
        }
        let seen = self.guard.inspect(input, self.message_bytes_max);
        self.read(&input[..seen.good], inbound, out)?;
        match seen.wrong {
            // A close frame ends the reading: what follows it is nobody's business any more.
            Some(reason) if self.phase != Phase::Done => Err(reason),
            _ => Ok(seen.controls),
        }
    }

    fn ping(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&PING);
    }

    fn close(&mut self, reason: CloseReason, out: &mut Vec<u8>) {
        let Some(code) = reason.code() else { return };
        if self.phase != Phase::Open {
            return;
        }
        let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from_static(reason.label()) };
        // After a fault of the peer the context may refuse; there is nobody to answer then.
        let _ = self.context.close(&mut Memory { input: &[], out }, Some(frame));
        self.phase = Phase::WeClosed;
    }

    fn closed(&self) -> bool {
        self.phase == Phase::Done
    }
}

/// An unmasked ping without payload.
const PING: [u8; 2] = [0x89, 0x00];

/// One text message of several parts, cut into fragments where it is long.
fn text_message(parts: &[&[u8]]) -> Vec<u8> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let fragments = total.div_ceil(limits::FRAGMENT_BYTES).max(1);
    let mut out = Vec::with_capacity(total + fragments * FRAGMENT_HEADER_BYTES);
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

fn meaning(message: Message) -> Option<Inbound> {
    match message {
        Message::Text(text) => Some(Inbound::Text(text.into())),
        Message::Binary(_) => Some(Inbound::Binary),
        Message::Ping(_) => Some(Inbound::Ping),
        Message::Pong(_) => Some(Inbound::Pong),
        // No code at all is 1005, which never goes over the wire (RFC 6455 section 7.4.1).
        Message::Close(frame) => Some(Inbound::Close(frame.map_or(1005, |frame| frame.code.into()))),
        Message::Frame(_) => None,
    }
}

fn fault(error: &Error) -> CloseReason {
    match error {
        Error::Capacity(_) => CloseReason::MessageTooBig,
        Error::Utf8(_) => CloseReason::NotUtf8,
        _ => CloseReason::ProtocolError,
    }
}

/// Bytes that have come, and a place for those that go.
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
