//! The connections of one core: each with its socket, its session, and the core's state about both.

use super::{
    bodies::Reservation,
    slots::Slot,
    timer_wheel::{Alarm, TimerWheel},
    unauthenticated::{Pressure, Unauthenticated, UnauthenticatedTicket},
};
use crate::{
    api::Matched,
    model::{Instant, Side},
    session::Session,
    shard::ConnectionKey,
};
use slab::Slab;

pub use super::link_key::LinkKey;

/// One connection.
pub(super) struct Link<S> {
    pub(super) session: Session,
    pub(super) socket: S,
    pub(super) side: Side,
    /// Its place among the connections that have not authenticated; `None` once a valid key or the admin token was presented.
    unauthenticated: Option<UnauthenticatedTicket>,
    /// Its key in the shard, once it has joined.
    pub(super) member: Option<ConnectionKey>,
    /// Its slot under the hub's `max_connections`, once it has joined.
    pub(super) slot: Option<Slot>,
    /// Its current request, or the last one. Boxed, because gateways' connections, of which there are many, have none.
    pub(super) request: Option<Box<Request>>,
    /// Its entry in the timer wheel.
    pub(super) alarm: Alarm,
    /// Bytes that the peer's kernel had acknowledged at the last short write.
    pub(super) acknowledged_bytes: u64,
    /// A read may return bytes or the end.
    pub(super) readable: bool,
    /// A write may take bytes.
    pub(super) writable: bool,
    /// The peer's FIN was reported: after a short read there is still the end to read.
    pub(super) ended: bool,
    /// The socket has failed.
    pub(super) broken: bool,
    /// It is queued for a read.
    pub(super) reading: bool,
    /// It is queued for a write.
    pub(super) writing: bool,
}

/// The engine's part of a request.
pub(super) struct Request {
    /// Its route.
    pub(super) matched: Matched,
    /// Memory reserved for its body.
    pub(super) reservation: Option<Reservation>,
}

impl<S> Link<S> {
    pub(super) fn new(session: Session, socket: S, side: Side) -> Self {
        Self {
            session,
            socket,
            side,
            unauthenticated: None,
            member: None,
            slot: None,
            request: None,
            alarm: Alarm::default(),
            acknowledged_bytes: 0,
            readable: false,
            // A new socket's send buffer is empty, and the set reports only changes after `attach`.
            writable: true,
            ended: false,
            broken: false,
            reading: false,
            writing: false,
        }
    }

    /// Puts the session's next deadline into the timer wheel, unless the link's entry is earlier.
    pub(super) fn arm(&mut self, key: LinkKey, timers: &mut TimerWheel<LinkKey>) {
        if let Some(at) = self.session.poll_timeout() {
            self.alarm.set(timers, at, key);
        }
    }

    /// Begins a request.
    pub(super) fn set_request(&mut self, matched: Matched) {
        match &mut self.request {
            Some(request) => request.matched = matched,
            None => self.request = Some(Box::new(Request { matched, reservation: None })),
        }
    }

    /// Memory reserved for the body of the current request.
    pub(super) fn reservation(&mut self) -> Option<&mut Reservation> {
        self.request.as_mut()?.reservation.as_mut()
    }

    /// Whether a request is in progress or its response is not written yet.
    pub(super) fn is_busy(&self) -> bool {
        self.session.is_busy() || self.wants_visit()
    }

    /// Whether a read visit has work to do.
    pub(super) fn wants_visit(&self) -> bool {
        self.session.has_effect() || self.broken || (self.readable && self.session.wants_read())
    }
}

/// All connections of one core.
pub(super) struct Links<S> {
    slab: Slab<(u32, Link<S>)>,
    serial: u32,
    /// The link of each member of the shard, by the member's index.
    members: Vec<Option<LinkKey>>,
    unauthenticated: Unauthenticated,
}

impl<S> Default for Links<S> {
    fn default() -> Self {
        Self { slab: Slab::new(), serial: 0, members: Vec::new(), unauthenticated: Unauthenticated::default() }
    }
}

impl<S> Links<S> {
    pub(super) fn insert(&mut self, mut link: Link<S>, now: Instant) -> LinkKey {
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        let entry = self.slab.vacant_entry();
        let index = u32::try_from(entry.key()).expect("descriptors are bounded far below 2^32");
        let key = LinkKey { index, serial: self.serial };
        link.unauthenticated = Some(self.unauthenticated.insert(link.session.peer().ip().into(), key, now));
        entry.insert((self.serial, link));
        key
    }

