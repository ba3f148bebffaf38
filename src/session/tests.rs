//! Tests of whole sessions, in virtual time and without a socket.

use super::*;
use crate::{
    limits,
    model::{CloseReason, ConnectionId, GatewayId, Position, Refused, Timestamp, log::Record},
    transport::Transport,
    transport::WebSocket,
};
use std::time::Duration;

mod answers;
mod heartbeat;
mod inbound;
mod processed;

const CONNECT_PATH: &str = "/api/internal/v1/ws/gateways/connect";
const CONNECT: &str = "GET /api/internal/v1/ws/gateways/connect HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\napi-key: k\r\n\r\n";

/// A session with a simulated clock, socket and outbox.
struct World {
    session: Session,
    now: Now,
    scratch: Scratch,
    events: Events,
    sent: Vec<u8>,
    effects: Vec<String>,
    /// Bytes that the socket takes before it blocks.
    room: usize,
    /// Whether the peer's kernel acknowledges bytes while the socket is blocked.
    acknowledges: bool,
}

/// Encoded events in one buffer.
#[derive(Default)]
struct Events {
    bytes: Vec<u8>,
    at: usize,
    /// The offset that pings name; `None` with the delivery `written`.
    offset: Option<u64>,
}

impl Events {
    /// Drops the events as the shard does when a connection closes: only the current frame stays.
    fn abort(&mut self) {
        let end = if self.at_boundary() { self.at } else { WebSocket::boundary(self.bytes.len(), self.at) };
        self.bytes.truncate(end);
    }
}

impl Source for Events {
    fn copy(&self, budget: usize, stop: bool, out: &mut Vec<u8>) -> usize {
        let end = match stop {
            true if self.at_boundary() => self.at,
            true => WebSocket::boundary(self.bytes.len(), self.at),
            false => self.bytes.len(),
        };
        let end = end.min(self.at + budget);
        out.extend_from_slice(&self.bytes[self.at..end]);
        end - self.at
    }

    fn at_boundary(&self) -> bool {
        self.at == 0 || WebSocket::boundary(self.bytes.len(), self.at - 1) == self.at
    }

    fn is_drained(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn begins_event(&self) -> bool {
        self.at == 0 && !self.is_drained()
    }

    fn ping_position(&self) -> Option<Position> {
        self.offset.map(|offset| Position { epoch: 1, offset })
    }
}

impl World {
    fn new() -> Self {
        let settings = Settings {
            origins: Vec::new(),
            handshake_deadline: limits::HANDSHAKE_DEADLINE,
            heartbeat: Heartbeat {
                interval: limits::HEARTBEAT_INTERVAL,
                timeout: limits::HEARTBEAT_TIMEOUT,
                busy_grace: Duration::ZERO,
            },
            write_deadline: limits::WRITE_DEADLINE,
            processing_timeout: limits::DELIVERY_PROCESSING_TIMEOUT,
            inbound_message_bytes_max: limits::INBOUND_MESSAGE_BYTES_MAX,
        };
        let now = Now::new(Instant(3_600_000_000), Timestamp(0));
        let peer = "127.0.0.1:1".parse().unwrap();
        Self {
            session: Session::new(now, Arc::new(settings), Security::Plain, peer),
            now,
            scratch: Scratch::default(),
            events: Events::default(),
            sent: Vec::new(),
            effects: Vec::new(),
            room: usize::MAX,
            acknowledges: false,
        }
    }

    fn streaming() -> Self {
        Self::new().upgraded()
    }

