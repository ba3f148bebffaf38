//! Command line arguments of the load test tool.

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use std::path::PathBuf;

/// Thousands of simulated gateways against a Gatecast hub, with every event verified
#[derive(Parser)]
#[command(name = "loadtest", version)]
pub struct Arguments {
    /// The scenario to run, or `compare`
    #[command(subcommand)]
    pub command: Command,
}

/// The scenarios, and the comparison of two runs.
#[derive(Subcommand)]
pub enum Command {
    /// How fast do connections come up, and how much does each cost?
    Connect(Connect),
    /// How much processor time does an idle fleet cost that only answers pings?
    Idle(Idle),
    /// How long until all connections of one gateway have an event?
    Fanout(Fanout),
    /// What is the latency at a given rate of events, or the highest possible rate?
    Throughput(Throughput),
    /// How long until a fleet has reconnected, and how late are events for the gateways that stayed?
    Storm(Storm),
    /// How much do connections that do not read delay those that do?
    Slow(Slow),
    /// Are events lost while connections are cut and reconnect?
    Churn(Churn),
    /// Are events lost under everything at once: churn, slow connections, statistics?
    Mixed(Mixed),
    /// Print two runs side by side
    Compare {
        /// The file that `--json` wrote for the first run
        before: PathBuf,
        /// The file that `--json` wrote for the second run
        after: PathBuf,
    },
}

/// Arguments of every scenario.
#[derive(Args, Clone)]
pub struct Common {
    /// The hub.
    #[command(flatten)]
    pub target: TargetArgs,
    /// The fleet.
    #[command(flatten)]
    pub fleet: FleetArgs,
    /// How long to wait for events at the end before they count as lost
    #[arg(long, value_name = "SECONDS", default_value_t = 15.0, value_parser = positive, help_heading = "Fleet")]
    pub patience: f64,
    /// Write the figures, distributions and samples as JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Write an HTML page with charts
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub report: Option<PathBuf>,
    /// Show no progress
    #[arg(long, help_heading = "Output")]
    pub quiet: bool,
}

/// The hub to test.
#[derive(Args, Clone, Default)]
pub struct TargetArgs {
    /// Start a hub in this process (the default): load generator and hub share the cores
    #[arg(long, conflicts_with_all = ["spawn", "server"], help_heading = "Hub")]
    pub in_process: bool,
    /// Start this program as the hub, on a free port and with a temporary data directory
    #[arg(long, value_name = "PATH_TO_GATECAST", conflicts_with = "server", help_heading = "Hub")]
    pub spawn: Option<PathBuf>,
    /// Use a running hub, for example https://hub.example.com:9243
    #[arg(long, value_name = "URL", requires = "admin_token", help_heading = "Hub")]
    pub server: Option<String>,
    /// Admin token of the running hub
    #[arg(long, value_name = "TOKEN", env = "GATECAST_ADMIN_TOKEN", hide_env_values = true, help_heading = "Hub")]
    pub admin_token: Option<String>,
    /// PEM file with the certificates to trust instead of the public roots
    #[arg(long, value_name = "FILE", help_heading = "Hub")]
    pub ca: Option<PathBuf>,
    /// Process id of the running hub if it is on this machine, to measure its memory and processor time
    #[arg(long, help_heading = "Hub")]
    pub pid: Option<u32>,
    /// Do not delete the gateways that the run has created
    #[arg(long, help_heading = "Hub")]
    pub keep: bool,
    /// Number of shards of a hub that this tool starts [default: all cores but one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Hub")]
    pub cores: Option<u16>,
    /// Start the hub without TLS
    #[arg(long, help_heading = "Hub")]
    pub plain: bool,
}

/// The size of the fleet, and the events.
#[derive(Args, Clone)]
pub struct FleetArgs {
    /// Number of gateways
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = at_least_one, help_heading = "Fleet")]
    pub gateways: usize,
    /// Number of connections of each gateway
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = at_least_one, help_heading = "Fleet")]
    pub per_gateway: usize,
    /// Size of an event's payload
    #[arg(long, value_name = "BYTES", default_value_t = 300, value_parser = payload_size, help_heading = "Fleet")]
    pub size: usize,
    /// Number of the platform's connections that publish
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one, help_heading = "Fleet")]
    pub publishers: usize,
    /// Number of handshakes at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one, help_heading = "Fleet")]
    pub window: usize,
    /// Number of connections over which the gateways are created
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one, help_heading = "Fleet")]
    pub fill_connections: usize,
    /// Answer each event with a deployment.ack
    #[arg(long, help_heading = "Fleet")]
    pub ack: bool,
}

/// The largest payload that the hub accepts, in bytes.
const PAYLOAD_BYTES_MAX: usize = gatecast::PAYLOAD_BYTES_MAX;

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "expected an integer of 1 or more".to_owned())
}

