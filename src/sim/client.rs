//! The peer's protocol stack: TLS, HTTP answers and WebSocket frames, written without the hub's own code so that a bug
//! in that cannot hide itself.

use super::rng::Rng;
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use std::{io::Read, io::Write, sync::Arc};

/// A whole item in the hub's stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// An HTTP answer: status, body, and whether it has `Connection: close`.
    Response(u16, Vec<u8>, bool),
    /// The 101.
    Upgraded,
    /// A whole text message.
    Text(Vec<u8>),
    /// A ping with its payload.
    Ping(Vec<u8>),
    Pong,
    Close(u16, String),
    /// A violation of the protocol by the hub.
    Broken(String),
}

/// What a peer reacts to once it has read so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reaction {
    /// TLS has bytes of its own to send.
    Handshake,
    /// An HTTP answer; whether it has `Connection: close`.
    Response(bool),
    Upgraded,
    /// A message; the offset of the event in it, if it is one.
    Text(Option<u64>),
    Ping(Vec<u8>),
    Close(u16),
}

impl Seen {
    /// The reaction that it causes, if any. `event` is the offset of the event in it.
    pub(super) fn reaction(&self, event: Option<u64>) -> Option<Reaction> {
        match self {
            Self::Response(_, _, last) => Some(Reaction::Response(*last)),
            Self::Upgraded => Some(Reaction::Upgraded),
            Self::Text(_) => Some(Reaction::Text(event)),
            Self::Ping(payload) => Some(Reaction::Ping(payload.clone())),
            Self::Close(code, _) => Some(Reaction::Close(*code)),
            Self::Pong | Self::Broken(_) => None,
        }
    }
}

/// Reads the hub's side of one connection.
pub(super) struct Client {
    tls: Option<Box<ClientConnection>>,
    /// Handshake bytes and alerts; they go out before any new record.
    flights: Vec<u8>,
    input: Vec<u8>,
    upgraded: bool,
    /// The fragments so far of a fragmented text message.
    message: Option<Vec<u8>>,
    closed: bool,
}

