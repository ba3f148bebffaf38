//! Profiles of peers: how they read, misbehave and leave, drawn with weights that the seed chooses.
//!
//! Swarm testing: each kind of accident is off in half of the worlds, because one accident can hide another (a peer
//! that resets at once never becomes slow).

use super::{
    handling::Handling,
    requests::Request,
    rng::Rng,
    scenario::Scenario,
    socket::{Conditions, UNLIMITED},
};
use crate::model::Side;
use std::time::Duration;

/// How a peer reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    /// Everything, as soon as it has come.
    Eager,
    /// At most this many bytes in each of its turns.
    Slow(usize),
    /// Nothing after its upgrade.
    Never,
    /// Nothing in most turns, everything in some.
    Bursts,
}

/// How a peer leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// With a close frame of this code.
    Close(u16),
    /// With a FIN, under TLS often after `close_notify`.
    Fin,
    Reset,
    /// Its host disappears: no FIN, no RST, no acknowledgements.
    Vanish,
    /// Not by itself: it stays until the hub closes it or the world tells all peers to leave.
    Stay,
}

/// A violation of the protocol, or legal behaviour that the hub must tolerate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Misbehaviour {
    None,
    Unmasked,
    NotUtf8,
    TooBig,
    PingFlood,
    /// Sends 5,000 messages at once, more than the hub reads in two seconds.
    MessageFlood,
    Malformed,
    Binary,
    WrongKey,
    NoKey,
    /// Sends half of its request head and nothing more.
    HalfHead,
    Garbage,
}

impl Misbehaviour {
    /// Whether the hub keeps the connection open.
    pub(super) fn is_tolerated(self) -> bool {
        matches!(self, Self::None | Self::Malformed | Self::Binary | Self::MessageFlood)
    }
}

/// Everything that is decided about a peer before the world begins.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    /// A platform that sends HTTP requests; otherwise a gateway that upgrades.
    pub(super) platform: bool,
    /// The listener that it connects to; `None` where the hub has one listener for everything.
    pub(super) side: Option<Side>,
    /// The gateway's key, as an index into the roster's keys; `None` sends no key.
    pub(super) key: Option<usize>,
    /// The last byte of its IPv4 address; `None` draws one.
    pub(super) host: Option<u8>,
    /// The core whose listener gets the connection; `None` draws one.
    pub(super) core: Option<usize>,
    /// The platform's requests, each with its earliest time since the start.
    pub(super) requests: Vec<(Duration, Request)>,
    /// Sends the next request without waiting for the answer to the last.
    pub(super) pipelines: bool,
    /// Ends its sending side after its requests, and still expects the answers.
    pub(super) half_closes: bool,
    /// Never sends the last byte of a request.
    pub(super) withholds_last_byte: bool,
    pub(super) reading: Reading,
    /// Answers pings.
    pub(super) pongs: bool,
    /// Answers each event with a `deployment.ack`.
    pub(super) acks: bool,
    /// Sends its first frames together with the upgrade request, before the 101.
    pub(super) early: bool,
    /// The offset behind which a gateway asks to go on.
    pub(super) resumes: Option<u64>,
    /// Connects with `?delivery=written`.
    pub(super) written_only: bool,
    pub(super) handling: Handling,
    /// The peer whose connection it replaces: it connects once that is lost, and not at `arrives`.
    pub(super) follows: Option<usize>,
    /// Longest piece of its bytes that arrives at once.
    pub(super) piece_max: usize,
    /// Longest time in microseconds until it reacts to received bytes.
    pub(super) latency_max: u64,
    pub(super) ending: Ending,
    pub(super) misbehaviour: Misbehaviour,
    pub(super) arrives: Duration,
    pub(super) leaves: Duration,
    pub(super) conditions: Conditions,
}

impl Profile {
    /// A gateway with this key that does everything right and stays.
    pub(super) fn gateway(key: usize) -> Self {
        Self {
            platform: false,
            side: None,
            key: Some(key),
            host: None,
            core: None,
            requests: Vec::new(),
            pipelines: false,
            half_closes: false,
            withholds_last_byte: false,
            reading: Reading::Eager,
            pongs: true,
            acks: false,
            early: false,
            resumes: None,
            written_only: false,
            handling: Handling::INSTANT,
            follows: None,
            piece_max: UNLIMITED,
            latency_max: 100,
            ending: Ending::Stay,
            misbehaviour: Misbehaviour::None,
            arrives: Duration::ZERO,
            leaves: Duration::MAX,
            conditions: Conditions::PERFECT,
        }
    }

    /// A platform that does everything right.
    pub(super) fn platform(requests: Vec<(Duration, Request)>) -> Self {
        Self { platform: true, key: None, requests, ending: Ending::Fin, ..Self::gateway(0) }
    }

    /// Whether it gives the hub no reason to close it or to wait for it.
    pub(super) fn is_good(&self) -> bool {
        let answers = self.pongs && self.handling.is_quick();
        self.reading == Reading::Eager && answers && self.misbehaviour.is_tolerated() && self.conditions.is_perfect()
    }
}