    /// A gateway has connected.
    fn upgraded(mut self) -> Self {
        let world = &mut self;
        world.receive(CONNECT.as_bytes());
        assert!(world.take_effects().starts_with("Admit(Presented { key: Some("));
        world.admit();
        let at = world.sent.windows(4).position(|w| w == b"\r\n\r\n").expect("a complete 101") + 4;
        world.sent.drain(..at);
        let ack = world.frames();
        assert_eq!((ack.len(), ack[0].0), (1, 0x81));
        assert!(ack[0].1.starts_with(br#"{"type":"connection.ack","gatewayId":"#));
        self
    }

    fn admit(&mut self) {
        let admitted = Admitted {
            gateway: GatewayId::random(),
            connection: ConnectionId::random(),
            position: Some(Position { epoch: 1, offset: 0 }),
            resumed: None,
            proves: self.events.offset.is_some(),
            place: 0,
        };
        self.session.handle_admitted(self.now, admitted, &mut self.scratch);
        self.settle();
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.session.handle_received(self.now, &mut bytes.to_vec(), &mut self.scratch);
        self.settle();
    }

    /// Writes as the engine does, and records the effects.
    fn settle(&mut self) {
        loop {
            while let Some(effect) = self.session.poll_effect() {
                match effect {
                    Effect::Closing(_) => self.events.abort(),
                    // In these tests one path is the connect path, and all others are calls.
                    Effect::Route if self.session.request().is_some_and(|it| it.head.path() == CONNECT_PATH) => {
                        self.session.handle_upgrade(self.now);
                        continue;
                    }
                    Effect::Stalled => {
                        self.session.handle_stall(self.now, self.acknowledges, true);
                        continue;
                    }
                    _ => {}
                }
                self.effects.push(format!("{effect:?}"));
            }
            let backlog = self.session.backlog().len();
            if backlog > 0 {
                let sent = backlog.min(self.room);
                self.sent.extend_from_slice(&self.session.backlog()[..sent]);
                self.room -= sent;
                self.session.handle_backlog_sent(self.now, sent);
                if sent < backlog {
                    return;
                }
            } else if let Some(filled) = self.session.poll_transmit(self.now, &self.events, &mut self.scratch) {
                self.events.at += filled.event_bytes;
                let sent = self.scratch.wire.len().min(self.room);
                self.sent.extend_from_slice(&self.scratch.wire[..sent]);
                self.room -= sent;
                self.session.handle_sent(self.now, sent, &self.scratch);
            } else if !self.session.has_effect() {
                return;
            }
        }
    }

    /// Advances the clock by `time`, handling each deadline exactly when it is due. Returns when the session ended.
    fn run(&mut self, time: Duration) -> Option<Duration> {
        let began = self.now.attended;
        let end = began + time;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            self.now.attended = self.now.attended.max(at);
            self.session.handle_timeout(self.now);
            self.settle();
            if self.session.is_over() {
                return Some(self.now.attended.since(began));
            }
        }
        self.now.attended = end;
        None
    }

    fn take_effects(&mut self) -> String {
        std::mem::take(&mut self.effects).join(" ")
    }

    /// Takes the complete frames that were sent: first byte and payload.
    fn frames(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        loop {
            let (head, length) = match self.sent[..] {
                [_, length, ..] if length < 126 => (2, usize::from(length)),
                [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
                _ => return frames,
            };
            if self.sent.len() < head + length {
                return frames;
            }
            let frame: Vec<u8> = self.sent.drain(..head + length).collect();
            frames.push((frame[0], frame[head..].to_vec()));
        }
    }
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// An encoded event of several fragments.
fn large_event() -> Vec<u8> {
    let event = crate::model::Event {
        gateway: GatewayId::random(),
        kind: crate::model::EventType::parse("t").unwrap(),
        payload: format!("\"{}\"", "x".repeat(100_000)).into_bytes().into(),
        correlation: crate::model::CorrelationId::random(),
        correlation_given: false,
        user_id: None,
    };
    let position = Position { epoch: 1, offset: 1 };
    let record = Record { position, accepted: Timestamp(0), bytes: 0, event: Arc::new(event) };
    WebSocket::encode(&record, false, Vec::new()).to_vec()
}

#[test]
fn any_frame_restarts_the_heartbeat_timeout() {
    let mut world = World::streaming();
    for _ in 0..5 {
        assert_eq!(world.run(Duration::from_secs(29)), None);
        world.receive(&masked(0x82, b"x"));
    }
}

#[test]
fn a_ping_goes_out_between_the_frames_of_a_large_event() {
    let mut world = World::streaming();
    world.events.bytes = large_event();
    world.room = 1_000;
    world.settle();
    // The socket takes a few bytes each second, so sending the event takes longer than a heartbeat interval.
    for _ in 0..30 {
        assert_eq!(world.run(Duration::from_secs(1)), None);
        world.room += 4_000;
        world.settle();
        world.receive(&masked(0x8a, b""));
    }
    let frames = world.frames();
    let kinds: Vec<_> = frames.iter().map(|frame| frame.0).collect();
    let ping = kinds.iter().position(|kind| *kind == 0x89).expect("a ping within the interval");
    assert!(ping > 0 && ping < 4 && kinds[0] == 0x01, "{kinds:x?}");
}

#[test]
fn revocation_completes_the_current_frame_and_then_sends_the_reason() {
    let mut world = World::streaming();
    world.events.bytes = large_event();
    world.room = 1_000;
    world.settle();
    world.session.close(world.now, CloseReason::KeyRevoked);
    world.room = usize::MAX;
    world.settle();
    let frames = world.frames();
    assert_eq!(frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), [0x01, 0x88], "one fragment, then the close");
    assert_eq!(frames[1].1[..2], 1008_u16.to_be_bytes());
    assert_eq!(world.run(Duration::from_secs(60)), Some(limits::REVOKED_PATIENCE), "whatever the peer does");
    assert!(world.take_effects().ends_with("Over(Closed(KeyRevoked))"));
    assert!(world.session.is_aborted(), "the kernel drops the bytes it still holds");
}

#[test]
fn a_shutdown_sends_the_queued_events_before_the_close_frame() {
    let mut world = World::streaming();
    world.events.bytes = large_event();
    world.session.close(world.now, CloseReason::Shutdown);
    world.settle();
    let kinds: Vec<_> = world.frames().iter().map(|frame| frame.0).collect();
    assert_eq!(kinds, [0x01, 0x00, 0x00, 0x80, 0x88]);
    world.receive(&masked(0x88, &1001_u16.to_be_bytes()));
    assert!(world.take_effects().ends_with("ShutdownWrite"), "the server closes first");
    assert_eq!(world.run(Duration::from_secs(60)), Some(Duration::from_secs(1)));
}

#[test]
fn a_socket_that_takes_no_bytes_is_closed_as_slow_at_the_write_deadline() {
    let mut world = World::streaming();
    world.events.bytes = large_event();
    world.room = 1_000;
    world.settle();
    assert_eq!(world.run(Duration::from_secs(60)), Some(limits::WRITE_DEADLINE));
    assert!(world.take_effects().ends_with("Closing(SlowConsumer) Over(Closed(SlowConsumer))"));
}

#[test]
fn a_peer_that_acknowledges_is_not_stalled() {
    let mut world = World::streaming();
    world.events.bytes = large_event();
    world.room = 1_000;
    world.settle();
    world.acknowledges = true;
    for _ in 0..6 {
        assert_eq!(world.run(Duration::from_secs(9)), None);
        world.receive(&masked(0x8a, b""));
    }
    world.acknowledges = false;
    assert!(world.run(limits::WRITE_DEADLINE).is_some());
}

#[test]
fn a_socket_that_takes_one_byte_is_not_stalled() {
    let mut world = World::streaming();
    world.events.bytes = large_event();
    world.room = 1_000;
    world.settle();
    for _ in 0..10 {
        assert_eq!(world.run(Duration::from_secs(9)), None);
        world.room = 1;
        world.settle();
        world.receive(&masked(0x8a, b""));
    }
}

#[test]
fn a_close_is_echoed_and_the_connection_ends() {
    let mut world = World::streaming();
    world.receive(&masked(0x88, &[&4_123_u16.to_be_bytes()[..], b"bye"].concat()));
    assert_eq!(world.frames(), [(0x88, [&4_123_u16.to_be_bytes()[..], b"bye"].concat())]);
    assert!(world.take_effects().contains("Closing(GatewayAsked(4123))"));
    world.session.handle_end(world.now);
    world.settle();
    assert_eq!(world.take_effects(), "Over(Closed(GatewayAsked(4123)))");
}

#[test]
fn a_request_that_does_not_arrive_is_answered_408_at_the_deadline() {
    for (sent, answer) in [("", "HTTP/1.1 408 "), ("GET / HT", "HTTP/1.1 408 ")] {
        let mut world = World::new();
        world.receive(sent.as_bytes());
        assert_eq!(world.run(limits::HANDSHAKE_DEADLINE - Duration::from_micros(1)), None);
        assert!(world.sent.is_empty());
        world.run(Duration::from_micros(1));
        assert!(world.sent.starts_with(answer.as_bytes()), "{:?}", String::from_utf8_lossy(&world.sent));
    }
}

#[test]
fn frames_sent_with_the_upgrade_are_handled_after_the_ack() {
    let mut world = World::new();
    world.receive(&[CONNECT.as_bytes(), &masked(0x81, b"{\"type\":\"x\"}")].concat());
    assert!(!world.session.wants_read());
    world.take_effects();
    world.admit();
    assert!(world.take_effects().starts_with("Message("));
}

#[test]
fn a_rate_limited_gateway_gets_retry_after() {
    let mut world = World::new();
    world.receive(CONNECT.as_bytes());
    world.session.handle_refusal(world.now, Refused::RateLimited { retry_after: 7 });
    world.settle();
    let answer = String::from_utf8(world.sent.clone()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("Retry-After: 7\r\n"), "{answer}");
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
}

#[test]
fn no_key_stays_in_the_buffer_a_request_was_read_into() {
    let mut world = World::new();
    world.receive(CONNECT.as_bytes());
    assert!(world.scratch.plain.is_empty());
    assert!(!format!("{:?}", world.take_effects()).contains("api-key"));
}

#[test]
fn a_streaming_stage_is_small() {
    let streaming = size_of::<Streaming>();
    assert!(streaming <= 160, "a streaming stage has {streaming} bytes, expected at most 160");
    println!("streaming {streaming}");
}
