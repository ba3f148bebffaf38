//! The engine's `Io` in a simulated world: each call advances the core's clock, and takes effect at the new time.

use super::{
    lanes::Message,
    net::{Net, Step},
    store::{Job, Receipt},
};
use crate::{
    engine::{Accepted, Ending, Incoming, Io, Lane, LinkKey, Notice, PeerState, Received, Request, Sent},
    model::{
        Instant, Now, ShardId, StoreOp,
        log::{Busy, LogReply, LogRequest},
    },
    shard::{Reply, RequestKey},
};
use std::{cell::RefCell, io, rc::Rc};

/// One core's access to the world.
pub(super) struct SimIo {
    pub(super) net: Rc<RefCell<Net>>,
    pub(super) core: usize,
}

/// A socket that a core holds, or that is in a handoff between two cores.
pub(super) struct SimSocket {
    conn: usize,
    dropped: Option<Rc<RefCell<Vec<usize>>>>,
}

impl SimSocket {
    pub(super) fn conn(&self) -> usize {
        self.conn
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.borrow_mut().push(self.conn);
        }
    }
}

/// Costs of the calls in nanoseconds; the world multiplies them by its own factor.
mod cost {
    /// Reading the clock. The engine does that once per visit, so the visit's computing time is in it.
    pub(super) const NOW: u64 = 6_000;
    pub(super) const ACCEPT: u64 = 20_000;
    pub(super) const NO_ACCEPT: u64 = 1_000;
    pub(super) const ATTACH: u64 = 1_500;
    pub(super) const RECEIVE: u64 = 1_500;
    pub(super) const SEND: u64 = 4_000;
    /// Additional cost of 1,000 bytes received or sent.
    pub(super) const KILOBYTE: u64 = 250;
    /// Additional cost of a read that carries a flight of the TLS handshake.
    pub(super) const HANDSHAKE: u64 = 120_000;
    pub(super) const CLOSE: u64 = 5_000;
    pub(super) const PEER: u64 = 1_000;
    pub(super) const LANE: u64 = 700;
    pub(super) const EMPTY_LANE: u64 = 20;
    pub(super) const NOTICE: u64 = 500;
}

/// Reads at the beginning of a TLS connection that cost as much as a handshake flight.
const HANDSHAKE_READS: u32 = 2;

fn name_of(request: &LogRequest) -> String {
    match request {
        LogRequest::Append { drafts, .. } => format!("to append {} events", drafts.len()),
        other => format!("{other:?}"),
    }
}

impl SimIo {
    /// Advances the core's clock. If it then is inside the hub's pause, the call returns only after the pause.
    fn spend(&self, nanos: u64) -> Instant {
        let net = &mut *self.net.borrow_mut();
        let core = &mut net.cores[self.core];
        core.clock += nanos * net.scenario.cost;
        if let Some((from, until)) = net.pause
            && (from..until).contains(&core.now())
        {
            core.clock = until.0 * 1_000;
        }
        core.now()
    }

    fn now_spent(&self, nanos: u64) -> (Instant, std::cell::RefMut<'_, Net>) {
        let now = self.spend(nanos);
        (now, self.net.borrow_mut())
    }

    fn post(&self, to: ShardId, lane: Lane, message: Message) -> Result<(), Message> {
        let (now, mut net) = self.now_spent(cost::LANE);
        net.post(self.core + 1, to, lane, message, now)
    }
}

impl Io for SimIo {
    type Socket = SimSocket;
    type Detached = SimSocket;
    type Receipt = Rc<Receipt>;

    fn now(&mut self) -> Now {
        let (now, net) = self.now_spent(cost::NOW);
        net.clocks(now)
    }

    fn random(&self) -> u128 {
        self.net.borrow_mut().rng.uuid().as_u128()
    }

    fn notice(&mut self, _: Now, notice: Notice<'_>) {
        let (now, mut net) = self.now_spent(cost::NOTICE);
        let net = &mut *net;
        net.trace.add_minor(now, || format!("core {}: {notice:?}", self.core));
        net.oracle.noticed(now, &notice);
    }

