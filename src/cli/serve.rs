//! `gatecast serve`: run a hub until it is told to stop.

use super::{Failure, config_args::ConfigArgs, doctor, endpoint, log, output, signals};
use crate::{Hub, config::Config};
use clap::Args;

/// Run a hub.
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Serve {
    /// Returns when the hub has drained, or could not start.
    pub fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let _log = log::start(&config).map_err(Failure::Failed)?;
        let signal_error = |error| Failure::Failed(format!("signals cannot be taken: {error}"));
        let signals = signals::prepare().map_err(signal_error)?;
        let hub = start(&config)?;
        signals::watch(signals, hub.handle()).map_err(signal_error)?;
        // Whoever started it may not listen any more; the hub serves all the same.
        if output::line(&ready_line(&config, &hub)).is_err() {
            tracing::warn!(url = config.url(hub.addr()), "listening; standard output does not take the line about it");
        }
        hub.join().map_err(|error| Failure::Failed(error.to_string()))
    }
}

/// Checks the machine, then starts a hub on it.
///
/// # Errors
/// Everything that stands in the way, with the remedies.
pub fn start(config: &Config) -> Result<Hub, Failure> {
    doctor::raise_limits(config);
    let failed: Vec<_> = doctor::check(config).iter().filter(|it| !it.ok).map(ToString::to_string).collect();
    if !failed.is_empty() {
        return Err(Failure::Failed(format!("a hub cannot run here:\n{}", failed.join("\n"))));
    }
    Hub::start(config.clone()).map_err(|error| Failure::Failed(error.to_string()))
}

fn ready_line(config: &Config, hub: &Hub) -> String {
    let token = config.data.join(endpoint::ADMIN_TOKEN_FILE);
    format!("gatecast listening on {} (admin token in {})", config.url(hub.addr()), token.display())
}

#[cfg(test)]
mod tests;
