//! Runs a scenario to its end: the cores of a hub and its peers, without sockets or real time.

use super::{
    behaviour::Profile,
    client::Client,
    io::SimIo,
    net::{Conn, Net, START, Step},
    opening::opening,
    oracle::{FIRST_PORT, Oracle, Violation},
    peer::Peer,
    requests::{ADMIN, Request},
    rng::Rng,
    scenario::{ANSWER_GRACE, Scenario},
    socket::Socket,
    store::Store,
    tls,
    trace::Trace,
};
use crate::{
    api::Phase,
    engine::{Engine, EngineSettings, HubSettings, HubState, Rest, WAKE_INTERVAL},
    limits,
    model::{Instant, KeyHash, ShardId},
    shard::Placement,
};
use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

/// A running world.
pub(super) struct World {
    pub(super) net: Rc<RefCell<Net>>,
    pub(super) hub: Arc<HubState>,
    engines: Vec<Option<Engine<SimIo>>>,
    pub(super) peers: Vec<Peer>,
    end: Instant,
    /// All peers have been told to leave, and none connects any more.
    all_leave: bool,
    /// The platform that requests the statistics after all other peers have left.
    auditor: usize,
}

/// The result of a run.
pub(super) struct Report {
    pub(super) violation: Option<Violation>,
    pub(super) trace: Trace,
    pub(super) joined: u64,
    pub(super) events_seen: u64,
    pub(super) steps: u64,
    pub(super) coverage: BTreeMap<&'static str, u64>,
    pub(super) lateness: BTreeMap<&'static str, Duration>,
    pub(super) counted: BTreeMap<&'static str, u64>,
}

impl World {
    /// The world of a seed.
    pub(super) fn of(seed: u64, traced: bool) -> Self {
        let (scenario, rng) = Scenario::of(seed);
        Self::new(scenario, rng, traced)
    }

    /// The world of a scenario, with one more peer, the auditor.
    pub(super) fn new(mut scenario: Scenario, mut rng: Rng, traced: bool) -> Self {
        let end = Instant(START) + scenario.active;
        let audit = scenario.active + scenario.leave_after + AUDIT;
        let mut auditor = Profile::platform(vec![(audit, Request::Get("/api/internal/v1/stats"))]);
        (auditor.arrives, auditor.leaves) = (audit, audit);
        scenario.profiles.push(auditor);
        let mut peers = Vec::new();
        let mut conns: Vec<Conn> = Vec::new();
        for (index, profile) in scenario.profiles.iter().enumerate() {
            let opening = opening(profile, &scenario, &mut rng);
            peers.push(Peer::new(index, profile.clone(), opening, Instant(START)));
            let tls = scenario.tls.then(|| tls::client(rng.chance(300)));
            let drawn = rng.below(scenario.addresses) as u8;
            let host = profile.host.unwrap_or(drawn);
            let address = SocketAddr::from(([10, 0, 0, host], FIRST_PORT + index as u16));
            conns.push(Conn::new(Socket::new(profile.conditions), Client::new(tls), address, profile.latency_max));
        }
        let store = Store::new(scenario.store, &scenario.roster);
        let directory = store.snapshot();
        let hub = Arc::new(HubState::new(hub_settings(&scenario)));
        hub.advance(Phase::Ready);
        let addresses = conns.iter().map(|conn| conn.address.ip()).collect();
        let oracle = Oracle::new(scenario.clone(), scenario.roster.clone(), addresses);
        let mut net = Net::new(scenario, rng, conns, store, oracle, Trace::new(traced));
        let engine = |core: u16| {
            let settings = EngineSettings {
                id: ShardId(core),
                hub: Arc::clone(&hub),
                shard: net.scenario.shard_settings(ShardId(core)),
                directory: directory.clone(),
                tls: net.scenario.tls.then(tls::server),
            };
            Some(Engine::new(net.clocks(Instant(START)), settings))
        };
        let engines = (0..net.scenario.shards).map(engine).collect();
        let auditor = peers.len() - 1;
        plan(&mut net, end);
        Self { net: Rc::new(RefCell::new(net)), hub, engines, peers, end, all_leave: false, auditor }
    }

    /// Runs until every core has ended, a rule is broken, or it takes too long.
    pub(super) fn run(mut self) -> Report {
        let mut steps = 0;
        loop {
            let step = {
                let mut net = self.net.borrow_mut();
                if net.oracle.violation.is_some() {
                    break;
                }
                let Some(step) = net.next() else { break };
                step
            };
            steps += 1;
            self.step(step);
            if self.engines.iter().all(Option::is_none) {
                break;
            }
            let now = self.net.borrow().now;
            if now > self.end + PATIENCE || steps > STEPS_MAX {
                let left: Vec<_> = self.engines.iter().flatten().map(Engine::leftovers).collect();
                let text = format!("{steps} steps, {left:?}");
                self.net.borrow_mut().oracle.fail("every connection and every core ends", None, text);
                break;
            }
        }
        if self.net.borrow().oracle.violation.is_none() {
            self.check_end();
        }
        self.report(steps)
    }

