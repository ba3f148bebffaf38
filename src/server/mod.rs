//! Starts one worker per core and stops them all.

mod ending;
mod error;
mod executors;
mod handle;
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
use executors::Executors;
use std::{fs, net::SocketAddr, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

/// A running hub. It runs until [`Hub::drain`], whether or not this value is kept.
pub struct Hub {
    addr: SocketAddr,
    admin_addr: SocketAddr,
    address_file: PathBuf,
    handle: HubHandle,
    executors: Executors,
}

impl Hub {
    /// Starts a hub; when this returns it takes connections.
    ///
    /// # Errors
    /// What stands in the way, with the remedy. Nothing is left running then.
    pub fn start(config: Config) -> Result<Hub, StartError> {
        executors::prepare();
        let cpus = executors::cpus()?;
        let shards = config.cores.unwrap_or(u16::try_from(cpus.len()).unwrap_or(u16::MAX));
        if usize::from(shards) > cpus.len() * limits::SHARDS_PER_CPU_MAX {
            return Err(StartError::TooManyCores { cores: shards, processors: cpus.len() });
        }
        let mut store = Sqlite::open(&config.data.join(STORE_FILE))?;
        let directory = store::Store::snapshot(&mut store)?;
        let admin_token = store::admin_token(&config.data)?;
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
        let store = start_store(store, &cores)?;
        let state = Arc::new(HubState::new(hub_settings(&config, shards, &admin_token, &store)?));
        let epoch = random_u64()?;
        let seats = inboxes.into_iter().enumerate().map(|(index, inbox)| {
            let id = ShardId(u16::try_from(index).expect("there are at most 2^16 shards"));
            let mut sockets: Vec<(OwnedFd, Side)> = listening.pop().map(|socket| (socket, side)).into_iter().collect();
            sockets.extend(admin_listening.pop().map(|socket| (socket, Side::Platform)));
            let engine = EngineSettings {
                id,
                hub: Arc::clone(&state),
                shard: shard_settings(&config, id, epoch, shards),
                directory: directory.clone(),
                tls: certificate.as_ref().map(|certificate| certificate.current()),
            };
            Seat { engine, inbox, peers: cores.to_vec(), store: store.clone(), listening: sockets }
        });
        // Unbounded in form alone: each core sends one, and the drain another.
        let (milestones, milestones_in) = flume::unbounded();
        let channel = (milestones.clone(), milestones_in);
        let executors =
            Executors::start(seats.collect(), &cpus, channel, config.drain_window).inspect_err(|_| store.stop())?;
        let handle = HubHandle {
            state,
            admin_token: admin_token.into(),
            store,
            cores,
            certificate: certificate.map(Arc::new),
            milestones,
        };
        let address_file = config.data.join(ADDRESS_FILE);
        if let Err(error) = handle.open(&address_file, &config.url(admin_addr), config.watchdog_abort_after) {
            handle.drain();
            // What stood in the way of the start is what the operator has to know.
            let _ = ending::join(executors, &handle);
            return Err(error);
        }
        Ok(Hub { addr, admin_addr, address_file, handle, executors })
    }

    /// Where gateways connect, with the port that was taken.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the platform's calls go; the same as [`Hub::addr`] unless configured apart.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// The admin token in force.
    pub fn admin_token(&self) -> &str {
        &self.handle.admin_token
    }

    /// How many connections of gateways there are, over all shards.
    pub fn connections(&self) -> usize {
        self.handle.state.connections()
    }

    /// Reads the certificate files again (what SIGHUP does).
    pub fn reload(&self) {
        self.handle.reload();
    }

    /// Begins the drain: what SIGTERM does. Returns at once.
    pub fn drain(&self) {
        self.handle.drain();
    }

    /// What a thread of its own, such as that of the signals, needs to steer the hub.
    pub fn handle(&self) -> HubHandle {
        self.handle.clone()
    }

    /// Waits until the hub has ended, by [`Hub::drain`] or because a core died. It takes the drain window and 5 s at most from
    /// the drain on.
    ///
    /// # Errors
    /// [`RunError::CoreDied`] at once when a core dies: the others begin to drain, and go on until they have. Whoever embeds
    /// the hub ends the process, or leaves what is left of this hub alone. [`RunError::CoresTimedOut`] names cores that are stuck.
    pub fn join(self) -> Result<(), RunError> {
        let ended = ending::join(self.executors, &self.handle);
        // Whoever removed it before has done what was to be done.
        let _ = fs::remove_file(&self.address_file);
        ended
    }
}

/// How much longer than a publish its answer may take between two cores.
const ANSWER_GRACE: Duration = Duration::from_secs(3);
const STORE_FILE: &str = "gatecast.db";
/// Where the client commands find a hub of this machine.
const ADDRESS_FILE: &str = "address";

fn bind(address: SocketAddr, shards: u16) -> Result<(SocketAddr, Vec<OwnedFd>), StartError> {
    if listener::is_taken(address) {
        return Err(StartError::AddressTaken(address));
    }
    listener::bind(address, shards).map_err(|error| StartError::Bind { address, why: error.to_string() })
}

fn start_store(store: Sqlite, cores: &Arc<[Address]>) -> Result<StoreHandle, StoreError> {
    let cores = Arc::clone(cores);
    StoreThread::start(Box::new(store), move |change: Change, settled: Settled| {
        let settled = Arc::new(settled);
        cores.iter().for_each(|core| core.tell(Incoming::Change(change, Arc::clone(&settled))));
    })
}

fn hub_settings(
    config: &Config,
    shards: u16,
    admin_token: &str,
    store: &StoreHandle,
) -> Result<HubSettings, StartError> {
    Ok(HubSettings {
        session: session_settings(config),
        placement: Placement::new(shards, random_u64()?),
        connections_max: config.connections_max,
        admin_token: KeyHash::of(admin_token.as_bytes()),
        answer_timeout: config.publish_timeout + ANSWER_GRACE,
        drain_window: config.drain_window,
        degraded: store.degraded(),
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
        inbound_message_bytes_max: config.inbound_message_bytes_max,
    }
}

fn shard_settings(config: &Config, id: ShardId, epoch: u64, shards: u16) -> shard::Settings {
    shard::Settings {
        id,
        epoch,
        outbox_bytes_max: config.outbox_bytes_max,
        connections_per_gateway_max: config.connections_per_gateway_max,
        publish_timeout: config.publish_timeout,
        rate_per_window: config.rate_per_minute,
        rate_window: limits::RATE_WINDOW,
        rate_addresses_max: limits::RATE_ADDRESSES_MAX / usize::from(shards),
        encoding: Encoding { encode: WebSocket::encode, boundary: WebSocket::boundary },
    }
}

fn random_u64() -> Result<u64, StartError> {
    getrandom::u64().map_err(|error| StartError::Random { why: error.to_string() })
}

#[cfg(test)]
mod tests;