    fn accept(&mut self) -> Accepted<SimSocket> {
        let waits = !self.net.borrow().cores[self.core].waiting.is_empty();
        let (now, mut net) = self.now_spent(if waits { cost::ACCEPT } else { cost::NO_ACCEPT });
        let net = &mut *net;
        if waits && (!net.descriptors.0 || net.open_sockets() >= net.scenario.sockets_max) {
            net.oracle.cover("no descriptor");
            return Accepted::Exhausted(io::Error::from_raw_os_error(24));
        }
        let Some(conn) = net.cores[self.core].waiting.pop_front() else { return Accepted::Blocked };
        let state = &mut net.conns[conn];
        state.accepted = Some(now);
        net.trace.add(now, Some(conn), || format!("accepted by core {}", self.core));
        net.oracle.accepted(now, conn, state.connected.unwrap_or(now).max(net.descriptors.1));
        let socket = SimSocket { conn, dropped: Some(Rc::clone(&net.dropped)) };
        Accepted::Socket { socket, peer: state.address, side: net.oracle.side(conn) }
    }

    fn stop_accepting(&mut self) {
        let net = &mut *self.net.borrow_mut();
        let now = net.cores[self.core].now();
        net.cores[self.core].listening = false;
        for conn in std::mem::take(&mut net.cores[self.core].waiting) {
            net.conns[conn].socket.reset = Some(now);
            net.close(conn, now);
        }
    }

    fn attach(&mut self, socket: &mut SimSocket, key: LinkKey) -> bool {
        let (now, mut net) = self.now_spent(cost::ATTACH);
        net.conns[socket.conn].owner = Some((self.core, key));
        // Like EPOLL_CTL_ADD: an event that is pending when the socket is registered is reported.
        net.mark(socket.conn, now);
        true
    }

    fn receive(&mut self, socket: &mut SimSocket, room: &mut [u8]) -> Received {
        let conn = socket.conn;
        let (handshake, bytes) = {
            let state = &mut self.net.borrow_mut().conns[conn];
            let handshake = state.client.is_tls() && state.handshakes < HANDSHAKE_READS && state.socket.unread() > 0;
            state.handshakes += u32::from(handshake);
            (handshake, state.socket.unread().min(room.len()) as u64)
        };
        let hello = if handshake { cost::HANDSHAKE } else { 0 };
        let (now, mut net) = self.now_spent(cost::RECEIVE + bytes * cost::KILOBYTE / 1_000 + hello);
        let net = &mut *net;
        let received = net.conns[conn].socket.read(room);
        net.trace.add(now, Some(conn), || format!("core {} reads {received:?}", self.core));
        if let Received::Bytes(_) = received {
            net.oracle.received(now, conn, net.conns[conn].socket.received);
            // The read has opened the receive window, so the peer may go on sending.
            net.schedule_turn(conn, now);
        }
        received
    }

    fn send(&mut self, socket: &mut SimSocket, bytes: &[u8]) -> Sent {
        let conn = socket.conn;
        let (now, mut net) = self.now_spent(cost::SEND + bytes.len() as u64 * cost::KILOBYTE / 1_000);
        let net = &mut *net;
        if net.conns[conn].socket.hub_shut {
            net.oracle.fail("nothing follows a FIN", Some(conn), format!("{} bytes", bytes.len()));
        }
        net.oracle.check_offered(now, conn, &net.conns[conn].socket);
        let sent = net.conns[conn].socket.write(now, bytes.len(), &mut net.rng);
        net.trace.add(now, Some(conn), || format!("core {} sends {sent:?} of {}", self.core, bytes.len()));
        if let Sent::Took(took) = sent {
            if took < bytes.len() {
                net.oracle.write_was_short(now, conn, took > 0);
            } else {
                net.oracle.write_was_whole(now, conn);
            }
            net.observe_sent(now, conn, &bytes[..took]);
            net.keep_moving(conn, now);
        }
        sent
    }

