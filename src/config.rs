//! What an operator may set: text in, checked values out.

mod draft;
mod error;
mod example;
mod kind;
mod source;
mod table;
#[cfg(test)]
mod tests;

pub use error::{ConfigError, Origin};
pub use source::{Given, Sources};

use crate::limits;
use draft::Draft;
use source::Setting;
use std::{
    collections::HashMap,
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
    /// Lays the environment over the file and the flags over both.
    ///
    /// # Errors
    /// The first thing that is wrong: its key, its value, where it was set and what is allowed.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut settings = sources.file.as_deref().map_or(Ok(Vec::new()), source::from_file)?;
        settings.extend(source::from_environment(&sources.environment)?);
        settings.extend(source::from_flags(&sources.flags)?);
        Self::from_settings(&settings)
    }

    /// The text of a file that has every key at its default, with what it is for: `docs/gatecast.example.toml`.
    pub fn example() -> String {
        example::example()
    }

    fn from_settings(settings: &[Setting]) -> Result<Self, ConfigError> {
        let mut draft = Draft::new();
        let mut origins = HashMap::new();
        for Setting { key, raw, origin } in settings {
            key.kind.set(raw, &mut draft).ok_or_else(|| ConfigError::Refused {
                key: key.name,
                value: raw.to_string(),
                origin: origin.clone(),
                allowed: key.kind.allowed(),
            })?;
            origins.insert(key.name, origin);
        }
        let origin = |key| origins.get(key).map_or(&Origin::Default, |origin| *origin);
        let certificate = |problem| {
            let place = ["tls.cert", "tls.key", "tls.mode"].map(origin).into_iter().find(|it| **it != Origin::Default);
            ConfigError::Conflict(format!("{problem} ({})", place.unwrap_or(&Origin::Default)))
        };
        let config = draft.finish().map_err(certificate)?;
        config.check_heartbeat(origin)?;
        config.check_addresses(origin)?;
        Ok(config)
    }

    fn check_heartbeat<'a>(&self, origin: impl Fn(&'static str) -> &'a Origin) -> Result<(), ConfigError> {
        if self.heartbeat_timeout > self.heartbeat_interval {
            return Ok(());
        }
        Err(ConfigError::Conflict(format!(
            "heartbeat.timeout = {:?} ({}) must be longer than heartbeat.interval = {:?} ({})",
            kind::show_duration(self.heartbeat_timeout),
            origin("heartbeat.timeout"),
            kind::show_duration(self.heartbeat_interval),
            origin("heartbeat.interval"),
        )))
    }

    /// Two sockets on one address would be refused as taken by another program, which is not true.
    fn check_addresses<'a>(&self, origin: impl Fn(&'static str) -> &'a Origin) -> Result<(), ConfigError> {
        let (listen, Some(admin)) = (self.listen, self.admin_listen) else { return Ok(()) };
        let any_ip = listen.ip().is_unspecified() || admin.ip().is_unspecified();
        if listen.port() != admin.port() || listen.port() == 0 || !(any_ip || listen.ip() == admin.ip()) {
            return Ok(());
        }
        Err(ConfigError::Conflict(format!(
            "admin.listen = \"{admin}\" ({}) meets listen = \"{listen}\" ({}): give it another port, or leave it out",
            origin("admin.listen"),
            origin("listen"),
        )))
    }

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
