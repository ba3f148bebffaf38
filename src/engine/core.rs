//! The state of one core, and the loop that gives each kind of work its share.

use super::{
    acceptor::Acceptor,
    bodies::Bodies,
    drain::Drain,
    guard::guarded,
    hub::HubState,
    io::{Ending, Io, Lane, Ready},
    link::{Link, LinkKey, Links},
    lost_time::LostTime,
    notice::Notice,
    pending_requests::PendingRequests,
    schedule::{self, Share, Visit},
    timer_wheel::TimerWheel,
};
use crate::{
    limits,
    model::{Change, CloseReason, Instant, Now, ShardId, log::LogReply},
    session::{Scratch, Session},
    shard::{self, Directory, Shard},
};
use rustls::ServerConfig;
use std::{collections::VecDeque, sync::Arc};

/// The parameters of [`Engine::new`].
pub struct EngineSettings {
    /// The core's id.
    pub id: ShardId,
    /// The state that all cores share.
    pub hub: Arc<HubState>,
    /// The settings of its shard.
    pub shard: shard::Settings,
    /// All stored gateways and tokens, as the changes that create them.
    pub directory: Vec<Change>,
    /// The TLS configuration; `None` if TLS is off.
    pub tls: Option<Arc<ServerConfig>>,
}

/// Everything that one core owns.
pub struct Engine<I: Io> {
    pub(super) id: ShardId,
    pub(super) hub: Arc<HubState>,
    pub(super) shard: Shard,
    pub(super) directory: Directory,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) links: Links<I::Socket>,
    /// Links to read, indexed by [`ESTABLISHED`] and [`HANDSHAKING`].
    readers: [VecDeque<LinkKey>; 2],
    pub(super) writers: VecDeque<LinkKey>,
    pub(super) pending: PendingRequests,
    pub(super) bodies: Bodies,
    timers: TimerWheel<LinkKey>,
    /// Links whose timer entry came out of the wheel and was not handled yet.
    due: VecDeque<LinkKey>,
    pub(super) acceptor: Acceptor,
    pub(super) drain: Option<Drain>,
    pub(super) lost: LostTime,
    pub(super) scratch: Scratch,
    /// One read buffer for all links, so that an idle connection holds none.
    pub(super) received: Vec<u8>,
    /// One list for all replies of the log.
    pub(super) log_replies: Vec<LogReply>,
}

/// What the caller of [`Engine::pass`] does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// Work remains: poll the sockets without waiting, then begin the next pass.
    More,
    /// No work before this time, if any; still begin a pass within [`super::WAKE_INTERVAL`].
    Until(Option<Instant>),
    /// The core has finished its drain.
    Ended,
}

const ESTABLISHED: usize = 0;
const HANDSHAKING: usize = 1;

impl<I: Io> Engine<I> {
    /// Creates a core without connections.
    pub fn new(now: Now, settings: EngineSettings) -> Self {
        let (mut directory, mut shard) = (Directory::default(), Shard::new(settings.shard));
        for change in settings.directory {
            directory.apply(change);
            shard.handle_change(now, change);
        }
        let bodies = Bodies::new(settings.hub.bodies_bytes, settings.hub.placement.shards());
        Self {
            id: settings.id,
            hub: settings.hub,
            shard,
            directory,
            tls: settings.tls,
            links: Links::default(),
            readers: Default::default(),
            writers: VecDeque::new(),
            pending: PendingRequests::default(),
            bodies,
            timers: TimerWheel::new(now.instant),
            due: VecDeque::new(),
            acceptor: Acceptor::default(),
            drain: None,
            lost: LostTime::new(now.instant),
            scratch: Scratch::default(),
            received: vec![0; limits::READ_BATCH_BYTES],
            log_replies: Vec::new(),
        }
    }

    /// Marks a link whose socket became ready and queues it; does no other work. Ignores the key of a removed link.
    pub fn handle_ready(&mut self, key: LinkKey, ready: Ready) {
        let Some(link) = self.links.get_mut(key) else { return };
        // Only a read reports the end of the stream or the error, so both count as readable.
        link.readable |= ready.readable || ready.ended || ready.broken;
        link.ended |= ready.ended || ready.broken;
        link.broken |= ready.broken;
        let was_writable = link.writable;
        link.writable |= ready.writable;
        if link.wants_visit() {
            self.wake_reader(key);
        }
        if ready.writable && !was_writable {
            self.wake_writer(key);
        }
    }

    /// Marks that a listener may have connections to accept.
    pub fn handle_acceptable(&mut self) {
        self.acceptor.handle_ready();
    }

    /// Works in rounds until there is no work or [`schedule::PASS_TIME`] is over.
    pub fn pass(&mut self, io: &mut I) -> Rest {
        let rest = self.rounds(io);
        self.hub.set_pressure(self.id, self.links.pressure());
        rest
    }

