//! `gatecast doctor`: checks whether a hub can run on this machine, and says what to change if it cannot.

mod check;
mod judge;
mod machine;

pub use check::Check;
pub use machine::raise_limits;

use super::{Failure, config_args::ConfigArgs, output};
use crate::{config::Config, server::memory};
use clap::Args;

/// Checks this machine and process. Call [`raise_limits`] first, as `serve` does.
pub fn check(config: &Config) -> Vec<Check> {
    let cores = machine::cores();
    let shards = config.cores.map_or(cores, usize::from);
    let kernel = judge::kernel(&machine::kernel_release());
    // On a kernel that lacks an operation, the runtime would end the process instead of returning an error.
    let io_uring =
        kernel.ok.then(|| judge::io_uring(machine::io_uring_disabled().as_deref(), machine::probe_io_uring()));
    let mut checks = vec![kernel];
    checks.extend(io_uring);
    checks.extend([
        judge::locked_memory(machine::locked_memory(), shards, machine::is_exempt_from_memlock()),
        judge::descriptors(machine::descriptors(), config.connections_max),
        judge::memory(memory::available(), config, shards),
        judge::cores(cores, shards),
        judge::clock(machine::wall_clock_seconds(), machine::monotonic_clock_works()),
        judge::data(&config.data, machine::writable(&config.data)),
        judge::certificate(&config.tls),
    ]);
    checks
}

/// Check this machine.
#[derive(Args)]
pub struct Doctor {
    /// Print the checks as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Doctor {
    /// Prints one line for each check, and fails if one of them failed.
    pub fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        // Raised as `serve` would do, so that a limit that the hub can raise by itself is not reported.
        raise_limits(&config);
        let checks = check(&config);
        // Failed checks are output, not an error: all are printed before the command fails.
        if self.json {
            output::line(&serde_json::to_string(&checks).map_err(|error| Failure::Failed(error.to_string()))?)?;
        } else {
            checks.iter().try_for_each(|check| output::line(&check.to_string()))?;
        }
        match checks.iter().filter(|check| !check.ok).count() {
            0 => Ok(()),
            failed => Err(Failure::Failed(format!("{failed} of {} checks failed", checks.len()))),
        }
    }
}
