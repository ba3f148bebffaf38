//! The log in memory: it answers inside the call, without a lock, and is lost with the process.

use super::{
    EventLog, LogPort, LogStats, Trimmed, Waker,
    progress::{self, Kept},
};
use crate::model::{
    Event, GatewayId, GatewayIndex, Life, Position,
    log::{
        AppendKey, Busy, Draft, End, FollowKey, Head, LogReply, LogRequest, NotAppended, ProgressStep, Promise,
        ReadFrom, ReadKey, Record, Records, Room, Why,
    },
};
use ahash::HashMap;
use slab::Slab;
use smallvec::SmallVec;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What a log in memory is made with.
#[derive(Clone, Copy, Debug)]
pub struct MemorySettings {
    /// The name of this log. No other log ever has it.
    pub epoch: u64,
    /// Memory of the events that are kept of one gateway. Over it: the oldest go.
    pub gateway_bytes_max: usize,
    /// Memory of the events that are kept in one port. Over it: the gateways with the most lose their oldest.
    pub port_bytes_max: usize,
}

/// Memory of an event besides its payload, its type and its user: the record, the event and their allocations.
const EVENT_OVERHEAD_BYTES: usize = 320;

fn memory_of(event: &Event) -> usize {
    let texts = event.kind.as_str().len() + event.user_id.as_ref().map_or(0, |user| user.len());
    event.payload.len() + texts + EVENT_OVERHEAD_BYTES
}

/// A log in memory. Each port has the gateways of its shard and shares nothing with the others.
#[derive(Debug)]
pub struct MemoryLog {
    settings: MemorySettings,
    stopped: Arc<AtomicBool>,
    stats: Arc<LogStats>,
}

impl MemoryLog {
    /// An empty log.
    pub fn new(settings: MemorySettings) -> Self {
        let stats = Arc::new(LogStats::default());
        stats.set_epoch(settings.epoch);
        Self { settings, stopped: Arc::default(), stats }
    }
}

impl EventLog for MemoryLog {
    fn ports(&mut self, wakers: Vec<Waker>) -> Vec<Box<dyn LogPort>> {
        // Nothing is ever left to drain, so no waker is called.
        let port = |_| {
            let port = MemoryPort::new(self.settings, Arc::clone(&self.stopped), Arc::clone(&self.stats));
            Box::new(port) as Box<dyn LogPort>
        };
        wakers.into_iter().map(port).collect()
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn join(self: Box<Self>) {}

    fn stats(&self) -> Arc<LogStats> {
        Arc::clone(&self.stats)
    }
}

/// The gateways of one shard.
struct MemoryPort {
    settings: MemorySettings,
    stopped: Arc<AtomicBool>,
    gateways: Slab<Gateway>,
    /// Their keys in `gateways`.
    by_id: GatewayIndex,
    /// The gateway of each follow, by the same key.
    follows: HashMap<FollowKey, u32>,
    /// Bytes of payloads in all gateways.
    bytes: usize,
    stats: Arc<LogStats>,
    /// The events of the append in progress, for the gateways that somebody follows, by their keys; empty between appends.
    fresh: Vec<(u32, Records)>,
}

/// The log of one gateway.
struct Gateway {
    life: Life,
    head: Head,
    /// How far the gateway has processed, if that is kept. Boxed, because it is not with the delivery `written`.
    progress: Option<Box<Kept>>,
    records: VecDeque<Record>,
    /// Memory of `records`.
    retained_bytes: usize,
    follows: SmallVec<[FollowKey; 1]>,
    /// Its place in [`MemoryPort::fresh`], once it has one.
    fresh_at: Option<u32>,
}

impl Gateway {
    fn new(life: Life, log_epoch: u64) -> Self {
        let head = Head { epoch: life.epoch_in(log_epoch), base: 0, first: 1, last: 0, bytes: 0 };
        Self {
            life,
            head,
            progress: None,
            records: VecDeque::new(),
            retained_bytes: 0,
            follows: SmallVec::new(),
            fresh_at: None,
        }
    }

    fn append(&mut self, draft: Draft) -> Record {
        let size = memory_of(&draft.event);
        self.head.last += 1;
        self.head.bytes += draft.event.payload.len() as u64;
        let position = Position { epoch: self.head.epoch, offset: self.head.last };
        let record = Record { position, accepted: draft.accepted, bytes: self.head.bytes, event: draft.event };
        self.retained_bytes += size;
        self.records.push_back(record.clone());
        record
    }

    /// Removes the oldest event; returns its memory.
    fn trim(&mut self) -> Option<usize> {
        let size = memory_of(&self.records.pop_front()?.event);
        self.retained_bytes -= size;
        self.head.first += 1;
        Some(size)
    }

