//! The store's thread: takes jobs from a bounded queue, and passes each outcome to its caller's reply.

use super::{Store, StoreError};
use crate::{
    limits::{STORE_PROBE_INTERVAL, STORE_QUEUE_MAX},
    model::{Change, Kept, StoreOp, StoreOutcome},
};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, after, bounded, never, select};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

/// The callback for an outcome. It runs on the store's thread or where [`Settled::send`] is called, and must not block.
pub type Reply = Box<dyn FnOnce(StoreOutcome) + Send + Sync>;

/// The outcome of a job with its reply, which is called exactly once.
///
/// A change is announced to every core before its caller is answered: each core holds a share of this value, and the
/// last one to apply the change drops it. So once a client has the answer to a created token, every core accepts that
/// token.
pub struct Settled {
    /// The outcome of the job.
    pub outcome: StoreOutcome,
    reply: Option<Reply>,
}

impl Settled {
    /// Sends the outcome to the caller.
    pub fn send(self) {}
}

impl Drop for Settled {
    fn drop(&mut self) {
        // On drop and not in `send`: a core that ends in the middle of its work still answers the caller.
        let Some(reply) = self.reply.take() else { return };
        let outcome = std::mem::replace(&mut self.outcome, StoreOutcome::Done);
        if catch_unwind(AssertUnwindSafe(|| reply(outcome))).is_err() {
            tracing::error!("a caller of the store panicked when it was answered");
        }
    }
}

impl fmt::Debug for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settled").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

struct Job {
    op: StoreOp,
    settled: Settled,
}

/// Starts the thread.
pub struct StoreThread;

impl StoreThread {
    /// Starts a thread that runs the submitted jobs in order. It passes each change to `announce` in the order of the
    /// commits, with the outcome to send once all cores have applied it. `announce` runs on the store's thread and must
    /// not wait for a core. The thread ends after [`StoreHandle::stop`], or when the last handle is dropped.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn start(
        store: Box<dyn Store>,
        announce: impl FnMut(Change, Settled) + Send + 'static,
    ) -> Result<StoreHandle, StoreError> {
        let (jobs, inbox) = bounded(STORE_QUEUE_MAX);
        let (stop, stopped) = bounded(1);
        let degraded = Arc::new(AtomicBool::new(false));
        let worker = Worker { store, announce, degraded: Arc::clone(&degraded) };
        // The thread holds one end, and dropping it shows that it has ended. A `JoinHandle` cannot be joined with a
        // deadline.
        let (running, ended) = bounded(0);
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                let _running: Sender<()> = running;
                worker.run(&inbox, &stopped);
            })
            .map_err(|error| StoreError::Thread { why: error.to_string() })?;
        let thread = Mutex::new(Some(thread));
        Ok(StoreHandle(Arc::new(Shared { jobs, stop, closed: AtomicBool::new(false), degraded, ended, thread })))
    }
}

/// Submits jobs to the store's thread.
#[derive(Clone)]
pub struct StoreHandle(Arc<Shared>);

