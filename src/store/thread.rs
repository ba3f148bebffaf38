//! The store's own thread: jobs in through a bounded queue, outcomes out through the callers' replies.

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

/// What is done with an outcome; runs on the store's thread or wherever [`Settled::send`] is called, and must not block.
pub type Reply = Box<dyn FnOnce(StoreOutcome) + Send + Sync>;

/// An outcome with whom to tell. It is told exactly once: on drop, if not before.
pub struct Settled {
    /// What became of the job.
    pub outcome: StoreOutcome,
    reply: Option<Reply>,
}

impl Settled {
    /// Tells the caller.
    pub fn send(self) {}
}

impl Drop for Settled {
    fn drop(&mut self) {
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
    /// Takes a store and does the jobs that are submitted, in order. `announce` gets every change in the order of the
    /// commits, with the outcome to send when all cores have applied it; it runs on the store's thread and must not wait
    /// for a core. The thread ends by [`StoreHandle::stop`], or when the last handle is gone.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(
        store: Box<dyn Store>,
        announce: impl FnMut(Change, Settled) + Send + 'static,
    ) -> Result<StoreHandle, StoreError> {
        let (jobs, inbox) = bounded(STORE_QUEUE_MAX);
        let (stop, stopped) = bounded(1);
        let degraded = Arc::new(AtomicBool::new(false));
        let worker = Worker { store, announce, degraded: Arc::clone(&degraded) };
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

/// Where jobs are handed in.
#[derive(Clone)]
pub struct StoreHandle(Arc<Shared>);

struct Shared {
    jobs: Sender<Job>,
    stop: Sender<()>,
    closed: AtomicBool,
    degraded: Arc<AtomicBool>,
    /// Nothing is sent here; it is disconnected when the thread ends.
    ended: Receiver<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl StoreHandle {
    /// Hands a job in and returns at once; `reply` is called once, whatever happens.
    ///
    /// # Errors
    /// Gives `reply` back, uncalled, where [`STORE_QUEUE_MAX`] jobs wait already or the store was stopped.
    pub fn submit(&self, op: StoreOp, reply: Reply) -> Result<(), Reply> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(reply);
        }
        let outcome = StoreOutcome::Unavailable("the hub is going away".to_owned(), Kept::No);
        let job = Job { op, settled: Settled { outcome, reply: Some(reply) } };
        self.0.jobs.try_send(job).map_err(|refused| {
            let reply = refused.into_inner().settled.reply.take();
            reply.expect("a job holds its reply until it is answered")
        })
    }

    /// Whether the last that was heard of the store is that it cannot write.
    pub fn is_degraded(&self) -> bool {
        self.0.degraded.load(Ordering::Relaxed)
    }

    /// The flag behind [`StoreHandle::is_degraded`].
    pub fn degraded(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.degraded)
    }

    /// Takes no more jobs; those that wait are done, then the store is closed. Returns at once.
    pub fn stop(&self) {
        self.0.closed.store(true, Ordering::Release);
        // Full means that it was stopped before, and disconnected that the thread has ended.
        let _ = self.0.stop.try_send(());
    }

    /// Stops, and waits until the store is closed or the deadline has passed; whether it is closed. A disk may hold
    /// it up.
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
            let answer = "the store failed inside; the hub's log says where".to_owned();
            (StoreOutcome::Unavailable(answer, Kept::Unknown), None)
        });
        if matches!(outcome, StoreOutcome::Unavailable(..)) {
            self.degraded.store(true, Ordering::Relaxed);
        }
        settled.outcome = outcome;
        match change {
            Some(change) => self.tell(change, settled),
            None => settled.send(),
        }
    }

    fn settle(&mut self) {
        loop {
            let settled = catch_unwind(AssertUnwindSafe(|| self.store.settle()));
            match settled {
                Ok(Ok(Some(change))) => self.tell(change, Settled { outcome: StoreOutcome::Done, reply: None }),
                Ok(Ok(None)) => return self.degraded.store(false, Ordering::Relaxed),
                Ok(Err(_)) => return self.degraded.store(true, Ordering::Relaxed),
                Err(_) => {
                    tracing::error!("the store panicked when it settled");
                    return self.degraded.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn tell(&mut self, change: Change, settled: Settled) {
        if catch_unwind(AssertUnwindSafe(|| (self.announce)(change, settled))).is_err() {
            tracing::error!("the announcer of the store's changes panicked");
        }
    }
}

#[cfg(test)]
mod tests;