    /// Records that a valid key or the admin token was presented on this connection.
    pub(super) fn set_authenticated(&mut self, key: LinkKey) {
        if let Some(ticket) = self.get_mut(key).and_then(|link| link.unauthenticated.take()) {
            self.unauthenticated.remove(ticket);
        }
    }

    /// The connection that has not authenticated and is to be closed for another one (see [`Unauthenticated::first`]).
    pub(super) fn unauthenticated_candidate(&self, now: Instant) -> Option<LinkKey> {
        self.unauthenticated.candidate(now)
    }

    /// The oldest HTTP connection that has authenticated and has no request in progress.
    pub(super) fn idle_candidate(&self) -> Option<LinkKey> {
        let is_idle = |link: &Link<S>| link.unauthenticated.is_none() && link.member.is_none() && !link.is_busy();
        self.iter().filter(|(_, link)| is_idle(link)).map(|(key, _)| key).min_by_key(|key| key.serial)
    }

    /// What the other cores have to know about the connections here that have not authenticated.
    pub(super) fn pressure(&self) -> Pressure {
        self.unauthenticated.pressure()
    }

    pub(super) fn get(&self, key: LinkKey) -> Option<&Link<S>> {
        self.slab.get(key.index as usize).filter(|(serial, _)| *serial == key.serial).map(|(_, link)| link)
    }

    pub(super) fn get_mut(&mut self, key: LinkKey) -> Option<&mut Link<S>> {
        self.slab.get_mut(key.index as usize).filter(|(serial, _)| *serial == key.serial).map(|(_, link)| link)
    }

    pub(super) fn remove(&mut self, key: LinkKey) -> Option<Link<S>> {
        self.get(key)?;
        let mut link = self.slab.remove(key.index as usize).1;
        if let Some(ticket) = link.unauthenticated.take() {
            self.unauthenticated.remove(ticket);
        }
        Some(link)
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (LinkKey, &Link<S>)> {
        self.slab.iter().map(|(index, (serial, link))| {
            let index = u32::try_from(index).expect("descriptors are bounded far below 2^32");
            (LinkKey { index, serial: *serial }, link)
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (LinkKey, &mut Link<S>)> {
        self.slab.iter_mut().map(|(index, (serial, link))| {
            let index = u32::try_from(index).expect("descriptors are bounded far below 2^32");
            (LinkKey { index, serial: *serial }, link)
        })
    }

    /// Records the link's key in the shard.
    pub(super) fn set_member(&mut self, key: LinkKey, member: ConnectionKey) {
        let index = member.index as usize;
        if self.members.len() <= index {
            self.members.resize(index + 1, None);
        }
        debug_assert!(self.members[index].is_none(), "a member has one link");
        self.members[index] = Some(key);
        if let Some(link) = self.get_mut(key) {
            link.member = Some(member);
            link.request.take_if(|request| request.reservation.is_none());
        }
        self.set_authenticated(key);
    }

    /// Removes and returns the link's key in the shard.
    pub(super) fn take_member(&mut self, key: LinkKey) -> Option<ConnectionKey> {
        let member = self.get_mut(key)?.member.take()?;
        debug_assert_eq!(self.members[member.index as usize], Some(key), "a member has one link");
        self.members[member.index as usize] = None;
        Some(member)
    }

    /// The link of a member of the shard.
    pub(super) fn of_member(&self, member: ConnectionKey) -> Option<LinkKey> {
        let key = self.members.get(member.index as usize).copied().flatten()?;
        self.get(key).is_some_and(|link| link.member == Some(member)).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_stays_small() {
        // rustls holds more per connection (docs/PERFORMANCE.md).
        let link = size_of::<(u32, Link<std::os::fd::OwnedFd>)>();
        let connection = size_of::<crate::shard::Connection>();
        assert!(link <= 336, "a link has {link} bytes, expected at most 336");
        assert!(connection <= 240, "a connection in the registry has {connection} bytes, expected at most 240");
        println!("link {link}, registry {connection}, session {}", size_of::<Session>());
    }
}