    fn report(self, steps: u64) -> Report {
        self.engines.into_iter().for_each(drop);
        let net = Rc::into_inner(self.net).expect("the engines, which shared it, are dropped").into_inner();
        let oracle = net.oracle;
        Report {
            violation: oracle.violation,
            trace: net.trace,
            joined: oracle.watched.iter().filter(|watched| watched.ack.is_some()).count() as u64,
            events_seen: oracle.seen_events,
            steps,
            coverage: oracle.coverage,
            lateness: oracle.lateness,
            counted: oracle.counted,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Peer(index) => self.turn_peer(index),
            Step::Move(conn) => self.net.borrow_mut().handle_move(conn),
            Step::Pass(core, _) => self.pass(core),
            Step::Store => self.net.borrow_mut().handle_store(),
            Step::Jump(millis) => self.net.borrow_mut().jump(millis),
            Step::Descriptors(there) => {
                let net = &mut *self.net.borrow_mut();
                net.descriptors = (there, net.now);
            }
            Step::LeaveAll => self.tell_all_to_leave(),
            Step::Audit => self.audit(),
            Step::Drain => self.drain(),
            Step::Die(core) => {
                let net = &mut *self.net.borrow_mut();
                net.cores[core].dead = true;
                net.oracle.dead = Some(net.now);
                net.trace.add(net.now, None, || format!("core {core} dies"));
                net.schedule(net.now + NOTICED, Step::Stuck(core));
            }
            Step::Stuck(core) => self.hub.set_stuck(Some(ShardId(core as u16))),
        }
    }

    /// One turn of a core's loop, as in `driver::core_loop`: harvest, pass, and when to run again.
    fn pass(&mut self, core: usize) {
        if self.net.borrow().cores[core].dead {
            return;
        }
        let Some(engine) = self.engines[core].as_mut() else { return };
        let ready = {
            let net = &mut *self.net.borrow_mut();
            let now = net.now;
            let state = &mut net.cores[core];
            state.clock = state.clock.max(now.0 * 1_000);
            state.control_taken_at = None;
            if std::mem::take(&mut state.acceptable) {
                engine.handle_acceptable();
            }
            net.harvest(core)
        };
        for (key, ready) in ready {
            engine.handle_ready(key, ready);
        }
        let mut io = SimIo { net: Rc::clone(&self.net), core };
        let rest = engine.pass(&mut io);
        self.check_memory(core);
        let ended = rest == Rest::Ended;
        if ended {
            self.engines[core] = None;
        }
        let waiting = self.net.borrow_mut().after_pass(core, rest);
        drop(waiting);
        // Messages to a core that has ended may hold sockets of a handoff; dropping them closes these.
        self.net.borrow_mut().close_dropped();
    }

    fn check_memory(&mut self, core: usize) {
        let Some(engine) = &self.engines[core] else { return };
        let net = &mut *self.net.borrow_mut();
        engine.inspect(|socket, held| net.oracle.check_memory(socket.conn(), &held));
        net.oracle.check_held(engine.held_event_bytes());
    }

    fn turn_peer(&mut self, index: usize) {
        let mut net = self.net.borrow_mut();
        let peer = &mut self.peers[index];
        if peer.is_new() {
            let is_late = peer.profile.follows.is_some() || (self.all_leave && index != self.auditor);
            if is_late || net.now < Instant(START) + peer.profile.arrives {
                return;
            }
            net.connect(index);
        }
        peer.turn(&mut net);
        let has_lost = peer.has_lost(&net);
        drop(net);
        if has_lost {
            self.replace(index);
        }
    }

    fn tell_all_to_leave(&mut self) {
        let net = &mut *self.net.borrow_mut();
        let now = net.now;
        self.all_leave = true;
        for (index, peer) in self.peers.iter_mut().enumerate().filter(|(index, _)| *index != self.auditor) {
            peer.leave_now(now);
            net.schedule_turn(index, now);
        }
    }

    /// All peers but the auditor have left: the engines must hold no state of them.
    fn audit(&mut self) {
        let net = &mut *self.net.borrow_mut();
        if net.oracle.drained.is_some() || net.scenario.death.is_some() {
            return;
        }
        net.oracle.audited = true;
        for engine in self.engines.iter().flatten() {
            let left = engine.leftovers();
            if !left.is_empty() {
                net.oracle.fail("no state is left at the end", None, format!("{left:?}"));
            }
        }
    }

    fn drain(&mut self) {
        let net = &mut *self.net.borrow_mut();
        if self.hub.advance(Phase::Draining) {
            net.oracle.drained = Some(net.now);
            net.trace.add(net.now, None, || "the hub drains".to_owned());
        }
        net.tell_drain();
    }

    fn check_end(&mut self) {
        let slots = self.hub.connections();
        let net = &mut *self.net.borrow_mut();
        let left: Vec<_> = self.engines.iter().flatten().map(Engine::leftovers).collect();
        let running =
            (0..self.engines.len()).filter(|core| !net.cores[*core].dead && self.engines[*core].is_some()).count();
        if net.scenario.death.is_none() && (slots > 0 || running > 0) {
            net.oracle.fail("no state is left at the end", None, format!("{slots} slots, {left:?}"));
        }
        net.oracle.check_end();
    }
}