struct Shared {
    jobs: Sender<Job>,
    stop: Sender<()>,
    closed: AtomicBool,
    degraded: Arc<AtomicBool>,
    /// Disconnected when the thread ends; nothing is sent.
    ended: Receiver<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl StoreHandle {
    /// Submits a job and returns at once. `reply` is called exactly once.
    ///
    /// # Errors
    /// Returns `reply` without calling it if [`STORE_QUEUE_MAX`] jobs are waiting or the store was stopped.
    pub fn submit(&self, op: StoreOp, reply: Reply) -> Result<(), Reply> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(reply);
        }
        // The reply is called with this if the thread ends without running the job.
        let outcome = StoreOutcome::Unavailable("the hub is shutting down".to_owned(), Kept::No);
        let job = Job { op, settled: Settled { outcome, reply: Some(reply) } };
        self.0.jobs.try_send(job).map_err(|refused| {
            let reply = refused.into_inner().settled.reply.take();
            reply.expect("a job holds its reply until it is answered")
        })
    }

    /// Whether the store could not write when it last tried.
    pub fn is_degraded(&self) -> bool {
        self.0.degraded.load(Ordering::Relaxed)
    }

    /// The flag behind [`StoreHandle::is_degraded`].
    pub fn degraded(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.degraded)
    }

    /// Stops the store: new jobs are refused, those in the queue are run, then the file is closed. Returns at once.
    pub fn stop(&self) {
        self.0.closed.store(true, Ordering::Release);
        // An error means that it was stopped before, or that the thread has ended.
        let _ = self.0.stop.try_send(());
    }

    /// Stops the store, and waits until it is closed or the deadline has passed. Returns whether it is closed. A slow
    /// disk can delay it.
    pub fn join(&self, deadline: Option<Instant>) -> bool {
        self.stop();
        let late = match deadline {
            Some(deadline) => self.0.ended.recv_deadline(deadline) == Err(RecvTimeoutError::Timeout),
            None => self.0.ended.recv().is_ok(),
        };
        if late {
            return false;
        }
        let thread = self.0.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's thread has panicked");
        }
        true
    }
}

struct Worker<A> {
    store: Box<dyn Store>,
    announce: A,
    degraded: Arc<AtomicBool>,
}

impl<A: FnMut(Change, Settled)> Worker<A> {
    fn run(mut self, jobs: &Receiver<Job>, stopped: &Receiver<()>) {
        loop {
            // Jobs first: the checkpoint waits for the disk, so it is left for when no job waits.
            match jobs.try_recv() {
                Ok(job) => {
                    self.handle_job(job);
                    continue;
                }
                Err(TryRecvError::Empty) => self.settle(),
                Err(TryRecvError::Disconnected) => break,
            }
            let probe = if self.degraded.load(Ordering::Relaxed) { after(STORE_PROBE_INTERVAL) } else { never() };
            select! {
                recv(jobs) -> job => match job {
                    Ok(job) => self.handle_job(job),
                    Err(_) => break,
                },
                recv(stopped) -> _ => break,
                recv(probe) -> _ => {}
            }
        }
        // Jobs that were submitted before the stop are still run: their callers wait for an answer.
        while let Ok(job) = jobs.try_recv() {
            self.handle_job(job);
        }
        self.settle();
    }

    fn handle_job(&mut self, job: Job) {
        let Job { op, mut settled } = job;
        let done = catch_unwind(AssertUnwindSafe(|| self.store.execute(op)));
        let (outcome, change) = done.unwrap_or_else(|_| {
            tracing::error!("the store panicked in a job");
            let answer = "the store panicked; the hub's log says where".to_owned();
            // The panic may have come after the commit.
            (StoreOutcome::Unavailable(answer, Kept::Unknown), None)
        });
        if matches!(outcome, StoreOutcome::Unavailable(..)) {
            self.degraded.store(true, Ordering::Relaxed);
        }
        settled.outcome = outcome;
        match change {
            Some(change) => self.announce_change(change, settled),
            None => settled.send(),
        }
    }

    fn settle(&mut self) {
        loop {
            let settled = catch_unwind(AssertUnwindSafe(|| self.store.settle()));
            match settled {
                // Its caller was answered long ago, so there is nobody to reply to.
                Ok(Ok(Some(change))) => {
                    self.announce_change(change, Settled { outcome: StoreOutcome::Done, reply: None })
                }
                Ok(Ok(None)) => return self.degraded.store(false, Ordering::Relaxed),
                Ok(Err(_)) => return self.degraded.store(true, Ordering::Relaxed),
                Err(_) => {
                    tracing::error!("the store panicked when it settled");
                    return self.degraded.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn announce_change(&mut self, change: Change, settled: Settled) {
        if catch_unwind(AssertUnwindSafe(|| (self.announce)(change, settled))).is_err() {
            tracing::error!("the announcer of the store's changes panicked");
        }
    }
}

#[cfg(test)]
mod tests;
