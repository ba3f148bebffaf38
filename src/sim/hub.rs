//! What all cores of a simulated hub share: time, chance, sockets, the mesh between the cores, and who watches.

use super::{
    client::{Client, Seen},
    core::LinkKey,
    dice::Dice,
    oracle::Oracle,
    pipe::{Pipe, Write},
    scenario::Scenario,
    story::Story,
};
use crate::{
    api::Phase,
    driver::slots::{Slot, Slots},
    model::{Change, GatewayId, Instant, KeyHash, Now, ShardId, Timestamp, TokenId},
    session::{self, Session},
    shard::{Command, Placement, Reply, RequestKey},
};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Something that happens at a moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum What {
    /// The peer has its turn; the first one connects it.
    Peer(usize),
    /// The socket takes bytes again.
    Unstalled(usize),
    /// A core's mail has come.
    Mail(usize),
    /// Somebody publishes.
    Publish,
    /// A token is revoked, or a gateway deleted.
    Change,
    /// The drain begins.
    Drain,
    /// A core closes the next connection of its drain.
    DrainNext(usize),
    /// A core's drain is over, whatever is left.
    Force(usize),
    /// Time passes for all cores.
    Tick,
}

/// What one core asks another.
pub(super) enum Request {
    Command { from: ShardId, key: RequestKey, command: Command },
    Handoff(Box<Handoff>),
}

/// A connection between two cores.
pub(super) struct Handoff {
    pub(super) line: usize,
    pub(super) session: Session,
    pub(super) entrant: Entrant,
    pub(super) slot: Slot,
}

/// A gateway whose key was good.
#[derive(Clone, Copy)]
pub(super) struct Entrant {
    pub(super) gateway: GatewayId,
    pub(super) token: TokenId,
    pub(super) key: KeyHash,
}

/// What every core is told.
#[derive(Clone, Copy)]
pub(super) enum Control {
    Change(Change),
    Drain,
}

/// One core's three lanes; each keeps its order.
#[derive(Default)]
pub(super) struct Mail {
    pub(super) requests: VecDeque<(Instant, Request)>,
    pub(super) replies: VecDeque<(Instant, (RequestKey, Reply))>,
    pub(super) control: VecDeque<(Instant, Control)>,
}

/// One peer's socket, and what it makes of the hub's bytes.
pub(super) struct Line {
    pub(super) pipe: Pipe,
    pub(super) client: Client,
    /// What the peer will notice once it has read so many bytes.
    pub(super) news: VecDeque<(u64, News)>,
    /// Where the hub holds the socket.
    pub(super) owner: Option<(usize, LinkKey)>,
    /// How long until the peer looks at what came.
    pub(super) latency: u64,
}

/// Something that a peer may react to.
pub(super) enum News {
    Seen(Seen),
    /// TLS has this to answer.
    Handshake(Vec<u8>),
}

/// All of it.
pub(super) struct Hub {
    pub(super) now: Now,
    pub(super) dice: Dice,
    pub(super) scenario: Scenario,
    pub(super) settings: Arc<session::Settings>,
    pub(super) placement: Placement,
    pub(super) slots: Slots,
    pub(super) phase: Phase,
    pub(super) mail: Vec<Mail>,
    pub(super) lines: Vec<Line>,
    pub(super) oracle: Oracle,
    pub(super) story: Story,
    heap: BinaryHeap<Reverse<(Instant, u64, What)>>,
    serial: u64,
}

impl Hub {
    pub(super) fn new(scenario: Scenario, dice: Dice, lines: Vec<Line>, oracle: Oracle, story: Story) -> Self {
        Self {
            now: at(Instant(START)),
            dice,
            settings: Arc::new(scenario.session.clone()),
            placement: Placement::new(scenario.shards, scenario.seed),
            slots: Slots::new(scenario.connections_max),
            phase: Phase::Ready,
            mail: (0..scenario.shards).map(|_| Mail::default()).collect(),
            lines,
            oracle,
            story,
            heap: BinaryHeap::new(),
            serial: 0,
            scenario,
        }
    }

    pub(super) fn schedule(&mut self, at: Instant, what: What) {
        self.serial += 1;
        self.heap.push(Reverse((at.max(self.now.instant), self.serial, what)));
    }

    /// Goes to the next moment at which something happens.
    pub(super) fn advance(&mut self) -> Option<What> {
        let Reverse((instant, _, what)) = self.heap.pop()?;
        self.now = at(instant);
        Some(what)
    }

    /// What the hub's socket says to a write; the bytes that it takes are looked at by the oracle at once.
    pub(super) fn write(&mut self, index: usize, bytes: &[u8]) -> Write {
        let line = &mut self.lines[index];
        if line.pipe.hub_shut {
            self.oracle.fail("nothing follows a FIN", Some(index), format!("{} bytes", bytes.len()));
        }
        let result = line.pipe.write(self.now.instant, bytes, &mut self.dice);
        let stalled = line.pipe.stalled_until;
        if let Write::Took(bytes_taken) = result {
            let mut seen = Vec::new();
            let answer = line.client.feed(&bytes[..bytes_taken], &mut seen);
            if !answer.is_empty() {
                line.news.push_back((line.pipe.accepted, News::Handshake(answer)));
            }
            let (accepted, latency) = (line.pipe.accepted, line.latency);
            let latency = Duration::from_micros(self.dice.below(latency + 1));
            for item in seen {
                self.oracle.seen(self.now, index, &item, &mut self.story);
                self.lines[index].news.push_back((accepted, News::Seen(item)));
            }
            self.schedule(self.now.instant + latency, What::Peer(index));
        }
        if stalled > self.now.instant {
            self.schedule(stalled, What::Unstalled(index));
        }
        result
    }

    /// Puts a request into another core's inbox; gives it back where that is full.
    pub(super) fn request(&mut self, to: ShardId, request: Request) -> Result<(), Request> {
        let mail = &mut self.mail[to.index()];
        if mail.requests.len() >= self.scenario.inbox_max {
            return Err(request);
        }
        let due = due(self.now.instant, mail.requests.back().map(|(at, _)| *at), &mut self.dice, &self.scenario);
        mail.requests.push_back((due, request));
        self.schedule(due, What::Mail(to.index()));
        Ok(())
    }

    pub(super) fn reply(&mut self, to: ShardId, key: RequestKey, reply: Reply) {
        let mail = &mut self.mail[to.index()];
        let due = due(self.now.instant, mail.replies.back().map(|(at, _)| *at), &mut self.dice, &self.scenario);
        mail.replies.push_back((due, (key, reply)));
        self.schedule(due, What::Mail(to.index()));
    }

    /// Tells every core, each in its own time.
    pub(super) fn tell(&mut self, control: Control) {
        for core in 0..self.mail.len() {
            let mail = &mut self.mail[core];
            let due = due(self.now.instant, mail.control.back().map(|(at, _)| *at), &mut self.dice, &self.scenario);
            mail.control.push_back((due, control));
            self.schedule(due, What::Mail(core));
        }
    }
}

/// When a message arrives: after a delay, and not before the one ahead of it.
fn due(now: Instant, ahead: Option<Instant>, dice: &mut Dice, scenario: &Scenario) -> Instant {
    let arrival = now + Duration::from_micros(dice.below(scenario.mesh_delay_max + 1));
    ahead.map_or(arrival, |ahead| ahead.max(arrival))
}

fn at(instant: Instant) -> Now {
    Now { instant, wall: Timestamp(1_700_000_000_000 + (instant.0 / 1_000) as i64) }
}

/// The beginning of simulated time; an hour, so that no deadline is near zero.
pub(super) const START: u64 = 3_600_000_000;