    fn rounds(&mut self, io: &mut I) -> Rest {
        let begun = self.read_clock(io);
        self.hub.beat(self.id);
        let mut now = begun;
        loop {
            let done = self.round(io, &mut now);
            if self.drain.as_ref().is_some_and(Drain::has_ended) {
                self.hub.stop_beating(self.id);
                return Rest::Ended;
            }
            if done == 0 {
                return self.rest(now);
            }
            // Checked between rounds only: under overload, too, every kind of work gets its share of each pass.
            now = self.read_clock(io);
            if now.instant.since(begun.instant) >= schedule::PASS_TIME {
                return Rest::More;
            }
        }
    }

    /// Reads the clock; leaves time in which the core did not run out of `attended`, the clock of the peers' deadlines.
    fn read_clock(&mut self, io: &mut I) -> Now {
        let mut now = io.now();
        if let Some(lost) = self.lost.observe(&mut now) {
            io.notice(now, Notice::TimeLost(lost));
            // Pings run on real time and the wheel on attended time: the next ping moves, so arm the link anew.
            for (key, link) in self.links.iter_mut() {
                link.session.handle_lost(lost);
                link.arm(key, &mut self.timers);
            }
        }
        now
    }

    /// Gives each kind of work its share; returns the number of visits that found work.
    fn round(&mut self, io: &mut I, now: &mut Now) -> usize {
        self.timers.advance(now.attended, &mut self.due);
        // Changes come before what peers sent, because a revocation must not wait. Reads come before the log and the writes,
        // so that the events of several publishes are appended together and leave in one record. Handshakes cost most and come last.
        self.share(io, now, schedule::TIMERS, Self::fire_timer)
            + self.share(io, now, schedule::CONTROL, |engine, io, now| engine.take(io, now, Lane::Control))
            + self.share(io, now, schedule::REPLIES, |engine, io, now| engine.take(io, now, Lane::Replies))
            + self.share(io, now, schedule::REQUESTS, |engine, io, now| engine.take(io, now, Lane::Requests))
            + self.share(io, now, schedule::READ, |engine, io, now| engine.read_next(io, now, ESTABLISHED))
            + self.share(io, now, schedule::SLICES, Self::slice_next)
            + self.share(io, now, schedule::LOG, Self::exchange_log)
            + self.share(io, now, schedule::WRITE, Self::write_next)
            + self.share(io, now, schedule::EFFECTS, Self::handle_shard_effect)
            + self.share(io, now, schedule::FAILURES, Self::report_failure)
            + self.share(io, now, schedule::ACCEPT, Self::accept)
            + self.share(io, now, schedule::HANDSHAKE, |engine, io, now| engine.read_next(io, now, HANDSHAKING))
    }

    fn share(
        &mut self,
        io: &mut I,
        now: &mut Now,
        share: Share,
        visit: impl Fn(&mut Self, &mut I, Now) -> Visit,
    ) -> usize {
        let until = now.instant + share.time;
        for visits in 0..share.visits {
            match visit(self, io, *now) {
                Visit::Idle => return visits,
                Visit::Small if (visits + 1) % schedule::VISITS_PER_CLOCK_READ != 0 => {}
                Visit::Small | Visit::Large => *now = self.read_clock(io),
            }
            if now.instant >= until {
                return visits + 1;
            }
        }
        share.visits
    }

    fn fire_timer(&mut self, io: &mut I, now: Now) -> Visit {
        let Some(key) = self.due.pop_front() else { return self.fire_deadlines(io, now) };
        let Some(link) = self.links.get_mut(key) else { return Visit::Small };
        if !link.alarm.ring(now.attended) {
            return Visit::Small;
        }
        match link.session.poll_timeout().filter(|at| *at <= now.attended) {
            Some(due) => {
                debug_assert!(due <= now.attended, "a deadline is not served early");
                self.hub.record_lateness(self.id, due, now.attended);
                self.with_session(io, now, key, |session, _| session.handle_timeout(now));
                self.follow_up(io, now, key);
            }
            // The deadline has moved since the entry was made.
            None => self.arm(key),
        }
        Visit::Small
    }

    /// Handles the deadlines of publishes, pending requests, the acceptor and the drain.
    fn fire_deadlines(&mut self, io: &mut I, now: Now) -> Visit {
        let answered = self.shard.handle_timeout(now, 1) > 0;
        let expired = self.pending.expire(now.instant);
        let fired = answered || expired.is_some();
        if let Some(complete) = expired {
            self.complete(io, now, complete);
        }
        self.acceptor.handle_timeout(now.instant);
        let drained = self.drain_next(io, now);
        if fired || drained { Visit::Small } else { Visit::Idle }
    }

    fn rest(&mut self, now: Now) -> Rest {
        debug_assert!(self.readers.iter().all(VecDeque::is_empty) && self.writers.is_empty(), "no work is left");
        debug_assert!(!self.shard.has_effect() && !self.shard.is_dirty(), "no work is left");
        debug_assert!(!self.shard.has_log_request(), "no work is left");
        let due = [
            self.timers.next_due().map(|due| due + self.lost.total()),
            self.shard.poll_timeout(),
            self.pending.poll_timeout(),
            self.acceptor.poll_timeout(),
            self.drain.as_ref().and_then(Drain::poll_timeout),
        ];
        let due = due.into_iter().flatten().min();
        self.lost.expect_wake(now.instant, due);
        Rest::Until(due)
    }

