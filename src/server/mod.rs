//! Starts one worker per core and stops them all.

mod certificate;
mod executors;

use crate::{
    api::Phase,
    config::{Config, Tls},
    driver::{
        core_loop::Seat,
        listener,
        mesh::{self, Address},
        watchdog,
    },
    engine::{EngineSettings, HubSettings, HubState, Incoming},
    limits,
    model::{Change, KeyHash, ShardId, Side},
    session,
    shard::{self, Encoding, Placement},
    store::{self, Settled, Sqlite, StoreHandle, StoreThread},
    transport::{Transport, WebSocket},
};
use certificate::Certificate;
use executors::Executors;
use std::{fmt, fs, net::SocketAddr, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

/// Why a hub did not start, or how it failed: one sentence that names what is wrong and what to do.
#[derive(Debug)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl From<String> for StartError {
    fn from(sentence: String) -> Self {
        Self(sentence)
    }
}

/// A running hub. It runs until [`Hub::drain`], whether or not this value is kept.
pub struct Hub {
    addr: SocketAddr,
    admin_addr: SocketAddr,
    address_file: PathBuf,
    handle: HubHandle,
    executors: Executors,
}

/// Steers a running hub from another thread.
#[derive(Clone)]
pub struct HubHandle {
    state: Arc<HubState>,
    admin_token: Arc<str>,
    store: StoreHandle,
    cores: Arc<[Address]>,
    certificate: Option<Arc<Certificate>>,
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
        if usize::from(shards) > cpus.len() * SHARDS_PER_CPU_MAX {
            return Err(format!(
                "cores = {shards} on {} processors: {SHARDS_PER_CPU_MAX} for each are the most",
                cpus.len()
            )
            .into());
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
            mesh::build(shards).map_err(|error| format!("the system gives no descriptors: {error}"))?;
        let cores: Arc<[Address]> = cores.into();
        let store = start_store(store, &cores)?;
        let state = Arc::new(HubState::new(hub_settings(&config, shards, &admin_token, &store)?));
        let epoch = random()?;
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
        let executors = Executors::start(seats.collect(), &cpus).inspect_err(|_| store.stop())?;
        let handle =
            HubHandle { state, admin_token: admin_token.into(), store, cores, certificate: certificate.map(Arc::new) };
        let address_file = config.data.join(ADDRESS_FILE);
        if let Err(sentence) = handle.open(&address_file, &config.url(admin_addr)) {
            handle.drain();
            executors.join(&handle)?;
            return Err(sentence.into());
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

    /// Waits until the hub has ended, by [`Hub::drain`] or because a worker failed.
    ///
    /// # Errors
    /// What failed.
    pub fn join(self) -> Result<(), StartError> {
        let ended = self.executors.join(&self.handle);
        // Whoever removed it before has done what was to be done.
        let _ = fs::remove_file(&self.address_file);
        ended.map_err(StartError)
    }
}

impl HubHandle {
    /// See [`Hub::reload`].
    pub fn reload(&self) {
        let Some(certificate) = &self.certificate else { return };
        if let Some(config) = certificate.reload() {
            self.cores.iter().for_each(|core| core.tell(Incoming::Tls(Arc::clone(&config))));
        }
    }

    /// See [`Hub::drain`].
    pub fn drain(&self) {
        if self.state.advance(Phase::Draining) {
            tracing::info!("draining");
            self.cores.iter().for_each(|core| core.tell(Incoming::Drain));
        }
    }

    /// Connections whose code panicked; each has cost that connection only.
    pub fn panics(&self) -> u64 {
        self.state.panics()
    }

    /// How often a shard was found to be stalled.
    pub fn stalls(&self) -> u64 {
        self.state.stalls()
    }

    /// Lets gateways in.
    fn open(&self, address_file: &PathBuf, url: &str) -> Result<(), String> {
        let thread = |error: std::io::Error| format!("the system gives no thread: {error}");
        let shards = u16::try_from(self.cores.len()).unwrap_or(u16::MAX);
        watchdog::start(Arc::clone(&self.state), shards).map_err(thread)?;
        if self.certificate.is_some() {
            certificate::watch(self.clone()).map_err(thread)?;
        }
        fs::write(address_file, format!("{url}\n"))
            .map_err(|error| format!("{} cannot be written: {error}", address_file.display()))?;
        self.state.advance(Phase::Ready);
        Ok(())
    }
}

/// More would only take turns; what is asked for then is a mistake.
const SHARDS_PER_CPU_MAX: usize = 16;
/// How much longer than a publish its answer may take between two cores.
const ANSWER_GRACE: Duration = Duration::from_secs(3);
const STORE_FILE: &str = "gatecast.db";
/// Where the client commands find a hub of this machine.
const ADDRESS_FILE: &str = "address";

fn bind(address: SocketAddr, shards: u16) -> Result<(SocketAddr, Vec<OwnedFd>), String> {
    if listener::is_taken(address) {
        return Err(format!("{address} is taken by another program: stop that, or listen elsewhere"));
    }
    listener::bind(address, shards).map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn start_store(store: Sqlite, cores: &Arc<[Address]>) -> Result<StoreHandle, String> {
    let cores = Arc::clone(cores);
    StoreThread::start(Box::new(store), move |change: Change, settled: Settled| {
        let settled = Arc::new(settled);
        cores.iter().for_each(|core| core.tell(Incoming::Change(change, Arc::clone(&settled))));
    })
}

fn hub_settings(config: &Config, shards: u16, admin_token: &str, store: &StoreHandle) -> Result<HubSettings, String> {
    Ok(HubSettings {
        session: session_settings(config),
        placement: Placement::new(shards, random()?),
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

fn random() -> Result<u64, String> {
    getrandom::u64().map_err(|error| format!("the system gives no random numbers: {error}"))
}

/// Whether the configured certificate is one that the hub makes itself.
fn is_self_signed(config: &Config) -> bool {
    matches!(config.tls, Tls::SelfSigned)
}
