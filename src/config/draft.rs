//! A configuration that is being put together: each key's value is checked, combinations of keys are not yet.

use super::settings::{Config, EventLogMode, EventLogSync, LogFormat, Tls};
use crate::model::DeliveryMode;
use std::path::PathBuf;

/// The values of `tls.mode`; [`Draft::tls_mode`] is an index into them.
pub(super) const TLS_MODES: &[&str] = &["auto", "self-signed", "files", "off"];
/// The values of `log.format`; [`Draft::log_format`] is an index into them.
pub(super) const LOG_FORMATS: &[&str] = &["text", "json"];

/// The values of `event_log.mode`; [`Draft::event_log_mode`] is an index into them.
pub(super) const EVENT_LOG_MODES: &[&str] = &["durable", "memory"];
/// The values of `event_log.sync`; [`Draft::event_log_sync`] is an index into them.
pub(super) const EVENT_LOG_SYNCS: &[&str] = &["power", "process"];

/// Every value of [`Config`], in the type that its kind of key writes.
#[derive(Clone)]
pub(super) struct Draft {
    /// The values that have the same type here and in the configuration; the fields below replace the others.
    pub config: Config,
    /// Number of shards; 0 means one for each available core.
    pub cores: u64,
    /// An index into [`TLS_MODES`].
    pub tls_mode: usize,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub connections_max: u64,
    pub connections_per_gateway_max: u64,
    pub rate_per_minute: u64,
    pub recent_bytes_max: u64,
    pub inbound_message_bytes_max: u64,
    /// An index into [`DeliveryMode::WORDS`].
    pub delivery_mode: usize,
    pub delivery_window: u64,
    pub delivery_poison_connections: u64,
    /// An index into [`EVENT_LOG_MODES`].
    pub event_log_mode: usize,
    /// An index into [`EVENT_LOG_SYNCS`].
    pub event_log_sync: usize,
    pub event_log_gateway_bytes_max: u64,
    pub event_log_bytes_max: u64,
    pub event_log_reserve_bytes: u64,
    /// An index into [`LOG_FORMATS`].
    pub log_format: usize,
}

impl Draft {
    /// Every key at its default.
    pub(super) fn new() -> Self {
        let config = Config::default();
        Self {
            cores: config.cores.map_or(0, u64::from),
            tls_mode: 0,
            tls_cert: None,
            tls_key: None,
            connections_max: config.connections_max as u64,
            connections_per_gateway_max: config.connections_per_gateway_max as u64,
            rate_per_minute: u64::from(config.rate_per_minute),
            recent_bytes_max: config.recent_bytes_max as u64,
            inbound_message_bytes_max: config.inbound_message_bytes_max as u64,
            delivery_mode: usize::from(config.delivery_mode == DeliveryMode::Processed),
            delivery_window: u64::from(config.delivery_window),
            delivery_poison_connections: u64::from(config.delivery_poison_connections),
            event_log_mode: usize::from(config.event_log_mode == EventLogMode::Memory),
            event_log_sync: usize::from(config.event_log_sync == EventLogSync::Process),
            event_log_gateway_bytes_max: config.event_log_gateway_bytes_max as u64,
            event_log_bytes_max: config.event_log_bytes_max as u64,
            event_log_reserve_bytes: config.event_log_reserve_bytes as u64,
            log_format: usize::from(config.log_format == LogFormat::Json),
            config,
        }
    }

    /// Converts the draft into a configuration.
    ///
    /// # Errors
    /// `tls.mode`, `tls.cert` and `tls.key` contradict each other: a sentence about these keys.
    pub(super) fn finish(self) -> Result<Config, &'static str> {
        let tls = self.tls()?;
        // The table's ranges already keep every number within its type. Saturating is only there because `as` would
        // truncate silently if a range in the table were ever widened past the type.
        let to_usize = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let to_u32 = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Config {
            cores: u16::try_from(self.cores).ok().filter(|cores| *cores > 0),
            tls,
            connections_max: to_usize(self.connections_max),
            connections_per_gateway_max: to_usize(self.connections_per_gateway_max),
            rate_per_minute: to_u32(self.rate_per_minute),
            recent_bytes_max: to_usize(self.recent_bytes_max),
            inbound_message_bytes_max: to_usize(self.inbound_message_bytes_max),
            delivery_mode: DeliveryMode::parse(DeliveryMode::WORDS[self.delivery_mode]).unwrap_or_default(),
            delivery_window: to_u32(self.delivery_window),
            delivery_poison_connections: to_u32(self.delivery_poison_connections),
            event_log_mode: match EVENT_LOG_MODES[self.event_log_mode] {
                "memory" => EventLogMode::Memory,
                _ => EventLogMode::Durable,
            },
            event_log_sync: match EVENT_LOG_SYNCS[self.event_log_sync] {
                "process" => EventLogSync::Process,
                _ => EventLogSync::Power,
            },
            event_log_gateway_bytes_max: to_usize(self.event_log_gateway_bytes_max),
            event_log_bytes_max: to_usize(self.event_log_bytes_max),
            event_log_reserve_bytes: to_usize(self.event_log_reserve_bytes),
            log_format: if LOG_FORMATS[self.log_format] == "json" { LogFormat::Json } else { LogFormat::Text },
            ..self.config
        })
    }

    fn tls(&self) -> Result<Tls, &'static str> {
        // "off" and "self-signed" come first so that a flag can override a file that names a certificate.
        match (TLS_MODES[self.tls_mode], &self.tls_cert, &self.tls_key) {
            ("off", ..) => Ok(Tls::Off),
            ("self-signed", ..) | ("auto", None, None) => Ok(Tls::SelfSigned),
            (_, Some(cert), Some(key)) => Ok(Tls::Files { cert: cert.clone(), key: key.clone() }),
            (_, Some(_), None) => Err("missing `tls.key`: set both `tls.cert` and `tls.key`, or neither"),
            (_, None, Some(_)) => Err("missing `tls.cert`: set both `tls.cert` and `tls.key`, or neither"),
            (_, None, None) => Err("missing `tls.cert` and `tls.key`: `tls.mode` = \"files\" needs both"),
        }
    }
}