    /// Whether everything behind this position is here.
    fn check(&self, after: Position) -> Result<(), End> {
        if after.epoch != self.head.epoch || after.offset > self.head.last {
            return Err(End::OtherEpoch { head: self.head });
        }
        if after.offset + 1 < self.head.first { Err(End::Gone { head: self.head }) } else { Ok(()) }
    }

    /// The retained events behind an offset.
    fn behind(&self, offset: u64) -> impl Iterator<Item = &Record> {
        let skipped = (offset + 1).saturating_sub(self.head.first);
        self.records.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX))
    }

    fn chunk(&self, from: ReadFrom, upto: Option<Position>, room: Room) -> (Vec<Record>, End) {
        let (head, after) = (self.head, from.after(self.head));
        if let Err(end) = self.check(after) {
            return (Vec::new(), end);
        }
        let upto = upto.map_or(self.head.last, |upto| upto.offset.min(self.head.last));
        let (mut records, mut bytes) = (Vec::new(), 0);
        for record in self.behind(after.offset).take_while(|record| record.position.offset <= upto) {
            bytes += record.event.payload.len();
            if !records.is_empty() && (records.len() >= room.records || bytes > room.bytes) {
                return (records, End::More { head });
            }
            records.push(record.clone());
        }
        (records, End::Reached { head })
    }
}

/// A gateway is in the index while it is here.
fn id_of(gateways: &Slab<Gateway>, key: u32) -> GatewayId {
    gateways[key as usize].life.gateway
}

impl MemoryPort {
    fn new(settings: MemorySettings, stopped: Arc<AtomicBool>, stats: Arc<LogStats>) -> Self {
        Self {
            settings,
            stopped,
            gateways: Slab::new(),
            by_id: GatewayIndex::default(),
            follows: HashMap::default(),
            bytes: 0,
            stats,
            fresh: Vec::new(),
        }
    }

    /// The key of the gateway's log. One of another incarnation of the same id is removed whole before.
    fn key_of(&mut self, life: Life) -> u32 {
        match self.find(life.gateway) {
            Some(key) if self.gateways[key as usize].life == life => return key,
            Some(_) => self.remove(life.gateway),
            None => {}
        }
        let key = self.gateways.insert(Gateway::new(life, self.settings.epoch));
        let key = u32::try_from(key).expect("gateways are bounded");
        let gateways = &self.gateways;
        self.by_id.insert(life.gateway, key, |key| id_of(gateways, key));
        key
    }

    fn find(&self, gateway: GatewayId) -> Option<u32> {
        self.by_id.get(gateway, |key| id_of(&self.gateways, key))
    }

    fn gateway(&mut self, life: Life) -> &mut Gateway {
        let key = self.key_of(life);
        &mut self.gateways[key as usize]
    }

    /// Whether something is known of this life of the gateway.
    fn knows(&self, life: Life) -> bool {
        self.find(life.gateway).is_some_and(|key| self.gateways[key as usize].life == life)
    }

    fn remove(&mut self, gateway: GatewayId) {
        let gateways = &self.gateways;
        if let Some(key) = self.by_id.remove(gateway, |key| id_of(gateways, key)) {
            let removed = self.gateways.remove(key as usize);
            self.bytes -= removed.retained_bytes;
            self.stats.remove_retained(removed.records.len() as u64, removed.retained_bytes as u64);
            for key in removed.follows {
                self.follows.remove(&key);
            }
        }
    }

    fn append(&mut self, key: AppendKey, drafts: Vec<Draft>, out: &mut Vec<LogReply>) {
        let results = if self.stopped.load(Ordering::Relaxed) {
            drafts.iter().map(|_| Err(NotAppended::Refused(Why::Stopping))).collect()
        } else {
            drafts.into_iter().map(|draft| Ok(self.append_draft(draft))).collect()
        };
        // The publisher's answer depends on who has the event, so `Appended` comes before `Live`.
        out.push(LogReply::Appended { key, from: 0, results, last: true });
        for (key, mut fresh) in self.fresh.drain(..) {
            // A later draft of the same append may have replaced the gateway by a new life of its id, which nobody follows.
            let Some(gateway) = self.gateways.get_mut(key as usize) else { continue };
            gateway.fresh_at = None;
            for (at, key) in gateway.follows.iter().enumerate() {
                let is_last = at + 1 == gateway.follows.len();
                let records = if is_last { std::mem::take(&mut fresh) } else { fresh.clone() };
                out.push(LogReply::Live { key: *key, records });
            }
        }
    }

    fn append_draft(&mut self, draft: Draft) -> Position {
        let size = memory_of(&draft.event);
        let key = self.key_of(draft.life);
        let gateway = &mut self.gateways[key as usize];
        let record = gateway.append(draft);
        let position = record.position;
        if !gateway.follows.is_empty() {
            let fresh = *gateway.fresh_at.get_or_insert_with(|| {
                self.fresh.push((key, Records::new()));
                self.fresh.len() as u32 - 1
            });
            self.fresh[fresh as usize].1.push(record);
        }
        self.bytes += size;
        self.stats.add_retained(1, size as u64);
        self.retain(key);
        position
    }

