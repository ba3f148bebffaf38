//! The other end of a connection: a gateway or a platform that behaves as its profile says.

use super::{
    behaviour::{Ending, Misbehaviour, Profile, Reading},
    client::{self, Reaction},
    handling::{Answers, Handler},
    net::{Conn, Net},
    requests::{self, Request},
    rng::Rng,
};
use crate::model::Instant;
use std::{collections::VecDeque, time::Duration};

/// One peer.
pub(super) struct Peer {
    pub(super) index: usize,
    pub(super) profile: Profile,
    /// A gateway's first bytes: its upgrade request, and frames if it sends any early.
    opening: Vec<u8>,
    requests: VecDeque<(Instant, Request)>,
    /// How many requests are unanswered.
    waiting: usize,
    /// An answer had `Connection: close`, so it sends no more requests.
    refused: bool,
    /// Encrypted bytes to send, and how many of them are sent.
    outgoing: Vec<u8>,
    sent: usize,
    /// All encrypted bytes so far, sent or not.
    pub(super) total: u64,
    /// How many bytes of the hub it has read.
    pub(super) read: u64,
    leaves: Instant,
    pub(super) stage: Stage,
    /// It sends a FIN after its outgoing bytes.
    fin: bool,
    misbehaved: bool,
    /// It wrote something before its TLS handshake was over.
    early: bool,
    /// How many pings it may still send.
    pub(super) pings: u32,
    pub(super) handler: Handler,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
pub(super) enum Stage {
    /// It has sent nothing.
    New,
    CallKind,
    Upgraded,
    /// It sends no more requests or messages.
    Leaving,
    Gone,
}

impl Peer {
    pub(super) fn new(index: usize, profile: Profile, opening: Vec<u8>, start: Instant) -> Self {
        Self {
            index,
            leaves: start + profile.leaves,
            requests: profile.requests.iter().map(|(at, request)| (start + *at, *request)).collect(),
            profile,
            opening,
            waiting: 0,
            refused: false,
            outgoing: Vec::new(),
            sent: 0,
            total: 0,
            read: 0,
            stage: Stage::New,
            fin: false,
            misbehaved: false,
            early: false,
            pings: 50,
            handler: Handler::default(),
        }
    }

    /// Whether it has lost its connection, or has begun to end it.
    pub(super) fn has_lost(&self, net: &Net) -> bool {
        let socket = &net.conns[self.index].socket;
        self.stage >= Stage::Leaving || socket.hub_closed || socket.reset.is_some()
    }

    /// It connects in place of one that has lost its connection.
    pub(super) fn come_back(&mut self, now: Instant, arrives: Duration, stays: Duration) {
        (self.profile.follows, self.profile.arrives) = (None, arrives);
        if self.leaves < now + stays {
            self.leaves = now + stays;
        }
    }

    pub(super) fn is_new(&self) -> bool {
        self.stage == Stage::New
    }

    /// Makes it leave at its next turn, even if its profile says that it stays.
    pub(super) fn leave_now(&mut self, now: Instant) {
        self.leaves = now;
        if matches!(self.profile.ending, Ending::Stay) {
            self.profile.ending = if self.profile.platform { Ending::Fin } else { Ending::Close(1000) };
        }
    }

    /// Reads, reacts, and sends a piece.
    pub(super) fn turn(&mut self, net: &mut Net) {
        let now = net.now;
        if self.stage == Stage::Gone {
            return;
        }
        self.open(net);
        let moved = self.read(net);
        self.handle(net);
        let conn = &mut net.conns[self.index];
        if self.early && !conn.client.is_handshaking() {
            // rustls holds bytes back until the handshake is over and sends them with its last flight, which ends here.
            self.early = false;
            net.oracle.early_ends(self.index, self.total);
        }
        if conn.socket.hub_closed && conn.socket.arrived == 0 && conn.socket.queued() == 0 {
            self.fin = true;
        }
        if conn.socket.hub_shut && conn.socket.arrived == 0 && conn.socket.queued() == 0 {
            self.fin = true;
        }
        if self.stage == Stage::Upgraded && !self.misbehaved {
            self.misbehaved = true;
            self.misbehave(conn, &mut net.rng);
        }
        let chatty = moved && self.stage == Stage::Upgraded && self.profile.acks && self.pings > 0;
        if chatty && net.rng.chance(200) {
            self.pings -= 1;
            self.write_frame(0x89, b"there?", conn, &mut net.rng);
        }
        self.send_requests(net);
        let mut socket_changed = false;
        if self.stage == Stage::Upgraded && self.handler.hangs_up(now, &self.profile.handling) {
            net.oracle.cover("a gateway hangs up by itself");
            (self.leaves, self.profile.ending) = (now, net.rng.pick(&HANG_UPS));
        }
        if now >= self.leaves && self.stage < Stage::Leaving {
            socket_changed |= self.leave(net);
        }
        socket_changed |= self.send(net);
        if socket_changed {
            net.mark(self.index, now);
        }
        if moved {
            net.keep_moving(self.index, now);
        }
        if let Some(next_turn) = self.next_turn(net) {
            net.schedule_turn(self.index, next_turn);
        }
    }

