//! One connection as its core holds it: the socket, the session, and who wakes whom.

use super::{slots::Slot, wheel::Alarm};
use crate::{model::Now, session::Session, shard::ConnectionKey};
use glommio::net::TcpStream;
use std::{
    cell::{Cell, RefCell},
    task::Waker,
};

/// A link's place among its worker's; the serial tells it from one that had the same place before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LinkKey {
    pub(super) index: u32,
    pub(super) serial: u32,
}

/// One connection.
pub(super) struct Link {
    pub(super) key: LinkKey,
    pub(super) session: RefCell<Session>,
    /// `None` once it was given away or closed.
    pub(super) stream: RefCell<Option<TcpStream>>,
    /// Its place in the shard, once a gateway's events go over it.
    pub(super) member: Cell<Option<ConnectionKey>>,
    /// Its place among all connections of the hub.
    pub(super) slot: RefCell<Option<Slot>>,
    pub(super) accepted: Now,
    /// It is on the worker's agenda.
    pub(super) queued: Cell<bool>,
    /// Its entry in the wheel.
    pub(super) alarm: Alarm,
    waker: RefCell<Option<Waker>>,
    /// Its pump runs, and will look by itself.
    pumping: Cell<bool>,
    waits_read: Cell<bool>,
    waits_write: Cell<bool>,
}

impl Link {
    pub(super) fn new(key: LinkKey, session: Session, stream: TcpStream, accepted: Now) -> Self {
        Self {
            key,
            session: RefCell::new(session),
            stream: RefCell::new(Some(stream)),
            member: Cell::new(None),
            slot: RefCell::new(None),
            accepted,
            queued: Cell::new(false),
            alarm: Alarm::new(),
            waker: RefCell::new(None),
            pumping: Cell::new(false),
            waits_read: Cell::new(false),
            waits_write: Cell::new(false),
        }
    }

    /// The pump sleeps until the socket or [`Link::nudge`] wakes it.
    pub(super) fn park(&self, waker: &Waker, reading: bool, writing: bool) {
        self.pumping.set(false);
        self.waits_read.set(reading);
        self.waits_write.set(writing);
        let mut slot = self.waker.borrow_mut();
        if slot.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// The pump runs.
    pub(super) fn unpark(&self) {
        self.pumping.set(true);
    }

    /// Wakes the pump if it sleeps on something else than what the session wants now.
    pub(super) fn nudge(&self) {
        if self.pumping.get() {
            return;
        }
        let session = self.session.borrow();
        let over = session.is_over() || self.stream.borrow().is_none();
        let read = session.wants_read() && !self.waits_read.get();
        let write = !session.backlog().is_empty() && !self.waits_write.get();
        if (over || read || write)
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }
}
