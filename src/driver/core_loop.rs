//! The loop of one core: look at the sockets, let the engine work, wait.

use super::{
    clock,
    core_io::CoreIo,
    mesh::{Address, Inbox},
    pace::Pace,
    raw::Watch,
};
use crate::{
    engine::{Engine, EngineSettings, Rest, WAKE_INTERVAL},
    model::{Instant, ShardId, Side},
    store::StoreHandle,
};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

/// What a core is started with.
pub(crate) struct Seat {
    pub(crate) engine: EngineSettings,
    pub(crate) inbox: Inbox,
    pub(crate) peers: Vec<Address>,
    pub(crate) store: StoreHandle,
    pub(crate) listening: Vec<(OwnedFd, Side)>,
}

/// How a core is said to have died whose code panicked; where, the panic's own log line has said.
pub(crate) const PANICKED: &str = "its code panicked";

/// Runs a core to its end, on its executor.
///
/// # Errors
/// Where the system gives no descriptors to begin with, or the engine panicked. Half of a change may have been made by then,
/// so that the core does not go on: what it holds is dropped.
pub(crate) async fn run(seat: Seat, ready: flume::Sender<ShardId>) -> io::Result<()> {
    let id = seat.engine.id;
    let mut io = CoreIo::new(id, seat.inbox, seat.peers, seat.store, seat.listening)?;
    let mut engine = Engine::new(clock::now(), seat.engine);
    let mut watch = Watch::new(io.set.descriptor());
    let heartbeat = Heartbeat::start();
    let mut pace = Pace::new(clock::now().instant);
    let mut yielded = clock::now().instant;
    let _ = ready.send(id);
    io.harvest(&mut engine, Duration::ZERO);
    let ended = loop {
        let pass = catch_unwind(AssertUnwindSafe(|| engine.pass(&mut io)));
        let Ok(rest) = pass else { break Err(io::Error::other(PANICKED)) };
        #[cfg(test)]
        crate::engine::faults::inject_runtime();
        let now = clock::now().instant;
        match rest {
            Rest::Ended => break Ok(()),
            Rest::More => {
                io.harvest(&mut engine, Duration::ZERO);
            }
            Rest::Until(due) => {
                if io.harvest(&mut engine, Duration::ZERO) > 0 {
                    pace.handle_work(now);
                } else {
                    wait(&mut io, &mut engine, &mut watch, &heartbeat, &mut pace, due).await;
                    yielded = clock::now().instant;
                }
            }
        }
        if now.since(yielded) >= YIELD_INTERVAL {
            // The one way on this runtime that lets its own timers in.
            glommio::timer::sleep(Duration::from_nanos(200)).await;
            yielded = clock::now().instant;
        }
    };
    heartbeat.stop();
    // A core that died does not wait for anything: whoever runs it has to be told.
    if ended.is_ok() && watch.is_armed() {
        io.set.bell().wake();
        poll_fn(|cx| watch.poll_ready(cx)).await;
    }
    ended
}

/// Waits until something is ready, rings, or is due.
async fn wait(
    io: &mut CoreIo,
    engine: &mut Engine<CoreIo>,
    watch: &mut Watch,
    heartbeat: &Heartbeat,
    pace: &mut Pace,
    due: Option<Instant>,
) {
    let now = clock::now().instant;
    let left = due.map_or(Duration::MAX, |due| due.since(now));
    if left.is_zero() || !io.set.bell().try_sleep() {
        return;
    }
    let linger = pace.linger();
    if !linger.is_zero() {
        let woken = io.harvest(engine, linger.min(left));
        if woken > 0 {
            io.set.bell().awake();
            return pace.handle_work(clock::now().instant);
        }
        if left <= linger {
            return io.set.bell().awake();
        }
        pace.handle_idle();
    }
    io.set.set_timer(due, clock::now().instant);
    poll_fn(|cx| {
        if heartbeat.take(cx.waker()) {
            return Poll::Ready(());
        }
        watch.poll_ready(cx)
    })
    .await;
    io.set.bell().awake();
    if io.harvest(engine, Duration::ZERO) > 0 {
        pace.handle_work(clock::now().instant);
    }
}

/// A busy core lets the runtime's own timers in this often.
const YIELD_INTERVAL: Duration = Duration::from_millis(100);

/// Wakes the loop several times a second whatever happens: the watchdog sees that an idle core lives, and a wake-up that the
/// runtime loses costs no more than this.
struct Heartbeat(Rc<HeartbeatState>);

#[derive(Default)]
struct HeartbeatState {
    due: Cell<bool>,
    stopped: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Heartbeat {
    fn start() -> Self {
        let state = Rc::<HeartbeatState>::default();
        let beating = Rc::clone(&state);
        glommio::spawn_local(async move {
            while !beating.stopped.get() {
                glommio::timer::sleep(WAKE_INTERVAL).await;
                beating.due.set(true);
                if let Some(waker) = beating.waker.borrow_mut().take() {
                    waker.wake();
                }
            }
        })
        .detach();
        Self(state)
    }

    /// Whether a beat is due, which is taken; else `waker` is woken by the next.
    fn take(&self, waker: &Waker) -> bool {
        let due = self.0.due.take();
        if !due {
            *self.0.waker.borrow_mut() = Some(waker.clone());
        }
        due
    }

    fn stop(&self) {
        self.0.stopped.set(true);
    }
}
