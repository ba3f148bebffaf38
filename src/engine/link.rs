//! The connections of one core: each with its socket, its session, and what the core knows about both.

use super::{
    bodies::Reservation,
    slots::Slot,
    timer_wheel::{Alarm, TimerWheel},
    unauthenticated::Unauthenticated,
};
use crate::{api::Matched, model::Side, session::Session, shard::ConnectionKey};
use slab::Slab;

pub use super::link_key::LinkKey;

/// One connection.
pub(super) struct Link<S> {
    pub(super) session: Session,
    pub(super) socket: S,
    pub(super) side: Side,
    /// A key or the admin token was shown on it.
    authenticated: bool,
    /// Its place in the shard, once a gateway's events go over it.
    pub(super) member: Option<ConnectionKey>,
    /// Its place among all gateways' connections of the hub.
    pub(super) slot: Option<Slot>,
    /// The route of the request that is being read or answered.
    pub(super) matched: Option<Matched>,
    /// Room for the body of that request.
    pub(super) reservation: Option<Reservation>,
    /// Its entry in the timer wheel.
    pub(super) alarm: Alarm,
    /// Bytes that the peer's kernel had acknowledged when the socket last refused some of ours.
    pub(super) acknowledged_bytes: u64,
    /// A read may bring something.
    pub(super) readable: bool,
    /// A write may be taken.
    pub(super) writable: bool,
    /// The peer has ended its side, so a short read does not mean that nothing is left.
    pub(super) ended: bool,
    /// The socket is broken.
    pub(super) broken: bool,
    /// It is in the queue of readers.
    pub(super) reading: bool,
    /// It is in the queue of writers.
    pub(super) writing: bool,
}

impl<S> Link<S> {
    pub(super) fn new(session: Session, socket: S, side: Side) -> Self {
        Self {
            session,
            socket,
            side,
            authenticated: false,
            member: None,
            slot: None,
            matched: None,
            reservation: None,
            alarm: Alarm::default(),
            acknowledged_bytes: 0,
            readable: false,
            writable: true,
            ended: false,
            broken: false,
            reading: false,
            writing: false,
        }
    }

    /// Sees to it that the wheel brings the link up when its session wants to be looked at.
    pub(super) fn arm(&mut self, key: LinkKey, timers: &mut TimerWheel<LinkKey>) {
        if let Some(at) = self.session.poll_timeout() {
            self.alarm.set(timers, at, key);
        }
    }

    /// Whether a request or its answer is on the way.
    pub(super) fn is_busy(&self) -> bool {
        self.session.is_busy() || self.wants_visit()
    }

    /// Whether a visit of the reader has something to do.
    pub(super) fn wants_visit(&self) -> bool {
        self.session.has_effect() || self.broken || (self.readable && self.session.wants_read())
    }
}

/// All of them.
pub(super) struct Links<S> {
    slab: Slab<(u32, Link<S>)>,
    serial: u32,
    /// Links by their place in the shard.
    members: Vec<Option<LinkKey>>,
    unauthenticated: Unauthenticated,
}

impl<S> Default for Links<S> {
    fn default() -> Self {
        Self { slab: Slab::new(), serial: 0, members: Vec::new(), unauthenticated: Unauthenticated::default() }
    }
}

impl<S> Links<S> {
    pub(super) fn insert(&mut self, link: Link<S>) -> LinkKey {
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        let unauthenticated = (!link.authenticated).then(|| link.session.peer().ip().into());
        let index = self.slab.insert((self.serial, link));
        let index = u32::try_from(index).expect("descriptors are bounded far below 2^32");
        let key = LinkKey { index, serial: self.serial };
        if let Some(address) = unauthenticated {
            self.unauthenticated.insert(address, key, |key| is_unauthenticated(&self.slab, key));
        }
        key
    }

    /// A key or the admin token was shown on it.
    pub(super) fn set_authenticated(&mut self, key: LinkKey) {
        if let Some(link) = self.get_mut(key).filter(|link| !link.authenticated) {
            link.authenticated = true;
            let address = link.session.peer().ip().into();
            self.unauthenticated.remove(address);
        }
    }

    /// The one to close first where there is no room: the oldest of the address that has most of those that never
    /// authenticated, then the oldest of the platform's that has nothing under way.
    pub(super) fn eviction_candidate(&self) -> Option<LinkKey> {
        let idle = || {
            let idle = self.iter().filter(|(_, link)| link.member.is_none() && !link.is_busy());
            idle.map(|(key, _)| key).min_by_key(|key| key.serial)
        };
        self.unauthenticated.first(|key| is_unauthenticated(&self.slab, key)).or_else(idle)
    }

    /// How many that never authenticated the address with the most of them has here; 0 where no address has more than one.
    pub(super) fn max_per_address(&self) -> usize {
        self.unauthenticated.max_per_address()
    }

    pub(super) fn get(&self, key: LinkKey) -> Option<&Link<S>> {
        self.slab.get(key.index as usize).filter(|(serial, _)| *serial == key.serial).map(|(_, link)| link)
    }

    pub(super) fn get_mut(&mut self, key: LinkKey) -> Option<&mut Link<S>> {
        self.slab.get_mut(key.index as usize).filter(|(serial, _)| *serial == key.serial).map(|(_, link)| link)
    }

    pub(super) fn remove(&mut self, key: LinkKey) -> Option<Link<S>> {
        self.get(key)?;
        let link = self.slab.remove(key.index as usize).1;
        if !link.authenticated {
            self.unauthenticated.remove(link.session.peer().ip().into());
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

    /// The shard knows the link by this key from now on.
    pub(super) fn set_member(&mut self, key: LinkKey, member: ConnectionKey) {
        let index = member.index as usize;
        if self.members.len() <= index {
            self.members.resize(index + 1, None);
        }
        debug_assert!(self.members[index].is_none(), "a place in the shard has one link");
        self.members[index] = Some(key);
        if let Some(link) = self.get_mut(key) {
            link.member = Some(member);
        }
        self.set_authenticated(key);
    }

    /// The shard knows the link no more; returns what it knew it by.
    pub(super) fn take_member(&mut self, key: LinkKey) -> Option<ConnectionKey> {
        let member = self.get_mut(key)?.member.take()?;
        debug_assert_eq!(self.members[member.index as usize], Some(key), "a place in the shard has one link");
        self.members[member.index as usize] = None;
        Some(member)
    }

    /// The link that the shard knows by this key.
    pub(super) fn of_member(&self, member: ConnectionKey) -> Option<LinkKey> {
        let key = self.members.get(member.index as usize).copied().flatten()?;
        self.get(key).is_some_and(|link| link.member == Some(member)).then_some(key)
    }
}

fn is_unauthenticated<S>(slab: &Slab<(u32, Link<S>)>, key: LinkKey) -> bool {
    slab.get(key.index as usize).is_some_and(|(serial, link)| *serial == key.serial && !link.authenticated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_stays_small() {
        // What one connection holds of ours; rustls holds the rest (docs/PERFORMANCE.md).
        let link = size_of::<(u32, Link<std::os::fd::OwnedFd>)>();
        let connection = size_of::<crate::shard::Connection>();
        assert!(link <= 512, "a link has {link} bytes");
        assert!(connection <= 320, "a connection in the registry has {connection} bytes");
        println!("link {link}, registry {connection}, session {}", size_of::<Session>());
    }
}
