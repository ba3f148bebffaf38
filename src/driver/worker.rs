//! One core: its shard, its connections, and the turn in which everything that is due is done.

use super::{
    asks::Asks,
    clock, drain,
    flush::Flushed,
    link::{Link, LinkKey, NEVER},
    listener,
    mesh::{Address, Answered, Control, Inbox, Request},
    pump,
    quiet::Quiet,
    shared::Shared,
    socket,
    wheel::{TICK, Wheel},
};
use crate::{
    api::Answer,
    limits,
    model::{Change, CloseReason, Instant, Now, ShardId},
    session::{Effect, End, Role, Scratch, Session, message::Message},
    shard::{self, ConnectionKey, Directory, RequestKey, Shard},
};
use flume::Receiver;
use glommio::net::TcpStream;
use rustls::ServerConfig;
use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// What a worker is started with.
pub(crate) struct Seat {
    pub(crate) id: ShardId,
    pub(crate) shard: shard::Settings,
    pub(crate) shared: Arc<Shared>,
    pub(crate) peers: Vec<Address>,
    pub(crate) inbox: Inbox,
    pub(crate) directory: Vec<Change>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) listening: Vec<(OwnedFd, Role)>,
}

/// One core's everything.
pub(super) struct Worker {
    pub(super) id: ShardId,
    pub(super) shared: Arc<Shared>,
    pub(super) peers: Vec<Address>,
    pub(super) shard: RefCell<Shard>,
    pub(super) directory: RefCell<Directory>,
    pub(super) asks: RefCell<Asks>,
    pub(super) tls: RefCell<Option<Arc<ServerConfig>>>,
    pub(super) listening: Vec<OwnedFd>,
    pub(super) scratch: RefCell<Scratch>,
    /// What the last read brought; every connection of the core reads into it.
    pub(super) received: RefCell<Vec<u8>>,
    pub(super) quiet: RefCell<Quiet>,
    pub(super) stopping: Cell<bool>,
    pub(super) stopped: Cell<bool>,
    links: RefCell<Slab<Rc<Link>>>,
    /// Gateways' connections, by their place in the shard.
    members: RefCell<Vec<Option<Rc<Link>>>>,
    agenda: RefCell<VecDeque<Rc<Link>>>,
    wheel: RefCell<Wheel<LinkKey>>,
    serial: Cell<u32>,
    /// Commands of other cores, by the key that the shard knows them by.
    remote: RefCell<Slab<(ShardId, RequestKey)>>,
    /// Wakes the task that goes on with a long agenda.
    more: flume::Sender<()>,
    draining: Cell<bool>,
}

/// Runs a worker to its end, on its executor.
pub(crate) async fn run(seat: Seat, ready: flume::Sender<ShardId>) {
    let (more, more_in) = flume::bounded(1);
    let now = clock::now();
    let mut directory = Directory::default();
    seat.directory.into_iter().for_each(|change| directory.apply(change));
    let (listening, roles): (Vec<_>, Vec<_>) = seat.listening.into_iter().unzip();
    let worker = Rc::new(Worker {
        id: seat.id,
        shared: seat.shared,
        peers: seat.peers,
        shard: RefCell::new(Shard::new(seat.shard)),
        directory: RefCell::new(directory),
        asks: RefCell::default(),
        tls: RefCell::new(seat.tls),
        listening,
        scratch: RefCell::default(),
        received: RefCell::new(vec![0; limits::READ_BATCH_BYTES]),
        quiet: RefCell::default(),
        stopping: Cell::new(false),
        stopped: Cell::new(false),
        links: RefCell::default(),
        members: RefCell::default(),
        agenda: RefCell::default(),
        wheel: RefCell::new(Wheel::new(now.instant)),
        serial: Cell::new(0),
        remote: RefCell::default(),
        more,
        draining: Cell::new(false),
    });
    for (socket, role) in worker.listening.iter().zip(roles) {
        match socket.try_clone() {
            Ok(socket) => {
                let accepting = listener::accept(Rc::clone(&worker), socket::listener(socket), role);
                glommio::spawn_local(accepting).detach();
            }
            Err(error) => tracing::error!(%error, "cannot listen"),
        }
    }
    glommio::spawn_local(requests(Rc::clone(&worker), seat.inbox.requests)).detach();
    glommio::spawn_local(replies(Rc::clone(&worker), seat.inbox.replies)).detach();
    glommio::spawn_local(control(Rc::clone(&worker), seat.inbox.control)).detach();
    glommio::spawn_local(agenda(Rc::clone(&worker), more_in)).detach();
    glommio::spawn_local(ticks(Rc::clone(&worker))).detach();
    let _ = ready.send(worker.id);
    // The second heartbeat of the executor: with two timers of different periods one of them always bounds a lost wake-up.
    while !worker.stopped.get() {
        glommio::timer::sleep(Duration::from_millis(70)).await;
    }
}