    /// Trims until both bounds hold. The newest event of the gateway that was appended to always stays.
    fn retain(&mut self, appended: u32) {
        let (gateway_max, port_max) = (self.settings.gateway_bytes_max, self.settings.port_bytes_max);
        let gateway = &mut self.gateways[appended as usize];
        while gateway.retained_bytes > gateway_max && gateway.records.len() > 1 {
            let size = gateway.trim().unwrap_or(0);
            self.bytes -= size;
            self.stats.remove_retained(1, size as u64);
            self.stats.count_trimmed(Trimmed::GatewayBytes, 1);
        }
        if self.bytes <= port_max {
            return;
        }
        // A little further, so that the next event does not cost a look at all gateways again.
        let target = port_max - port_max / 64;
        while self.bytes > target {
            // The largest pays, so a burst of one gateway costs no other its single event.
            let gateways = self.gateways.iter_mut().map(|(_, gateway)| gateway);
            let Some(largest) = gateways.max_by_key(|gateway| gateway.retained_bytes) else { return };
            let least = largest.retained_bytes / 2;
            while self.bytes > target && largest.retained_bytes > least {
                let Some(size) = largest.trim() else { return };
                self.bytes -= size;
                self.stats.remove_retained(1, size as u64);
                self.stats.count_trimmed(Trimmed::TotalBytes, 1);
            }
        }
    }

    fn follow(&mut self, key: FollowKey, life: Life, behind: Option<Position>, out: &mut Vec<LogReply>) {
        let index = self.key_of(life);
        let gateway = &mut self.gateways[index as usize];
        let head = gateway.head;
        let start = behind.unwrap_or(Position { epoch: head.epoch, offset: head.last });
        if let Err(why) = gateway.check(start) {
            return out.push(LogReply::NotFollowing { key, why });
        }
        gateway.follows.push(key);
        let progress = gateway.progress.as_ref().map(|kept| kept.told(head));
        out.push(LogReply::Following { key, head, progress });
        let records: Records = gateway.behind(start.offset).cloned().collect();
        if !records.is_empty() {
            out.push(LogReply::Live { key, records });
        }
        self.follows.insert(key, index);
    }

    /// A gateway of which nothing is known is not made by a step that changes nothing.
    fn step_progress(&mut self, life: Life, step: ProgressStep) {
        let begins = matches!(step, ProgressStep::Begin | ProgressStep::Restart);
        if begins || self.knows(life) {
            let gateway = self.gateway(life);
            let kept = progress::step(gateway.progress.as_deref().copied(), step, gateway.head);
            gateway.progress = kept.map(Box::new);
        }
    }

    fn unfollow(&mut self, key: FollowKey) {
        let gateway = self.follows.remove(&key);
        if let Some(gateway) = gateway.and_then(|index| self.gateways.get_mut(index as usize)) {
            gateway.follows.retain(|other| *other != key);
        }
    }

    fn read(&mut self, key: ReadKey, life: Life, from: ReadFrom, upto: Option<Position>, room: Room) -> LogReply {
        let (records, end) = self.gateway(life).chunk(from, upto, room);
        LogReply::Chunk { key, records, end }
    }
}

impl LogPort for MemoryPort {
    fn submit(&mut self, request: LogRequest, out: &mut Vec<LogReply>) -> Result<(), Busy<LogRequest>> {
        match request {
            LogRequest::Append { key, drafts, .. } => self.append(key, drafts, out),
            LogRequest::Follow { key, life, behind } => self.follow(key, life, behind, out),
            LogRequest::Unfollow(key) => self.unfollow(key),
            LogRequest::Read { key, life, from, upto, room } => {
                let chunk = self.read(key, life, from, upto, room);
                out.push(chunk);
            }
            LogRequest::Progress { life, step } => self.step_progress(life, step),
            // A read is answered inside its call.
            LogRequest::Cancel(_) => {}
            LogRequest::Forget { key, life } => {
                if self.knows(life) {
                    self.remove(life.gateway);
                }
                out.push(LogReply::Forgotten(key, Ok(())));
            }
        }
        Ok(())
    }

    fn drain(&mut self, _: usize, _: &mut Vec<LogReply>) {}

    fn promise(&self) -> Promise {
        Promise::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::{super::laws, *};

    #[test]
    fn the_log_in_memory_keeps_the_laws() {
        let settings = MemorySettings { epoch: 7, gateway_bytes_max: 8_000, port_bytes_max: 20_000 };
        laws::hold(50, || Box::new(MemoryLog::new(settings)));
    }
}
