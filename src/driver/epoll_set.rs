//! The one epoll set of a core: its sockets, its listeners, its doorbell, its timer.
//!
//! | descriptor | interest |
//! |---|---|
//! | link | IN, OUT, RDHUP, edge-triggered: added once, never modified |
//! | listener, doorbell, timer | IN, edge-triggered; doorbell and timer are never read |

use super::mesh::Bell;
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

/// Events of one look at the set.
const EVENTS_MAX: usize = 512;

/// The set.
pub(super) struct EpollSet {
    epoll: Rc<OwnedFd>,
    timer: OwnedFd,
    /// When the timer fires.
    timer_at: Option<Instant>,
    bell: Arc<Bell>,
    events: Vec<Event>,
}

/// What became ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EpollEvent {
    /// A link's socket.
    Link(LinkKey, Ready),
    /// A listener.
    Acceptable,
    /// The doorbell or the timer: the loop looks at lanes and deadlines by itself.
    Wake,
}

/// What is no link has the serial 0, which no link has.
const WAKE: u64 = 0;
const LISTENER: u64 = 1;

impl EpollSet {
    pub(super) fn new(bell: Arc<Bell>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let edge = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &bell.eventfd, EventData::new_u64(WAKE), edge)?;
        epoll::add(&epoll, &timer, EventData::new_u64(WAKE), edge)?;
        Ok(Self { epoll: Rc::new(epoll), timer, timer_at: None, bell, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// The set's own descriptor, which is readable while something in it is ready.
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
        // It fails where the descriptor is not in the set, which is as good.
        let _ = epoll::delete(&*self.epoll, descriptor);
    }

    /// Tells what has become ready, after waiting for at most `wait`; returns how many there were.
    pub(super) fn harvest(&mut self, wait: Duration, mut each: impl FnMut(EpollEvent)) -> usize {
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        self.events.clear();
        loop {
            match epoll::wait(&*self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "the sockets cannot be waited for");
                    break;
                }
            }
        }
        self.events.iter().for_each(|event| each(decode(event)));
        self.events.len()
    }

    /// Sees to it that the set becomes ready at `at`.
    pub(super) fn set_timer(&mut self, at: Option<Instant>, now: Instant) {
        if self.timer_at == at && at.is_none_or(|at| at > now) {
            return;
        }
        // A moment that has come already is waited for for the shortest time there is; nothing at all disarms the timer.
        let left = at.map_or(Duration::ZERO, |at| at.since(now).max(Duration::from_nanos(1)));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        match timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec) {
            Ok(_) => self.timer_at = at,
            Err(error) => tracing::error!(%error, "the timer cannot be set"),
        }
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }
}

fn decode(event: &Event) -> EpollEvent {
    // The kernel's structure is packed, so its fields are copied out.
    let (data, flags) = (event.data.u64(), event.flags);
    let (serial, index) = ((data >> 32) as u32, data as u32);
    if serial == 0 {
        return if data == LISTENER { EpollEvent::Acceptable } else { EpollEvent::Wake };
    }
    let ready = Ready {
        readable: flags.contains(EventFlags::IN),
        writable: flags.contains(EventFlags::OUT),
        ended: flags.intersects(EventFlags::RDHUP | EventFlags::HUP),
        broken: flags.contains(EventFlags::ERR),
    };
    EpollEvent::Link(LinkKey { index, serial }, ready)
}
