//! The simulated store: one job at a time, sometimes late or failing. It sends each change to every core.

use super::{
    lanes::OUTSIDE,
    net::{Net, Step},
    rng::Rng,
    roster::Roster,
};
use crate::{
    engine::{Incoming, Lane},
    model::{
        Change, GatewayId, GatewayRecord, Instant, Kept, KeyHash, Life, ShardId, StoreOp, StoreOutcome, TokenId,
        TokenRecord,
    },
    shard::RequestKey,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

/// A job of one core.
pub(super) struct Job {
    pub(super) op: StoreOp,
    pub(super) asker: ShardId,
    pub(super) key: RequestKey,
}

/// Holds back the answer to a change until every core has applied it: the last clone that is dropped releases the
/// answer.
pub(super) struct Receipt {
    answer: Option<(ShardId, RequestKey, StoreOutcome)>,
    settled: Rc<RefCell<VecDeque<(ShardId, RequestKey, StoreOutcome)>>>,
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.settled.borrow_mut().extend(self.answer.take());
    }
}

/// How late the store is, and how often it fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreFaults {
    /// How likely a job takes up to [`StoreFaults::late_max`], per mille.
    pub(super) late: u64,
    pub(super) late_max: Duration,
    /// How likely a job fails, per mille.
    pub(super) fails: u64,
    /// How likely a failed job was carried out all the same, per mille.
    pub(super) in_doubt: u64,
    /// How many jobs may wait.
    pub(super) queue_max: usize,
}

struct Gateway {
    record: GatewayRecord,
    tokens: Vec<(TokenId, KeyHash, crate::model::Timestamp)>,
    manifest: Option<String>,
}

/// The store's content, and the jobs that wait.
pub(super) struct Store {
    faults: StoreFaults,
    jobs: VecDeque<Job>,
    gateways: BTreeMap<GatewayId, Gateway>,
    /// Answers whose receipts are all dropped; they are sent at the end of the core's pass or of the job.
    pub(super) settled: Rc<RefCell<VecDeque<(ShardId, RequestKey, StoreOutcome)>>>,
}

impl Store {
    pub(super) fn new(faults: StoreFaults, roster: &Roster) -> Self {
        let mut gateways = BTreeMap::new();
        for (index, gateway) in roster.gateways.iter().enumerate().filter(|(_, gateway)| gateway.is_initial) {
            let record = GatewayRecord {
                id: gateway.id,
                name: format!("gateway {index}"),
                display_name: None,
                organization_id: None,
                delivery: gateway.delivery,
                created_at: crate::model::Timestamp(0),
            };
            let tokens = roster.keys.iter().filter(|key| key.gateway == index && key.is_initial);
            let tokens = tokens.map(|key| (key.token, key.hash, crate::model::Timestamp(0))).collect();
            gateways.insert(gateway.id, Gateway { record, tokens, manifest: None });
        }
        Self { faults, jobs: VecDeque::new(), gateways, settled: Rc::default() }
    }

    /// Queues a job, or returns `None` if the queue is full. If the store was idle, returns when the job is done.
    pub(super) fn submit(&mut self, now: Instant, job: Job, rng: &mut Rng) -> Option<Option<Instant>> {
        if self.jobs.len() >= self.faults.queue_max {
            return None;
        }
        self.jobs.push_back(job);
        let idle = self.jobs.len() == 1;
        Some(idle.then(|| self.due(now, rng)))
    }

    fn due(&self, now: Instant, rng: &mut Rng) -> Instant {
        let late = rng.chance(self.faults.late);
        let most = if late { self.faults.late_max.as_micros() as u64 } else { 2_000 };
        Instant(now.0 + 100 + rng.below(most))
    }

    /// The initial content, as the changes that create it.
    pub(super) fn snapshot(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (id, gateway) in &self.gateways {
            changes.push(Change::GatewayCreated { life: life_of(*id), delivery: gateway.record.delivery });
            let tokens = gateway.tokens.iter();
            changes.extend(tokens.map(|(token, hash, _)| Change::TokenCreated {
                gateway: *id,
                token: *token,
                hash: *hash,
            }));
        }
        changes
    }

