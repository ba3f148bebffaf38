//! What the cores and the peers of a world share: time, chance, sockets, lanes, the store, and who watches.

use super::{
    client::{Client, Reaction},
    lanes::{Lanes, Message, OUTSIDE},
    oracle::Oracle,
    rng::Rng,
    scenario::Scenario,
    socket::Socket,
    store::Store,
    trace::Trace,
};
use crate::{
    engine::{Lane, LinkKey, Ready},
    model::{Instant, Now, ShardId, Timestamp},
};
use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    net::SocketAddr,
    rc::Rc,
};

/// Something that happens at a moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Step {
    /// The peer has its turn; the first one connects it.
    Peer(usize),
    /// Bytes get across, or the socket takes bytes again.
    Move(usize),
    /// A core's loop goes on; a plan that was made later counts instead.
    Pass(usize, u64),
    /// The store has done its next job.
    Store,
    /// The wall clock jumps by so many milliseconds.
    Jump(i64),
    /// Descriptors run out, or are there again.
    Descriptors(bool),
    /// Whoever is still there leaves.
    LeaveAll,
    /// The statistics are asked for.
    Audit,
    /// The drain begins.
    Drain,
    /// A core does nothing any more.
    Die(usize),
    /// The watchdog notices.
    Stuck(usize),
}

/// One peer's connection: its socket, and what it makes of the hub's bytes.
pub(super) struct Conn {
    pub(super) socket: Socket,
    pub(super) client: Client,
    /// What the peer will react to once it has read so many bytes.
    pub(super) reactions: VecDeque<(u64, Reaction)>,
    /// Where the hub holds the socket.
    pub(super) owner: Option<(usize, LinkKey)>,
    pub(super) address: SocketAddr,
    /// Microseconds until the peer looks at what came, at most.
    pub(super) latency: u64,
    /// When it came to the hub's queue, and when the hub took it from there.
    pub(super) connected: Option<Instant>,
    pub(super) accepted: Option<Instant>,
    /// Flights of a TLS handshake that were read.
    pub(super) handshakes: u32,
    /// When its peer has its next turn.
    turn_at: Option<Instant>,
    moving: bool,
}

impl Conn {
    pub(super) fn new(socket: Socket, client: Client, address: SocketAddr, latency: u64) -> Self {
        Self {
            socket,
            client,
            reactions: VecDeque::new(),
            owner: None,
            address,
            latency,
            connected: None,
            accepted: None,
            handshakes: 0,
            moving: false,
            turn_at: None,
        }
    }
}

/// What the world knows about one core.
pub(super) struct Core {
    /// The core's own clock, in nanoseconds: it runs ahead of the world's while the core works.
    pub(super) clock: u64,
    /// Sockets that the next harvest reports.
    marked: VecDeque<usize>,
    pub(super) acceptable: bool,
    /// Whether the kernel still has a listener for it.
    pub(super) listening: bool,
    /// Connections that the kernel has for it.
    pub(super) waiting: VecDeque<usize>,
    pub(super) lanes: Lanes,
    plan: Option<(Instant, u64)>,
    pub(super) dead: bool,
    pub(super) ended: bool,
    /// When the core last looked at its control lane in this pass.
    pub(super) control_taken_at: Option<Instant>,
}

impl Core {
    /// The core's own time.
    pub(super) fn now(&self) -> Instant {
        Instant(self.clock / 1_000)
    }
}

/// All of it.
pub(super) struct Net {
    pub(super) now: Instant,
    /// What the wall clock has jumped by so far, in milliseconds.
    wall_offset: i64,
    pub(super) rng: Rng,
    pub(super) scenario: Scenario,
    pub(super) conns: Vec<Conn>,
    pub(super) cores: Vec<Core>,
    pub(super) store: Store,
    pub(super) oracle: Oracle,
    pub(super) trace: Trace,
    /// Since when there are none, or are some again.
    pub(super) descriptors: (bool, Instant),
    /// All cores stand still from the first moment to the second.
    pub(super) pause: Option<(Instant, Instant)>,
    /// Sockets that were dropped without being closed.
    pub(super) dropped: Rc<RefCell<Vec<usize>>>,
    heap: BinaryHeap<Reverse<(Instant, u64, Step)>>,
    serial: u64,
}

