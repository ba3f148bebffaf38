//! The laws of every log, as one suite: random requests on two ports, each answer checked against what was asked before.

use super::{EventLog, LogPort};
use crate::model::{
    CorrelationId, Event, EventType, GatewayId, Life, Position, Timestamp,
    log::{AppendKey, Draft, End, FollowKey, ForgetKey, Head, LogReply, LogRequest, ReadKey, Record, Room},
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
pub(super) fn hold(seeds: u64, open: impl Fn() -> Box<dyn EventLog>) {
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
    /// The highest `first` that any answer has shown.
    first: u64,
}

impl Known {
    fn bytes_until(&self, offset: u64) -> u64 {
        self.payloads[..offset as usize].iter().map(|payload| payload.len() as u64).sum()
    }
}

struct Following {
    gateway: usize,
    life: Life,
    behind: Option<Position>,
    /// The offset that the next `Live` begins with; `None` until the follow is answered.
    next: Option<u64>,
}

struct Reading {
    gateway: usize,
    life: Life,
    after: Position,
    upto: Option<Position>,
    room: Room,
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
            Known { life, payloads: Vec::new(), first: 1 }
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
        let life = self.gateways[gateway].life;
        match self.numbers.below(20) {
            0..=8 => self.append(),
            9..=11 => {
                let behind = (self.numbers.below(3) > 0).then(|| self.some_position(gateway));
                let key = self.key();
                self.follows.insert(key, Following { gateway, life, behind, next: None });
                self.submit(LogRequest::Follow { key: FollowKey(key), life, behind });
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
                let after = self.some_position(gateway);
                let upto = (self.numbers.below(2) > 0).then(|| self.some_position(gateway));
                let room = Room { records: 1 + self.numbers.below(6), bytes: self.numbers.below(400) };
                let key = self.key();
                self.reads.insert(key, Reading { gateway, life, after, upto, room });
                self.submit(LogRequest::Read { key: ReadKey(key), life, after, upto, room });
            }
            17 if self.numbers.below(4) == 0 => self.forget(gateway),
            _ => self.drain(),
        }
    }

    fn append(&mut self) {
        let mut drafts = Vec::new();
        let mut known = Vec::new();
        for _ in 0..=self.numbers.below(4) {
            let gateway = self.numbers.below(GATEWAYS);
            let life = self.gateways[gateway].life;
            let number = self.key();
            let payload = format!("\"{number}{}\"", "x".repeat(self.numbers.below(120))).into_bytes();
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
        self.submit(LogRequest::Append { key: AppendKey(key), drafts });
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
        self.gateways[gateway] = Known { life, payloads: Vec::new(), first: 1 };
        let (key, after, upto, room) =
            (self.key(), Position { epoch: 0, offset: 0 }, None, Room { records: 1, bytes: 0 });
        self.reads.insert(key, Reading { gateway, life, after, upto, room });
        self.submit(LogRequest::Read { key: ReadKey(key), life, after, upto, room });
        self.wait_until(|shard| shard.reads.is_empty());
        self.gateways[gateway].life.incarnation += 10_000;
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

    /// Everything is answered; then each gateway's events are read whole, and are what was appended.
    fn finish(&mut self) {
        self.wait_until(|shard| shard.appends.is_empty() && shard.reads.is_empty() && shard.forgets.is_empty());
        self.wait_until(|shard| {
            let answered = shard.follows.values().all(|it| it.next.is_some());
            let last = |it: &Following| shard.gateways[it.gateway].payloads.len() as u64;
            answered && shard.follows.values().all(|it| it.next.is_some_and(|next| next == last(it) + 1))
        });
    }

    fn check(&mut self, reply: LogReply) {
        match reply {
            LogReply::Appended { key, from, results, last } => self.check_appended(key.0, from, results, last),
            LogReply::Following { key, head } => {
                let follow = self.follows.remove(&key.0).expect("a follow is answered once");
                assert!(follow.next.is_none(), "a follow is answered once");
                self.check_head(follow.gateway, follow.life, head);
                let behind = follow.behind.map_or(head.last, |behind| behind.offset);
                assert!(behind <= head.last && behind + 1 >= head.first, "{behind} is no place to begin: {head:?}");
                self.follows.insert(key.0, Following { next: Some(behind + 1), ..follow });
            }
            LogReply::NotFollowing { key, why } => {
                let follow = self.follows.remove(&key.0).expect("a follow is answered once");
                self.check_no_place(follow.gateway, follow.life, follow.behind.expect("the end is a place"), &why);
            }
            LogReply::Live { key, records } => {
                assert!(!records.is_empty(), "a Live has an event");
                let Some(mut follow) = self.follows.remove(&key.0) else { panic!("Live for a follow that has ended") };
                let next = follow.next.expect("Live comes after Following");
                self.check_records(follow.gateway, next, &records);
                follow.next = Some(next + records.len() as u64);
                self.follows.insert(key.0, follow);
            }
            LogReply::Interrupted(key) => {
                // It follows again, from where it stands.
                let follow = self.follows.remove(&key.0).expect("only what follows is interrupted");
                let epoch = self.gateways[follow.gateway].life;
                assert_eq!(epoch, follow.life, "the gateway is the same");
            }
            LogReply::Chunk { key, records, end } => {
                let read = self.reads.remove(&key.0).expect("a read is answered once");
                self.check_chunk(&read, &records, &end);
            }
            LogReply::Forgotten(key, result) => {
                self.forgets.remove(&key.0).expect("a forget is answered once");
                assert_eq!(result, Ok(()));
            }
            LogReply::Health(_) => {}
        }
    }

    fn check_appended(
        &mut self,
        key: u64,
        from: usize,
        results: Vec<Result<Position, crate::model::log::NotAppended>>,
        last: bool,
    ) {
        let drafts = self.appends.get_mut(&key).expect("an append is answered once");
        assert!(from + results.len() <= drafts.len() && (!last || from + results.len() == drafts.len()));
        let answered: Vec<_> = drafts[from..from + results.len()].to_vec();
        if last {
            self.appends.remove(&key);
        }
        for ((gateway, life, payload), result) in answered.into_iter().zip(results) {
            let position = result.expect("a healthy log takes every event");
            let known = &mut self.gateways[gateway];
            assert_eq!(known.life, life, "appends are answered before their gateway is deleted");
            known.payloads.push(payload.clone());
            assert_eq!(position.offset, known.payloads.len() as u64, "drafts of one gateway keep their order");
            assert!(self.names.insert(position, payload).is_none(), "{position} names two events");
        }
    }

    fn check_records(&self, gateway: usize, first: u64, records: &[Record]) {
        let known = &self.gateways[gateway];
        for (offset, record) in (first..).zip(records) {
            assert_eq!(record.position.offset, offset, "in order, none left out");
            // `Live` may come before the `Appended` of the same event; what it names is checked by the payload then.
            if let Some(payload) = known.payloads.get(offset as usize - 1) {
                assert_eq!(record.event.payload, payload.as_slice(), "{} is another event", record.position);
                assert_eq!(record.bytes, known.bytes_until(offset), "cumulative bytes");
            }
        }
    }

    fn check_chunk(&mut self, read: &Reading, records: &[Record], end: &End) {
        let bytes: usize = records.iter().map(|record| record.event.payload.len()).sum();
        let fits = records.len() <= read.room.records && bytes <= read.room.bytes;
        assert!(
            records.len() <= 1 || fits,
            "a chunk of {} records and {bytes} bytes for {:?}",
            records.len(),
            read.room
        );
        self.check_records(read.gateway, read.after.offset + 1, records);
        let reached = read.after.offset + records.len() as u64;
        match end {
            End::More => assert!(!records.is_empty(), "a chunk with more behind it has one"),
            End::Reached => {
                let last = self.gateways[read.gateway].payloads.len() as u64;
                let upto = read.upto.map_or(last, |upto| upto.offset.min(last));
                assert!(reached >= upto, "it ends at {reached} and says that it has reached {upto}");
            }
            End::Gone { .. } | End::OtherEpoch { .. } | End::Failed(_) => {
                assert!(records.is_empty());
                self.check_no_place(read.gateway, read.life, read.after, end);
            }
        }
    }

    fn check_no_place(&mut self, gateway: usize, life: Life, after: Position, end: &End) {
        match end {
            End::Gone { head } => {
                self.check_head(gateway, life, *head);
                assert_eq!(after.epoch, head.epoch);
                assert!(after.offset + 1 < head.first, "what is behind {after} is there: {head:?}");
            }
            End::OtherEpoch { head } => {
                self.check_head(gateway, life, *head);
                assert!(after.epoch != head.epoch || after.offset > head.last, "{after} is a position of {head:?}");
            }
            other => panic!("{other:?} is no reason"),
        }
    }

    fn check_head(&mut self, gateway: usize, life: Life, head: Head) {
        let known = &mut self.gateways[gateway];
        assert_eq!(known.life, life, "an answer about a deleted gateway comes before its Forgotten");
        assert!(head.first >= known.first, "`first` fell from {} to {}", known.first, head.first);
        assert!(head.base < head.first && head.first <= head.last + 1, "{head:?}");
        known.first = head.first;
        let told = known.payloads.len() as u64;
        // The log may be ahead of the answers that have been taken, never behind them.
        let asked: usize = self.appends.values().flatten().filter(|(of, ..)| *of == gateway).count();
        assert!((told..=told + asked as u64).contains(&head.last), "{told} appended, {asked} asked for: {head:?}");
    }
}
