//! One core of the simulated hub: what `driver::worker` does, without sockets, tasks or the clock.

use super::{
    asks::Question,
    hub::{Entrant, Hub},
    pipe::{Read, Write},
};
use crate::{
    driver::{
        slots::Slot,
        wheel::{Alarm, Wheel},
    },
    limits,
    model::{CloseReason, KeyHash, Message, Now, ShardId},
    session::{Effect, End, Scratch, Session},
    shard::{self, ConnectionKey, Directory, RequestKey, Shard},
    wire::message,
};
use slab::Slab;
use std::collections::{BTreeMap, VecDeque};

/// A link's place and serial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LinkKey {
    index: usize,
    serial: u32,
}

impl LinkKey {
    pub(super) fn index(self) -> usize {
        self.index
    }
}

/// One connection on this core.
pub(super) struct Link {
    pub(super) key: LinkKey,
    /// Its socket; `None` once it was given away.
    pub(super) line: Option<usize>,
    pub(super) session: Session,
    pub(super) member: Option<ConnectionKey>,
    pub(super) slot: Option<Slot>,
    queued: bool,
    alarm: Alarm,
}

/// The core.
pub(super) struct Core {
    pub(super) id: ShardId,
    pub(super) shard: Shard,
    pub(super) directory: Directory,
    pub(super) links: Slab<Link>,
    members: Vec<Option<LinkKey>>,
    agenda: VecDeque<LinkKey>,
    wheel: Wheel<LinkKey>,
    serial: u32,
    pub(super) remote: Slab<(ShardId, RequestKey)>,
    pub(super) questions: BTreeMap<u64, Question>,
    pub(super) asked: u64,
    pub(super) scratch: Scratch,
    /// Links whose socket may have something.
    pub(super) ready: Vec<LinkKey>,
    pub(super) draining: Vec<LinkKey>,
    stopped: bool,
}

impl Core {
    pub(super) fn new(id: ShardId, settings: shard::Settings, directory: Directory, now: Now) -> Self {
        Self {
            id,
            shard: Shard::new(settings),
            directory,
            links: Slab::new(),
            members: Vec::new(),
            agenda: VecDeque::new(),
            wheel: Wheel::new(now.instant),
            serial: 0,
            remote: Slab::new(),
            questions: BTreeMap::new(),
            asked: 0,
            scratch: Scratch::default(),
            ready: Vec::new(),
            draining: Vec::new(),
            stopped: false,
        }
    }

    /// Takes a connection in; a core that has ended lets the socket go.
    pub(super) fn adopt(&mut self, hub: &mut Hub, line: usize, session: Session) -> Option<LinkKey> {
        if self.stopped {
            hub.lines[line].pipe.hub_gone = true;
            return None;
        }
        self.serial += 1;
        let entry = self.links.vacant_entry();
        let key = LinkKey { index: entry.key(), serial: self.serial };
        entry.insert(Link {
            key,
            line: Some(line),
            session,
            member: None,
            slot: None,
            queued: false,
            alarm: Alarm::new(),
        });
        hub.lines[line].owner = Some((self.id.index(), key));
        self.arm(key);
        self.ready.push(key);
        Some(key)
    }

    pub(super) fn linked(&self, key: LinkKey) -> Option<&Link> {
        self.links.get(key.index).filter(|link| link.key == key)
    }

    pub(super) fn link(&mut self, key: LinkKey) -> Option<&mut Link> {
        self.links.get_mut(key.index).filter(|link| link.key == key)
    }

    fn forget(&mut self, hub: &mut Hub, key: LinkKey) {
        self.leave(hub, key, CloseReason::GatewayGone);
        let Some(link) = self.link(key) else { return };
        if let Some(line) = link.line {
            hub.lines[line].pipe.hub_gone = true;
            hub.lines[line].owner = None;
            hub.oracle.gone(line);
            hub.schedule(hub.now.instant, super::hub::What::Peer(line));
        }
        self.links.remove(key.index);
    }

    pub(super) fn enqueue(&mut self, key: LinkKey) {
        if let Some(link) = self.link(key)
            && !std::mem::replace(&mut link.queued, true)
        {
            self.agenda.push_back(key);
        }
    }

