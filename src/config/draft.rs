//! A configuration while its sources are laid over each other, before the checks that look at several keys.

use super::settings::{Config, LogFormat, Tls};
use std::path::PathBuf;

/// The words of `tls.mode`, in the order of [`Draft::tls_mode`].
pub(super) const TLS_MODES: &[&str] = &["auto", "self-signed", "files", "off"];
/// The words of `log.format`, in the order of [`Draft::log_format`].
pub(super) const LOG_FORMATS: &[&str] = &["text", "json"];

/// Every value of [`Config`] in the form in which a key can set it.
#[derive(Clone)]
pub(super) struct Draft {
    /// What needs no other form.
    pub config: Config,
    /// 0 is all.
    pub cores: u64,
    /// An index into [`TLS_MODES`].
    pub tls_mode: usize,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub connections_max: u64,
    pub connections_per_gateway_max: u64,
    pub rate_per_minute: u64,
    pub outbox_bytes_max: u64,
    pub inbound_message_bytes_max: u64,
    /// An index into [`LOG_FORMATS`].
    pub log_format: usize,
}

impl Draft {
    /// The defaults.
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
            outbox_bytes_max: config.outbox_bytes_max as u64,
            inbound_message_bytes_max: config.inbound_message_bytes_max as u64,
            log_format: usize::from(config.log_format == LogFormat::Json),
            config,
        }
    }

    /// The configuration, or what is wrong with its certificate.
    pub(super) fn finish(self) -> Result<Config, &'static str> {
        let tls = self.tls()?;
        // The table's ranges keep every number within its type; saturating says the same without a way to fail.
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Ok(Config {
            cores: u16::try_from(self.cores).ok().filter(|cores| *cores > 0),
            tls,
            connections_max: size(self.connections_max),
            connections_per_gateway_max: size(self.connections_per_gateway_max),
            rate_per_minute: u32::try_from(self.rate_per_minute).unwrap_or(u32::MAX),
            outbox_bytes_max: size(self.outbox_bytes_max),
            inbound_message_bytes_max: size(self.inbound_message_bytes_max),
            log_format: if LOG_FORMATS[self.log_format] == "json" { LogFormat::Json } else { LogFormat::Text },
            ..self.config
        })
    }

    fn tls(&self) -> Result<Tls, &'static str> {
        match (TLS_MODES[self.tls_mode], &self.tls_cert, &self.tls_key) {
            ("off", ..) => Ok(Tls::Off),
            ("self-signed", ..) | ("auto", None, None) => Ok(Tls::SelfSigned),
            (_, Some(cert), Some(key)) => Ok(Tls::Files { cert: cert.clone(), key: key.clone() }),
            (_, Some(_), None) => Err("tls.cert is set but tls.key is not: set both, or neither"),
            (_, None, Some(_)) => Err("tls.key is set but tls.cert is not: set both, or neither"),
            (_, None, None) => Err("tls.mode is \"files\" but tls.cert and tls.key are not set"),
        }
    }
}
