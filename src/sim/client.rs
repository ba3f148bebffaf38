//! What a peer makes of the hub's bytes: TLS, HTTP answers, WebSocket frames; written without the hub's own code.

use super::rng::Rng;
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use std::{io::Read, io::Write, sync::Arc};

/// Something whole in the hub's stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// An HTTP answer with its body, and whether it says that it is the last.
    Response(u16, Vec<u8>, bool),
    /// The 101.
    Upgraded,
    /// A whole text message.
    Text(Vec<u8>),
    Ping,
    Pong,
    Close(u16, String),
    /// Something that must not be.
    Broken(String),
}

/// What of it a peer reacts to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reaction {
    /// TLS has something to answer.
    Handshake,
    /// An answer; whether it is the last.
    Response(bool),
    Upgraded,
    Text,
    Ping,
    Close(u16),
}

impl Seen {
    /// What a peer reacts to in it.
    pub(super) fn reaction(&self) -> Option<Reaction> {
        match self {
            Self::Response(_, _, last) => Some(Reaction::Response(*last)),
            Self::Upgraded => Some(Reaction::Upgraded),
            Self::Text(_) => Some(Reaction::Text),
            Self::Ping => Some(Reaction::Ping),
            Self::Close(code, _) => Some(Reaction::Close(*code)),
            Self::Pong | Self::Broken(_) => None,
        }
    }
}

/// Reads the hub's side of one connection.
pub(super) struct Client {
    tls: Option<Box<ClientConnection>>,
    /// What TLS has to say by itself, which goes before anything else.
    flights: Vec<u8>,
    input: Vec<u8>,
    upgraded: bool,
    /// The text message that is begun.
    message: Option<Vec<u8>>,
    closed: bool,
}

impl Client {
    pub(super) fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = tls.map(|config| Box::new(ClientConnection::new(config, name).expect("a client"))).map(|mut tls| {
            tls.set_buffer_limit(None);
            tls
        });
        Self { tls, flights: Vec::new(), input: Vec::new(), upgraded: false, message: None, closed: false }
    }

    /// Seals what the peer says; what the handshake has to say comes with it.
    pub(super) fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return plain.to_vec() };
        tls.writer().write_all(plain).expect("memory takes all");
        let mut out = std::mem::take(&mut self.flights);
        out.extend(flush(tls));
        out
    }

    /// Whether what is said now waits for the end of the handshake.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// What TLS has to say by itself.
    pub(super) fn flight(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.flights)
    }

    /// The goodbye of TLS.
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

    /// Whether nothing is begun that has no end: where a FIN may stand.
    pub(super) fn is_whole(&self) -> bool {
        self.input.is_empty() && (self.closed || !self.upgraded)
    }

    /// Takes bytes of the hub; returns whether TLS has something to answer.
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
                    // `WouldBlock` ends it: there is no more for now.
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
            seen.push(Seen::Broken(format!("no HTTP answer: {head:?}")));
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
                Some(Seen::Ping)
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
            _ => Some(broken("not a frame of a server")),
        };
        seen.extend(item);
        true
    }
}

/// The first byte, the header's length and the payload's; a mask bit makes a length that no server sends.
fn header(input: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*input.first()?, *input.get(1)?);
    match second {
        126 => Some((first, 4, usize::from(u16::from_be_bytes([*input.get(2)?, *input.get(3)?])))),
        length if length < 126 => Some((first, 2, usize::from(length))),
        // Longer frames and masked ones are no frames of this hub.
        _ => Some((0xff, 2, 0)),
    }
}

fn flush(tls: &mut ClientConnection) -> Vec<u8> {
    let mut out = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut out).expect("memory takes all");
    }
    out
}

/// A frame of a client, masked.
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

/// The request of a gateway.
pub(super) fn upgrade(key: Option<&str>) -> String {
    let key = key.map(|key| format!("api-key: {key}\r\n")).unwrap_or_default();
    format!(
        "GET {} HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{key}\r\n",
        crate::api::CONNECT_PATH
    )
}