impl Client {
    pub(super) fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        let name = ServerName::try_from("localhost").expect("localhost is a valid name");
        let tls = tls
            .map(|config| Box::new(ClientConnection::new(config, name).expect("the configuration is valid")))
            .map(|mut tls| {
                tls.set_buffer_limit(None);
                tls
            });
        Self { tls, flights: Vec::new(), input: Vec::new(), upgraded: false, message: None, closed: false }
    }

    /// Encrypts the peer's bytes; pending handshake bytes come first.
    pub(super) fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return plain.to_vec() };
        tls.writer().write_all(plain).expect("the buffer has no limit");
        let mut out = std::mem::take(&mut self.flights);
        out.extend(flush(tls));
        out
    }

    /// Whether bytes sealed now are held back until the handshake is over.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Takes the pending handshake bytes and alerts.
    pub(super) fn flight(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.flights)
    }

    /// The `close_notify` alert, encrypted; empty without TLS.
    pub(super) fn close_notify(&mut self) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return Vec::new() };
        tls.send_close_notify();
        let mut out = std::mem::take(&mut self.flights);
        out.extend(flush(tls));
        out
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the hub's stream stands between two whole items, after the close frame if it was upgraded: a FIN may
    /// come here.
    pub(super) fn is_whole(&self) -> bool {
        self.input.is_empty() && (self.closed || !self.upgraded)
    }

    /// Takes bytes of the hub; returns whether TLS has bytes to send in answer.
    pub(super) fn feed(&mut self, mut bytes: &[u8], seen: &mut Vec<Seen>) -> bool {
        match &mut self.tls {
            None => self.input.extend_from_slice(bytes),
            Some(tls) => {
                while !bytes.is_empty() {
                    if tls.read_tls(&mut bytes).is_err() {
                        seen.push(Seen::Broken("TLS buffers are full".to_owned()));
                        break;
                    }
                    if let Err(error) = tls.process_new_packets() {
                        seen.push(Seen::Broken(error.to_string()));
                        break;
                    }
                    // `read_to_end` ends with `WouldBlock` once all plaintext is out; that is not an error here.
                    let _ = tls.reader().read_to_end(&mut self.input);
                }
                self.flights.extend(flush(tls));
            }
        }
        while self.step(seen) {}
        !self.flights.is_empty()
    }

    fn step(&mut self, seen: &mut Vec<Seen>) -> bool {
        if self.input.is_empty() {
            return false;
        }
        if self.upgraded { self.step_frame(seen) } else { self.step_http(seen) }
    }

    fn step_http(&mut self, seen: &mut Vec<Seen>) -> bool {
        let Some(end) = self.input.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
        let head = String::from_utf8_lossy(&self.input[..end]).into_owned();
        let status = head.get(9..12).and_then(|code| code.parse().ok());
        let Some(status) = status.filter(|_| head.starts_with("HTTP/1.1 ")) else {
            seen.push(Seen::Broken(format!("not an HTTP answer: {head:?}")));
            self.input.clear();
            return false;
        };
        let last = head.lines().any(|line| line.eq_ignore_ascii_case("connection: close"));
        let length = head.lines().filter_map(|line| line.split_once(": "));
        let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.filter_map(|(_, value)| value.parse().ok()).next().unwrap_or(0);
        if self.input.len() < end + 4 + length {
            return false;
        }
        let body = self.input[end + 4..end + 4 + length].to_vec();
        self.input.drain(..end + 4 + length);
        self.upgraded = status == 101;
        seen.push(if self.upgraded { Seen::Upgraded } else { Seen::Response(status, body, last) });
        true
    }

    fn step_frame(&mut self, seen: &mut Vec<Seen>) -> bool {
        let Some((first, header, length)) = header(&self.input) else { return false };
        if self.input.len() < header + length {
            return false;
        }
        let payload = self.input[header..header + length].to_vec();
        self.input.drain(..header + length);
        if self.closed {
            seen.push(Seen::Broken(format!("a frame {first:#x} after the close")));
            return false;
        }
        let broken = |what: &str| Seen::Broken(format!("{what}, first byte {first:#x}, {length} bytes"));
        let item = match (first, self.message.take()) {
            (0x81, None) => Some(Seen::Text(payload)),
            (0x01, None) => {
                self.message = Some(payload);
                None
            }
            (0x00 | 0x80, Some(mut message)) => {
                message.extend_from_slice(&payload);
                if first == 0x80 {
                    Some(Seen::Text(message))
                } else {
                    self.message = Some(message);
                    None
                }
            }
            (0x89, message) => {
                self.message = message;
                Some(Seen::Ping(payload))
            }
            (0x8a, message) => {
                self.message = message;
                Some(Seen::Pong)
            }
            (0x88, _) if length >= 2 => {
                self.closed = true;
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                Some(Seen::Close(code, String::from_utf8_lossy(&payload[2..]).into_owned()))
            }
            (0x88, _) => {
                self.closed = true;
                Some(Seen::Close(1005, String::new()))
            }
            _ => Some(broken("not a frame that a server may send")),
        };
        seen.extend(item);
        true
    }
}

/// The first byte, the header's length and the payload's length. A masked frame, or one over 64 KiB, gives the invalid
/// first byte 0xff: the hub must send neither.
fn header(input: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*input.first()?, *input.get(1)?);
    match second {
        126 => Some((first, 4, usize::from(u16::from_be_bytes([*input.get(2)?, *input.get(3)?])))),
        length if length < 126 => Some((first, 2, usize::from(length))),
        _ => Some((0xff, 2, 0)),
    }
}

fn flush(tls: &mut ClientConnection) -> Vec<u8> {
    let mut out = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut out).expect("a Vec takes every write");
    }
    out
}

/// A masked frame, as a client sends it; `first` is its first byte: FIN and opcode.
pub(super) fn frame(first: u8, payload: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mask = (rng.next() as u32).to_be_bytes();
    let mut out = vec![first];
    match payload.len() {
        short @ 0..126 => out.push(0x80 | short as u8),
        medium @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// A gateway's upgrade request.
pub(super) fn upgrade(key: Option<&str>, last_position: Option<crate::model::Position>, written_only: bool) -> String {
    let key = key.map(|key| format!("api-key: {key}\r\n")).unwrap_or_default();
    let resume = last_position.map(|position| format!("last-position: {position}\r\n")).unwrap_or_default();
    let query = if written_only { "?delivery=written" } else { "" };
    format!(
        "GET {}{query} HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{key}{resume}\r\n",
        crate::api::CONNECT_PATH
    )
}
