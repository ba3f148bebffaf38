//! The loop of one core: poll the sockets, run a pass of the engine, wait.
//!
//! Parking and waking costs glommio ten system calls. While there is work, waiting in `epoll_pwait2` is cheaper and wakes
//! sooner; a core that has had none for [`PARK_AFTER`] parks (`docs/decisions/0008-one-epoll-set-a-core.md`).

use super::{
    clock,
    core_io::CoreIo,
    line_limit::LineLimit,
    mesh::{Address, Inbox},
    raw::Watch,
};
use crate::{
    engine::{Engine, EngineSettings, Rest, WAKE_INTERVAL},
    model::{Instant, ShardId, Side},
    store::{StoreHandle, log::LogPort},
};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

/// The parameters of [`run`].
pub(crate) struct Seat {
    pub(crate) engine: EngineSettings,
    pub(crate) inbox: Inbox,
    pub(crate) peers: Vec<Address>,
    pub(crate) store: StoreHandle,
    pub(crate) log: Box<dyn LogPort>,
    pub(crate) listening: Vec<(OwnedFd, Side)>,
    /// The hub's; all its cores have the same.
    pub(crate) lines: Arc<LineLimit>,
}

/// Why a core ended if its code panicked. The panic's own log line says where.
pub(crate) const PANICKED: &str = "its code panicked";

/// Runs a core until its drain has ended, on its executor.
///
/// # Errors If the epoll set cannot be created, or if the engine panicked: its shard may be half changed, so the core
/// does not go on.
pub(crate) async fn run(seat: Seat, ready: flume::Sender<ShardId>) -> io::Result<()> {
    let id = seat.engine.id;
    let mut io = CoreIo::new(id, seat.inbox, seat.peers, seat.store, seat.log, seat.listening, seat.lines)?;
    let mut engine = Engine::new(clock::now(), seat.engine);
    let mut watch = Watch::new(io.set.descriptor());
    let heartbeat = Heartbeat::start();
    let mut worked = clock::now().instant;
    let mut yielded = worked;
    // If nobody receives it, the start has been given up and a drain follows.
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
                worked = now;
                io.harvest(&mut engine, Duration::ZERO);
            }
            Rest::Until(due) => {
                let parked = wait(&mut io, &mut engine, &mut watch, &heartbeat, &mut worked, (now, due)).await;
                if parked {
                    yielded = clock::now().instant;
                }
            }
        }
        if now.since(yielded) >= YIELD_INTERVAL {
            // Only a timer lets glommio's reactor run: after `yield_now` it polls this task again at once. A timer of
            // 200 ns has expired when the reactor looks, so the core does not park; one of 1 µs would park it and cost
            // four times as much.
            glommio::timer::sleep(Duration::from_nanos(200)).await;
            yielded = clock::now().instant;
        }
    };
    heartbeat.stop();
    // glommio would leak a poll that is still armed when its executor ends, so complete it. A core that panicked skips
    // this, because its thread must report the panic at once.
    if ended.is_ok() && watch.is_armed() {
        io.set.bell().wake();
        poll_fn(|cx| watch.poll_ready(cx)).await;
    }
    ended
}

/// Waits until an event, the doorbell, a signal, the deadline `due` or [`WAKE_INTERVAL`]. Returns whether the core was parked, which lets
/// the runtime run. `worked` is when there was work last.
async fn wait(
    io: &mut CoreIo,
    engine: &mut Engine<CoreIo>,
    watch: &mut Watch,
    heartbeat: &Heartbeat,
    worked: &mut Instant,
    (now, due): (Instant, Option<Instant>),
) -> bool {
    let left = due.map_or(WAKE_INTERVAL, |due| due.since(now).min(WAKE_INTERVAL));
    let is_idle = now.since(*worked) >= PARK_AFTER;
    // From `try_sleep` on, senders ring the doorbell. It fails if a value has come since the lanes were last read: then the
    // sockets are looked at all the same, because the lanes may go on like that. An idle core, too, only looks, because an
    // event may have come during the pass.
    let sleeps = !is_idle && io.set.bell().try_sleep();
    let woken = io.harvest(engine, if sleeps { left } else { Duration::ZERO });
    if sleeps {
        io.set.bell().awake();
    }
    if woken > 0 {
        *worked = clock::now().instant;
    }
    if woken > 0 || !is_idle || left.is_zero() || !io.set.bell().try_sleep() {
        return false;
    }
    // Parked, the core is woken only by the epoll set and the heartbeat, so the deadline becomes an event of the set.
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
        *worked = clock::now().instant;
    }
    true
}

/// How long a core has had no work when it parks. A fleet of some hundred gateways that only answer pings sends some twice a
/// second (`POINTS` of the heartbeat), so its core does not.
const PARK_AFTER: Duration = Duration::from_secs(1);
/// How often a core that does not park lets the runtime's own timers run. Nothing needs them meanwhile, so this may be rare.
const YIELD_INTERVAL: Duration = Duration::from_secs(10);
/// A parked core wakes at least this often.
const BEAT_INTERVAL: Duration = Duration::from_millis(280);
const _: () = assert!(BEAT_INTERVAL.as_millis() <= WAKE_INTERVAL.as_millis());

/// Wakes the parked loop every [`BEAT_INTERVAL`]. So the watchdog sees that an idle core runs. It also bounds a fault of
/// glommio 0.9.0, which can park with a runnable task if a completion arrives just before: such a wake-up is late, not
/// lost.
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
                glommio::timer::sleep(BEAT_INTERVAL).await;
                beating.due.set(true);
                if let Some(waker) = beating.waker.borrow_mut().take() {
                    waker.wake();
                }
            }
        })
        .detach();
        Self(state)
    }

    /// Takes a due beat and returns true; else the next beat wakes `waker`.
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
