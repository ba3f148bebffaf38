//! The accidents: how peers behave and sockets fail, with weights that a seed chooses (swarm testing: a world in which
//! most kinds of accident are off finds what a world with all of them hides).

use super::{dice::Dice, pipe::Mood, scenario::Scenario};
use std::time::Duration;

/// How a peer reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    /// All that is there.
    Eager,
    /// So many bytes at each of its turns.
    Slow(usize),
    /// Nothing once it is let in.
    Never,
    /// Nothing for a while, then all.
    Bursts,
}

/// How a peer leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// With a close frame.
    Close(u16),
    /// With a FIN, behind a TLS goodbye where there is TLS.
    Fin,
    Reset,
    /// Without a trace.
    Vanish,
    /// Not at all: the hub has to end it.
    Stay,
}

/// What a peer does that it may not, or need not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Prank {
    None,
    Unmasked,
    NotUtf8,
    TooBig,
    PingFlood,
    Malformed,
    Binary,
    /// Its key is nobody's.
    WrongKey,
    NoKey,
    /// Never ends its request.
    HalfHead,
    Garbage,
}

/// One peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Publishes over HTTP; else a gateway.
    pub(super) platform: bool,
    pub(super) reading: Reading,
    /// Answers pings.
    pub(super) pongs: bool,
    /// Acknowledges what it gets.
    pub(super) acks: bool,
    /// Sends its first frames with its request.
    pub(super) early: bool,
    /// Sends pieces of so many bytes, at most.
    pub(super) piece_max: usize,
    /// Microseconds until it looks at what came.
    pub(super) latency_max: u64,
    pub(super) ending: Ending,
    pub(super) prank: Prank,
    pub(super) arrives: Duration,
    pub(super) leaves: Duration,
    pub(super) mood: Mood,
}

impl Manner {
    /// Nothing about it gives the hub a reason to end it.
    pub(super) fn is_good(&self) -> bool {
        self.reading == Reading::Eager
            && self.pongs
            && matches!(self.prank, Prank::None | Prank::Malformed | Prank::Binary)
            && self.mood.stall == 0
            && self.mood.capacity == AMPLE
    }
}

/// More than a world ever sends.
pub(super) const AMPLE: usize = usize::MAX;

/// Weights in a thousand.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    slow: u64,
    silent: u64,
    pranks: u64,
    stalls: u64,
    cuts: u64,
    endings: u64,
    small_buffers: u64,
    platform: u64,
    leaves_early: u64,
}

impl Faults {
    /// Each kind is off in half of the worlds.
    pub(super) fn swarm(dice: &mut Dice) -> Self {
        let mut weight = |max| if dice.chance(500) { 0 } else { dice.within(50..=max) };
        Self {
            slow: weight(600),
            silent: weight(400),
            pranks: weight(400),
            stalls: weight(400),
            cuts: weight(900),
            endings: weight(1_000),
            small_buffers: weight(500),
            platform: weight(250),
            leaves_early: weight(700),
        }
    }

    /// Throws one peer.
    pub(super) fn manner(&self, dice: &mut Dice, scenario: &Scenario) -> Manner {
        let active = scenario.active.as_micros() as u64;
        let arrives = if dice.chance(300) { 0 } else { dice.below(active) };
        let leaves = if dice.chance(self.leaves_early) { dice.within(arrives..=active) } else { active };
        let slow = [Reading::Slow(dice.piece(400)), Reading::Never, Reading::Bursts];
        let cut = dice.chance(self.cuts);
        let stalls = dice.chance(self.stalls);
        let capacity = dice.pick(&[300, 1_000, 5_000, 20_000]);
        let platform = dice.chance(self.platform);
        Manner {
            platform,
            reading: if dice.chance(self.slow) { dice.pick(&slow) } else { Reading::Eager },
            pongs: !dice.chance(self.silent),
            acks: dice.chance(300),
            early: dice.chance(100),
            piece_max: if cut { dice.piece(64) } else { usize::MAX >> 1 },
            latency_max: dice.pick(&[0, 500, 20_000]),
            ending: if dice.chance(self.endings) { dice.pick(&ENDINGS) } else { Ending::Close(1000) },
            prank: if dice.chance(self.pranks) && !platform { dice.pick(&PRANKS) } else { Prank::None },
            arrives: Duration::from_micros(arrives),
            leaves: Duration::from_micros(leaves),
            mood: Mood {
                capacity: if dice.chance(self.small_buffers) { dice.within(200..=capacity) as usize } else { AMPLE },
                write_max: if cut { dice.piece(2_000) } else { usize::MAX >> 1 },
                read_max: if dice.chance(self.cuts) { dice.piece(100) } else { 16_384 },
                stall: if stalls { dice.within(1..=200) } else { 0 },
                stall_max: Duration::from_millis(dice.pick(&[5, 500, 12_000])),
            },
        }
    }
}

const ENDINGS: [Ending; 6] =
    [Ending::Close(1001), Ending::Close(4000), Ending::Fin, Ending::Reset, Ending::Vanish, Ending::Stay];
const PRANKS: [Prank; 10] = [
    Prank::Unmasked,
    Prank::NotUtf8,
    Prank::TooBig,
    Prank::PingFlood,
    Prank::Malformed,
    Prank::Binary,
    Prank::WrongKey,
    Prank::NoKey,
    Prank::HalfHead,
    Prank::Garbage,
];
