//! The state that cores and peers of a world share: time, randomness, sockets, lanes, the store, the oracle and the
//! trace.

use super::{
    client::{Client, Reaction},
    lanes::{Lanes, Message, OUTSIDE},
    log::ModelLog,
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
    store::log::{EventLog, MemoryLog, MemorySettings, Waker},
};
use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    net::SocketAddr,
    rc::Rc,
};

/// Something that is scheduled to happen at a moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Step {
    /// A peer has its turn: it reads, reacts and sends. The first turn connects it.
    Peer(usize),
    /// Bytes of a connection reach the peer's kernel, or its socket becomes writable.
    Move(usize),
    /// A core's loop runs; ignored if its number is not that of the core's latest plan.
    Pass(usize, u64),
    /// The store completes its next job.
    Store,
    /// The wall clock jumps by this many milliseconds.
    Jump(i64),
    /// Descriptors run out (`false`), or are available again.
    Descriptors(bool),
    /// Every peer that is still connected leaves.
    LeaveAll,
    /// The auditor requests the statistics; the hub must have no other connections.
    Audit,
    /// The drain begins.
    Drain,
    /// A core stops running.
    Die(usize),
    /// The watchdog reports that a core is stuck.
    Stuck(usize),
}

/// One peer's connection: its socket and its protocol stack. Connection and peer have the same index.
pub(super) struct Conn {
    pub(super) socket: Socket,
    pub(super) client: Client,
    /// The peer's reactions, each due once it has read this many bytes of the hub's stream.
    pub(super) reactions: VecDeque<(u64, Reaction)>,
    /// The core that holds the socket, and its key there; `None` before `attach` and in a handoff.
    pub(super) owner: Option<(usize, LinkKey)>,
    pub(super) address: SocketAddr,
    /// Longest time in microseconds until the peer reacts to received bytes.
    pub(super) latency: u64,
    /// When it was in the listener's queue, and when the hub accepted it.
    pub(super) connected: Option<Instant>,
    pub(super) accepted: Option<Instant>,
    /// Reads that were charged as flights of the TLS handshake.
    pub(super) handshakes: u32,
    /// When its peer has its next turn; a scheduled turn at another time is ignored.
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

/// The world's state of one core.
pub(super) struct Core {
    /// The core's own clock, in nanoseconds: it runs ahead of the world's while the core works.
    pub(super) clock: u64,
    /// Connections whose sockets the next harvest reports.
    marked: VecDeque<usize>,
    pub(super) acceptable: bool,
    /// Whether its listener is open.
    pub(super) listening: bool,
    /// Connections in its listener's queue.
    pub(super) waiting: VecDeque<usize>,
    pub(super) lanes: Lanes,
    pub(super) log: ModelLog,
    plan: Option<(Instant, u64)>,
    pub(super) dead: bool,
    pub(super) ended: bool,
    /// When the core last took from its control lane in this pass.
    pub(super) control_taken_at: Option<Instant>,
}

impl Core {
    /// The core's own time.
    pub(super) fn now(&self) -> Instant {
        Instant(self.clock / 1_000)
    }
}

pub(super) struct Net {
    pub(super) now: Instant,
    /// The sum of the wall clock's jumps, in milliseconds.
    wall_offset: i64,
    pub(super) rng: Rng,
    pub(super) scenario: Scenario,
    pub(super) conns: Vec<Conn>,
    pub(super) cores: Vec<Core>,
    pub(super) store: Store,
    pub(super) oracle: Oracle,
    pub(super) trace: Trace,
    /// Whether the process has descriptors, and since when.
    pub(super) descriptors: (bool, Instant),
    /// All cores stand still from the first moment to the second.
    pub(super) pause: Option<(Instant, Instant)>,
    /// Connections whose sockets were dropped without a call of `close`.
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
        let mut log = MemoryLog::new(MemorySettings {
            epoch: scenario.seed,
            gateway_bytes_max: scenario.log_gateway_bytes_max,
            port_bytes_max: scenario.log_gateway_bytes_max * 4,
        });
        let mut log = log.ports((0..count).map(|_| Box::new(|| {}) as Waker).collect()).into_iter();
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
            log: ModelLog::new(log.next().expect("the log has a port for each core"), scenario.log),
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

    /// Advances the time to the next step and returns it; `None` if nothing is scheduled.
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

    /// The monotonic and the wall clock at a moment.
    pub(super) fn clocks(&self, instant: Instant) -> Now {
        let wall = 1_700_000_000_000 + (instant.0 / 1_000) as i64 + self.wall_offset;
        Now::new(instant, Timestamp(wall))
    }

    pub(super) fn jump(&mut self, millis: i64) {
        self.wall_offset += millis;
        self.oracle.cover("wall clock jumped");
    }

    /// Runs the core's loop at `at`, unless it is planned for earlier. Not before the core's own clock, and not inside
    /// a pause.
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

    /// Marks a socket as possibly ready, and wakes its core.
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

    /// Takes what is ready for a core, at most `harvest_max` sockets, as `epoll_wait` does.
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

    /// How many accepted sockets the hub holds.
    pub(super) fn open_sockets(&self) -> usize {
        self.conns.iter().filter(|conn| conn.accepted.is_some() && !conn.socket.hub_closed).count()
    }

    /// Schedules the next move of a connection's bytes, unless one is scheduled.
    pub(super) fn keep_moving(&mut self, conn: usize, now: Instant) {
        if self.conns[conn].moving {
            return;
        }
        if let Some(at) = self.conns[conn].socket.next_move(now) {
            self.conns[conn].moving = true;
            self.schedule(at, Step::Move(conn));
        }
    }

    /// Moves bytes to the peer's kernel; the peer may then read, and the hub may write.
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

    /// Gives the peer a turn after its latency.
    pub(super) fn wake_peer(&mut self, conn: usize, now: Instant) {
        let latency = self.rng.below(self.conns[conn].latency + 1);
        self.schedule_turn(conn, Instant(now.0 + latency));
    }

    /// Gives the peer a turn at `at`, unless it has one earlier: each turn schedules the next one itself.
    pub(super) fn schedule_turn(&mut self, conn: usize, at: Instant) {
        let at = at.max(self.now);
        if self.conns[conn].turn_at.is_none_or(|planned| at < planned) {
            self.conns[conn].turn_at = Some(at);
            self.schedule(at, Step::Peer(conn));
        }
    }

    /// Decodes bytes that the kernel took: the oracle checks them at once, the peer reacts when it has read so far.
    pub(super) fn observe_sent(&mut self, now: Instant, conn: usize, bytes: &[u8]) {
        let mut seen = Vec::new();
        let state = &mut self.conns[conn];
        let answer = state.client.feed(bytes, &mut seen);
        let accepted = state.socket.accepted;
        if answer {
            state.reactions.push_back((accepted, Reaction::Handshake));
        }
        for item in seen {
            self.oracle.took(now, conn, &item, &mut self.trace);
            let event = self.oracle.watched[conn].proving.last_event.take();
            self.conns[conn].reactions.extend(item.reaction(event).map(|reaction| (accepted, reaction)));
        }
    }

    /// The hub closes a socket; the kernel still sends what was written.
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

    /// Sends a message and wakes the core when it arrives.
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
            // Fails only for a core that has ended.
            let _ = self.post(OUTSIDE, ShardId(core as u16), Lane::Control, Message::Drain, now);
        }
    }
}

/// Start of simulated time in microseconds: an hour, so that subtracting a duration never reaches zero.
pub(super) const START: u64 = 3_600_000_000;