impl Worker {
    /// Takes a connection in and starts its pump.
    pub(super) fn adopt(self: &Rc<Self>, session: Session, stream: TcpStream, accepted: Now) -> Rc<Link> {
        let serial = self.serial.get().wrapping_add(1);
        self.serial.set(serial);
        let link = {
            let mut links = self.links.borrow_mut();
            let entry = links.vacant_entry();
            let index = u32::try_from(entry.key()).expect("descriptors are bounded far below 2^32");
            let link = Rc::new(Link::new(LinkKey { index, serial }, session, stream, accepted));
            entry.insert(Rc::clone(&link));
            link
        };
        self.arm(&link);
        glommio::spawn_local_into(
            pump::run(Rc::clone(self), Rc::clone(&link)),
            glommio::executor().current_task_queue(),
        )
        .map(|task| drop(task.detach()))
        .unwrap_or_else(|error| tracing::error!(%error, "cannot start a connection's task"));
        link
    }

    /// The connection's pump has ended.
    pub(super) fn forget(&self, link: &Link) {
        self.leave(link, CloseReason::GatewayGone);
        if let Some(stream) = link.stream.borrow_mut().take() {
            socket::shutdown(&stream);
        }
        let mut links = self.links.borrow_mut();
        if links.get(link.key.index as usize).is_some_and(|known| known.key == link.key) {
            links.remove(link.key.index as usize);
        }
    }

    /// The shard knows the connection by this key.
    pub(super) fn remember(&self, key: ConnectionKey, link: &Rc<Link>) {
        let mut members = self.members.borrow_mut();
        let index = key.index as usize;
        if members.len() <= index {
            members.resize(index + 1, None);
        }
        members[index] = Some(Rc::clone(link));
    }

    /// Gateways' connections.
    pub(super) fn members(&self) -> Vec<Rc<Link>> {
        self.members.borrow().iter().flatten().cloned().collect()
    }

    /// Whether there is a gateway's connection.
    pub(super) fn has_members(&self) -> bool {
        self.members.borrow().iter().any(Option::is_some)
    }

    /// All connections.
    pub(super) fn all(&self) -> Vec<Rc<Link>> {
        self.links.borrow().iter().map(|(_, link)| Rc::clone(link)).collect()
    }

    /// Connections that are not gateways': handshakes and HTTP.
    pub(super) fn transients(&self) -> usize {
        self.links.borrow().len().saturating_sub(self.shard.borrow().connections().size_hint().0)
    }

    /// Puts the connection on the agenda.
    pub(super) fn enqueue(&self, link: &Rc<Link>) {
        if !link.queued.replace(true) {
            self.agenda.borrow_mut().push_back(Rc::clone(link));
        }
    }

    /// Does what is on the agenda, up to a batch; the rest is gone on with after I/O had its turn.
    pub(super) fn turn(&self) {
        for _ in 0..limits::FLUSH_BATCH {
            self.carry_out_shard();
            let Some(link) = self.next() else { return };
            link.queued.set(false);
            self.guard(&link, |worker| worker.serve(&link));
        }
        self.carry_out_shard();
        // Full means that the task has been told already.
        let _ = self.more.try_send(());
    }

    fn next(&self) -> Option<Rc<Link>> {
        if let Some(link) = self.agenda.borrow_mut().pop_front() {
            return Some(link);
        }
        loop {
            let key = self.shard.borrow_mut().poll_dirty()?;
            let members = self.members.borrow();
            let link = members.get(key.index as usize).and_then(Option::as_ref);
            if let Some(link) = link.filter(|link| link.member.get() == Some(key)) {
                return Some(Rc::clone(link));
            }
        }
    }

    /// Runs something for one connection; its panic ends that connection and no other.
    pub(super) fn guard(&self, link: &Rc<Link>, what: impl Fn(&Self)) {
        if catch_unwind(AssertUnwindSafe(|| what(self))).is_ok() {
            return;
        }
        self.shared.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(address = %link.session.borrow().peer(), "a connection's code panicked; the connection ends");
        let closing = catch_unwind(AssertUnwindSafe(|| {
            link.session.borrow_mut().close(clock::now(), CloseReason::InternalError);
            self.flush(link);
        }));
        if closing.is_err() {
            link.session.borrow_mut().depart();
        }
    }

    /// Feeds the session what was read.
    pub(super) fn receive(&self, link: &Link, bytes: usize) {
        let mut received = self.received.borrow_mut();
        let mut scratch = self.scratch.borrow_mut();
        link.session.borrow_mut().handle_received(clock::now(), &mut received[..bytes], &mut scratch);
    }