impl Net {
    pub(super) fn new(
        scenario: Scenario,
        rng: Rng,
        conns: Vec<Conn>,
        store: Store,
        oracle: Oracle,
        trace: Trace,
    ) -> Self {
        let count = usize::from(scenario.shards);
        let bounds = [scenario.control_max, scenario.replies_max, scenario.requests_max];
        let core = |_| Core {
            clock: START * 1_000,
            marked: VecDeque::new(),
            acceptable: false,
            listening: true,
            waiting: VecDeque::new(),
            lanes: Lanes::new(count, bounds, scenario.mesh_delay_max),
            plan: None,
            dead: false,
            ended: false,
            control_taken_at: None,
        };
        Self {
            now: Instant(START),
            wall_offset: 0,
            rng,
            cores: (0..count).map(core).collect(),
            scenario,
            conns,
            store,
            oracle,
            trace,
            descriptors: (true, Instant(START)),
            pause: None,
            dropped: Rc::default(),
            heap: BinaryHeap::new(),
            serial: 0,
        }
    }

    pub(super) fn schedule(&mut self, at: Instant, step: Step) {
        self.serial += 1;
        self.heap.push(Reverse((at.max(self.now), self.serial, step)));
    }

    /// Goes to the next moment at which something happens.
    pub(super) fn next(&mut self) -> Option<Step> {
        loop {
            let Reverse((at, _, step)) = self.heap.pop()?;
            self.now = at;
            match step {
                Step::Pass(core, serial) if self.cores[core].plan.is_none_or(|(_, planned)| planned != serial) => {}
                Step::Pass(core, _) => {
                    self.cores[core].plan = None;
                    return Some(step);
                }
                Step::Peer(conn) if self.conns[conn].turn_at != Some(at) => {}
                Step::Peer(conn) => {
                    self.conns[conn].turn_at = None;
                    return Some(step);
                }
                _ => return Some(step),
            }
        }
    }

    /// Both clocks at a moment.
    pub(super) fn clocks(&self, instant: Instant) -> Now {
        let wall = 1_700_000_000_000 + (instant.0 / 1_000) as i64 + self.wall_offset;
        Now::new(instant, Timestamp(wall))
    }

    pub(super) fn jump(&mut self, millis: i64) {
        self.wall_offset += millis;
        self.oracle.cover("wall clock jumped");
    }

    /// The core's loop goes on at `at`, or when it is planned if that is earlier.
    pub(super) fn wake(&mut self, core: usize, at: Instant) {
        let state = &self.cores[core];
        if state.dead || state.ended {
            return;
        }
        let mut at = at.max(state.now()).max(self.now);
        if let Some((from, until)) = self.pause
            && at >= from
        {
            at = at.max(until);
        }
        if state.plan.is_some_and(|(planned, _)| planned <= at) {
            return;
        }
        self.serial += 1;
        let serial = self.serial;
        self.cores[core].plan = Some((at, serial));
        self.heap.push(Reverse((at, serial, Step::Pass(core, serial))));
    }

    /// The socket may have something new for the hub.
    pub(super) fn mark(&mut self, conn: usize, at: Instant) {
        let Some((core, _)) = self.conns[conn].owner else { return };
        if !self.cores[core].marked.contains(&conn) {
            self.cores[core].marked.push_back(conn);
        }
        self.wake(core, at);
    }

    pub(super) fn unmark(&mut self, core: usize, conn: usize) {
        self.cores[core].marked.retain(|marked| *marked != conn);
    }

    /// What has become ready for a core, up to the bound of one look.
    pub(super) fn harvest(&mut self, core: usize) -> Vec<(LinkKey, Ready)> {
        let now = self.cores[core].now();
        let count = self.cores[core].marked.len().min(self.scenario.harvest_max);
        let marked: Vec<_> = self.cores[core].marked.drain(..count).collect();
        let ready = |conn: usize| {
            let Conn { owner, socket, .. } = &self.conns[conn];
            owner.map(|(_, key)| (key, socket.readiness(now)))
        };
        marked.into_iter().filter_map(ready).filter(|(_, ready)| *ready != Ready::default()).collect()
    }

