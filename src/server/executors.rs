//! One executor a shard: how it is set up for this work, how it begins, how it ends.
//!
//! What the runtime needs from us: no `Latency::Matters` and a large preempt timer, because it can park with work to do
//! otherwise; rings that grow with the connections, because each pass searches a table of that size; a handshake when it is
//! up, because errors come only with the join.

use super::{HubHandle, RunError, StartError};
use crate::{
    driver::{
        mesh::{Address, Control},
        worker::{self, Seat},
    },
    model::ShardId,
};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, PoolPlacement};
use rustix::{
    process::{Resource, geteuid, getrlimit},
    thread::{MembarrierCommand, membarrier, sched_getaffinity},
};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// The executors of a hub.
pub(super) struct Executors {
    handles: Vec<ExecutorJoinHandle<()>>,
    ended: flume::Receiver<ShardId>,
}

/// How long a worker may take to begin.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// How soon it is noticed that one cannot.
const START_LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long after the drain window a worker may take to end.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// Registered memory for file I/O, of which there is none: the least that is allowed.
const IO_MEMORY: usize = 64 << 10;
/// Long: the preempt timer costs a system call a pass, and fairness comes from short turns.
const PREEMPT_TIMER: Duration = Duration::from_secs(1);

/// Registers with the kernel what the first park of every executor would do otherwise, slowly.
pub(super) fn prepare() {
    // A kernel without it only parks more slowly once.
    let _ = membarrier(MembarrierCommand::RegisterPrivateExpedited);
}

/// The processors that this process may run on.
pub(super) fn cpus() -> Result<Vec<usize>, StartError> {
    let set = sched_getaffinity(None).map_err(|error| StartError::Processors { why: error.to_string() })?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

impl Executors {
    /// Starts a worker on each seat, and waits until all are up.
    pub(super) fn start(seats: Vec<Seat>, cpus: &[usize], connections_max: usize) -> Result<Self, StartError> {
        let shards = seats.len();
        let workers = seats.first().map(|seat| seat.peers.clone()).unwrap_or_default();
        let (ready, ready_in) = flume::bounded(shards);
        let (ended_out, ended) = flume::bounded(shards);
        let depth = ring_depth(shards, connections_max);
        let mut handles = Vec::with_capacity(shards);
        for (seat, cpu) in seats.into_iter().zip(cpus.iter().cycle()) {
            let notice = Notice { shard: seat.id, ended: ended_out.clone() };
            let ready = ready.clone();
            let handle = LocalExecutorBuilder::new(Placement::Fixed(*cpu))
                .name(&format!("shard-{}", seat.id))
                .io_memory(IO_MEMORY)
                .ring_depth(depth)
                .preempt_timer(PREEMPT_TIMER)
                .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
                .spawn(move || async move {
                    let _notice = notice;
                    worker::run(seat, ready).await;
                })
                .map_err(|error| StartError::Executor { why: error.to_string() })?;
            handles.push(handle);
        }
        drop((ready, ended_out));
        let deadline = Instant::now() + START_DEADLINE;
        let mut missing = shards;
        while missing > 0 {
            match ready_in.recv_timeout(START_LOOK_INTERVAL) {
                Ok(_) => missing -= 1,
                Err(_) if ended.is_empty() && Instant::now() < deadline => {}
                Err(_) => return Err(Self::why(handles, &workers)),
            }
        }
        Ok(Self { handles, ended })
    }

    /// Waits until all workers have ended. One that ends by itself takes the others with it: no core stays deaf.
    pub(super) fn join(self, hub: &HubHandle) -> Result<(), RunError> {
        let mut failed = None;
        let mut left = self.handles.len();
        while left > 0 {
            let drained = hub.shared.phase() == crate::api::Phase::Draining;
            let patience = hub.shared.drain_window + END_PATIENCE;
            let ended = if drained { self.ended.recv_timeout(patience).ok() } else { self.ended.recv().ok() };
            let Some(shard) = ended else {
                failed = Some(RunError::Late);
                break;
            };
            left -= 1;
            if hub.shared.phase() != crate::api::Phase::Draining {
                failed = Some(RunError::ShardEnded(shard));
                hub.drain();
            }
        }
        if left == 0 {
            for handle in self.handles {
                if let Err(error) = handle.join() {
                    failed = Some(RunError::Shard { why: error.to_string() });
                }
            }
        }
        hub.shared.store.join();
        hub.shared.ended.store(true, Ordering::Release);
        failed.map_or(Ok(()), Err)
    }

    /// Why a worker did not begin. Those that did are told to end: each holds the others' addresses, and would wait for ever.
    fn why(handles: Vec<ExecutorJoinHandle<()>>, workers: &[Address]) -> StartError {
        for worker in workers {
            // One that did not begin takes no message.
            let _ = worker.control.try_send(Control::Drain);
        }
        let errors = handles.into_iter().filter_map(|handle| handle.join().err());
        let errors: Vec<_> = errors.map(|error| error.to_string()).collect();
        match errors.first() {
            Some(error) if error.contains(OUT_OF_LOCKED_MEMORY) => StartError::LockedMemory,
            Some(error) => StartError::Shard { why: error.clone() },
            None => StartError::Late,
        }
    }
}

/// What the kernel says where the rings of an executor find no room (ENOMEM); the runtime gives it as text only.
const OUT_OF_LOCKED_MEMORY: &str = "os error 12";

/// Entries of each ring. Each pass of the runtime searches a table of about this size, so it grows with the connections of a
/// shard; each entry locks memory, of which a user has only so much for all hubs together.
fn ring_depth(shards: usize, connections_max: usize) -> usize {
    let wanted = (connections_max / shards).next_power_of_two().clamp(RING_DEPTH_MIN, RING_DEPTH_MAX);
    let limit = if geteuid().is_root() { None } else { getrlimit(Resource::Memlock).current };
    depth_within(wanted, limit.unwrap_or(u64::MAX), shards)
}

/// Measured: with 18,000 connections a deeper one gains nothing.
const RING_DEPTH_MAX: usize = 4_096;
const RING_DEPTH_MIN: usize = 256;

fn depth_within(wanted: usize, locked_bytes: u64, shards: usize) -> usize {
    // Measured: 1.4 MiB for an executor at a depth of 4,096, of which 192 KiB do not depend on it.
    let needed = |depth: usize| (200 * 1024 + depth as u64 * 310) * shards as u64;
    let mut depth = wanted;
    while depth > RING_DEPTH_MIN && needed(depth) > locked_bytes / 10 * 9 {
        depth /= 2;
    }
    depth
}

/// Tells on drop that a worker has ended, however it did.
struct Notice {
    shard: ShardId,
    ended: flume::Sender<ShardId>,
}

impl Drop for Notice {
    fn drop(&mut self) {
        let _ = self.ended.send(self.shard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_fit_the_connections_and_the_locked_memory() {
        let check = |connections: usize, limit_mib: u64, shards: usize, expected| {
            let wanted = (connections / shards).next_power_of_two().clamp(RING_DEPTH_MIN, RING_DEPTH_MAX);
            let depth = depth_within(wanted, limit_mib << 20, shards);
            assert_eq!(depth, expected, "{connections} connections, {limit_mib} MiB, {shards} shards");
        };
        check(1_000, 8, 4, 256);
        check(1_000, 8, 1, 1_024);
        check(100_000, 8, 2, 4_096);
        check(100_000, 8, 8, 2_048);
        check(100_000, 8, 16, 512);
        check(100_000, 1, 2, 512);
    }
}