fn payload_size(text: &str) -> Result<usize, String> {
    let least = crate::marker::PAYLOAD_BYTES_MIN;
    let fits = |size: &usize| (least..=PAYLOAD_BYTES_MAX).contains(size);
    text.parse().ok().filter(fits).ok_or_else(|| {
        format!("expected {least} to {PAYLOAD_BYTES_MAX} bytes; the least is for the marker that verifies an event")
    })
}

fn positive(text: &str) -> Result<f64, String> {
    let fits = |number: &f64| number.is_finite() && *number > 0.0;
    text.parse().ok().filter(fits).ok_or_else(|| "expected a number above 0".to_owned())
}

/// `connect`.
#[derive(Args, Clone)]
pub struct Connect {
    /// Arguments of every scenario.
    #[command(flatten)]
    pub common: Common,
}

/// `idle`.
#[derive(Args, Clone)]
pub struct Idle {
    /// Arguments of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// How long to measure; the default is a little more than two ping intervals
    #[arg(long, value_name = "SECONDS", default_value_t = 45.0, value_parser = positive)]
    pub seconds: f64,
}

/// `fanout`.
#[derive(Args, Clone)]
pub struct Fanout {
    /// Arguments of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Numbers of connections to compare; each is that of one gateway
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_values_t = [1, 10, 100, 1_000], value_parser = at_least_one)]
    pub connections: Vec<usize>,
    /// Number of events to each gateway
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    pub rounds: usize,
}

/// `throughput`.
#[derive(Args, Clone)]
pub struct Throughput {
    /// Arguments of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// The events.
    #[command(flatten)]
    pub stream: Stream,
    /// Ignore the rate: each publisher sends its next request as soon as the last is answered
    #[arg(long)]
    pub closed: bool,
    /// Number of events in one request; 1 uses the single publish endpoint
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub batch: usize,
}

/// A stream of events.
#[derive(Args, Clone, Copy, Serialize)]
pub struct Stream {
    /// Events a second; sent on schedule even if the hub does not keep up
    #[arg(long, value_name = "PER_SECOND", default_value_t = 1_000.0, value_parser = positive)]
    pub rate: f64,
    /// How long to publish
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = positive)]
    pub seconds: f64,
}

/// `storm`.
#[derive(Args, Clone)]
pub struct Storm {
    /// Arguments of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Events a second to the gateways that stay
    #[arg(long, value_name = "PER_SECOND", default_value_t = 500.0, value_parser = positive)]
    pub rate: f64,
    /// How long to measure before and after the storm
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = positive)]
    pub seconds: f64,
    /// Percentage of the gateways that stay connected
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..100))]
    pub stay: u8,
    /// Resume TLS sessions when connections come back
    #[arg(long)]
    pub resume: bool,
}

/// `slow`.
#[derive(Args, Clone)]
pub struct Slow {
    /// Arguments of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// The events.
    #[command(flatten)]
    pub stream: Stream,
    /// Number of connections that never read
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub never_read: usize,
    /// Number of connections that read 256 bytes every 50 ms
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub trickle: usize,
}

/// `churn`.
#[derive(Args, Clone)]
pub struct Churn {
    /// Arguments of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// The events.
    #[command(flatten)]
    pub stream: Stream,
    /// Connections cut a second, every other one with a close frame
    #[arg(long, value_name = "PER_SECOND", default_value_t = 50.0, value_parser = positive)]
    pub cuts: f64,
}

/// `mixed`.
#[derive(Args, Clone)]
pub struct Mixed {
    /// Arguments of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// The events.
    #[command(flatten)]
    pub stream: Stream,
    /// Connections cut a second
    #[arg(long, value_name = "PER_SECOND", default_value_t = 20.0, value_parser = positive)]
    pub cuts: f64,
    /// Number of connections that never read
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub never_read: usize,
    /// Number of connections that read 256 bytes every 50 ms
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub trickle: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_defaults() {
        for scenario in ["connect", "idle", "fanout", "throughput", "storm", "slow", "churn", "mixed"] {
            assert!(Arguments::try_parse_from(["loadtest", scenario]).is_ok(), "{scenario}");
        }
    }

    #[test]
    fn invalid_values_are_refused() {
        let check = |line: &str, expected: &str| {
            let parsed = Arguments::try_parse_from(std::iter::once("loadtest").chain(line.split(' ')));
            let error = parsed.err().expect(line).to_string();
            assert!(error.contains(expected), "{line}: {error}");
        };
        check("connect --gateways 0", "expected an integer of 1 or more");
        check("throughput --rate=-1", "a number above 0");
        check("throughput --rate NaN", "a number above 0");
        check("fanout --size 10", "the marker that verifies an event");
        check("storm --stay 100", "100 is not in 1..100");
        check("connect --spawn x --server y", "cannot be used with");
        check("idle --server https://x", "--admin-token");
    }

    #[test]
    fn a_list_of_connections_is_split_at_commas() {
        let parsed = Arguments::try_parse_from(["loadtest", "fanout", "--connections", "1,5"]).unwrap();
        let Command::Fanout(fanout) = parsed.command else { panic!("it is a fan-out") };
        assert_eq!(fanout.connections, [1, 5]);
    }
}