    /// What the pump of a connection does once; whether it did something.
    pub(super) fn pump(&mut self, hub: &mut Hub, key: LinkKey) {
        let Some(link) = self.links.get_mut(key.index).filter(|link| link.key == key) else { return };
        let Some(line) = link.line.filter(|_| !link.session.is_over()) else { return self.forget(hub, key) };
        let read = if link.session.wants_read() { hub.lines[line].pipe.read(&mut hub.dice) } else { Read::Nothing };
        match read {
            Read::Bytes(mut bytes) => {
                let streaming = link.session.is_streaming();
                hub.oracle.received(hub.now.instant, line, streaming);
                link.session.handle_received(hub.now, &mut bytes, &mut self.scratch);
            }
            Read::End => link.session.handle_end(hub.now),
            Read::Nothing if link.session.backlog().is_empty() => return,
            Read::Nothing => match hub.write(line, link.session.backlog()) {
                Write::Took(bytes) => link.session.handle_backlog_sent(hub.now, bytes),
                Write::Broken => link.session.handle_broken(),
                Write::Full => return,
            },
        }
        self.enqueue(key);
        self.turn(hub);
        self.ready.push(key);
    }

    /// Does what is on the agenda, up to a batch; returns whether more is left.
    pub(super) fn turn(&mut self, hub: &mut Hub) -> bool {
        for _ in 0..limits::FLUSH_BATCH {
            self.carry_out_shard(hub);
            let Some(key) = self.next() else { return false };
            if let Some(link) = self.link(key) {
                link.queued = false;
                self.serve(hub, key);
            }
        }
        self.carry_out_shard(hub);
        true
    }

    fn next(&mut self) -> Option<LinkKey> {
        if let Some(key) = self.agenda.pop_front() {
            return Some(key);
        }
        loop {
            let member = self.shard.poll_dirty()?;
            let link = self.members.get(member.index as usize).copied().flatten();
            if let Some(key) = link
                && self.link(key).is_some_and(|link| link.member == Some(member))
            {
                return Some(key);
            }
        }
    }

    fn serve(&mut self, hub: &mut Hub, key: LinkKey) {
        loop {
            while let Some(effect) = self.link(key).and_then(|link| link.session.poll_effect()) {
                self.carry_out(hub, key, effect);
            }
            let more = self.flush(hub, key);
            if !self.link(key).is_some_and(|link| link.session.has_effect()) {
                if more {
                    self.enqueue(key);
                }
                break;
            }
        }
        self.arm(key);
        self.ready.push(key);
    }

    fn carry_out(&mut self, hub: &mut Hub, key: LinkKey, effect: Effect) {
        let now = hub.now;
        let Some(link) = self.links.get_mut(key.index).filter(|link| link.key == key) else { return };
        let (Some(line), member) = (link.line, link.member) else { return };
        match effect {
            Effect::Preflight => self.preflight(hub, key),
            Effect::Call => self.call(hub, key),
            Effect::Admit(presented) => self.admit(hub, key, presented),
            Effect::Life(round_trip) => {
                hub.oracle.life(now.instant, line);
                if let Some(member) = member {
                    self.shard.handle_life(now, member, round_trip);
                }
            }
            Effect::Message(text) => {
                if let (Some(_), Message::Malformed) = (member, message::parse(&text)) {
                    self.shard.handle_malformed();
                }
            }
            Effect::Ignored => {}
            Effect::Closing(reason) => {
                hub.story.tell(now.instant, Some(line), || format!("closing: {reason}"));
                hub.oracle.closing(now.instant, line, reason);
                if let Some(member) = member {
                    self.shard.handle_closing(now, member, reason);
                }
            }
            Effect::Probe => {
                let reachable = !hub.lines[line].pipe.vanished;
                if let Some(member) = member.filter(|_| reachable) {
                    self.shard.handle_stale(member);
                }
                link.session.handle_peer_state(now, reachable);
            }
            Effect::ShutdownWrite => {
                hub.lines[line].pipe.hub_shut = true;
                if !hub.lines[line].client.is_whole() {
                    hub.oracle.fail("a FIN stands behind a whole close frame", Some(line), String::new());
                }
            }
            Effect::Over(end) => {
                hub.story.tell(now.instant, Some(line), || format!("over: {end:?}"));
                hub.oracle.over(now.instant, line, &end);
                if let End::Closed(reason) = end {
                    self.leave(hub, key, reason);
                }
            }
        }
    }

