//! `gatecast serve`: runs a hub until a signal ends it.

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
    /// Starts the hub and returns when it has drained, failed, or could not start.
    pub fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let _log = log::start(&config).map_err(Failure::Failed)?;
        let signal_error = |error| Failure::Failed(format!("cannot handle signals: {error}"));
        // SIGHUP before the start and the other signals after it: see `signals::prepare`.
        let signals = signals::prepare().map_err(signal_error)?;
        let hub = start(&config)?;
        signals::watch(signals, hub.handle()).map_err(signal_error)?;
        // Standard output may be closed or full. That is no reason to stop a hub, so the line goes to the log instead.
        if output::line(&ready_line(&config, &hub)).is_err() {
            tracing::warn!(url = config.url(hub.addr()), "listening; cannot write to standard output");
        }
        hub.join().map_err(|error| Failure::Failed(error.to_string()))
    }
}

/// Checks the machine, then starts a hub on it.
///
/// # Errors
/// All checks that failed, each with what to do about it; or why the hub did not start.
pub fn start(config: &Config) -> Result<Hub, Failure> {
    // The checks come first because the runtime panics or aborts on a machine that lacks what it needs.
    doctor::raise_limits(config);
    let failed: Vec<_> = doctor::check(config).iter().filter(|it| !it.ok).map(ToString::to_string).collect();
    if !failed.is_empty() {
        return Err(Failure::Failed(format!("the hub cannot run on this machine:\n{}", failed.join("\n"))));
    }
    Hub::start(config.clone()).map_err(|error| Failure::Failed(error.to_string()))
}

fn ready_line(config: &Config, hub: &Hub) -> String {
    let token = config.data.join(endpoint::ADMIN_TOKEN_FILE);
    format!("gatecast listening on {} (admin token in {})", config.url(hub.addr()), token.display())
}

#[cfg(test)]
mod tests;
