//! What all cores of a hub read: settings, the phase, the slots. Nothing in it is locked.

use super::slots::Slots;
use crate::{
    api::Phase,
    model::{KeyHash, ShardId},
    session,
    shard::Placement,
    store::StoreHandle,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// One hub's, shared by its threads.
pub(crate) struct Shared {
    pub(crate) session: Arc<session::Settings>,
    pub(crate) placement: Placement,
    pub(crate) slots: Slots,
    pub(crate) connections_max: usize,
    pub(crate) admin_token: String,
    /// Hashed once: every call is compared with it.
    pub(crate) admin_hash: KeyHash,
    pub(crate) store: StoreHandle,
    pub(crate) answer_timeout: Duration,
    pub(crate) drain_window: Duration,
    /// One counter a shard, which it raises while it lives.
    pub(crate) beats: Vec<AtomicU64>,
    /// Connections whose code panicked.
    pub(crate) panics: AtomicU64,
    /// Shards that the watchdog found stalled.
    pub(crate) stalls: AtomicU64,
    /// Workers that have nothing left to wait for in the drain.
    pub(crate) settled: AtomicUsize,
    /// Every worker has ended.
    pub(crate) ended: AtomicBool,
    phase: AtomicU8,
}

impl Shared {
    pub(crate) fn new(
        session: session::Settings,
        placement: Placement,
        config: &crate::Config,
        admin_token: String,
        store: StoreHandle,
    ) -> Self {
        Self {
            session: Arc::new(session),
            beats: (0..placement.shards()).map(|_| AtomicU64::new(0)).collect(),
            placement,
            slots: Slots::new(config.connections_max),
            connections_max: config.connections_max,
            admin_hash: KeyHash::of(admin_token.as_bytes()),
            admin_token,
            store,
            answer_timeout: config.publish_timeout + Duration::from_secs(3),
            drain_window: config.drain_window,
            panics: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            settled: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            phase: AtomicU8::new(0),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Phases only go forward; returns whether this call brought it there.
    pub(crate) fn advance(&self, phase: Phase) -> bool {
        let next = match phase {
            Phase::Starting => 0,
            Phase::Ready => 1,
            Phase::Draining => 2,
        };
        self.phase.fetch_max(next, Ordering::AcqRel) < next
    }

    /// The shard says that it is alive.
    pub(crate) fn beat(&self, shard: ShardId) {
        self.beats[shard.index()].fetch_add(1, Ordering::Relaxed);
    }
}
