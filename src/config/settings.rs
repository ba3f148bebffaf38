//! The checked configuration of a hub, with its defaults.

use crate::{limits, model::DeliveryMode};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Where the TLS certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// PEM files: the certificate chain and its key.
    Files {
        /// The certificate chain, leaf first.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// A self-signed certificate that the hub creates in its data directory.
    SelfSigned,
    /// No TLS, for a hub behind a proxy that terminates it.
    Off,
}

/// The format of the log on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Lines of text for people to read.
    Text,
}

/// Where events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventLogMode {
    /// In a file of the data directory.
    Durable,
    /// In memory: they are lost with the process.
    Memory,
}

/// What an event in a durable log survives once its publish is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventLogSync {
    /// A loss of power.
    Power,
    /// The end of the process, however it ends.
    Process,
}

/// The configuration of a hub. Each value is within the bounds that [`Config::load`] checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The address that gateways connect to, and the platform too unless `admin_listen` is set. Port 0 takes a free
    /// port.
    pub listen: SocketAddr,
    /// A separate address for the platform's calls; gateways cannot connect there.
    pub admin_listen: Option<SocketAddr>,
    /// The directory of the store, the admin token and a self-signed certificate.
    pub data: PathBuf,
    /// Number of shards, each on its own core; `None` means one for each core that the process may use.
    pub cores: Option<u16>,
    /// The source of the TLS certificate.
    pub tls: Tls,
    /// Gateway connections allowed at the same time; see [`limits::CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// Connections allowed for one gateway; 0 means that only `connections_max` applies.
    pub connections_per_gateway_max: usize,
    /// Connection attempts allowed for one address in a minute; 0 disables the limit. See [`limits::RATE_PER_MINUTE`].
    pub rate_per_minute: u32,
    /// Time for the TLS handshake and the first request head; see [`limits::HANDSHAKE_DEADLINE`].
    pub handshake_deadline: Duration,
    /// Time between two pings on a connection; see [`limits::HEARTBEAT_INTERVAL`].
    pub heartbeat_interval: Duration,
    /// Time without a byte from a gateway after which its connection is closed; see [`limits::HEARTBEAT_TIMEOUT`].
    pub heartbeat_timeout: Duration,
    /// Time added to `heartbeat_timeout` while the peer's kernel still acknowledges our bytes (contract section 1).
    pub heartbeat_busy_grace: Duration,
    /// Memory of events that connections have yet to take; see [`limits::RECENT_BYTES_MAX`].
    pub recent_bytes_max: usize,
    /// Time without progress after which a blocked connection is closed; see [`limits::WRITE_DEADLINE`].
    pub write_deadline: Duration,
    /// Size of the largest message that a gateway may send; see [`limits::INBOUND_MESSAGE_BYTES_MAX`].
    pub inbound_message_bytes_max: usize,
    /// Time after which a publisher gets its answer in any case; see [`limits::PUBLISH_TIMEOUT`].
    pub publish_timeout: Duration,
    /// The mode of gateways that have no delivery of their own.
    pub delivery_mode: DeliveryMode,
    /// Events that may be written and not processed; see [`limits::DELIVERY_WINDOW`].
    pub delivery_window: u32,
    /// Time for which a gateway may process one event; see [`limits::DELIVERY_PROCESSING_TIMEOUT`].
    pub delivery_processing_timeout: Duration,
    /// Types that are passed over for a gateway that was away, or their begin before a `*`; see [`limits::DELIVERY_REPLAY_SKIP`].
    pub delivery_replay_skip: Vec<String>,
    /// Connections that end with an event before it is skipped; see [`limits::DELIVERY_POISON_CONNECTIONS`].
    pub delivery_poison_connections: u32,
    /// Time between the first and the last of these ends; see [`limits::DELIVERY_POISON_AFTER`].
    pub delivery_poison_after: Duration,
    /// Time over which a shutdown spreads its closes; see [`limits::DRAIN_WINDOW`].
    pub drain_window: Duration,
    /// Time after which a stuck core aborts the process; zero disables this. See [`limits::ABORT_AFTER`].
    pub watchdog_abort_after: Duration,
    /// Values of the `Origin` header that may connect. Browsers send this header; gateways do not.
    pub origins: Vec<String>,
    /// Where events are kept.
    pub event_log_mode: EventLogMode,
    /// What an event in a durable log survives.
    pub event_log_sync: EventLogSync,
    /// How long an event is kept, in time for which the hub runs.
    pub event_log_retention: Duration,
    /// How long an event is kept whose payload carries a secret.
    pub event_log_secret_retention: Duration,
    /// Bytes of events that the log keeps of one gateway; see [`limits::EVENT_LOG_GATEWAY_BYTES_MAX`].
    pub event_log_gateway_bytes_max: usize,
    /// Bytes of events that the log keeps of all gateways; see [`limits::EVENT_LOG_BYTES_MAX`].
    pub event_log_bytes_max: usize,
    /// Bytes of the disk that a durable log leaves free; see [`limits::EVENT_LOG_RESERVE_BYTES`].
    pub event_log_reserve_bytes: usize,
    /// The format of the log.
    pub log_format: LogFormat,
    /// Which lines are logged, as directives of `tracing_subscriber::EnvFilter`.
    pub log_filter: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 9243)),
            admin_listen: None,
            data: PathBuf::from("gatecast-data"),
            cores: None,
            tls: Tls::SelfSigned,
            connections_max: limits::CONNECTIONS_MAX,
            connections_per_gateway_max: 0,
            rate_per_minute: limits::RATE_PER_MINUTE,
            handshake_deadline: limits::HANDSHAKE_DEADLINE,
            heartbeat_interval: limits::HEARTBEAT_INTERVAL,
            heartbeat_timeout: limits::HEARTBEAT_TIMEOUT,
            heartbeat_busy_grace: Duration::ZERO,
            recent_bytes_max: limits::RECENT_BYTES_MAX,
            write_deadline: limits::WRITE_DEADLINE,
            inbound_message_bytes_max: limits::INBOUND_MESSAGE_BYTES_MAX,
            publish_timeout: limits::PUBLISH_TIMEOUT,
            delivery_mode: DeliveryMode::default(),
            delivery_window: limits::DELIVERY_WINDOW,
            delivery_processing_timeout: limits::DELIVERY_PROCESSING_TIMEOUT,
            delivery_replay_skip: limits::DELIVERY_REPLAY_SKIP.iter().map(|kind| (*kind).to_owned()).collect(),
            delivery_poison_connections: limits::DELIVERY_POISON_CONNECTIONS,
            delivery_poison_after: limits::DELIVERY_POISON_AFTER,
            drain_window: limits::DRAIN_WINDOW,
            watchdog_abort_after: limits::ABORT_AFTER,
            origins: Vec::new(),
            event_log_mode: EventLogMode::Durable,
            event_log_sync: EventLogSync::Power,
            event_log_retention: limits::EVENT_LOG_RETENTION,
            event_log_secret_retention: limits::EVENT_LOG_SECRET_RETENTION,
            event_log_gateway_bytes_max: limits::EVENT_LOG_GATEWAY_BYTES_MAX,
            event_log_bytes_max: limits::EVENT_LOG_BYTES_MAX,
            event_log_reserve_bytes: limits::EVENT_LOG_RESERVE_BYTES,
            log_format: LogFormat::Text,
            log_filter: "info".to_owned(),
        }
    }
}

impl Config {
    /// The URL by which a client on this machine reaches a hub bound to `addr`, such as `https://127.0.0.1:9243`.
    pub fn url(&self, addr: SocketAddr) -> String {
        // An unspecified address can be bound but is not one to connect to everywhere; loopback always reaches it.
        let ip = match addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let scheme = if self.tls == Tls::Off { "http" } else { "https" };
        format!("{scheme}://{}", SocketAddr::new(ip, addr.port()))
    }
}