    /// Takes the connection out of the shard.
    fn leave(&mut self, hub: &mut Hub, key: LinkKey, reason: CloseReason) {
        let Some(link) = self.links.get_mut(key.index).filter(|link| link.key == key) else { return };
        let Some(member) = link.member.take() else { return };
        link.slot = None;
        let left = self.shard.handle_leave(hub.now, member, reason);
        self.members[member.index as usize] = None;
        if let Some(line) = link.line {
            hub.oracle.left(line, reason, left.is_some());
        }
    }

    fn carry_out_shard(&mut self, hub: &mut Hub) {
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                shard::Effect::Reply(request, reply) => self.route(hub, request, reply),
                shard::Effect::Close(member, reason) => {
                    let key = self.members.get(member.index as usize).copied().flatten();
                    let Some(link) = key.and_then(|key| self.link(key)).filter(|link| link.member == Some(member))
                    else {
                        continue;
                    };
                    let key = link.key;
                    link.session.close(hub.now, reason);
                    self.enqueue(key);
                }
                shard::Effect::Failed(_) => hub.oracle.failed(),
            }
        }
    }

    fn arm(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key.index).filter(|link| link.key == key) else { return };
        if let Some(at) = link.session.poll_timeout() {
            link.alarm.set(&mut self.wheel, at, key);
        }
    }

    /// Time passes.
    pub(super) fn tick(&mut self, hub: &mut Hub) {
        let now = hub.now;
        let mut due = Vec::new();
        self.wheel.advance(now.instant, &mut due);
        for key in due {
            let Some(link) = self.link(key) else { continue };
            if !link.alarm.ring(now.instant) {
                continue;
            }
            if link.session.poll_timeout().is_some_and(|at| at <= now.instant) {
                link.session.handle_timeout(now);
                self.enqueue(key);
            } else {
                self.arm(key);
            }
        }
        self.shard.handle_timeout(now);
        self.expire(hub);
    }

    /// What is still there that should not be once everybody has left.
    pub(super) fn leftovers(&self) -> Option<String> {
        let counts = [
            ("links", self.links.len()),
            ("connections", self.shard.connections().count()),
            ("undecided publishes", self.shard.undecided()),
            ("members", self.members.iter().flatten().count()),
            ("agenda", self.agenda.len()),
            ("requests of others", self.remote.len()),
            ("questions", self.questions.len()),
            ("dirty", usize::from(self.shard.is_dirty())),
        ];
        let left: Vec<_> = counts.iter().filter(|(_, count)| *count > 0).collect();
        (!left.is_empty()).then(|| format!("shard {}: {left:?}", self.id))
    }

    /// Whether anything is under way here.
    pub(super) fn is_busy(&self) -> bool {
        !self.links.is_empty() || self.shard.undecided() > 0 || !self.questions.is_empty()
    }

    /// All links with a member's key.
    pub(super) fn members(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().map(|(_, link)| link).filter(|link| link.member.is_some())
    }

    pub(super) fn set_member(&mut self, key: LinkKey, member: ConnectionKey) {
        let index = member.index as usize;
        if self.members.len() <= index {
            self.members.resize(index + 1, None);
        }
        self.members[index] = Some(key);
    }

    pub(super) fn scratch_and_link(&mut self, key: LinkKey) -> Option<(&mut Scratch, &mut Link)> {
        let link = self.links.get_mut(key.index).filter(|link| link.key == key)?;
        Some((&mut self.scratch, link))
    }

    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    pub(super) fn entrant(&self, key: KeyHash) -> Option<Entrant> {
        let (gateway, token) = self.directory.owner_of(&key)?;
        Some(Entrant { gateway, token, key })
    }
}
