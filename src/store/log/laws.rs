//! The laws of every log, as one suite: random requests on two ports, each answer checked against what was asked before.

mod judge;
mod progress;

use super::{EventLog, LogPort};
use crate::model::{
    CorrelationId, Event, EventType, GatewayId, Life, Position, Timestamp,
    log::{AppendKey, Draft, FollowKey, ForgetKey, LogRequest, ReadFrom, ReadKey, Room},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

/// Requests on one port, in one run.
const REQUESTS: usize = 400;
const GATEWAYS: usize = 4;
/// A log answers within this, or it has lost a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the suite on logs that `open` makes; each is used once.
pub(crate) fn hold(seeds: u64, open: impl Fn() -> Box<dyn EventLog>) {
    for seed in 0..seeds {
        let mut log = open();
        let ports = log.ports((0..2).map(|_| Box::new(|| {}) as super::Waker).collect());
        let mut names = HashMap::new();
        for (index, port) in ports.into_iter().enumerate() {
            let mut shard = Shard::new(port, seed * 2 + index as u64, names);
            for _ in 0..REQUESTS {
                shard.act();
            }
            shard.finish();
            names = shard.names;
        }
        log.stop();
        log.join();
    }
}

/// Runs the suite on logs that keep events over a restart. `open` opens the log of a seed again, with the gateways that exist.
pub(super) fn hold_over_restarts(seeds: u64, restarts: usize, open: impl Fn(u64, Vec<Life>) -> Box<dyn EventLog>) {
    let ports = |log: &mut Box<dyn EventLog>| log.ports((0..2).map(|_| Box::new(|| {}) as super::Waker).collect());
    for seed in 0..seeds {
        let mut log = open(seed, Vec::new());
        let shard = |(index, port)| Shard::new(port, seed * 2 + index, HashMap::new());
        let mut shards: Vec<_> = (0..).zip(ports(&mut log)).map(shard).collect();
        for restart in 0..=restarts {
            for _ in 0..REQUESTS / 2 {
                shards.iter_mut().for_each(Shard::act);
            }
            shards.iter_mut().for_each(Shard::finish);
            log.stop();
            log.join();
            if restart == restarts {
                break;
            }
            let lives = shards.iter().flat_map(|shard| shard.gateways.iter().map(|known| known.life));
            log = open(seed, lives.collect());
            for (shard, port) in shards.iter_mut().zip(ports(&mut log)) {
                shard.reconnect(port);
            }
        }
    }
}

/// A sequence of numbers that looks random (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// What is known about one gateway: its appended events, of which the first is at offset 1.
struct Known {
    life: Life,
    payloads: Vec<Vec<u8>>,
    /// Events that were handed in.
    submitted: u64,
    /// Its progress, after the steps that were handed in.
    progress: Option<Processed>,
    /// The highest `first` that any answer has shown.
    first: u64,
    /// The epoch of its positions, once one was told. It stays the same for as long as the gateway lives.
    epoch: Option<u64>,
}

impl Known {
    fn new(life: Life) -> Self {
        Self { life, payloads: Vec::new(), submitted: 0, progress: None, first: 1, epoch: None }
    }

    fn bytes_until(&self, offset: u64) -> u64 {
        self.payloads[..offset as usize].iter().map(|payload| payload.len() as u64).sum()
    }
}

/// Offset, attempts and their milliseconds.
type Processed = (u64, u32, u64);

struct Following {
    gateway: usize,
    life: Life,
    behind: Option<Position>,
    /// What is kept of its progress at this place in the order of requests.
    progress: Option<Processed>,
    /// The offset that the next `Live` begins with; `None` until the follow is answered.
    next: Option<u64>,
}

struct Reading {
    gateway: usize,
    life: Life,
    from: ReadFrom,
    upto: Option<Position>,
    room: Room,
    /// What was known when it was submitted. A read and the requests after it are answered in any order, so its answer may be older
    /// than what is known when it comes.
    known: Least,
}

/// What a head has at least.
#[derive(Clone, Copy)]
struct Least {
    first: u64,
    last: u64,
}

/// A shard with its port, and what it knows.
struct Shard {
    port: Box<dyn LogPort>,
    numbers: Numbers,
    gateways: Vec<Known>,
    next_key: u64,
    appends: BTreeMap<u64, Vec<(usize, Life, Vec<u8>)>>,
    follows: BTreeMap<u64, Following>,
    reads: BTreeMap<u64, Reading>,
    forgets: BTreeMap<u64, ()>,
    /// The payload at each position that was ever given, over all ports.
    names: HashMap<Position, Vec<u8>>,
}

impl Shard {
    fn new(port: Box<dyn LogPort>, seed: u64, names: HashMap<Position, Vec<u8>>) -> Self {
        let gateway = |index: usize| {
            let life = Life { gateway: GatewayId::random(), incarnation: seed * 100 + index as u64 };
            Known::new(life)
        };
        Self {
            port,
            numbers: Numbers(seed),
            gateways: (0..GATEWAYS).map(gateway).collect(),
            next_key: 0,
            appends: BTreeMap::new(),
            follows: BTreeMap::new(),
            reads: BTreeMap::new(),
            forgets: BTreeMap::new(),
            names,
        }
    }

    fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    fn act(&mut self) {
        let gateway = self.numbers.below(GATEWAYS);
        match self.numbers.below(25) {
            0..=8 => self.append(),
            9..=11 => {
                let behind = (self.numbers.below(3) > 0).then(|| self.some_position(gateway));
                let key = self.key();
                self.follow(key, gateway, behind);
            }
            12 => {
                let count = self.follows.len();
                if count > 0 {
                    let key = *self.follows.keys().nth(self.numbers.below(count)).expect("it exists");
                    // An unanswered follow is not dropped, so that its answer can be checked.
                    if self.follows[&key].next.is_some() {
                        self.follows.remove(&key);
                        self.submit(LogRequest::Unfollow(FollowKey(key)));
                    }
                }
            }
            13..=16 => {
                let from = match self.numbers.below(8) {
                    0 => ReadFrom::Oldest,
                    1 => ReadFrom::Last(self.numbers.below(10) as u64),
                    _ => ReadFrom::After(self.some_position(gateway)),
                };
                let upto = (self.numbers.below(2) > 0).then(|| self.some_position(gateway));
                let room = Room { records: 1 + self.numbers.below(6), bytes: self.numbers.below(400) };
                self.read(gateway, from, upto, room);
            }
            17 if self.numbers.below(4) == 0 => self.forget(gateway),
            18..=22 => self.step_progress(gateway),
            _ => self.drain(),
        }
    }

    fn follow(&mut self, key: u64, gateway: usize, behind: Option<Position>) {
        let Known { life, progress, .. } = self.gateways[gateway];
        self.follows.insert(key, Following { gateway, life, behind, progress, next: None });
        self.submit(LogRequest::Follow { key: FollowKey(key), life, behind });
    }

    fn append(&mut self) {
        let mut drafts = Vec::new();
        let mut known = Vec::new();
        for _ in 0..=self.numbers.below(4) {
            let gateway = self.numbers.below(GATEWAYS);
            let life = self.gateways[gateway].life;
            let number = self.key();
            let payload = format!("\"{number}{}\"", "x".repeat(self.numbers.below(120))).into_bytes();
            self.gateways[gateway].submitted += 1;
            known.push((gateway, life, payload.clone()));
            let event = Event {
                gateway: life.gateway,
                kind: EventType::parse("t").expect("a valid type"),
                payload: payload.into(),
                correlation: CorrelationId::random(),
                correlation_given: false,
                user_id: None,
            };
            drafts.push(Draft { life, event: Arc::new(event), accepted: Timestamp(number as i64) });
        }
        let key = self.key();
        self.appends.insert(key, known);
        let bulk = self.numbers.below(3) == 0;
        self.submit(LogRequest::Append { key: AppendKey(key), drafts, bulk });
    }

    /// Deletes the gateway and makes another one with its id. The shard does this only once its appends are answered.
    fn forget(&mut self, gateway: usize) {
        self.wait_until(|shard| shard.appends.is_empty() && shard.reads.is_empty());
        let life = self.gateways[gateway].life;
        let dropped: Vec<_> =
            self.follows.iter().filter(|(_, it)| it.gateway == gateway).map(|(key, _)| *key).collect();
        self.wait_until(|shard| dropped.iter().all(|key| shard.follows.get(key).is_none_or(|it| it.next.is_some())));
        for key in dropped {
            if self.follows.remove(&key).is_some() {
                self.submit(LogRequest::Unfollow(FollowKey(key)));
            }
        }
        let key = self.key();
        self.forgets.insert(key, ());
        self.submit(LogRequest::Forget { key: ForgetKey(key), life });
        self.wait_until(|shard| shard.forgets.is_empty());
        // Under its own name, nothing of it is left.
        self.gateways[gateway] = Known::new(life);
        self.read(gateway, ReadFrom::After(Position { epoch: 0, offset: 0 }), None, Room { records: 1, bytes: 0 });
        self.wait_until(|shard| shard.reads.is_empty());
        self.gateways[gateway].life.incarnation += 10_000;
        self.gateways[gateway].epoch = None;
    }

    fn read(&mut self, gateway: usize, from: ReadFrom, upto: Option<Position>, room: Room) {
        let (key, life, known) = (self.key(), self.gateways[gateway].life, self.least(gateway));
        self.reads.insert(key, Reading { gateway, life, from, upto, room, known });
        self.submit(LogRequest::Read { key: ReadKey(key), life, from, upto, room });
    }

    fn least(&self, gateway: usize) -> Least {
        let known = &self.gateways[gateway];
        Least { first: known.first, last: known.payloads.len() as u64 }
    }

    /// A position around those of the gateway: also 0, above the last, and of another epoch.
    fn some_position(&mut self, gateway: usize) -> Position {
        let known = self.gateways[gateway].payloads.len();
        let epoch = self.names.keys().find(|position| self.is_of(gateway, position)).map_or(0, |it| it.epoch);
        let epoch = if self.numbers.below(12) == 0 { epoch ^ 1 } else { epoch };
        Position { epoch, offset: self.numbers.below(known + 3) as u64 }
    }

    fn is_of(&self, gateway: usize, position: &Position) -> bool {
        let offset = position.offset as usize;
        let payloads = &self.gateways[gateway].payloads;
        offset >= 1 && payloads.get(offset - 1).is_some_and(|payload| self.names[position] == *payload)
    }

    fn submit(&mut self, request: LogRequest) {
        let mut request = request;
        let began = Instant::now();
        loop {
            let mut out = Vec::new();
            let submitted = self.port.submit(request, &mut out);
            out.into_iter().for_each(|reply| self.check(reply));
            match submitted {
                Ok(()) => return,
                Err(busy) => request = busy.0,
            }
            assert!(began.elapsed() < PATIENCE, "the port stays busy");
            self.drain();
        }
    }

    fn drain(&mut self) {
        let mut out = Vec::new();
        self.port.drain(self.numbers.below(2_000), &mut out);
        out.into_iter().for_each(|reply| self.check(reply));
    }

    fn wait_until(&mut self, done: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !done(self) {
            assert!(began.elapsed() < PATIENCE, "a request is not answered");
            self.drain();
        }
    }

    /// Goes on with a log that was opened again: each gateway has the same ends.
    fn reconnect(&mut self, port: Box<dyn LogPort>) {
        (self.port, self.follows) = (port, BTreeMap::new());
        for gateway in 0..GATEWAYS {
            let key = self.key();
            self.follow(key, gateway, None);
        }
        self.wait_until(|shard| shard.follows.values().all(|follow| follow.next.is_some()));
    }

    /// Everything is answered; then each gateway's events are read whole, and are what was appended.
    fn finish(&mut self) {
        self.wait_until(|shard| shard.appends.is_empty() && shard.reads.is_empty() && shard.forgets.is_empty());
        self.wait_until(|shard| {
            let answered = shard.follows.values().all(|it| it.next.is_some());
            let last = |it: &Following| shard.gateways[it.gateway].payloads.len() as u64;
            answered && shard.follows.values().all(|it| it.next.is_some_and(|next| next == last(it) + 1))
        });
    }
}
