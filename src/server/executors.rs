//! One executor a shard, each in a thread of ours: how it is set up for this work, and how it begins.
//!
//! What the runtime needs from us: no `Latency::Matters` and a large preempt timer, because it can park with work to do
//! otherwise; a handshake when it is up, because errors come only with its end. Its rings stay small: sockets are in an
//! epoll set of ours, and all that the runtime polls for us is the set.

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

/// The executors of a hub that runs.
pub(super) struct Executors {
    pub(super) threads: Vec<(ShardId, JoinHandle<()>)>,
    pub(super) milestones: Receiver<Milestone>,
}

/// How long a core may take to begin.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// How soon it is noticed that one cannot.
const START_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long cores that have begun may take to end where another cannot begin, beyond the drain window.
const ABORTED_START_TIMEOUT: Duration = Duration::from_secs(5);
/// Registered memory for file I/O, of which there is none: the least that is allowed.
const IO_MEMORY: usize = 64 << 10;
/// Long: the preempt timer costs a system call a pass, and fairness comes from short turns.
const PREEMPT_TIMER: Duration = Duration::from_secs(1);
/// Entries of each ring. The runtime has a poll of the epoll set and two timers at a time; each entry locks memory, of which
/// a user has only so much for all hubs together.
const RING_DEPTH: usize = 128;
/// What the kernel says where the rings of an executor find no room (ENOMEM); the runtime gives it as text only.
const OUT_OF_LOCKED_MEMORY: &str = "os error 12";

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
    /// Starts a core on each seat, and waits until all are up. Their ends go to the sender of `milestones`, and where one
    /// cannot begin, those that did have `drain_window` to end.
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
                Err(_) if this.milestones.is_empty() && Instant::now() < deadline => {}
                Err(_) => return give_up(this, None),
            }
        }
        Ok(this)
    }

    /// Ends a start that cannot succeed, and says why: `why`, or the first reason that a core gives. Cores that have begun
    /// are told to end, because each holds the others' addresses and would wait for ever.
    fn abort_start(self, cores: &[Address], timeout: Duration, mut why: Option<StartError>) -> StartError {
        for core in cores {
            // One that did not begin takes no message.
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

/// The whole life of a core's thread.
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
    let ended = catch_unwind(AssertUnwindSafe(|| executor.run(core_loop::run(seat, ready))));
    let ended = ended.unwrap_or_else(|_| Err(std::io::Error::other(core_loop::PANICKED)));
    match ended {
        Ok(()) => {
            // Whoever starts another hub after this one finds the executor's memory free.
            drop(executor);
            report.send(Ok(()));
        }
        // Told first: nobody knows whether what is left of the executor can be taken apart.
        Err(error) => report.send(Err(error.to_string())),
    }
}

/// Tells once that a core's thread ends; on drop, if not before, so that no way out of the thread goes unnoticed.
struct EndReport {
    shard: ShardId,
    milestones: Option<Sender<Milestone>>,
}

impl EndReport {
    fn send(&mut self, outcome: Result<(), String>) {
        if let Some(milestones) = self.milestones.take() {
            // Nobody waits for a hub that was not joined.
            let _ = milestones.send(Milestone::CoreEnded(self.shard, outcome));
        }
    }
}

impl Drop for EndReport {
    fn drop(&mut self) {
        self.send(Err(core_loop::PANICKED.to_owned()));
    }
}