    /// Carries out what the session asks for, and writes what it has to say.
    fn serve(&self, link: &Rc<Link>) {
        loop {
            self.carry_out_session(link);
            let flushed = self.flush(link);
            let effect = link.session.borrow().has_effect();
            if !effect {
                if flushed == Flushed::More {
                    self.enqueue(link);
                }
                break;
            }
        }
        self.arm(link);
        link.nudge();
    }

    fn carry_out_session(&self, link: &Rc<Link>) {
        loop {
            // A statement of its own: the borrow must not last while the effect is carried out.
            let effect = link.session.borrow_mut().poll_effect();
            let Some(effect) = effect else { return };
            self.carry_out(link, effect);
        }
    }

    fn carry_out(&self, link: &Rc<Link>, effect: Effect) {
        let now = clock::now();
        let member = link.member.get();
        match effect {
            Effect::Preflight => self.preflight(link),
            Effect::Call => self.call(link),
            Effect::Admit(key) => self.admit(link, key),
            Effect::Life(round_trip) => {
                if let Some(key) = member {
                    self.shard.borrow_mut().handle_life(now, key, round_trip);
                }
            }
            Effect::Message(text) => self.handle_message(link, &text),
            Effect::Ignored => tracing::debug!(address = %link.session.borrow().peer(), "message ignored"),
            Effect::Closing(reason) => {
                if let Some(key) = member {
                    self.shard.borrow_mut().handle_closing(now, key, reason);
                }
            }
            Effect::Probe => {
                let reachable = link.stream.borrow().as_ref().is_some_and(socket::is_acknowledged);
                if let Some(key) = member.filter(|_| reachable) {
                    self.shard.borrow_mut().handle_stale(key);
                }
                link.session.borrow_mut().handle_peer_state(now, reachable);
            }
            Effect::ShutdownWrite => {
                if let Some(stream) = link.stream.borrow().as_ref() {
                    socket::shutdown_write(stream);
                }
            }
            Effect::Over(end) => self.handle_over(link, end),
        }
    }

    fn handle_message(&self, link: &Link, text: &[u8]) {
        let Some(key) = link.member.get() else { return };
        let shard = self.shard.borrow();
        let Some(connection) = shard.connection(key) else { return };
        let (gateway, id) = (connection.gateway, connection.id);
        match Message::parse(text) {
            Message::DeploymentAck(ack) => {
                let text = |field: &Option<String>| field.clone().unwrap_or_default();
                tracing::info!(%gateway, connection = %id, deployment = text(&ack.deployment_id), artifact = text(&ack.artifact_id),
                    action = text(&ack.action), status = text(&ack.status), error = text(&ack.error_code), "deployment acknowledged");
            }
            Message::Unknown => tracing::debug!(%gateway, connection = %id, "message of an unknown type ignored"),
            Message::Malformed => {
                drop(shard);
                self.shard.borrow_mut().handle_malformed(key);
                let address = link.session.borrow().peer().ip();
                if let Some(left_out) =
                    self.quiet.borrow_mut().allow(clock::now().instant, address, "malformed message")
                {
                    tracing::warn!(%gateway, connection = %id, left_out, "message is not JSON with a type; ignored");
                }
            }
        }
    }

    fn handle_over(&self, link: &Link, end: End) {
        match end {
            End::Closed(reason) => self.leave(link, reason),
            End::Tls(error) => {
                tracing::debug!(address = %link.session.borrow().peer(), error, "TLS failed");
            }
            End::Gone | End::Answered | End::BadRequest(_) | End::Refused(_) | End::TimedOut | End::Stalled => {}
        }
    }

    /// Takes the connection out of the shard; what it did not get has failed.
    fn leave(&self, link: &Link, reason: CloseReason) {
        let Some(key) = link.member.take() else { return };
        let now = clock::now();
        let left = self.shard.borrow_mut().handle_leave(now, key, reason);
        if let Some(place) = self.members.borrow_mut().get_mut(key.index as usize) {
            *place = None;
        }
        link.slot.borrow_mut().take();
        if let Some(connection) = left {
            let seconds = now.instant.since(connection.connected).as_secs_f64();
            tracing::info!(gateway = %connection.gateway, connection = %connection.id, address = %connection.address,
                reason = reason.label(), seconds, "gateway disconnected");
        }
    }

    /// Carries out what the shard asks for.
    fn carry_out_shard(&self) {
        loop {
            let effect = self.shard.borrow_mut().poll_effect();
            match effect {
                None => return,
                Some(shard::Effect::Reply(request, reply)) => self.route(request, reply),
                Some(shard::Effect::Close(key, reason)) => {
                    let link = self.members.borrow().get(key.index as usize).cloned().flatten();
                    if let Some(link) = link.filter(|link| link.member.get() == Some(key)) {
                        link.session.borrow_mut().close(clock::now(), reason);
                        self.enqueue(&link);
                    }
                }
                Some(shard::Effect::Failed(failure)) => {
                    let connection = failure.connection.map(|id| id.to_string()).unwrap_or_default();
                    tracing::error!(gateway = %failure.gateway, connection, kind = %failure.kind,
                        correlation = %failure.correlation, reason = failure.reason, "delivery failed");
                }
            }
        }
    }

