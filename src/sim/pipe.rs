//! A socket in memory, with the moods of a real one: pieces, short writes, full buffers, resets.

use super::dice::Dice;
use crate::model::Instant;
use std::time::Duration;

/// How a socket behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mood {
    /// Bytes that lie between the hub and the peer before a write takes nothing.
    pub(super) capacity: usize,
    /// Bytes of one write, at most.
    pub(super) write_max: usize,
    /// Bytes of one read, at most.
    pub(super) read_max: usize,
    /// So often in a thousand a write is the last for a while.
    pub(super) stall: u64,
    /// How long such a while is, at most.
    pub(super) stall_max: Duration,
}

/// Both directions between the hub and one peer.
pub(super) struct Pipe {
    mood: Mood,
    to_hub: Vec<u8>,
    read_at: usize,
    /// The peer sends no more.
    pub(super) fin: bool,
    /// Broken: reads end, writes fail.
    pub(super) reset: bool,
    /// The peer's kernel is gone, and nobody says so.
    pub(super) vanished: bool,
    /// The hub sends no more.
    pub(super) hub_shut: bool,
    /// The hub has let the socket go.
    pub(super) hub_gone: bool,
    /// Taken from the hub, not read by the peer.
    pub(super) unread: usize,
    /// All bytes that were ever taken from the hub.
    pub(super) accepted: u64,
    pub(super) stalled_until: Instant,
    /// When bytes last moved towards the peer, or began to wait.
    pub(super) progress: Instant,
}

/// What a read brings.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Read {
    Bytes(Vec<u8>),
    Nothing,
    End,
}

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Write {
    Took(usize),
    Full,
    Broken,
}

impl Pipe {
    pub(super) fn new(mood: Mood) -> Self {
        Self {
            mood,
            to_hub: Vec::new(),
            read_at: 0,
            fin: false,
            reset: false,
            vanished: false,
            hub_shut: false,
            hub_gone: false,
            unread: 0,
            accepted: 0,
            stalled_until: Instant(0),
            progress: Instant(0),
        }
    }

    /// The peer sends.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if !self.fin && !self.hub_gone {
            self.to_hub.extend_from_slice(bytes);
        }
    }

    /// The hub reads.
    pub(super) fn read(&mut self, dice: &mut Dice) -> Read {
        let left = self.to_hub.len() - self.read_at;
        if self.reset || (left == 0 && self.fin) {
            return Read::End;
        }
        if left == 0 {
            return Read::Nothing;
        }
        let piece = dice.piece(self.mood.read_max).max(left / 64).min(left);
        let bytes = self.to_hub[self.read_at..self.read_at + piece].to_vec();
        self.read_at += piece;
        if self.read_at == self.to_hub.len() {
            self.to_hub.clear();
            self.read_at = 0;
        }
        Read::Bytes(bytes)
    }

    /// The hub writes.
    pub(super) fn write(&mut self, now: Instant, bytes: &[u8], dice: &mut Dice) -> Write {
        if self.reset {
            return Write::Broken;
        }
        let room = self.mood.capacity.saturating_sub(self.unread);
        if room == 0 || now < self.stalled_until {
            return Write::Full;
        }
        let took = bytes.len().min(room).min(dice.piece(self.mood.write_max).max(bytes.len() / 64));
        self.unread += took;
        self.accepted += took as u64;
        self.progress = now;
        if dice.chance(self.mood.stall) {
            self.stalled_until = now + Duration::from_micros(dice.below(self.mood.stall_max.as_micros() as u64));
        }
        Write::Took(took)
    }
}