    fn shutdown_write(&mut self, socket: &mut SimSocket) {
        let (now, mut net) = self.now_spent(cost::PEER);
        let net = &mut *net;
        let state = &mut net.conns[socket.conn];
        state.socket.hub_shut = true;
        net.trace.add(now, Some(socket.conn), || "the hub sends a FIN".to_owned());
        if !state.client.is_whole() {
            net.oracle.fail("a FIN follows a whole frame", Some(socket.conn), String::new());
        }
        net.oracle.ended(now, socket.conn, &net.conns[socket.conn].socket);
        net.wake_peer(socket.conn, now);
    }

    fn peer(&mut self, socket: &SimSocket) -> PeerState {
        let (now, mut net) = self.now_spent(cost::PEER);
        net.conns[socket.conn].socket.state(now)
    }

    fn close(&mut self, mut socket: SimSocket, how: Ending) {
        socket.dropped = None;
        let (now, mut net) = self.now_spent(cost::CLOSE);
        if how == Ending::Abort {
            net.conns[socket.conn].socket.abort();
        }
        net.close(socket.conn, now);
    }

    fn detach(&mut self, socket: SimSocket) -> SimSocket {
        let (_, mut net) = self.now_spent(cost::ATTACH);
        let conn = socket.conn;
        net.conns[conn].owner = None;
        net.unmark(self.core, conn);
        net.oracle.cover("handoff");
        drop(net);
        socket
    }

    fn adopt(&mut self, detached: SimSocket) -> SimSocket {
        detached
    }

    fn request(&mut self, to: ShardId, request: Request<SimSocket>) -> Result<(), Request<SimSocket>> {
        match self.post(to, Lane::Requests, Incoming::Request(request)) {
            Err(Incoming::Request(request)) => Err(request),
            _ => Ok(()),
        }
    }

    fn reply(&mut self, to: ShardId, key: RequestKey, reply: Reply) -> bool {
        self.post(to, Lane::Replies, Incoming::Reply(key, reply)).is_ok()
    }

    fn store(&mut self, op: StoreOp, key: RequestKey) -> bool {
        let (now, mut net) = self.now_spent(cost::LANE);
        let net = &mut *net;
        if op.makes_a_change() && net.cores.iter().any(|core| core.lanes.is_full(Lane::Control)) {
            net.oracle.cover("a control lane is full");
            return false;
        }
        let job = Job { op, asker: ShardId(self.core as u16), key };
        let Some(due) = net.store.submit(now, job, &mut net.rng) else {
            net.oracle.cover("the store's queue is full");
            return false;
        };
        if let Some(due) = due {
            net.schedule(due, Step::Store);
        }
        true
    }

    fn log(&mut self, request: LogRequest, replies: &mut Vec<LogReply>) -> Result<(), Busy<LogRequest>> {
        let (now, mut net) = self.now_spent(cost::LANE);
        let net = &mut *net;
        let shown = net.trace.is_on().then(|| format!("core {} asks the log {}", self.core, name_of(&request)));
        match net.cores[self.core].log.submit(now, request, replies, &mut net.rng) {
            Ok((due, accident)) => {
                if let Some(accident) = accident {
                    net.oracle.cover(accident.name());
                }
                net.trace.add_minor(now, || format!("{}: {accident:?}", shown.unwrap_or_default()));
                net.wake(self.core, due);
                Ok(())
            }
            Err(busy) => {
                net.oracle.cover("the log is busy");
                Err(busy)
            }
        }
    }

    fn take_log_replies(&mut self, _: usize, replies: &mut Vec<LogReply>) {
        let net = &mut *self.net.borrow_mut();
        let core = &mut net.cores[self.core];
        let now = core.now();
        core.log.drain(now, replies);
    }

    fn take(&mut self, lane: Lane) -> Option<Message> {
        let now = self.net.borrow().cores[self.core].now();
        if lane == Lane::Control {
            let net = &mut *self.net.borrow_mut();
            if let Some(control_taken_at) = net.cores[self.core].control_taken_at.replace(now) {
                net.oracle.check_round(now, control_taken_at);
            }
        }
        let message = self.net.borrow_mut().cores[self.core].lanes.take(now, lane);
        self.spend(if message.is_some() { cost::LANE } else { cost::EMPTY_LANE });
        message
    }
}