    fn read_next(&mut self, io: &mut I, now: Now, class: usize) -> Visit {
        let Some(key) = self.readers[class].pop_front() else { return Visit::Idle };
        self.read(io, now, key)
    }

    /// Number of links in their handshake that wait to be read.
    pub(super) fn handshakes_waiting(&self) -> usize {
        self.readers[HANDSHAKING].len()
    }

    /// Adds a connection and watches its socket; closes it and returns `None` if the socket cannot be watched.
    pub(super) fn insert(&mut self, io: &mut I, now: Now, link: Link<I::Socket>) -> Option<LinkKey> {
        let key = self.links.insert(link, now.instant);
        let link = self.links.get_mut(key)?;
        if !io.attach(&mut link.socket, key) {
            let link = self.links.remove(key)?;
            io.close(link.socket, Ending::Orderly);
            return None;
        }
        self.arm(key);
        Some(key)
    }

    /// Queues the link for a read, in the queue of its class, unless it is queued already.
    pub(super) fn wake_reader(&mut self, key: LinkKey) {
        if let Some(link) = self.links.get_mut(key).filter(|link| !link.reading) {
            link.reading = true;
            let class = if link.session.is_established() { ESTABLISHED } else { HANDSHAKING };
            self.readers[class].push_back(key);
        }
    }

    /// Queues the link for a write, unless it is queued already or its socket is full.
    pub(super) fn wake_writer(&mut self, key: LinkKey) {
        if let Some(link) = self.links.get_mut(key).filter(|link| link.writable && !link.writing) {
            link.writing = true;
            self.writers.push_back(key);
        }
    }

    /// Begins to close the link with this reason.
    pub(super) fn close_link(&mut self, io: &mut I, now: Now, key: LinkKey, reason: CloseReason) {
        if !self.refuse_joining(io, now, key, reason) {
            self.with_session(io, now, key, |session, _| session.close(now, reason));
        }
        self.follow_up(io, now, key);
    }

    /// Follows every call into the session: handles its effects, queues its output, finishes the visit.
    pub(super) fn follow_up(&mut self, io: &mut I, now: Now, key: LinkKey) {
        self.handle_effects(io, now, key);
        // Most reads lead to no output: a pong, or a publish whose answer comes later. Events are queued by the shard.
        if self.links.get(key).is_some_and(|link| link.session.wants_write()) {
            self.wake_writer(key);
        }
        self.finish_visit(io, now, key);
    }

    /// Ends every visit: removes a link that is over, else queues it if it has work and arms its timer. Any visit may
    /// move the session's deadline; arming costs nothing unless the new one is earlier than the link's timer entry.
    pub(super) fn finish_visit(&mut self, io: &mut I, now: Now, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        if !link.session.has_body()
            && let Some(reservation) = link.request.as_mut().and_then(|request| request.reservation.take())
        {
            self.bodies.release(reservation, key);
        }
        if link.session.is_over() && !link.session.has_effect() {
            return self.remove(io, now, key);
        }
        debug_assert!(link.member.is_none() || link.slot.is_some(), "a member of the shard holds a slot");
        if link.wants_visit() {
            self.wake_reader(key);
        }
        self.arm(key);
    }

    fn arm(&mut self, key: LinkKey) {
        if let Some(link) = self.links.get_mut(key) {
            link.arm(key, &mut self.timers);
        }
    }

    fn remove(&mut self, io: &mut I, now: Now, key: LinkKey) {
        // A gateway's session has left the shard by now with its own reason, unless its code panicked.
        self.leave(io, now, key, CloseReason::InternalError);
        if let Some(link) = self.links.remove(key) {
            debug_assert!(link.slot.is_none(), "leaving the shard frees the slot");
            io.close(link.socket, if link.session.is_aborted() { Ending::Abort } else { Ending::Orderly });
        }
    }

    /// Runs code that touches one session and nothing else, so that its panic ends only that connection.
    pub(super) fn with_session<T>(
        &mut self,
        io: &mut I,
        now: Now,
        key: LinkKey,
        what: impl FnOnce(&mut Session, &mut Scratch) -> T,
    ) -> Option<T> {
        let link = self.links.get_mut(key)?;
        let (session, scratch) = (&mut link.session, &mut self.scratch);
        let done = guarded(|| what(session, scratch));
        if done.is_none() {
            self.handle_panic(io, now, key);
        }
        done
    }

    /// Counts and reports a panic in the code of one connection.
    pub(super) fn report_panic(&mut self, io: &mut I, now: Now, key: LinkKey) {
        if let Some(link) = self.links.get(key) {
            self.hub.count_panic();
            io.notice(now, Notice::Panicked { address: link.session.peer() });
        }
    }

    /// Closes a connection whose code panicked; if closing panics as well, without a close frame.
    pub(super) fn handle_panic(&mut self, io: &mut I, now: Now, key: LinkKey) {
        self.report_panic(io, now, key);
        let Some(link) = self.links.get_mut(key) else { return };
        if guarded(|| link.session.close(now, CloseReason::InternalError)).is_none() {
            link.session.break_off();
        }
        self.wake_writer(key);
    }
}
