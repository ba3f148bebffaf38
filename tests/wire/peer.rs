//! A gateway's side of one connection: the upgrade, and frames made by hand, valid or invalid.

use crate::{
    request::{Answer, Request, WEBSOCKET_KEY},
    socket::{End, PATIENCE, Wire},
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::time::{Duration, Instant};

/// First bytes of frames: FIN and the opcode (RFC 6455 section 5.2).
pub const TEXT: u8 = 0x81;
/// A binary message in one frame.
pub const BINARY: u8 = 0x82;
/// A close frame.
pub const CLOSE: u8 = 0x88;
/// A ping.
pub const PING: u8 = 0x89;
/// A pong.
pub const PONG: u8 = 0x8a;

/// One event as a gateway receives it, with exactly these members.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The payload's text as received.
    pub payload: Box<RawValue>,
    /// The gateway.
    pub gateway_id: String,
    /// When it was accepted.
    pub timestamp: String,
    /// The id that connects it to the publish.
    pub correlation_id: String,
    /// Its position.
    pub position: Option<String>,
    /// The publisher's user id, if it gave one.
    pub user_id: Option<String>,
}

/// A message or frame from the hub, or the end.
#[derive(Debug)]
pub enum Seen {
    /// A complete text message.
    Text(String),
    /// A ping. It was answered if the peer answers pings.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close frame, with its code if it has one and its reason.
    Close(Option<u16>, String),
    /// The connection has ended in this way.
    End(#[allow(dead_code, reason = "printed when a test fails")] End),
    /// Nothing came by the deadline.
    Nothing,
}

/// A connected gateway.
pub struct Peer {
    /// The connection below.
    pub wire: Wire,
    /// The first message.
    pub ack: Value,
    /// Whether pings are answered while waiting for a frame.
    pub answers_pings: bool,
    message: Option<Vec<u8>>,
}

impl Peer {
    /// Upgrades a connection and reads the ack, or returns the refusal.
    pub fn connect(mut wire: Wire, key: &str) -> Result<Self, Answer> {
        wire.send(&Request::upgrade(key).bytes());
        let answer = Answer::read(&mut wire).expect("an answer to the upgrade");
        if answer.status == 101 { Ok(Self::upgraded(wire, &answer)) } else { Err(answer) }
    }

    /// Continues after a 101: checks it (RFC 6455 section 4.2.2) and reads the ack.
    pub fn upgraded(wire: Wire, answer: &Answer) -> Self {
        let mut peer = Self::before_ack(wire, answer);
        peer.read_ack();
        peer
    }

    /// Continues after a 101: checks it, and does not read the ack yet.
    pub fn before_ack(wire: Wire, answer: &Answer) -> Self {
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(answer.field("sec-websocket-accept"), Some(WEBSOCKET_KEY.1));
        assert!(answer.field("upgrade").is_some_and(|v| v.eq_ignore_ascii_case("websocket")), "{answer:?}");
        assert!(answer.field("connection").is_some_and(|v| v.eq_ignore_ascii_case("upgrade")), "{answer:?}");
        assert_eq!(answer.field("sec-websocket-extensions"), None);
        assert_eq!(answer.field("sec-websocket-protocol"), None);
        Self { wire, ack: Value::Null, answers_pings: true, message: None }
    }

    /// Reads the ack, which must be the first frame.
    pub fn read_ack(&mut self) {
        match self.next(Instant::now() + PATIENCE) {
            Seen::Text(text) => self.ack = serde_json::from_str(&text).unwrap(),
            other => panic!("the first frame is {other:?}"),
        }
        assert_eq!(self.ack["type"], "connection.ack");
    }

    /// The id that the hub gave this connection.
    pub fn connection_id(&self) -> &str {
        self.ack["connectionId"].as_str().unwrap()
    }

    /// Sends one masked frame; returns whether the hub took all of it.
    pub fn frame(&mut self, first: u8, payload: &[u8]) -> bool {
        self.wire.send(&frame(first, payload.len() as u64, payload))
    }

    /// Sends a text message.
    pub fn text(&mut self, text: &str) {
        assert!(self.frame(TEXT, text.as_bytes()), "the hub takes our text");
    }

    /// The next frame or message, or [`Seen::Nothing`] at the deadline.
    pub fn next(&mut self, deadline: Instant) -> Seen {
        loop {
            if let Some(seen) = self.next_frame(deadline) {
                return seen;
            }
        }
    }

    /// Reads until one frame has come; returns `None` if it was not the last one of its message.
    pub fn next_frame(&mut self, deadline: Instant) -> Option<Seen> {
        loop {
            if let Some((fin, opcode, payload)) = take_frame(&mut self.wire) {
                return self.see(fin, opcode, payload);
            }
            if !self.wire.fill(deadline) {
                return Some(self.wire.end().map_or(Seen::Nothing, Seen::End));
            }
        }
    }

    /// Whether the first fragment of a message has come, and its last one has not.
    pub fn is_within_message(&self) -> bool {
        self.message.is_some()
    }

