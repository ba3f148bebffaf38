//! Starts one executor per shard, each on a thread that this file creates and watches.
//!
//! The runtime is configured around two of its traps. With `Latency::Matters` or a short preempt timer it can park with
//! work left to do. And it reports errors only when an executor ends, so that each core has to say when it is ready.
//! The rings are small because sockets are in an epoll set of the driver: the runtime polls nothing but that set.

use super::{StartError, milestone::Milestone};
use crate::{
    driver::{
        core_loop::{self, Seat},
        mesh::Address,
    },
    engine::Incoming,
    model::ShardId,
};
use flume::{Receiver, Sender};
use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};
use rustix::thread::{MembarrierCommand, membarrier, sched_getaffinity};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The threads of a running hub's cores, and the channel on which they report their end.
pub(super) struct Executors {
    pub(super) threads: Vec<(ShardId, JoinHandle<()>)>,
    pub(super) milestones: Receiver<Milestone>,
}

/// Time for all cores to become ready.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// Interval at which the start looks for a core that has failed instead.
const START_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Time after the drain window for ready cores to end if the start is aborted because of another core.
const ABORTED_START_TIMEOUT: Duration = Duration::from_secs(5);
/// Memory that the runtime registers for file I/O, in bytes. Cores do no file I/O, so this is the least that it
/// accepts.
const IO_MEMORY: usize = 64 << 10;
/// Long, because the preempt timer costs a system call for each pass. The engine bounds each kind of work by itself.
const PREEMPT_TIMER: Duration = Duration::from_secs(1);
/// Entries of each ring. The runtime needs three at a time: the poll of the epoll set and two timers. Each entry locks
/// memory, and the limit counts all processes of a user together.
const RING_DEPTH: usize = 128;
/// ENOMEM, which the kernel returns if the rings exceed the limit of locked memory. The runtime passes it on as text
/// only.
const OUT_OF_LOCKED_MEMORY: &str = "os error 12";

/// Registers this process for expedited memory barriers, which takes the kernel a while if several threads already run.
/// The runtime would otherwise do it when an executor parks for the first time.
pub(super) fn prepare() {
    // If the kernel refuses, the only cost is that first slow park.
    let _ = membarrier(MembarrierCommand::RegisterPrivateExpedited);
}

/// Lists the processors that this process may run on.
pub(super) fn cpus() -> Result<Vec<usize>, StartError> {
    let set = sched_getaffinity(None).map_err(|error| StartError::Processors { why: error.to_string() })?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

impl Executors {
    /// Starts a core for each seat and waits until all are ready. Cores report their end to the sender of `milestones`.
    /// If one fails to start, the others get `drain_window` to end.
    pub(super) fn start(
        seats: Vec<Seat>,
        cpus: &[usize],
        milestones: (Sender<Milestone>, Receiver<Milestone>),
        drain_window: Duration,
    ) -> Result<Self, StartError> {
        let (ends, milestones) = milestones;
        let shards = seats.len();
        let cores = seats.first().map(|seat| seat.peers.clone()).unwrap_or_default();
        let (ready, ready_in) = flume::bounded(shards);
        let mut this = Self { threads: Vec::with_capacity(shards), milestones };
        let deadline = Instant::now() + START_DEADLINE;
        let give_up =
            |this: Self, why| Err(this.abort_start(&cores, drain_window.saturating_add(ABORTED_START_TIMEOUT), why));
        // With more shards than processors, several executors are pinned to the same one.
        for (seat, cpu) in seats.into_iter().zip(cpus.iter().cycle()) {
            let shard = seat.engine.id;
            let mut report = EndReport { shard, milestones: Some(ends.clone()) };
            let (cpu, ready) = (*cpu, ready.clone());
            let thread = thread::Builder::new()
                .name(format!("shard-{shard}"))
                .spawn(move || run_core(seat, cpu, ready, &mut report));
            match thread {
                Ok(thread) => this.threads.push((shard, thread)),
                Err(error) => return give_up(this, Some(StartError::Thread { why: error.to_string() })),
            }
        }
        let mut pending = shards;
        while pending > 0 {
            match ready_in.recv_timeout(START_POLL_INTERVAL) {
                Ok(_) => pending -= 1,
                // A milestone this early can only be the end of a core that failed.
                Err(_) if this.milestones.is_empty() && Instant::now() < deadline => {}
                Err(_) => return give_up(this, None),
            }
        }
        Ok(this)
    }

    /// Ends the cores of a start that failed and returns the reason: `why`, or the first reason that a core reports.
    /// Ready cores must be told to end: each holds the others' addresses, so that no channel ever closes by itself.
    fn abort_start(self, cores: &[Address], timeout: Duration, mut why: Option<StartError>) -> StartError {
        for core in cores {
            // This does nothing for a core that failed: its inbox is gone.
            core.tell(Incoming::Drain);
        }
        let deadline = Instant::now().checked_add(timeout);
        let mut running: Vec<_> = self.threads.iter().map(|(shard, _)| *shard).collect();
        while !running.is_empty()
            && let Some(milestone) = Milestone::next(&self.milestones, deadline)
        {
            let Milestone::CoreEnded(shard, outcome) = milestone else { continue };
            running.retain(|running| *running != shard);
            if let (None, Err(error)) = (&why, outcome) {
                let locked_memory = error.contains(OUT_OF_LOCKED_MEMORY);
                why = Some(if locked_memory { StartError::LockedMemory } else { StartError::Shard { why: error } });
            }
        }
        why.unwrap_or(StartError::TimedOut)
    }
}

/// The body of a core's thread: creates the executor, runs the core's loop on it and reports how it ended.
fn run_core(seat: Seat, cpu: usize, ready: Sender<ShardId>, report: &mut EndReport) {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(&format!("shard-{}", report.shard))
        .io_memory(IO_MEMORY)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make();
    let executor = match executor {
        Ok(executor) => executor,
        Err(error) => return report.send(Err(error.to_string())),
    };
    // Caught so that the report below is sent before the executor is dropped: unwinding would drop it first.
    let ended = catch_unwind(AssertUnwindSafe(|| executor.run(core_loop::run(seat, ready))));
    let ended = ended.unwrap_or_else(|_| Err(std::io::Error::other(core_loop::PANICKED)));
    match ended {
        Ok(()) => {
            // Dropped before the report, so that its locked memory is free if another hub is started right after this
            // one.
            drop(executor);
            report.send(Ok(()));
        }
        // Reported before the drop: after a panic, dropping the executor may itself panic or hang.
        Err(error) => report.send(Err(error.to_string())),
    }
}

/// Reports once that a core's thread ends. It does so on drop if not before, so that every way out of the thread is
/// reported.
struct EndReport {
    shard: ShardId,
    milestones: Option<Sender<Milestone>>,
}

impl EndReport {
    fn send(&mut self, outcome: Result<(), String>) {
        if let Some(milestones) = self.milestones.take() {
            // The receiver is gone if the hub was dropped without `Hub::join`.
            let _ = milestones.send(Milestone::CoreEnded(self.shard, outcome));
        }
    }
}

impl Drop for EndReport {
    fn drop(&mut self) {
        self.send(Err(core_loop::PANICKED.to_owned()));
    }
}
