//! The state that all cores of a hub share: settings, the phase, the slots, counters. The settings never change and the
//! rest are atomics, so nothing locks.

use super::{slots::Slots, unauthenticated::Pressure};
use crate::{
    api::Phase,
    model::{Instant, KeyHash, LogStats, ShardId},
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

/// The parameters of [`HubState::new`].
pub struct HubSettings {
    /// The settings of every session.
    pub session: session::Settings,
    /// The placement of gateways and addresses on cores.
    pub placement: Placement,
    /// Maximum number of gateways' connections.
    pub connections_max: usize,
    /// The SHA-256 of the admin token.
    pub admin_token: KeyHash,
    /// How long a call waits for the answers of other cores and of the store.
    pub answer_timeout: Duration,
    /// The time over which a drain spreads its closes.
    pub drain_window: Duration,
    /// Set by the store while it cannot write.
    pub degraded: Arc<AtomicBool>,
    /// Bytes of request bodies of the platform and of gateways, over all cores.
    pub bodies_bytes: (usize, usize),
    /// The counters of the log of events, and what is wrong with it.
    pub log: Arc<LogStats>,
}

/// The state of one hub, shared by its threads.
pub struct HubState {
    pub(super) session: Arc<session::Settings>,
    pub(super) placement: Placement,
    pub(super) slots: Slots,
    pub(super) connections_max: usize,
    pub(super) admin_token: KeyHash,
    pub(super) answer_timeout: Duration,
    pub(super) drain_window: Duration,
    degraded: Arc<AtomicBool>,
    pub(super) log: Arc<LogStats>,
    pub(super) bodies_bytes: (usize, usize),
    cores: Vec<CoreStatus>,
    panics: AtomicU64,
    stalls: AtomicU64,
    /// The lowest stuck core, counted from 1; 0 if none is stuck.
    stuck: AtomicU32,
    /// Number of cores that wait for nothing more in the drain.
    settled: AtomicUsize,
    ended: AtomicBool,
    phase: AtomicU8,
}

/// Published by one core at each pass. It has cache lines of its own, because each core writes its status up to a
/// thousand times a second: in a shared line every write would slow the others down.
#[derive(Default)]
#[repr(align(128))]
struct CoreStatus {
    /// Passes begun, or [`ENDED`].
    passes: AtomicU64,
    /// The greatest lateness of a connection's deadline, in microseconds.
    lateness: AtomicU64,
    /// See [`Pressure::crowd`].
    crowd: AtomicUsize,
    /// See [`Pressure::oldest`]; [`NO_CONNECTION`] where there is none.
    oldest: AtomicU64,
}

/// The value of `passes` once a core has ended.
const ENDED: u64 = u64::MAX;
/// In place of the time of the oldest connection.
const NO_CONNECTION: u64 = 0;

impl HubState {
    /// The state of a hub that is starting.
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
            log: settings.log,
            bodies_bytes: settings.bodies_bytes,
            panics: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            stuck: AtomicU32::new(0),
            settled: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            phase: AtomicU8::new(0),
        }
    }

    /// The owners of gateways and addresses.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The phase of the hub.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Advances to a later phase; returns false if the hub was there already or beyond.
    pub fn advance(&self, phase: Phase) -> bool {
        let next = match phase {
            Phase::Starting => 0,
            Phase::Ready => 1,
            Phase::Draining => 2,
        };
        self.phase.fetch_max(next, Ordering::AcqRel) < next
    }

    /// Number of gateways' connections over all cores.
    pub fn connections(&self) -> usize {
        self.slots.taken()
    }

    /// The time over which a drain spreads its closes.
    pub fn drain_window(&self) -> Duration {
        self.drain_window
    }

    /// Whether the store cannot write at the moment.
    pub fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Relaxed)
    }

    /// Number of passes that a core has begun; a running core begins about two a second even if idle. `None` once the
    /// core has ended.
    pub fn passes(&self, shard: ShardId) -> Option<u64> {
        Some(self.cores[shard.index()].passes.load(Ordering::Relaxed)).filter(|passes| *passes != ENDED)
    }

    // Relaxed, here and below: these are single numbers that others compare. No other data is published with them.
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

    /// When the oldest unauthenticated connection of the other cores came; `None` if they have none.
    pub(super) fn oldest_unauthenticated_beside(&self, shard: ShardId) -> Option<Instant> {
        let others = self.cores.iter().enumerate().filter(|(core, _)| *core != shard.index());
        let oldest = others.map(|(_, status)| status.oldest.load(Ordering::Relaxed));
        oldest.filter(|at| *at != NO_CONNECTION).min().map(Instant)
    }

    /// Records that the core has ended, so that the watchdog does not take it for stuck.
    pub fn stop_beating(&self, shard: ShardId) {
        self.cores[shard.index()].passes.store(ENDED, Ordering::Relaxed);
    }

    /// The greatest lateness of a connection's deadline over all cores.
    pub fn lateness_max(&self) -> Duration {
        let micros = self.cores.iter().map(|core| core.lateness.load(Ordering::Relaxed)).max();
        Duration::from_micros(micros.unwrap_or(0))
    }

    /// Records that a deadline at `due` is handled at `now`.
    pub(super) fn record_lateness(&self, shard: ShardId, due: Instant, now: Instant) {
        let late = u64::try_from(now.since(due).as_micros()).unwrap_or(u64::MAX);
        // Only this core writes its value, so the check and the store need not be one operation.
        let lateness = &self.cores[shard.index()].lateness;
        if late > lateness.load(Ordering::Relaxed) {
            lateness.store(late, Ordering::Relaxed);
        }
    }

    /// Number of panics in the code of connections.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    pub(super) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of stalls that the watchdog found.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// Counts a stall.
    pub fn count_stall(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }

    /// The lowest core that has begun no pass for a second, if any.
    pub fn stuck(&self) -> Option<ShardId> {
        let above = self.stuck.load(Ordering::Relaxed).checked_sub(1)?;
        u16::try_from(above).ok().map(ShardId)
    }

    /// Sets the lowest stuck core.
    pub fn set_stuck(&self, shard: Option<ShardId>) {
        self.stuck.store(shard.map_or(0, |shard| u32::from(shard.0) + 1), Ordering::Relaxed);
    }

    /// Counts a core that waits for nothing more in the drain.
    pub(super) fn count_settled(&self) {
        self.settled.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn all_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire) >= usize::from(self.placement.shards())
    }

    /// Whether the hub has ended: all cores have, or the server gave up waiting for them.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Records that the hub has ended.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}