/// How likely each kind of accident is, per mille.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    slow: u64,
    silent: u64,
    misbehaves: u64,
    stalls: u64,
    cuts: u64,
    endings: u64,
    small_buffers: u64,
    slow_links: u64,
    leaves_early: u64,
    resumes: u64,
}

impl Weights {
    /// Draws the weights; each is 0 in half of the worlds.
    pub(super) fn swarm(rng: &mut Rng) -> Self {
        let mut weight = |max| if rng.chance(500) { 0 } else { rng.within(50..=max) };
        Self {
            slow: weight(600),
            silent: weight(400),
            misbehaves: weight(400),
            stalls: weight(400),
            cuts: weight(900),
            endings: weight(1_000),
            small_buffers: weight(500),
            slow_links: weight(300),
            leaves_early: weight(700),
            resumes: weight(500),
        }
    }

    /// Draws a gateway.
    pub(super) fn gateway(&self, rng: &mut Rng, scenario: &Scenario, keys: usize) -> Profile {
        let misbehaviour = if rng.chance(self.misbehaves) { rng.pick(&MISBEHAVIOURS) } else { Misbehaviour::None };
        let known = !matches!(misbehaviour, Misbehaviour::WrongKey | Misbehaviour::NoKey | Misbehaviour::Garbage);
        let key = rng.below(keys as u64) as usize;
        self.peer(rng, scenario, Profile { misbehaviour, key: Some(key).filter(|_| known), ..Profile::gateway(0) })
    }

    /// Draws a platform without requests.
    pub(super) fn platform(&self, rng: &mut Rng, scenario: &Scenario) -> Profile {
        let mut profile = self.peer(rng, scenario, Profile::platform(Vec::new()));
        if rng.chance(600) {
            // Most platforms are well-behaved, because in many worlds no request would get through otherwise.
            profile =
                Profile { arrives: profile.arrives, latency_max: profile.latency_max, ..Profile::platform(Vec::new()) };
            profile.leaves = scenario.active;
        }
        profile.pipelines = rng.chance(400);
        if rng.chance(200) {
            profile.ending = Ending::Stay;
        }
        profile
    }

    fn peer(&self, rng: &mut Rng, scenario: &Scenario, profile: Profile) -> Profile {
        let active = scenario.active.as_micros() as u64;
        let arrives = if rng.chance(300) { 0 } else { rng.below(active) };
        let leaves = if rng.chance(self.leaves_early) { rng.within(arrives..=active) } else { active };
        let slow = [Reading::Slow(rng.piece(400)), Reading::Never, Reading::Bursts];
        let cut = rng.chance(self.cuts);
        Profile {
            reading: if rng.chance(self.slow) { rng.pick(&slow) } else { Reading::Eager },
            pongs: !rng.chance(self.silent),
            acks: rng.chance(300),
            early: rng.chance(100),
            resumes: rng.chance(self.resumes).then(|| rng.below(40)),
            piece_max: if cut { rng.piece(64) } else { UNLIMITED },
            latency_max: rng.pick(&[0, 500, 20_000]),
            ending: if rng.chance(self.endings) { rng.pick(&ENDINGS) } else { Ending::Close(1000) },
            arrives: Duration::from_micros(arrives),
            leaves: Duration::from_micros(leaves),
            conditions: self.conditions(rng, cut),
            ..profile
        }
    }

    fn conditions(&self, rng: &mut Rng, cut: bool) -> Conditions {
        let stalls = rng.chance(self.stalls);
        let capacity = rng.pick(&[300, 1_000, 5_000, 20_000, 200_000]);
        let small = rng.chance(self.small_buffers);
        let slow = rng.chance(self.slow_links);
        Conditions {
            capacity: if small || slow { rng.within(200..=capacity) as usize } else { UNLIMITED },
            window: if small { rng.within(500..=60_000) as usize } else { UNLIMITED },
            rate: slow.then(|| rng.within(2_000..=2_000_000)),
            write_max: if cut { rng.piece(2_000) } else { UNLIMITED },
            stall: if stalls { rng.within(1..=200) } else { 0 },
            stall_max: Duration::from_millis(rng.pick(&[5, 500, 12_000])),
            ack_delay: Duration::ZERO,
        }
    }
}

const ENDINGS: [Ending; 6] =
    [Ending::Close(1001), Ending::Close(4000), Ending::Fin, Ending::Reset, Ending::Vanish, Ending::Stay];
const MISBEHAVIOURS: [Misbehaviour; 11] = [
    Misbehaviour::Unmasked,
    Misbehaviour::NotUtf8,
    Misbehaviour::TooBig,
    Misbehaviour::PingFlood,
    Misbehaviour::MessageFlood,
    Misbehaviour::Malformed,
    Misbehaviour::Binary,
    Misbehaviour::WrongKey,
    Misbehaviour::NoKey,
    Misbehaviour::HalfHead,
    Misbehaviour::Garbage,
];