    fn open(&mut self, net: &mut Net) {
        if self.stage != Stage::New {
            return;
        }
        self.stage = Stage::CallKind;
        if self.profile.platform {
            return;
        }
        let opening = std::mem::take(&mut self.opening);
        if self.profile.misbehaviour == Misbehaviour::Garbage {
            self.outgoing = (0..200).map(|_| net.rng.next() as u8).collect();
            self.total = 200;
        } else {
            self.write(&opening, &mut net.conns[self.index]);
        }
        let whole = self.profile.misbehaviour != Misbehaviour::HalfHead && !self.early;
        net.oracle.requested(net.now, self.index, if whole { self.total } else { u64::MAX });
    }

    /// Sends the platform's requests that are due.
    fn send_requests(&mut self, net: &mut Net) {
        let now = net.now;
        while self.stage == Stage::CallKind
            && !self.refused
            && (self.waiting == 0 || self.profile.pipelines)
            && self.requests.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, request)) = self.requests.pop_front()
        {
            let oracle = &mut net.oracle;
            let bytes = requests::write(request, self.index, now, &mut oracle.roster, &mut oracle.ledger, &mut net.rng);
            net.trace.add(now, Some(self.index), || format!("requests {request:?}"));
            if self.waiting > 0 {
                net.oracle.cover("pipelined request");
            }
            self.write(&bytes, &mut net.conns[self.index]);
            net.oracle.ledger.ends(if self.early { u64::MAX } else { self.total });
            net.oracle.watched[self.index].requested_at.get_or_insert(now);
            self.waiting += 1;
        }
    }

    fn read(&mut self, net: &mut Net) -> bool {
        let socket = &mut net.conns[self.index].socket;
        socket.advance(net.now);
        let unread = socket.arrived;
        let reading =
            if self.stage < Stage::Upgraded && !self.profile.platform { Reading::Eager } else { self.profile.reading };
        let take = match reading {
            // Its read loop is at work on an event.
            _ if self.handler.is_busy() && self.profile.handling.answers != Answers::AtOnce => 0,
            Reading::Eager => unread,
            Reading::Slow(bytes) => unread.min(bytes),
            Reading::Never => 0,
            Reading::Bursts => unread * usize::from(net.rng.chance(150)),
        };
        socket.arrived -= take;
        self.read += take as u64;
        take > 0
    }

    pub(super) fn react(&mut self, reaction: Reaction, conn: &mut Conn, rng: &mut Rng) {
        match reaction {
            Reaction::Handshake => {
                let flight = conn.client.flight();
                self.push(flight);
            }
            Reaction::Upgraded if self.stage < Stage::Leaving => self.stage = Stage::Upgraded,
            Reaction::Ping(payload) if self.profile.pongs && payload.is_empty() && self.stage <= Stage::Leaving => {
                self.write_frame(0x8a, b"", conn, rng);
            }
            Reaction::Text(_) if self.profile.acks && self.stage == Stage::Upgraded => {
                let ack = br#"{"type":"deployment.ack","payload":{"status":"success","action":"deploy"}}"#;
                self.write_frame(0x81, ack, conn, rng);
            }
            Reaction::Close(code) if self.stage == Stage::Upgraded => {
                self.write_frame(0x88, &code.to_be_bytes(), conn, rng);
                self.stage = Stage::Leaving;
            }
            Reaction::Response(last) => {
                self.waiting = self.waiting.saturating_sub(1);
                self.refused |= last;
            }
            _ => {}
        }
    }

    fn push(&mut self, sealed: Vec<u8>) {
        self.total += sealed.len() as u64;
        if self.outgoing.is_empty() { self.outgoing = sealed } else { self.outgoing.extend(sealed) }
    }

    fn write(&mut self, plain: &[u8], conn: &mut Conn) {
        self.early |= conn.client.is_handshaking();
        let sealed = conn.client.seal(plain);
        self.push(sealed);
    }

    pub(super) fn write_frame(&mut self, first: u8, payload: &[u8], conn: &mut Conn, rng: &mut Rng) {
        let frame = client::frame(first, payload, rng);
        self.write(&frame, conn);
    }

    fn misbehave(&mut self, conn: &mut Conn, rng: &mut Rng) {
        match self.profile.misbehaviour {
            Misbehaviour::Unmasked => self.write(&[0x81, 0x01, b'x'], conn),
            Misbehaviour::NotUtf8 => self.write_frame(0x81, b"\xff\xfe", conn, rng),
            Misbehaviour::TooBig => self.write_frame(0x81, &vec![b'x'; 70_000], conn, rng),
            Misbehaviour::PingFlood => {
                let flood: Vec<u8> = (0..1_200).flat_map(|_| [0x89, 0x80, 0, 0, 0, 0]).collect();
                self.write(&flood, conn);
            }
            Misbehaviour::MessageFlood => {
                let message = client::frame(0x81, br#"{"type":"x"}"#, rng);
                self.write(&message.repeat(5_000), conn);
            }
            Misbehaviour::Malformed => self.write_frame(0x81, b"{\"type\":", conn, rng),
            Misbehaviour::Binary => self.write_frame(0x82, &[7; 300], conn, rng),
            _ => {}
        }
    }

    /// Begins to leave as its profile says; returns whether its kernel tells the hub at once (RST).
    fn leave(&mut self, net: &mut Net) -> bool {
        let now = net.now;
        let upgraded = self.stage == Stage::Upgraded;
        if self.profile.ending == Ending::Stay {
            self.leaves = Instant(u64::MAX);
            return false;
        }
        // A well-behaved platform waits for its answers first, so that the oracle can check them.
        let patient = self.profile.platform && self.profile.is_good() && !self.profile.half_closes;
        if patient && self.waiting > 0 && !self.refused {
            return false;
        }
        net.oracle.leaves(now, self.index);
        net.trace.add(now, Some(self.index), || format!("leaves by {:?}", self.profile.ending));
        self.stage = Stage::Leaving;
        // A lost connection does not stop the handler; the end of the process does.
        if let Some(offset) = self.handler.interrupt()
            && net.rng.chance(500)
        {
            net.oracle.handled(now, self.index, offset);
        }
        let conn = &mut net.conns[self.index];
        match self.profile.ending {
            Ending::Close(code) if upgraded => self.write_frame(0x88, &code.to_be_bytes(), conn, &mut net.rng),
            Ending::Close(_) | Ending::Fin => {
                if conn.client.is_tls() && self.profile.half_closes {
                    let notify = conn.client.close_notify();
                    self.push(notify);
                } else if conn.client.is_tls() && !conn.client.is_handshaking() && net.rng.chance(700) {
                    let notify = conn.client.close_notify();
                    self.push(notify);
                    self.fin = net.rng.chance(500);
                } else {
                    self.fin = true;
                }
            }
            Ending::Reset => {
                conn.socket.reset = Some(now);
                self.stage = Stage::Gone;
            }
            Ending::Vanish | Ending::Stay => {
                conn.socket.vanished = true;
                self.stage = Stage::Gone;
            }
        }
        self.stage == Stage::Gone && self.profile.ending == Ending::Reset
    }

    fn send(&mut self, net: &mut Net) -> bool {
        let now = net.now;
        let socket = &mut net.conns[self.index].socket;
        let left = self.outgoing.len()
            - self.sent
            - usize::from(self.profile.withholds_last_byte && !self.outgoing.is_empty());
        if left > 0 && self.stage < Stage::Gone {
            let piece = net.rng.piece(self.profile.piece_max).max(left / 64).min(left).min(socket.inbound_room());
            socket.send(&self.outgoing[self.sent..self.sent + piece]);
            let total = self.total - (left - piece) as u64;
            net.oracle.ledger.arrived(now, self.index, total);
            self.sent += piece;
            if self.sent == self.outgoing.len() {
                self.outgoing.clear();
                self.sent = 0;
            }
            return piece > 0;
        }
        if self.fin && self.stage < Stage::Gone {
            let over = socket.hub_shut || socket.hub_closed;
            let first = socket.fin.is_none();
            socket.fin.get_or_insert(now);
            self.stage = if over { Stage::Gone } else { Stage::Leaving };
            if first {
                net.oracle.leaves(now, self.index);
            }
            return first;
        }
        false
    }

    fn next_turn(&self, net: &mut Net) -> Option<Instant> {
        let now = net.now;
        let socket = &net.conns[self.index].socket;
        if self.stage == Stage::Gone || (socket.hub_closed && socket.arrived == 0 && socket.fin.is_some()) {
            return None;
        }
        let left = self.sent + usize::from(self.profile.withholds_last_byte) < self.outgoing.len();
        let sending = (left && socket.inbound_room() > 0) || (!left && self.fin && socket.fin.is_none());
        let reading = socket.arrived > 0 && !matches!(self.profile.reading, Reading::Never | Reading::Eager);
        if sending {
            Some(now + Duration::from_micros(net.rng.below(self.profile.latency_max.min(1_000) + 1)))
        } else if reading && !self.handler.is_busy() {
            Some(now + Duration::from_millis(net.rng.within(10..=400)))
        } else if !self.profile.platform {
            let next_turn = self.handler.next_turn(&self.profile.handling).filter(|_| self.stage == Stage::Upgraded);
            next_turn.map(|at| at.max(Instant(now.0 + 1)))
        } else {
            // The next planned request. An answer that arrives earlier schedules a turn by itself.
            let free = self.stage == Stage::CallKind && (self.waiting == 0 || self.profile.pipelines) && !self.refused;
            self.requests.front().filter(|_| free).map(|(at, _)| (*at).max(Instant(now.0 + 1)))
        }
    }
}

/// How a gateway disconnects whose own monitor has lost patience.
const HANG_UPS: [Ending; 3] = [Ending::Close(1000), Ending::Fin, Ending::Reset];