    /// The next text message, skipping pings and pongs.
    pub fn message(&mut self) -> String {
        self.message_within(PATIENCE).unwrap_or_else(|| panic!("no message within {PATIENCE:?}"))
    }

    /// The next text message, or `None` if none comes in that time.
    pub fn message_within(&mut self, time: Duration) -> Option<String> {
        let deadline = Instant::now() + time;
        loop {
            match self.next(deadline) {
                Seen::Text(text) => return Some(text),
                Seen::Ping(_) | Seen::Pong(_) => {}
                Seen::Nothing => return None,
                other => panic!("instead of a message: {other:?}"),
            }
        }
    }

    /// The next event.
    pub fn event(&mut self) -> Event {
        let text = self.message();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text}"))
    }

    /// Waits for the hub's close frame, answers it and waits for the end; returns the code and the reason.
    pub fn closed(&mut self) -> (Option<u16>, String) {
        let closed = self.close_frame();
        self.frame(CLOSE, &closed.0.map_or(Vec::new(), |code| code.to_be_bytes().to_vec()));
        let end = self.wire.read_to_end(Instant::now() + PATIENCE);
        assert!(end.is_some(), "still open after {closed:?} was answered");
        closed
    }

    /// Waits for the hub's close frame.
    pub fn close_frame(&mut self) -> (Option<u16>, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next(deadline) {
                Seen::Close(code, reason) => return (code, reason),
                Seen::Text(_) | Seen::Ping(_) | Seen::Pong(_) => {}
                other => panic!("instead of a close frame: {other:?}"),
            }
        }
    }

    /// Sends a close frame and waits for the answering one and the end.
    pub fn leave(mut self) {
        self.frame(CLOSE, &1000u16.to_be_bytes());
        assert_eq!(self.close_frame().0, Some(1000));
        assert!(self.wire.read_to_end(Instant::now() + PATIENCE).is_some(), "the hub ends a closed connection");
    }

    /// Checks that the connection works in both directions: a ping is answered.
    pub fn is_alive(&mut self) {
        assert!(self.frame(PING, b"alive?"), "the hub takes our ping");
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next(deadline) {
                Seen::Pong(payload) if payload == b"alive?" => return,
                Seen::Text(_) | Seen::Ping(_) | Seen::Pong(_) => {}
                other => panic!("instead of a pong: {other:?}"),
            }
        }
    }

    fn see(&mut self, fin: bool, opcode: u8, payload: Vec<u8>) -> Option<Seen> {
        assert!(fin || opcode < 8, "a control frame in fragments");
        match opcode {
            0 | 1 => {
                assert_eq!(opcode == 0, self.message.is_some(), "fragments of two messages are mixed");
                self.message.get_or_insert_default().extend_from_slice(&payload);
                let whole = if fin { self.message.take() } else { None };
                whole.map(|bytes| Seen::Text(String::from_utf8(bytes).expect("text is UTF-8")))
            }
            8 => Some(close_parts(&payload)),
            9 => {
                if self.answers_pings {
                    self.wire.queue(&frame(PONG, payload.len() as u64, &payload));
                    self.wire.advance();
                }
                Some(Seen::Ping(payload))
            }
            10 => Some(Seen::Pong(payload)),
            other => panic!("a frame with opcode {other} from the hub"),
        }
    }
}

/// A masked frame with this declared length, in its shortest form.
pub fn frame(first: u8, declared: u64, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = head(first, 0x80, declared);
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    bytes
}

/// The same without a mask, which a client must not send.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, 0, payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes
}

fn head(first: u8, mask: u8, declared: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match (u8::try_from(declared), u16::try_from(declared)) {
        (Ok(short), _) if short < 126 => bytes.push(mask | short),
        (_, Ok(medium)) => {
            bytes.push(mask | 126);
            bytes.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            bytes.push(mask | 127);
            bytes.extend_from_slice(&declared.to_be_bytes());
        }
    }
    bytes
}

/// Takes one complete frame of the hub, which must be unmasked, without reserved bits, with its length in the shortest
/// form.
fn take_frame(wire: &mut Wire) -> Option<(bool, u8, Vec<u8>)> {
    let bytes = wire.received();
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(first & 0x70, 0, "reserved bits from the hub");
    assert_eq!(second & 0x80, 0, "a masked frame from the hub");
    let (start, length) = match second {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap())),
        short => (2, u64::from(short)),
    };
    assert_eq!(head(first, 0, length).len(), start, "a length that is not in its shortest form");
    let end = start + usize::try_from(length).unwrap();
    if bytes.len() < end {
        return None;
    }
    let frame = bytes.split_to(end);
    Some((first & 0x80 != 0, first & 0x0f, frame[start..].to_vec()))
}

fn close_parts(payload: &[u8]) -> Seen {
    assert_ne!(payload.len(), 1, "a close frame with one byte of payload");
    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
    Seen::Close(code, String::from_utf8(payload.get(2..).unwrap_or_default().to_vec()).expect("a reason is UTF-8"))
}
