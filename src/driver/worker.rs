//! One core: what it owns, how it begins, and how connections come and go.

use super::{
    asks::Asks,
    clock,
    link::{Link, LinkKey},
    listener,
    mesh::{Address, Inbox},
    pump,
    quiet::Quiet,
    shared::Shared,
    socket, tasks,
    wheel::Wheel,
};
use crate::{
    limits,
    model::{Change, CloseReason, Now, ShardId},
    session::{Role, Scratch, Session},
    shard::{self, ConnectionKey, Directory, RequestKey, Shard},
};
use glommio::net::TcpStream;
use rustls::ServerConfig;
use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
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
    pub(super) links: RefCell<Slab<Rc<Link>>>,
    /// Gateways' connections, by their place in the shard.
    pub(super) members: RefCell<Vec<Option<Rc<Link>>>>,
    pub(super) agenda: RefCell<VecDeque<Rc<Link>>>,
    pub(super) wheel: RefCell<Wheel<LinkKey>>,
    serial: Cell<u32>,
    /// Commands of other cores, by the key that the shard knows them by.
    pub(super) remote: RefCell<Slab<(ShardId, RequestKey)>>,
    /// Wakes the task that goes on with a long agenda.
    pub(super) more: flume::Sender<()>,
    pub(super) draining: Cell<bool>,
    clock: Cell<Now>,
}

/// Runs a worker to its end, on its executor.
pub(crate) async fn run(seat: Seat, ready: flume::Sender<ShardId>) {
    let (more, more_in) = flume::bounded(1);
    let now = clock::now();
    let mut directory = Directory::default();
    let mut shard = Shard::new(seat.shard);
    for change in seat.directory {
        directory.apply(change);
        shard.handle_change(change);
    }
    let (listening, roles): (Vec<_>, Vec<_>) = seat.listening.into_iter().unzip();
    let worker = Rc::new(Worker {
        id: seat.id,
        shared: seat.shared,
        peers: seat.peers,
        shard: RefCell::new(shard),
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
        clock: Cell::new(now),
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
    glommio::spawn_local(tasks::requests(Rc::clone(&worker), seat.inbox.requests)).detach();
    glommio::spawn_local(tasks::replies(Rc::clone(&worker), seat.inbox.replies)).detach();
    glommio::spawn_local(tasks::control(Rc::clone(&worker), seat.inbox.control)).detach();
    glommio::spawn_local(tasks::agenda(Rc::clone(&worker), more_in)).detach();
    glommio::spawn_local(tasks::ticks(Rc::clone(&worker))).detach();
    let _ = ready.send(worker.id);
    // The second heartbeat of the executor: with two timers of different periods one of them always bounds a lost wake-up.
    while !worker.stopped.get() {
        glommio::timer::sleep(SECOND_HEARTBEAT).await;
    }
}

impl Worker {
    /// The time at which this turn began: read once, because an event would read it a dozen times otherwise.
    pub(super) fn now(&self) -> Now {
        self.clock.get()
    }

    /// Reads the clocks: whatever wakes the core does so first.
    pub(super) fn refresh_clock(&self) -> Now {
        let now = clock::now();
        self.clock.set(now);
        now
    }

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

    /// All connections.
    pub(super) fn all(&self) -> Vec<Rc<Link>> {
        self.links.borrow().iter().map(|(_, link)| Rc::clone(link)).collect()
    }

    /// Connections that are not gateways': handshakes and HTTP.
    pub(super) fn transients(&self) -> usize {
        self.links.borrow().len().saturating_sub(self.shard.borrow().len())
    }

    /// Takes the connection out of the shard; what it did not get has failed.
    pub(super) fn leave(&self, link: &Link, reason: CloseReason) {
        let Some(key) = link.member.take() else { return };
        let now = self.now();
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
}

/// No multiple of the tick. Each wake-up of an idle core costs it about a tenth of a millisecond.
const SECOND_HEARTBEAT: Duration = Duration::from_millis(140);
