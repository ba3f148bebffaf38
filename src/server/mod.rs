//! Starts a hub with one core per shard, and stops it.

mod ending;
mod error;
mod event_log;
mod executors;
mod handle;
pub(crate) mod memory;
mod milestone;
#[cfg(test)]
pub(crate) mod testing;

pub use crate::tls::TlsError;
pub use error::{RunError, StartError};
pub use handle::HubHandle;

use crate::{
    config::Config,
    driver::{
        core_loop::Seat,
        listener,
        mesh::{self, Address},
    },
    engine::{EngineSettings, HubSettings, HubState, Incoming},
    limits,
    model::{Change, KeyHash, ShardId, Side},
    session,
    shard::{self, Encoding, Placement},
    store::{self, Settled, Sqlite, StoreError, StoreHandle, StoreThread},
    tls::Certificate,
    transport::{Transport, WebSocket},
};
use event_log::EventLogHandle;
use executors::Executors;
use memory::MemoryPlan;
use std::{fs, net::SocketAddr, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

/// A running hub. Dropping this value does not stop it: it runs until [`Hub::drain`].
pub struct Hub {
    addr: SocketAddr,
    admin_addr: SocketAddr,
    address_file: PathBuf,
    handle: HubHandle,
    executors: Executors,
}

impl Hub {
    /// Starts a hub. It accepts connections when this returns.
    ///
    /// # Errors
    /// The reason why it cannot start, and what to do about it. Nothing keeps running.
    pub fn start(config: Config) -> Result<Hub, StartError> {
        executors::prepare();
        let cpus = executors::cpus()?;
        let shards = config.cores.unwrap_or(u16::try_from(cpus.len()).unwrap_or(u16::MAX));
        if usize::from(shards) > cpus.len() * limits::SHARDS_PER_CPU_MAX {
            return Err(StartError::TooManyCores { cores: shards, processors: cpus.len() });
        }
        let memory = MemoryPlan::of(&config, usize::from(shards), memory::available())
            .map_err(|memory::TooLittle { needed, available }| StartError::TooLittleMemory { needed, available })?;
        if memory.is_reduced {
            let (recent_bytes, total_bytes) = (memory.recent_bytes, memory.total());
            tracing::warn!(recent_bytes, total_bytes, "little memory: the bounds are smaller than configured");
        }
        // The store comes first. It locks the data directory, so that a second hub on the same directory fails here,
        // before it touches the first one's admin token, certificate and address file.
        let mut store = Sqlite::open(&config.data.join(STORE_FILE))?;
        let directory = store::Store::snapshot(&mut store)?;
        let admin_token = store::admin_token(&config.data)?;
        // Before the sockets: gateways must not connect to a hub that then fails for want of a certificate.
        let certificate = Certificate::of(&config)?;
        let (addr, mut listening) = bind(config.listen, shards)?;
        let (admin_addr, admin_listening) = match config.admin_listen {
            Some(admin) => bind(admin, shards).map(|(addr, sockets)| (addr, Some(sockets)))?,
            None => (addr, None),
        };
        let side = if admin_listening.is_some() { Side::Gateways } else { Side::Both };
        let mut admin_listening = admin_listening.unwrap_or_default();
        let (cores, inboxes) =
            mesh::build(shards).map_err(|error| StartError::Descriptors { why: error.to_string() })?;
        let cores: Arc<[Address]> = cores.into();
        let known = (directory.as_slice(), store.generation());
        let (log, log_ports) = event_log::open(&config, known, &cores, (random_u64()?, memory.log_bytes))?;
        store.keep_generation()?;
        let store = start_store(store, &cores)?;
        let mut log_ports = log_ports.into_iter();
        let state = Arc::new(HubState::new(hub_settings(&config, shards, &admin_token, &store, (&log, &memory))?));
        let lines = Arc::default();
        let seats = inboxes.into_iter().enumerate().map(|(index, inbox)| {
            let id = ShardId(u16::try_from(index).expect("there are at most 2^16 shards"));
            let mut sockets: Vec<(OwnedFd, Side)> = listening.pop().map(|socket| (socket, side)).into_iter().collect();
            sockets.extend(admin_listening.pop().map(|socket| (socket, Side::Platform)));
            let engine = EngineSettings {
                id,
                hub: Arc::clone(&state),
                shard: shard_settings(&config, id, state.placement(), memory.recent_bytes),
                directory: directory.clone(),
                tls: certificate.as_ref().map(|certificate| certificate.current()),
            };
            Seat {
                engine,
                inbox,
                peers: cores.to_vec(),
                store: store.clone(),
                log: log_ports.next().expect("the log has a port for each core"),
                listening: sockets,
                lines: Arc::clone(&lines),
            }
        });
        // Unbounded, but it never holds more than one message per core and one for the drain.
        let (milestones, milestones_in) = flume::unbounded();
        let channel = (milestones.clone(), milestones_in);
        let executors = Executors::start(seats.collect(), &cpus, channel, config.drain_window).inspect_err(|_| {
            store.stop();
            log.stop();
        })?;
        let handle = HubHandle {
            state,
            admin_token: admin_token.into(),
            store,
            log,
            cores,
            certificate: certificate.map(Arc::new),
            milestones,
        };
        let address_file = config.data.join(ADDRESS_FILE);
        if let Err(error) = handle.open(&address_file, &config.url(admin_addr), config.watchdog_abort_after) {
            handle.drain();
            // An error of this shutdown is dropped: the operator needs the error that prevented the start.
            let _ = ending::join(executors, &handle);
            return Err(error);
        }
        Ok(Hub { addr, admin_addr, address_file, handle, executors })
    }

    /// The address that gateways connect to, with the actual port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address for the platform's calls: [`Hub::addr`] unless `admin_listen` is configured.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// The admin token.
    pub fn admin_token(&self) -> &str {
        &self.handle.admin_token
    }

    /// Number of gateway connections, over all shards.
    pub fn connections(&self) -> usize {
        self.handle.state.connections()
    }

    /// Reads the certificate files again, as SIGHUP does.
    pub fn reload(&self) {
        self.handle.reload();
    }

    /// Begins the drain, as SIGTERM does. Returns at once.
    pub fn drain(&self) {
        self.handle.drain();
    }

    /// A handle with which another thread, such as the one for signals, controls the hub.
    pub fn handle(&self) -> HubHandle {
        self.handle.clone()
    }

    /// Waits until the hub has ended, by [`Hub::drain`] or because a core died. After the drain begins, this takes at
    /// most the drain window and 5 s.
    ///
    /// # Errors
    /// [`RunError::CoreDied`] at once when a core dies. The other cores begin to drain and are not waited for: end the
    /// process, or do not use this hub any more. [`RunError::CoresTimedOut`] names cores that are stuck.
    /// [`RunError::StoreTimedOut`]: the store was not closed in time.
    pub fn join(self) -> Result<(), RunError> {
        let ended = ending::join(self.executors, &self.handle);
        // An error is ignored: at worst a client command says that nothing listens at the old address.
        let _ = fs::remove_file(&self.address_file);
        ended
    }
}

/// Time beyond `publish.timeout` after which an answer from another core is no longer awaited.
const ANSWER_GRACE: Duration = Duration::from_secs(3);
const STORE_FILE: &str = "gatecast.db";
/// The file in the data directory from which client commands read the hub's address.
const ADDRESS_FILE: &str = "address";

fn bind(address: SocketAddr, shards: u16) -> Result<(SocketAddr, Vec<OwnedFd>), StartError> {
    // The hub's own sockets share the port with `SO_REUSEPORT`, and binding would silently share it with another hub,
    // too.
    if listener::is_taken(address) {
        return Err(StartError::AddressTaken(address));
    }
    listener::bind(address, shards).map_err(|error| StartError::Bind { address, why: error.to_string() })
}

fn start_store(store: Sqlite, cores: &Arc<[Address]>) -> Result<StoreHandle, StoreError> {
    let cores = Arc::clone(cores);
    StoreThread::start(Box::new(store), move |change: Change, settled: Settled| {
        let settled = Arc::new(settled);
        // Every core has a copy of the directory, so that authenticating a gateway needs neither the store nor another
        // core.
        cores.iter().for_each(|core| core.tell(Incoming::Change(change, Arc::clone(&settled))));
    })
}

fn hub_settings(
    config: &Config,
    shards: u16,
    admin_token: &str,
    store: &StoreHandle,
    (log, memory): (&EventLogHandle, &MemoryPlan),
) -> Result<HubSettings, StartError> {
    Ok(HubSettings {
        session: session_settings(config),
        // A secret seed, so that nobody can choose gateway ids that all fall on one core.
        placement: Placement::new(shards, random_u64()?),
        connections_max: config.connections_max,
        admin_token: KeyHash::of(admin_token.as_bytes()),
        answer_timeout: config.publish_timeout + ANSWER_GRACE,
        drain_window: config.drain_window,
        degraded: store.degraded(),
        log: log.stats(),
        bodies_bytes: (memory.platform_bodies_bytes, memory.gateways_bodies_bytes),
    })
}

fn session_settings(config: &Config) -> session::Settings {
    session::Settings {
        origins: config.origins.clone(),
        handshake_deadline: config.handshake_deadline,
        heartbeat: session::Heartbeat {
            interval: config.heartbeat_interval,
            timeout: config.heartbeat_timeout,
            busy_grace: config.heartbeat_busy_grace,
        },
        write_deadline: config.write_deadline,
        processing_timeout: config.delivery_processing_timeout,
        inbound_message_bytes_max: config.inbound_message_bytes_max,
    }
}

fn shard_settings(config: &Config, id: ShardId, placement: &Placement, recent_bytes: usize) -> shard::Settings {
    let shards = placement.shards();
    let recent_bytes_max = (recent_bytes / usize::from(shards)).max(limits::SHARD_RECENT_BYTES_MIN);
    shard::Settings {
        id,
        placement: placement.clone(),
        recent_bytes_max,
        gateway_recent_bytes_max: limits::GATEWAY_RECENT_BYTES_MAX.min(recent_bytes_max / 2),
        connections_per_gateway_max: config.connections_per_gateway_max,
        publish_timeout: config.publish_timeout,
        rate_per_window: config.rate_per_minute,
        rate_window: limits::RATE_WINDOW,
        // Addresses are spread over the shards by hash, so each shard needs room for its part only.
        rate_addresses_max: limits::RATE_ADDRESSES_MAX / usize::from(shards),
        delivery: shard::Delivery {
            mode: config.delivery_mode,
            window: config.delivery_window,
            replay_skip: config.delivery_replay_skip.as_slice().into(),
            poison_connections: config.delivery_poison_connections,
            poison_after: config.delivery_poison_after,
        },
        encoding: Encoding { encode: WebSocket::encode, boundary: WebSocket::boundary },
    }
}

fn random_u64() -> Result<u64, StartError> {
    getrandom::u64().map_err(|error| StartError::Random { why: error.to_string() })
}

#[cfg(test)]
mod tests;