    pub(super) fn has_marks(&self, core: usize) -> bool {
        !self.cores[core].marked.is_empty() || self.cores[core].acceptable
    }

    /// Sockets that the hub has.
    pub(super) fn open_sockets(&self) -> usize {
        self.conns.iter().filter(|conn| conn.accepted.is_some() && !conn.socket.hub_closed).count()
    }

    /// Sees to it that the bytes in the line's kernels go on moving.
    pub(super) fn keep_moving(&mut self, conn: usize, now: Instant) {
        if self.conns[conn].moving {
            return;
        }
        if let Some(at) = self.conns[conn].socket.next_move(now) {
            self.conns[conn].moving = true;
            self.schedule(at, Step::Move(conn));
        }
    }

    /// Bytes get across: the peer may read, and the hub may write.
    pub(super) fn handle_move(&mut self, conn: usize) {
        let now = self.now;
        let state = &mut self.conns[conn];
        state.moving = false;
        state.socket.advance(now);
        if state.socket.blocked_since.is_some() && state.socket.is_writable(now) {
            state.socket.blocked_since = None;
            state.socket.writable_since = Some(now);
            self.mark(conn, now);
        }
        if self.conns[conn].socket.arrived > 0 {
            self.wake_peer(conn, now);
        }
        self.keep_moving(conn, now);
    }

    /// The peer looks at its socket after a moment.
    pub(super) fn wake_peer(&mut self, conn: usize, now: Instant) {
        let latency = self.rng.below(self.conns[conn].latency + 1);
        self.schedule_turn(conn, Instant(now.0 + latency));
    }

    /// The peer has a turn at `at`, if not earlier: each turn finds out itself when the next one is due.
    pub(super) fn schedule_turn(&mut self, conn: usize, at: Instant) {
        let at = at.max(self.now);
        if self.conns[conn].turn_at.is_none_or(|planned| at < planned) {
            self.conns[conn].turn_at = Some(at);
            self.schedule(at, Step::Peer(conn));
        }
    }

    /// Bytes that a kernel took: the oracle looks at them at once, and the peer when it has read so far.
    pub(super) fn observe_sent(&mut self, now: Instant, conn: usize, bytes: &[u8]) {
        let mut seen = Vec::new();
        let state = &mut self.conns[conn];
        let answer = state.client.feed(bytes, &mut seen);
        let accepted = state.socket.accepted;
        if answer {
            state.reactions.push_back((accepted, Reaction::Handshake));
        }
        for item in seen {
            self.conns[conn].reactions.extend(item.reaction().map(|reaction| (accepted, reaction)));
            self.oracle.took(now, conn, &item, &mut self.trace);
        }
    }

    /// The hub lets a socket go: what was written still goes out.
    pub(super) fn close(&mut self, conn: usize, now: Instant) {
        let state = &mut self.conns[conn];
        if std::mem::replace(&mut state.socket.hub_closed, true) {
            return;
        }
        if let Some((core, _)) = state.owner.take() {
            self.unmark(core, conn);
        }
        self.oracle.closed(now, conn, &self.conns[conn].socket);
        self.trace.add(now, Some(conn), || "closed by the hub".to_owned());
        self.wake_peer(conn, now);
        self.keep_moving(conn, now);
    }

    /// Sends by a lane; wakes the core when it arrives.
    pub(super) fn post(
        &mut self,
        from: usize,
        to: ShardId,
        lane: Lane,
        message: Message,
        now: Instant,
    ) -> Result<(), Message> {
        let core = to.index();
        match self.cores[core].lanes.send(now, from, lane, message, &mut self.rng) {
            Ok(due) => {
                self.wake(core, due);
                Ok(())
            }
            Err(message) => {
                if self.cores[core].lanes.is_full(lane) {
                    self.oracle.cover("a lane is full");
                }
                Err(message)
            }
        }
    }

    /// Tells every core to drain.
    pub(super) fn tell_drain(&mut self) {
        let now = self.now;
        for core in 0..self.cores.len() {
            // A core that has ended needs to know nothing.
            let _ = self.post(OUTSIDE, ShardId(core as u16), Lane::Control, Message::Drain, now);
        }
    }
}

/// The beginning of simulated time; an hour, so that no deadline is near zero.
pub(super) const START: u64 = 3_600_000_000;
