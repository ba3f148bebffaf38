//! Every setting as a checked value, with its default.

use crate::limits;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// PEM files: the certificate chain and its key.
    Files {
        /// The chain, leaf first.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// Made by the hub and kept in its data directory.
    SelfSigned,
    /// None: for a hub behind a proxy that terminates TLS.
    Off,
}

/// The form of the log on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Everything that can be set, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where gateways connect, and the platform too where `admin_listen` is not set. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// An address of its own for the platform's calls; gateways are not served there.
    pub admin_listen: Option<SocketAddr>,
    /// Where the store, the admin token and a self-made certificate are kept.
    pub data: PathBuf,
    /// Shards, each on a core; `None` is all cores that the process may run on.
    pub cores: Option<u16>,
    /// The certificate.
    pub tls: Tls,
    /// [`limits::CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// Connections of one gateway; 0 sets no bound beside the one above.
    pub connections_per_gateway_max: usize,
    /// [`limits::RATE_PER_MINUTE`]; 0 switches the limit off.
    pub rate_per_minute: u32,
    /// [`limits::HANDSHAKE_DEADLINE`].
    pub handshake_deadline: Duration,
    /// [`limits::HEARTBEAT_INTERVAL`].
    pub heartbeat_interval: Duration,
    /// [`limits::HEARTBEAT_TIMEOUT`].
    pub heartbeat_timeout: Duration,
    /// How much longer a peer may be silent whose kernel still acknowledges (contract section 1).
    pub heartbeat_busy_grace: Duration,
    /// [`limits::OUTBOX_BYTES_MAX`].
    pub outbox_bytes_max: usize,
    /// [`limits::WRITE_DEADLINE`].
    pub write_deadline: Duration,
    /// [`limits::INBOUND_MESSAGE_BYTES_MAX`].
    pub inbound_message_bytes_max: usize,
    /// [`limits::PUBLISH_TIMEOUT`].
    pub publish_timeout: Duration,
    /// [`limits::DRAIN_WINDOW`].
    pub drain_window: Duration,
    /// Origins that a browser may connect from; gateways send none.
    pub origins: Vec<String>,
    /// The form of the log.
    pub log_format: LogFormat,
    /// Which lines are logged, as `tracing` directives.
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
            outbox_bytes_max: limits::OUTBOX_BYTES_MAX,
            write_deadline: limits::WRITE_DEADLINE,
            inbound_message_bytes_max: limits::INBOUND_MESSAGE_BYTES_MAX,
            publish_timeout: limits::PUBLISH_TIMEOUT,
            drain_window: limits::DRAIN_WINDOW,
            origins: Vec::new(),
            log_format: LogFormat::Text,
            log_filter: "info".to_owned(),
        }
    }
}

impl Config {
    /// How somebody on this machine reaches a hub that is bound to `addr`: `https://127.0.0.1:9243`.
    pub fn url(&self, addr: SocketAddr) -> String {
        let ip = match addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let scheme = if self.tls == Tls::Off { "http" } else { "https" };
        format!("{scheme}://{}", SocketAddr::new(ip, addr.port()))
    }
}