    fn execute(&mut self, op: StoreOp) -> (StoreOutcome, Option<Change>) {
        let missing = || (StoreOutcome::NotFound("there is no such gateway"), None);
        match op {
            StoreOp::CreateGateway(record) => {
                let taken = self.gateways.values().any(|other| other.record.name == record.name);
                if taken || self.gateways.contains_key(&record.id) {
                    return (StoreOutcome::Conflict("there is one already".to_owned()), None);
                }
                let change = Change::GatewayCreated { life: life_of(record.id), delivery: record.delivery };
                self.gateways.insert(record.id, Gateway { record: record.clone(), tokens: Vec::new(), manifest: None });
                (StoreOutcome::Gateway(record, None), Some(change))
            }
            StoreOp::ChangeGateway { gateway, display_name, delivery } => {
                let Some(Gateway { record, .. }) = self.gateways.get_mut(&gateway) else { return missing() };
                let before = record.delivery;
                record.display_name = display_name.unwrap_or(record.display_name.take());
                record.delivery = delivery.unwrap_or(before);
                let change = Change::DeliveryChanged { life: life_of(gateway), delivery: record.delivery };
                let change = (record.delivery != before).then_some(change);
                (StoreOutcome::Gateway(record.clone(), None), change)
            }
            StoreOp::DeleteGateway(id) => match self.gateways.remove(&id) {
                Some(_) => (StoreOutcome::Done, Some(Change::GatewayDeleted(id))),
                None => missing(),
            },
            StoreOp::Gateway(id) => match self.gateways.get(&id) {
                Some(gateway) => (StoreOutcome::Gateway(gateway.record.clone(), gateway.manifest.clone()), None),
                None => missing(),
            },
            StoreOp::Gateways { limit, offset } => {
                let page = self.gateways.values().skip(offset).take(limit).map(|gateway| gateway.record.clone());
                (StoreOutcome::Gateways(page.collect(), self.gateways.len()), None)
            }
            StoreOp::CreateToken { gateway, token, hash, created_at } => {
                let Some(owner) = self.gateways.get_mut(&gateway) else { return missing() };
                if owner.tokens.len() >= 2 {
                    return (StoreOutcome::Conflict("two tokens are there".to_owned()), None);
                }
                owner.tokens.push((token, hash, created_at));
                let record = TokenRecord { id: token, created_at };
                (StoreOutcome::Token(record), Some(Change::TokenCreated { gateway, token, hash }))
            }
            StoreOp::RevokeToken { gateway, token } => {
                let Some(owner) = self.gateways.get_mut(&gateway) else { return missing() };
                let Some(at) = owner.tokens.iter().position(|(id, ..)| *id == token) else {
                    return (StoreOutcome::NotFound("there is no such token"), None);
                };
                let (token, hash, _) = owner.tokens.remove(at);
                (StoreOutcome::Done, Some(Change::TokenRevoked { gateway, token, hash }))
            }
            StoreOp::Tokens(id) => match self.gateways.get(&id) {
                Some(gateway) => {
                    let tokens = gateway
                        .tokens
                        .iter()
                        .map(|(id, _, created_at)| TokenRecord { id: *id, created_at: *created_at });
                    (StoreOutcome::Tokens(tokens.collect()), None)
                }
                None => missing(),
            },
            StoreOp::PutManifest { gateway, manifest, .. } => match self.gateways.get_mut(&gateway) {
                Some(gateway) => {
                    gateway.manifest = Some(manifest);
                    (StoreOutcome::Done, None)
                }
                None => missing(),
            },
        }
    }
}

impl Net {
    /// Completes the next job and sends a change to all cores, without waiting for any of them.
    pub(super) fn handle_store(&mut self) {
        let Some(job) = self.store.jobs.pop_front() else { return };
        let now = self.now;
        let fails = self.rng.chance(self.store.faults.fails);
        let in_doubt = fails && self.rng.chance(self.store.faults.in_doubt);
        let kept = if in_doubt { Kept::Unknown } else { Kept::No };
        let unavailable = || StoreOutcome::Unavailable("the store fails".to_owned(), kept);
        let (outcome, change) = if fails && !in_doubt { (unavailable(), None) } else { self.store.execute(job.op) };
        if fails {
            self.oracle.cover("store failed");
        }
        let outcome = if fails { unavailable() } else { outcome };
        self.trace.add(now, None, || format!("the store: {outcome:?}, {change:?}"));
        let mut receipt =
            Receipt { answer: Some((job.asker, job.key, outcome)), settled: Rc::clone(&self.store.settled) };
        if let Some(change) = change {
            self.oracle.committed(now, change);
            if in_doubt {
                // Answer with the failure at once, although the change reaches the cores.
                let late = Receipt { answer: receipt.answer.take(), settled: Rc::clone(&self.store.settled) };
                drop(late);
            }
            let receipt = Rc::new(receipt);
            for core in 0..self.cores.len() {
                // Fails only for a core that has ended.
                let change = Incoming::Change(change, Rc::clone(&receipt));
                let _ = self.post(OUTSIDE, ShardId(core as u16), Lane::Control, change, now);
            }
        }
        self.send_settled();
        self.go_on();
    }

    /// Schedules the end of the next job, if there is one.
    fn go_on(&mut self) {
        let now = self.now;
        if !self.store.jobs.is_empty() {
            let due = self.store.due(now, &mut self.rng);
            if due.since(now) > Duration::from_millis(100) {
                self.oracle.cover("store late");
            }
            self.schedule(due, Step::Store);
        }
    }

    /// Sends the answers of changes that every core has applied.
    pub(super) fn send_settled(&mut self) {
        let now = self.now;
        let settled = std::mem::take(&mut *self.store.settled.borrow_mut());
        for (core, key, outcome) in settled {
            // Fails only for a core that has ended.
            let _ = self.post(OUTSIDE, core, Lane::Replies, Incoming::Stored(key, outcome), now);
        }
    }
}

/// The life of a gateway: each id is created once in a world, so its incarnation follows from the id.
pub(super) fn life_of(gateway: GatewayId) -> Life {
    Life { gateway, incarnation: gateway.0.as_u128() as u64 }
}