    /// The key by which the shard knows a question of this core.
    pub(super) fn local(&self, key: RequestKey) -> RequestKey {
        self.remote.borrow_mut().insert((self.id, key)) as RequestKey
    }

    /// Brings the shard's reply to whoever asked.
    fn route(&self, request: RequestKey, reply: shard::Reply) {
        let Some((from, key)) = self.remote.borrow_mut().try_remove(request as usize) else { return };
        if from == self.id {
            self.handle_answer(key, Answer::Shard(reply));
        } else if self.peers[from.index()].replies.try_send(Answered::Shard(key, reply)).is_err() {
            tracing::error!(from = %self.id, to = %from, "a reply found no room");
        }
    }

    /// Makes sure that the wheel brings the connection up when it wants to be looked at.
    fn arm(&self, link: &Link) {
        let Some(at) = link.session.borrow().poll_timeout() else { return };
        if at < link.armed.get() {
            link.armed.set(at);
            self.wheel.borrow_mut().insert(at, link.key);
        }
    }

    fn tick(&self) {
        let now = clock::now();
        self.shared.beat(self.id);
        let mut due = Vec::new();
        self.wheel.borrow_mut().advance(now.instant, &mut due);
        for key in due {
            let link = self.links.borrow().get(key.index as usize).filter(|link| link.key == key).cloned();
            if let Some(link) = link {
                self.handle_due(&link, now);
            }
        }
        self.shard.borrow_mut().handle_timeout(now);
        loop {
            let expired = self.asks.borrow_mut().expire(now.instant);
            let Some(expired) = expired else { break };
            self.complete(expired);
        }
        self.turn();
    }

    fn handle_due(&self, link: &Rc<Link>, now: Now) {
        link.armed.set(NEVER);
        let due = link.session.borrow().poll_timeout().is_some_and(|at| at <= now.instant);
        if due {
            link.session.borrow_mut().handle_timeout(now);
            self.enqueue(link);
        } else {
            self.arm(link);
        }
    }
}

/// Requests of other cores.
async fn requests(worker: Rc<Worker>, inbox: Receiver<Request>) {
    while let Ok(first) = inbox.recv_async().await {
        for request in std::iter::once(first).chain(inbox.try_iter().take(INBOX_BATCH)) {
            match request {
                Request::Command { from, key, command } => {
                    let request = worker.remote.borrow_mut().insert((from, key)) as RequestKey;
                    worker.shard.borrow_mut().handle_command(clock::now(), request, command);
                }
                Request::Handoff(handoff) => worker.handle_handoff(*handoff),
            }
        }
        worker.turn();
    }
}

/// Answers to this core's questions.
async fn replies(worker: Rc<Worker>, inbox: Receiver<Answered>) {
    while let Ok(first) = inbox.recv_async().await {
        for answered in std::iter::once(first).chain(inbox.try_iter().take(INBOX_BATCH)) {
            match answered {
                Answered::Shard(key, reply) => worker.handle_answer(key, Answer::Shard(reply)),
                Answered::Store(key, outcome) => worker.handle_answer(key, Answer::Store(outcome)),
            }
        }
        worker.turn();
    }
}

/// What the store and the server say.
async fn control(worker: Rc<Worker>, inbox: Receiver<Control>) {
    while let Ok(control) = inbox.recv_async().await {
        match control {
            Control::Change(change, settled) => {
                worker.directory.borrow_mut().apply(change);
                worker.shard.borrow_mut().handle_change(change);
                drop(settled);
            }
            Control::Tls(config) => *worker.tls.borrow_mut() = Some(config),
            Control::Drain if !worker.draining.replace(true) => {
                glommio::spawn_local(drain::run(Rc::clone(&worker))).detach();
            }
            Control::Drain => {}
        }
        worker.turn();
    }
}

/// Goes on with a long agenda, a batch at a time.
async fn agenda(worker: Rc<Worker>, more: Receiver<()>) {
    while more.recv_async().await.is_ok() {
        // The one way on this runtime that lets I/O in between.
        glommio::timer::sleep(Duration::from_micros(1)).await;
        worker.turn();
    }
}

/// Time passes.
async fn ticks(worker: Rc<Worker>) {
    let mut next = clock::now().instant;
    while !worker.stopped.get() {
        worker.tick();
        next = (next + Duration::from_micros(TICK)).max(Instant(clock::now().instant.0.saturating_sub(TICK)));
        glommio::timer::sleep(next.since(clock::now().instant).max(Duration::from_millis(1))).await;
    }
}

const INBOX_BATCH: usize = 256;