impl Net {
    /// Schedules the core's next pass. If the core has ended, returns the messages that it did not take.
    fn after_pass(&mut self, core: usize, rest: Rest) -> Vec<super::lanes::Message> {
        self.close_dropped();
        self.send_settled();
        let now = self.cores[core].now();
        if let Some(control_taken_at) = self.cores[core].control_taken_at.take() {
            self.oracle.check_round(now, control_taken_at);
        }
        match rest {
            Rest::Ended => {
                self.cores[core].ended = true;
                self.trace.add(now, None, || format!("core {core} has ended"));
                return self.cores[core].lanes.close();
            }
            Rest::More => self.wake(core, now),
            Rest::Until(due) => {
                if self.has_marks(core) {
                    self.wake(core, now);
                }
                let arrivals = [self.cores[core].lanes.next_due(), self.cores[core].log.next_due()];
                let due = arrivals.into_iter().chain([due]).flatten().min();
                let latest = now + WAKE_INTERVAL;
                self.wake(core, due.map_or(latest, |due| due.min(latest)));
            }
        }
        Vec::new()
    }

    /// Closes sockets that were dropped, as the kernel does with a dropped descriptor.
    fn close_dropped(&mut self) {
        let dropped = std::mem::take(&mut *self.dropped.borrow_mut());
        for conn in dropped {
            let now = self.now;
            self.close(conn, now);
        }
    }

    /// A peer connects: one of the open listeners gets the connection.
    fn connect(&mut self, conn: usize) {
        let now = self.now;
        let listening: Vec<_> = (0..self.cores.len()).filter(|core| self.cores[*core].listening).collect();
        self.conns[conn].connected = Some(now);
        if listening.is_empty() {
            self.conns[conn].socket.reset = Some(now);
            self.oracle.watched[conn].requested_at = None;
            return self.close(conn, now);
        }
        let drawn = self.rng.pick(&listening);
        let core = self.scenario.profiles[conn].core.unwrap_or(drawn);
        self.trace.add(now, Some(conn), || format!("connects to core {core}: {:?}", self.scenario.profiles[conn]));
        self.cores[core].waiting.push_back(conn);
        self.cores[core].acceptable = true;
        self.wake(core, now);
    }
}

fn hub_settings(scenario: &Scenario) -> HubSettings {
    HubSettings {
        session: scenario.session.clone(),
        placement: Placement::new(scenario.shards, scenario.seed),
        connections_max: scenario.connections_max,
        admin_token: KeyHash::of(ADMIN.as_bytes()),
        answer_timeout: scenario.publish_timeout + ANSWER_GRACE,
        drain_window: scenario.drain_window,
        degraded: Arc::default(),
        log: Arc::default(),
        bodies_bytes: (limits::PLATFORM_BODIES_BYTES_MAX, limits::GATEWAYS_BODIES_BYTES_MAX),
    }
}

/// Schedules the steps that the scenario fixes in advance.
fn plan(net: &mut Net, end: Instant) {
    let start = Instant(START);
    for index in 0..net.scenario.profiles.len() {
        if net.scenario.profiles[index].follows.is_none() {
            let arrives = net.scenario.profiles[index].arrives;
            net.schedule_turn(index, start + arrives);
        }
    }
    for (at, millis) in net.scenario.jumps.clone() {
        net.schedule(start + at, Step::Jump(millis));
    }
    if let Some((from, until)) = net.scenario.descriptors {
        net.schedule(start + from, Step::Descriptors(false));
        net.schedule(start + until, Step::Descriptors(true));
    }
    if let Some(at) = net.scenario.drain {
        net.schedule(start + at, Step::Drain);
    }
    if let Some((core, at)) = net.scenario.death {
        net.schedule(start + at, Step::Die(core));
    }
    net.pause = net.scenario.pause.map(|(from, until)| (start + from, start + until));
    let call = end + net.scenario.leave_after;
    net.schedule(call, Step::LeaveAll);
    net.schedule(call + AUDIT, Step::Audit);
    // Connections that are still there, such as the auditor's, are closed by the last drain.
    net.schedule(call + AUDIT + Duration::from_secs(5), Step::Drain);
    for core in 0..net.cores.len() {
        net.wake(core, start);
    }
}

/// How long after all peers left the audit comes: heartbeat and close deadlines have then closed what remained.
const AUDIT: Duration = Duration::from_secs(45);
/// A world must have ended this long after its active time.
const PATIENCE: Duration = Duration::from_secs(300);
/// A world with more steps than this is in an endless loop.
const STEPS_MAX: u64 = 300_000;

/// Bound of a session's buffers in bytes: one write, and the pongs to one batch of pings.
pub(super) const SESSION_BYTES_MAX: usize = 4 * limits::READ_BATCH_BYTES;

/// The driver's watchdog reports a core as stuck this long after its last turn, at the latest.
const NOTICED: Duration = Duration::from_millis(1_200);
