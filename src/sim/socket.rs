//! One TCP connection in memory: the buffers of both kernels, how fast bytes cross, and how it fails.

use super::rng::Rng;
use crate::{engine, limits, model::Instant};
use std::time::Duration;

/// No limit: more bytes than a world ever sends.
pub(super) const UNLIMITED: usize = 1 << 40;

/// How the two kernels and the network between them behave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    /// Send buffer of the hub's kernel in bytes: unsent and unacknowledged bytes.
    pub(super) capacity: usize,
    /// Bytes a second that cross the network; `None` without a limit.
    pub(super) rate: Option<u64>,
    /// Receive window of the peer's kernel in bytes.
    pub(super) window: usize,
    /// How many bytes one write takes at most; a write that is cut short blocks the socket for a moment.
    pub(super) write_max: usize,
    /// How likely a write is followed by a stall, per mille.
    pub(super) stall: u64,
    /// Longest stall.
    pub(super) stall_max: Duration,
    /// How long after the arrival of bytes the peer's kernel acknowledges them.
    pub(super) ack_delay: Duration,
}

impl Conditions {
    /// Every byte crosses at once.
    pub(super) const PERFECT: Self = Self {
        capacity: UNLIMITED,
        rate: None,
        window: UNLIMITED,
        write_max: UNLIMITED,
        stall: 0,
        stall_max: Duration::ZERO,
        ack_delay: Duration::ZERO,
    };

    /// Whether no byte is ever delayed; a late acknowledgement delays none.
    pub(super) fn is_perfect(&self) -> bool {
        self.capacity == UNLIMITED
            && self.rate.is_none()
            && self.window == UNLIMITED
            && self.write_max == UNLIMITED
            && self.stall == 0
    }
}

/// Both directions between the hub and one peer.
pub(super) struct Socket {
    conditions: Conditions,
    /// Bytes in the hub's kernel.
    queued: usize,
    /// Bytes in the peer's kernel that the peer has not read.
    pub(super) arrived: usize,
    /// All bytes that the hub's kernel has taken.
    pub(super) accepted: u64,
    acknowledged: u64,
    /// The time up to which bytes have been moved.
    moved_at: Instant,
    /// When the last bytes arrived in the peer's kernel.
    pub(super) arrived_at: Instant,
    /// When the first byte arrived that the next acknowledgement covers.
    arrives_from: Instant,
    /// When the peer's kernel last acknowledged something.
    acked_at: Instant,
    stalled_until: Instant,
    /// Since when the socket is blocked: a write was short, and the hub has not been told that it is writable again.
    pub(super) blocked_since: Option<Instant>,
    /// Since when the hub has been told that the socket is writable again, and has not written.
    pub(super) writable_since: Option<Instant>,
    inbound: Vec<u8>,
    read_at: usize,
    /// All bytes that the hub has read.
    pub(super) received: u64,
    /// When the peer's FIN came.
    pub(super) fin: Option<Instant>,
    /// When the connection was reset; reads and writes fail from then on.
    pub(super) reset: Option<Instant>,
    /// The peer's host has disappeared: nothing crosses any more, and the hub is not told.
    pub(super) vanished: bool,
    /// The hub has sent its FIN.
    pub(super) hub_shut: bool,
    /// The hub has closed the socket.
    pub(super) hub_closed: bool,
}

/// Receive window of the hub's kernel in bytes.
const INBOUND_WINDOW: usize = 256 * 1024;
/// How long a write that was cut short by chance blocks the socket, in microseconds.
const SHORT_WRITE_PAUSE: u64 = 300;
/// How long a peer counts as alive after its kernel's last acknowledgement, as in the driver.
const ALIVE: Duration = Duration::from_secs(5);

impl Socket {
    pub(super) fn new(conditions: Conditions) -> Self {
        Self {
            conditions,
            queued: 0,
            arrived: 0,
            accepted: 0,
            acknowledged: 0,
            moved_at: Instant(0),
            arrived_at: Instant(0),
            arrives_from: Instant(0),
            acked_at: Instant(0),
            stalled_until: Instant(0),
            blocked_since: None,
            writable_since: None,
            inbound: Vec::new(),
            read_at: 0,
            received: 0,
            fin: None,
            reset: None,
            vanished: false,
            hub_shut: false,
            hub_closed: false,
        }
    }

    /// Moves the bytes to the peer's kernel that have had time to cross by now.
    pub(super) fn advance(&mut self, now: Instant) {
        let from = self.moved_at.max(self.stalled_until);
        if self.vanished || now < from {
            return;
        }
        let able = self
            .conditions
            .rate
            .map_or(UNLIMITED, |rate| (now.since(from).as_micros() as u64 * rate / 1_000_000) as usize);
        let moved = self.queued.min(self.conditions.window - self.arrived.min(self.conditions.window)).min(able);
        // Keep the fraction of a byte: with `now` instead, frequent calls would slow the rate down.
        self.moved_at = match self.conditions.rate {
            Some(rate) if moved == able => Instant(from.0 + moved as u64 * 1_000_000 / rate),
            _ => now,
        };
        if moved > 0 {
            self.queued -= moved;
            self.arrived += moved;
            self.acknowledged += moved as u64;
            if now >= self.arrives_from + self.conditions.ack_delay {
                self.acked_at = self.arrives_from + self.conditions.ack_delay;
                self.arrives_from = now;
            }
            self.arrived_at = now;
        }
    }

