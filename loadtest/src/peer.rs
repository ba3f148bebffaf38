//! One connection of a simulated gateway, from its upgrade request to its close.

use crate::{
    frames::{self, Frame},
    http,
    link::Link,
    verify::Progress,
};
use std::io;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// How a connection reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Everything at once, as a gateway should.
    All,
    /// Nothing after its ack.
    Never,
    /// A few bytes now and then.
    Trickle,
    /// Everything, after it was `Never` or `Trickle` during the measurement.
    Late,
}

/// The stage of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waits for the 101.
    Upgrading,
    /// Waits for the ack.
    Acking,
    /// Receives events.
    Live,
}

/// Something received.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// The ack.
    Ack,
    /// A whole event.
    Event(&'a [u8]),
    /// A ping; the pong is already sent.
    Ping,
    /// A close frame with this code; it is already answered.
    Close(u16),
    /// The upgrade was refused with this status.
    Refused(u16),
    /// Something that the hub must not send.
    Wrong(String),
}

/// One connection.
pub struct Peer {
    /// The TCP connection.
    pub link: Link,
    /// The index of its place in the fleet.
    pub place: usize,
    /// Its stage.
    pub stage: Stage,
    /// The events that it has received, for the verifier.
    pub progress: Progress,
    /// When it began to connect, in nanoseconds of the run's clock.
    pub begun: u64,
    rest: Vec<u8>,
    message: Vec<u8>,
    message_is_text: bool,
}

impl Peer {
    /// Writes the upgrade request, which is sent as soon as the connection is established.
    ///
    /// # Errors
    /// The connection failed.
    pub fn begin(
        mut link: Link,
        place: usize,
        progress: Progress,
        begun: u64,
        host: &str,
        key: &str,
    ) -> io::Result<Self> {
        let request = format!(
            "GET /api/internal/v1/ws/gateways/connect HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\napi-key: {key}\r\n\r\n"
        );
        link.write(request.as_bytes())?;
        let (rest, message) = (Vec::new(), Vec::new());
        Ok(Self { link, place, stage: Stage::Upgrading, progress, begun, rest, message, message_is_text: false })
    }

    /// Reads at most `most` bytes and calls `handle` for each item received. Returns `false` if the hub has ended the
    /// connection.
    ///
    /// # Errors
    /// The connection failed.
    pub fn read(
        &mut self,
        scratch: &mut [u8],
        plain: &mut Vec<u8>,
        most: usize,
        mut handle: impl FnMut(&mut Progress, Received<'_>),
    ) -> io::Result<bool> {
        plain.clear();
        plain.append(&mut self.rest);
        // Handle an error only after the loop: what arrived before the end still counts.
        let more = self.link.read(scratch, plain, most);
        let mut at = 0;
        while let Some(taken) = self.step(&plain[at..], &mut handle) {
            at += taken;
        }
        // `plain` is shared by all connections; what is incomplete is kept here.
        self.rest = plain[at..].to_vec();
        more
    }

    /// Sends a close frame and ends the connection.
    pub fn close(&mut self) {
        let mut out = Vec::new();
        frames::push(frames::CLOSE, &1000u16.to_be_bytes(), &mut out);
        // Best effort: the connection ends even if the frame cannot be sent.
        let _ = self.link.write(&out);
        self.link.finish();
    }

    /// Handles one answer or frame, and returns its length in bytes; `None` if it is incomplete.
    fn step(&mut self, bytes: &[u8], handle: &mut impl FnMut(&mut Progress, Received<'_>)) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        if self.stage == Stage::Upgrading {
            return self.upgrade(bytes, handle);
        }
        match frames::next(bytes) {
            Ok(frame) => frame.map(|frame| self.take(&frame, handle)),
            Err(error) => {
                handle(&mut self.progress, Received::Wrong(error));
                None
            }
        }
    }

    fn upgrade(&mut self, bytes: &[u8], handle: &mut impl FnMut(&mut Progress, Received<'_>)) -> Option<usize> {
        match http::answer(bytes) {
            Ok(None) => None,
            Ok(Some(answer)) if answer.status == 101 => {
                self.stage = Stage::Acking;
                Some(answer.length)
            }
            Ok(Some(answer)) => {
                handle(&mut self.progress, Received::Refused(answer.status));
                None
            }
            Err(error) => {
                handle(&mut self.progress, Received::Wrong(error));
                None
            }
        }
    }

    fn take(&mut self, frame: &Frame, handle: &mut impl FnMut(&mut Progress, Received<'_>)) -> usize {
        match frame.opcode {
            OpCode::Control(Control::Ping) => {
                let mut out = Vec::new();
                frames::push(frames::PONG, frame.payload, &mut out);
                // A failed connection is noticed at the next read.
                let _ = self.link.write(&out);
                handle(&mut self.progress, Received::Ping);
            }
            OpCode::Control(Control::Close) => {
                let code = frame.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                let mut out = Vec::new();
                // RFC 6455 section 5.5.1: the answer echoes the code, and has none if there was none.
                frames::push(frames::CLOSE, frame.payload.get(..2).unwrap_or_default(), &mut out);
                let _ = self.link.write(&out);
                handle(&mut self.progress, Received::Close(code));
            }
            OpCode::Control(_) => {}
            OpCode::Data(kind) => self.data(kind, frame, handle),
        }
        frame.length
    }

    fn data(&mut self, kind: Data, frame: &Frame, handle: &mut impl FnMut(&mut Progress, Received<'_>)) {
        // Only the first frame of a message has the type; continuation frames leave it as it is.
        if kind != Data::Continue {
            self.message_is_text = kind == Data::Text;
        }
        // Most messages are one frame: no copy for them.
        if frame.last && self.message.is_empty() {
            return self.message(frame.payload, handle);
        }
        self.message.extend_from_slice(frame.payload);
        if frame.last {
            let message = std::mem::take(&mut self.message);
            self.message(&message, handle);
        }
    }

    fn message(&mut self, message: &[u8], handle: &mut impl FnMut(&mut Progress, Received<'_>)) {
        let received = match self.stage {
            _ if !self.message_is_text => Received::Wrong("a message that is not text".to_owned()),
            Stage::Live => Received::Event(message),
            _ if memchr::memmem::find(message, ACK).is_some() => {
                self.stage = Stage::Live;
                Received::Ack
            }
            _ => Received::Wrong("the first message is not the ack".to_owned()),
        };
        handle(&mut self.progress, received);
    }
}

/// Any 16 bytes in base64 (RFC 6455 section 4.1). The hub's answer to it is not checked here; the hub's own tests do
/// that.
const KEY: &str = "bG9hZHRlc3QtZ2F0ZXdheQ==";
const ACK: &[u8] = b"\"type\":\"connection.ack\"";
