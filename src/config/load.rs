//! Merges the sources into a configuration and checks keys that depend on each other.

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
    /// Loads the file, then the environment, then the flags. A later source overrides an earlier one.
    ///
    /// # Errors
    /// The first mistake found: its key, its value, where it was set and what was expected.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut settings = sources.file.as_deref().map_or(Ok(Vec::new()), source::from_file)?;
        settings.extend(source::from_environment(&sources.environment)?);
        settings.extend(source::from_flags(&sources.flags)?);
        Self::from_settings(&settings)
    }

    /// The text of `docs/gatecast.example.toml`: every key with its default and a description.
    pub fn example() -> String {
        example::example()
    }

    pub(super) fn from_settings(settings: &[Setting]) -> Result<Self, ConfigError> {
        let mut draft = Draft::new();
        let mut origins = HashMap::new();
        // Every setting is parsed, also one that a later source overrides: a mistake in the file does not stay hidden
        // until somebody removes the flag.
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
        let tls_conflict = |problem| {
            // The conflict is between up to three keys; the first one that was set is the most useful place to name.
            let place = ["tls.cert", "tls.key", "tls.mode"].map(origin).into_iter().find(|it| **it != Origin::Default);
            ConfigError::Conflict(format!("{problem} ({})", place.unwrap_or(&Origin::Default)))
        };
        let config = draft.finish().map_err(tls_conflict)?;
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
            "invalid `heartbeat.timeout` = {:?} ({}): expected a duration longer than `heartbeat.interval` = {:?} ({})",
            kind::show_duration(self.heartbeat_timeout),
            origin("heartbeat.timeout"),
            kind::show_duration(self.heartbeat_interval),
            origin("heartbeat.interval"),
        )))
    }

    /// An idle core runs its loop only every 520 ms, so that a shorter limit would abort healthy processes.
    fn check_watchdog<'a>(&self, origin: impl Fn(&'static str) -> &'a Origin) -> Result<(), ConfigError> {
        let abort_after = self.watchdog_abort_after;
        if abort_after.is_zero() || abort_after >= limits::ABORT_AFTER_MIN {
            return Ok(());
        }
        Err(ConfigError::Conflict(format!(
            "invalid `watchdog.abort_after` = {:?} ({}): expected {:?} or more, or \"0s\" to disable the watchdog",
            kind::show_duration(abort_after),
            origin("watchdog.abort_after"),
            kind::show_duration(limits::ABORT_AFTER_MIN),
        )))
    }

    /// Rejects two listeners on one address here, where the message can name both keys. Binding the second would fail
    /// as if another program had the port.
    fn check_addresses<'a>(&self, origin: impl Fn(&'static str) -> &'a Origin) -> Result<(), ConfigError> {
        let (listen, Some(admin)) = (self.listen, self.admin_listen) else { return Ok(()) };
        // An unspecified address covers every other of the same port. Port 0 takes a free port each time, so two of
        // them never clash.
        let any_ip = listen.ip().is_unspecified() || admin.ip().is_unspecified();
        if listen.port() != admin.port() || listen.port() == 0 || !(any_ip || listen.ip() == admin.ip()) {
            return Ok(());
        }
        Err(ConfigError::Conflict(format!(
            "invalid `admin.listen` = \"{admin}\" ({}): expected an address that does not overlap `listen` = \"{listen}\" \
             ({}): choose another port, or leave it out",
            origin("admin.listen"),
            origin("listen"),
        )))
    }
}
