//! The sources laid over each other, and the checks that look at several keys.

use super::{
    draft::Draft,
    error::{ConfigError, Origin},
    example, kind,
    settings::Config,
    source::{self, Setting, Sources},
};
use crate::limits;
use std::collections::HashMap;

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

    pub(super) fn from_settings(settings: &[Setting]) -> Result<Self, ConfigError> {
        let mut draft = Draft::new();
        let mut origins = HashMap::new();
        for Setting { key, raw, origin } in settings {
            key.kind.set(raw, &mut draft).ok_or_else(|| ConfigError::InvalidValue {
                key: key.name,
                value: raw.to_string(),
                origin: origin.clone(),
                expected: key.kind.expected(),
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
        config.check_watchdog(origin)?;
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

    /// An idle core turns every 280 ms: with less than this, healthy ones would be aborted.
    fn check_watchdog<'a>(&self, origin: impl Fn(&'static str) -> &'a Origin) -> Result<(), ConfigError> {
        let abort_after = self.watchdog_abort_after;
        if abort_after.is_zero() || abort_after >= limits::ABORT_AFTER_MIN {
            return Ok(());
        }
        Err(ConfigError::Conflict(format!(
            "watchdog.abort_after = {:?} ({}) is too short: it is at least {:?}, or \"0s\" to switch it off",
            kind::show_duration(abort_after),
            origin("watchdog.abort_after"),
            kind::show_duration(limits::ABORT_AFTER_MIN),
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
}