    /// The hub aborts the connection (RST): its kernel discards what it still holds.
    pub(super) fn abort(&mut self) {
        self.queued = 0;
    }

    /// When to call [`Socket::advance`] next; `None` if nothing can move until something else happens.
    pub(super) fn next_move(&self, now: Instant) -> Option<Instant> {
        let blocked = self.blocked_since.is_some() && now < self.stalled_until;
        if self.vanished || (self.queued == 0 && !blocked) {
            return None;
        }
        if self.arrived >= self.conditions.window && !blocked {
            return None;
        }
        let piece = self.queued.min((self.capacity() / 8).max(1_448)) as u64;
        let time = self.conditions.rate.map_or(1, |rate| piece * 1_000_000 / rate + 1);
        let base = now.max(self.stalled_until).max(self.moved_at);
        Some(Instant(base.0 + if blocked { 0 } else { time }))
    }

    /// Whether the kernel would report the socket as writable: Linux does so when a third of the send buffer is free.
    pub(super) fn is_writable(&self, now: Instant) -> bool {
        self.reset.is_some()
            || (now >= self.stalled_until && self.room().saturating_mul(3) >= self.capacity().min(UNLIMITED / 4))
    }

    fn room(&self) -> usize {
        self.capacity().saturating_sub(self.queued)
    }

    fn capacity(&self) -> usize {
        // Bytes in flight fit into the peer's window, and TCP_NOTSENT_LOWAT bounds the unsent bytes beyond them.
        let most = self.conditions.window.saturating_add(limits::UNSENT_BYTES_MARK as usize);
        self.conditions.capacity.min(most)
    }

    /// The hub writes.
    pub(super) fn write(&mut self, now: Instant, length: usize, rng: &mut Rng) -> engine::Sent {
        if self.reset.is_some() {
            return engine::Sent::Broken;
        }
        self.advance(now);
        self.writable_since = None;
        let room = if now < self.stalled_until { 0 } else { self.room() };
        let piece = if self.conditions.write_max == UNLIMITED {
            UNLIMITED
        } else {
            rng.piece(self.conditions.write_max).max(length / 64)
        };
        let took = length.min(room).min(piece);
        if self.queued == 0 {
            self.moved_at = self.moved_at.max(now);
        }
        self.queued += took;
        self.accepted += took as u64;
        if took > 0 && self.conditions.stall > 0 && rng.chance(self.conditions.stall) {
            self.stalled_until = now + Duration::from_micros(rng.below(self.conditions.stall_max.as_micros() as u64));
        }
        if took < length {
            if took < room {
                self.stalled_until = self.stalled_until.max(Instant(now.0 + SHORT_WRITE_PAUSE));
            }
            if took > 0 || self.blocked_since.is_none() {
                self.blocked_since = Some(now);
            }
        } else {
            self.blocked_since = None;
        }
        engine::Sent::Took(took)
    }

    /// The hub reads.
    pub(super) fn read(&mut self, room: &mut [u8]) -> engine::Received {
        if self.reset.is_some() {
            return engine::Received::Broken;
        }
        let left = self.inbound.len() - self.read_at;
        if left == 0 {
            return if self.fin.is_some() { engine::Received::End } else { engine::Received::Blocked };
        }
        let piece = left.min(room.len());
        room[..piece].copy_from_slice(&self.inbound[self.read_at..self.read_at + piece]);
        self.read_at += piece;
        self.received += piece as u64;
        if self.read_at == self.inbound.len() {
            self.inbound.clear();
            self.read_at = 0;
        }
        engine::Received::Bytes(piece)
    }

    /// How many bytes the peer could send now.
    pub(super) fn inbound_room(&self) -> usize {
        INBOUND_WINDOW.saturating_sub(self.unread())
    }

    /// How many received bytes the hub has not read.
    pub(super) fn unread(&self) -> usize {
        self.inbound.len() - self.read_at
    }

    /// The peer sends.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if self.fin.is_none() && !self.hub_closed {
            self.inbound.extend_from_slice(bytes);
        }
    }

    /// The socket's readiness, as epoll would report it.
    pub(super) fn readiness(&self, now: Instant) -> engine::Ready {
        let broken = self.reset.is_some();
        engine::Ready {
            readable: self.unread() > 0 || self.fin.is_some() || broken,
            writable: self.is_writable(now),
            ended: self.fin.is_some() || broken,
            broken,
        }
    }

    /// What the hub's kernel knows about the peer.
    pub(super) fn state(&mut self, now: Instant) -> engine::PeerState {
        self.advance(now);
        let late = self.arrived_at.0 > 0 && now < self.arrived_at + self.conditions.ack_delay;
        engine::PeerState {
            alive: self.reset.is_none() && ((self.queued == 0 && !late) || now < self.acked_at + ALIVE),
            acknowledged_bytes: self.acknowledged,
        }
    }

    /// Bytes that the hub's kernel still holds.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }
}
