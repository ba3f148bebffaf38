//! One executor a shard: how it is set up for this work, how it begins, how it ends.
//!
//! What the runtime needs from us: no `Latency::Matters` and a large preempt timer, because it can park with work to do
//! otherwise; a handshake when it is up, because errors come only with the join. Its rings stay small: sockets are in an
//! epoll set of ours, and all that the runtime polls for us is the set.

use super::{HubHandle, RunError, StartError};
use crate::{
    driver::{
        core_loop::{self, Seat},
        mesh::Address,
    },
    engine::Incoming,
    model::ShardId,
};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, PoolPlacement};
use rustix::thread::{MembarrierCommand, membarrier, sched_getaffinity};
use std::{
    io,
    time::{Duration, Instant},
};

/// The executors of a hub.
pub(super) struct Executors {
    handles: Vec<ExecutorJoinHandle<io::Result<()>>>,
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
    pub(super) fn start(seats: Vec<Seat>, cpus: &[usize]) -> Result<Self, StartError> {
        let shards = seats.len();
        let workers = seats.first().map(|seat| seat.peers.clone()).unwrap_or_default();
        let (ready, ready_in) = flume::bounded(shards);
        let (ended_out, ended) = flume::bounded(shards);
        let mut handles = Vec::with_capacity(shards);
        for (seat, cpu) in seats.into_iter().zip(cpus.iter().cycle()) {
            let notice = Notice { shard: seat.engine.id, ended: ended_out.clone() };
            let ready = ready.clone();
            let handle = LocalExecutorBuilder::new(Placement::Fixed(*cpu))
                .name(&format!("shard-{}", seat.engine.id))
                .io_memory(IO_MEMORY)
                .ring_depth(RING_DEPTH)
                .preempt_timer(PREEMPT_TIMER)
                .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
                .spawn(move || async move {
                    let _notice = notice;
                    core_loop::run(seat, ready).await
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
            let drained = hub.state.phase() == crate::api::Phase::Draining;
            let patience = hub.state.drain_window() + END_PATIENCE;
            let ended = if drained { self.ended.recv_timeout(patience).ok() } else { self.ended.recv().ok() };
            let Some(shard) = ended else {
                failed = Some(RunError::Late);
                break;
            };
            left -= 1;
            if hub.state.phase() != crate::api::Phase::Draining {
                failed = Some(RunError::ShardEnded(shard));
                hub.drain();
            }
        }
        if left == 0 {
            for handle in self.handles {
                match handle.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => failed = Some(RunError::Shard { why: error.to_string() }),
                    Err(error) => failed = Some(RunError::Shard { why: error.to_string() }),
                }
            }
        }
        hub.store.join();
        hub.state.end();
        failed.map_or(Ok(()), Err)
    }

    /// Why a worker did not begin. Those that did are told to end: each holds the others' addresses, and would wait for ever.
    fn why(handles: Vec<ExecutorJoinHandle<io::Result<()>>>, workers: &[Address]) -> StartError {
        for worker in workers {
            // One that did not begin takes no message.
            worker.try_tell(Incoming::Drain);
        }
        let errors = handles.into_iter().filter_map(|handle| match handle.join() {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        });
        let errors: Vec<_> = errors.collect();
        match errors.first() {
            Some(error) if error.contains(OUT_OF_LOCKED_MEMORY) => StartError::LockedMemory,
            Some(error) => StartError::Shard { why: error.clone() },
            None => StartError::Late,
        }
    }
}

/// What the kernel says where the rings of an executor find no room (ENOMEM); the runtime gives it as text only.
const OUT_OF_LOCKED_MEMORY: &str = "os error 12";

/// Entries of each ring. The runtime has a poll of the epoll set and two timers at a time; each entry locks memory, of which
/// a user has only so much for all hubs together.
const RING_DEPTH: usize = 128;

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
