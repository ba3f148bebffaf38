//! What all cores of a hub share: settings, the phase, the slots, counters. Nothing in it is locked.

use super::{slots::Slots, unauthenticated::Pressure};
use crate::{
    api::Phase,
    model::{Instant, KeyHash, ShardId},
    session,
    shard::Placement,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What a hub's cores are told at the start.
pub struct HubSettings {
    /// For every session.
    pub session: session::Settings,
    /// Which core owns what.
    pub placement: Placement,
    /// Connections that gateways may hold.
    pub connections_max: usize,
    /// The SHA-256 of the admin token.
    pub admin_token: KeyHash,
    /// A core that was asked has to answer within this.
    pub answer_timeout: Duration,
    /// Over how long a drain spreads its closes.
    pub drain_window: Duration,
    /// Whether the store cannot write now; the store's own flag.
    pub degraded: Arc<AtomicBool>,
}

/// One hub's, shared by its threads.
pub struct HubState {
    pub(super) session: Arc<session::Settings>,
    pub(super) placement: Placement,
    pub(super) slots: Slots,
    pub(super) connections_max: usize,
    pub(super) admin_token: KeyHash,
    pub(super) answer_timeout: Duration,
    pub(super) drain_window: Duration,
    degraded: Arc<AtomicBool>,
    cores: Vec<CoreStatus>,
    panics: AtomicU64,
    stalls: AtomicU64,
    /// The lowest core that is stuck, counted from 1; 0 where none is.
    stuck: AtomicU32,
    /// Cores that have nothing left to wait for in the drain.
    settled: AtomicUsize,
    ended: AtomicBool,
    phase: AtomicU8,
}

/// What a core tells of itself at each pass, on a cache line of its own: that it lives, and who crowds it.
#[derive(Default)]
#[repr(align(128))]
struct CoreStatus {
    passes: AtomicU64,
    /// The latest that a deadline of a connection was served, in microseconds.
    lateness: AtomicU64,
    /// See [`Pressure::crowd`].
    crowd: AtomicUsize,
    /// See [`Pressure::oldest`]; [`NO_CONNECTION`] where there is none.
    oldest: AtomicU64,
}

/// In the place of a number of passes.
const ENDED: u64 = u64::MAX;
/// In place of the time of the oldest connection.
const NO_CONNECTION: u64 = 0;

impl HubState {
    /// The state of a hub that starts.
    pub fn new(settings: HubSettings) -> Self {
        Self {
            session: Arc::new(settings.session),
            cores: (0..settings.placement.shards()).map(|_| CoreStatus::default()).collect(),
            placement: settings.placement,
            slots: Slots::new(settings.connections_max),
            connections_max: settings.connections_max,
            admin_token: settings.admin_token,
            answer_timeout: settings.answer_timeout,
            drain_window: settings.drain_window,
            degraded: settings.degraded,
            panics: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            stuck: AtomicU32::new(0),
            settled: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            phase: AtomicU8::new(0),
        }
    }

    /// Where the hub is in its life.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Phases only go forward; returns whether this call brought it there.
    pub fn advance(&self, phase: Phase) -> bool {
        let next = match phase {
            Phase::Starting => 0,
            Phase::Ready => 1,
            Phase::Draining => 2,
        };
        self.phase.fetch_max(next, Ordering::AcqRel) < next
    }

    /// Gateways' connections, over all cores.
    pub fn connections(&self) -> usize {
        self.slots.taken()
    }

    /// How long a drain spreads its closes.
    pub fn drain_window(&self) -> Duration {
        self.drain_window
    }

    /// Whether the store cannot write now.
    pub fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Relaxed)
    }

    /// Passes that a core's loop has begun; a core that lives raises it several times a second. `None` once the core is
    /// known to have ended.
    pub fn passes(&self, shard: ShardId) -> Option<u64> {
        Some(self.cores[shard.index()].passes.load(Ordering::Relaxed)).filter(|passes| *passes != ENDED)
    }

    pub(super) fn beat(&self, shard: ShardId) {
        self.cores[shard.index()].passes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_pressure(&self, shard: ShardId, pressure: Pressure) {
        let status = &self.cores[shard.index()];
        status.crowd.store(pressure.crowd, Ordering::Relaxed);
        status.oldest.store(pressure.oldest.map_or(NO_CONNECTION, |at| at.0), Ordering::Relaxed);
    }

    /// The core whose unauthenticated connections rank highest for closing one, and their rank. The two numbers may come from two
    /// passes: the asked core decides by itself.
    pub(super) fn core_under_most_pressure(&self, now: Instant) -> Option<(ShardId, (bool, usize))> {
        let rank = |status: &CoreStatus| {
            let oldest = Some(status.oldest.load(Ordering::Relaxed)).filter(|at| *at != NO_CONNECTION).map(Instant);
            Pressure { crowd: status.crowd.load(Ordering::Relaxed), oldest }.rank(now)
        };
        (0..).map(ShardId).zip(self.cores.iter().map(rank)).max_by_key(|(_, rank)| *rank)
    }

    /// The core begins no pass any more, and whoever has to know it does: it is not stuck.
    pub fn stop_beating(&self, shard: ShardId) {
        self.cores[shard.index()].passes.store(ENDED, Ordering::Relaxed);
    }

    /// The latest that any deadline of a connection was served, over all cores, beyond the slot of the timer wheel.
    pub fn lateness_max(&self) -> Duration {
        let micros = self.cores.iter().map(|core| core.lateness.load(Ordering::Relaxed)).max();
        Duration::from_micros(micros.unwrap_or(0))
    }

    /// A deadline was `due`, and is served `now`.
    pub(super) fn record_lateness(&self, shard: ShardId, due: Instant, now: Instant) {
        let late = u64::try_from(now.since(due).as_micros()).unwrap_or(u64::MAX);
        let lateness = &self.cores[shard.index()].lateness;
        if late > lateness.load(Ordering::Relaxed) {
            lateness.store(late, Ordering::Relaxed);
        }
    }

    /// Connections whose code panicked.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    pub(super) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a core was found to be stalled.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// A core was found to be stalled.
    pub fn count_stall(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }

    /// The lowest core that has not turned for a second, if one has not.
    pub fn stuck(&self) -> Option<ShardId> {
        let above = self.stuck.load(Ordering::Relaxed).checked_sub(1)?;
        u16::try_from(above).ok().map(ShardId)
    }

    /// Says which is the lowest core that is stuck.
    pub fn set_stuck(&self, shard: Option<ShardId>) {
        self.stuck.store(shard.map_or(0, |shard| u32::from(shard.0) + 1), Ordering::Relaxed);
    }

    /// A core has nothing left to wait for in the drain.
    pub(super) fn count_settled(&self) {
        self.settled.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn all_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire) >= usize::from(self.placement.shards())
    }

    /// The hub is over: every core has ended, or nobody waits for those that have not.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Says that the hub is over.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}
