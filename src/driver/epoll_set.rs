//! The epoll set of a core: its sockets, listeners, doorbell and timer.
//!
//! | descriptor | interest |
//! |---|---|
//! | link | IN, OUT, RDHUP, edge-triggered: added once, never modified |
//! | listener, doorbell, timer | IN, edge-triggered; doorbell and timer are never read |
//!
//! Edge-triggered, because a link whose reading is paused has bytes to read all the time: level-triggered it would be
//! reported by every look, or need a system call to change its interest each time it is paused. RDHUP reports the
//! peer's FIN also while reading is paused.

use super::{
    clock,
    line_limit::{LineKind, LineLimit},
    mesh::Bell,
};
use crate::{
    engine::{LinkKey, Ready},
    model::Instant,
};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io::Errno,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime},
};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// Maximum number of events in one call. The others stay in the set for the next call.
const EVENTS_MAX: usize = 512;

/// The epoll set and its timer.
pub(super) struct EpollSet {
    epoll: Rc<OwnedFd>,
    timer: OwnedFd,
    /// When the timer fires; `None` if it is disarmed.
    timer_at: Option<Instant>,
    bell: Arc<Bell>,
    lines: Arc<LineLimit>,
    events: Vec<Event>,
}

/// An event of the set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EpollEvent {
    /// A link's socket became ready.
    Link(LinkKey, Ready),
    /// A listener has connections.
    Acceptable,
    /// The doorbell or the timer. The loop looks at lanes and deadlines itself.
    Wake,
}

// The data of an event is the serial and the index of a link. Other descriptors have the serial 0, which no link has.
const WAKE: u64 = 0;
const LISTENER: u64 = 1;

impl EpollSet {
    pub(super) fn new(bell: Arc<Bell>, lines: Arc<LineLimit>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let edge = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &bell.eventfd, EventData::new_u64(WAKE), edge)?;
        epoll::add(&epoll, &timer, EventData::new_u64(WAKE), edge)?;
        Ok(Self { epoll: Rc::new(epoll), timer, timer_at: None, bell, lines, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// The set's own descriptor. It is readable while the set has an event.
    pub(super) fn descriptor(&self) -> Rc<OwnedFd> {
        Rc::clone(&self.epoll)
    }

    pub(super) fn add_listener(&self, listener: impl AsFd) -> io::Result<()> {
        let edge = EventFlags::IN | EventFlags::ET;
        Ok(epoll::add(&*self.epoll, listener, EventData::new_u64(LISTENER), edge)?)
    }

    pub(super) fn add(&self, socket: impl AsFd, key: LinkKey) -> io::Result<()> {
        let data = u64::from(key.serial) << 32 | u64::from(key.index);
        let all = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&*self.epoll, socket, EventData::new_u64(data), all)?)
    }

    pub(super) fn remove(&self, descriptor: impl AsFd) {
        // Fails only if the descriptor is not in the set.
        let _ = epoll::delete(&*self.epoll, descriptor);
    }

    /// Waits for events for at most `wait`, or until a signal; calls `each` with every event, and returns their number.
    pub(super) fn harvest(&mut self, wait: Duration, mut each: impl FnMut(EpollEvent)) -> usize {
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        self.events.clear();
        match epoll::wait(&*self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            // A signal, such as that of the runtime's preempt timer, ends the wait: waiting again for all of `wait` would make the
            // core late.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                if let Some(left_out) = self.lines.allow(clock::now().instant, LineKind::CannotWait) {
                    tracing::error!(%error, left_out, "cannot wait for socket events");
                }
            }
        }
        self.events.iter().for_each(|event| each(decode(event)));
        self.events.len()
    }

    /// Makes the set ready at `at`; `None` disarms the timer.
    pub(super) fn set_timer(&mut self, at: Option<Instant>, now: Instant) {
        // Most waits have the deadline of the one before, so the system call is skipped. A timer that has fired is set
        // again.
        if self.timer_at == at && at.is_none_or(|at| at > now) {
            return;
        }
        // Zero would disarm the timer, so a deadline that has passed becomes one nanosecond.
        let left = at.map_or(Duration::ZERO, |at| at.since(now).max(Duration::from_nanos(1)));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        match timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec) {
            Ok(_) => self.timer_at = at,
            Err(error) => {
                if let Some(left_out) = self.lines.allow(now, LineKind::CannotWait) {
                    tracing::error!(%error, left_out, "cannot set the core's timer");
                }
            }
        }
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }
}

fn decode(event: &Event) -> EpollEvent {
    // The kernel's structure is packed: its fields are copied, because a reference could be unaligned.
    let (data, flags) = (event.data.u64(), event.flags);
    let (serial, index) = ((data >> 32) as u32, data as u32);
    if serial == 0 {
        return if data == LISTENER { EpollEvent::Acceptable } else { EpollEvent::Wake };
    }
    let ready = Ready {
        readable: flags.contains(EventFlags::IN),
        writable: flags.contains(EventFlags::OUT),
        // HUP means that both directions are closed, so the end can be read as after RDHUP.
        ended: flags.intersects(EventFlags::RDHUP | EventFlags::HUP),
        broken: flags.contains(EventFlags::ERR),
    };
    EpollEvent::Link(LinkKey { index, serial }, ready)
}
