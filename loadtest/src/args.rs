//! What can be asked of the tool.

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use std::path::PathBuf;

/// Thousands of simulated gateways against a Gatecast hub, with every event verified
#[derive(Parser)]
#[command(name = "loadtest", version)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The scenarios, and the comparison of two runs.
#[derive(Subcommand)]
pub enum Command {
    /// How fast do connections come up, and what does each cost?
    Connect(Connect),
    /// What does a fleet cost that only answers pings?
    Idle(Idle),
    /// How long until all connections of one gateway have an event?
    Fanout(Fanout),
    /// What latency has a given rate of events, or which rate is possible?
    Throughput(Throughput),
    /// How long until a whole fleet is back, and what do those notice that stayed?
    Storm(Storm),
    /// What do connections that do not read cost those that do?
    Slow(Slow),
    /// Does anything go missing while connections come and go?
    Churn(Churn),
    /// Does everything hold at once: events, churn, slow connections, statistics?
    Mixed(Mixed),
    /// Print two runs side by side
    Compare {
        /// The `--json` of one run
        before: PathBuf,
        /// The `--json` of another
        after: PathBuf,
    },
}

/// What every scenario takes.
#[derive(Args, Clone)]
pub struct Common {
    /// The hub.
    #[command(flatten)]
    pub target: TargetArgs,
    /// The fleet.
    #[command(flatten)]
    pub fleet: FleetArgs,
    /// How long events may still come at the end before they count as lost
    #[arg(long, value_name = "SECONDS", default_value_t = 15.0, value_parser = positive, help_heading = "Fleet")]
    pub patience: f64,
    /// Write figures, times and the time line as JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Write a page with charts
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub report: Option<PathBuf>,
    /// Show no progress
    #[arg(long, help_heading = "Output")]
    pub quiet: bool,
}

/// Which hub.
#[derive(Args, Clone, Default)]
pub struct TargetArgs {
    /// Start a hub in this process (the default): generator and hub share the cores
    #[arg(long, conflicts_with_all = ["spawn", "server"], help_heading = "Hub")]
    pub in_process: bool,
    /// Start this program with data of its own, on a free port
    #[arg(long, value_name = "PATH_TO_GATECAST", conflicts_with = "server", help_heading = "Hub")]
    pub spawn: Option<PathBuf>,
    /// Use the hub there, as https://hub.example.com:9243
    #[arg(long, value_name = "URL", requires = "admin_token", help_heading = "Hub")]
    pub server: Option<String>,
    /// Its admin token
    #[arg(long, value_name = "TOKEN", env = "GATECAST_ADMIN_TOKEN", hide_env_values = true, help_heading = "Hub")]
    pub admin_token: Option<String>,
    /// PEM file with the certificates to trust
    #[arg(long, value_name = "FILE", help_heading = "Hub")]
    pub ca: Option<PathBuf>,
    /// Its process, if it runs on this machine: to measure memory and processor time
    #[arg(long, help_heading = "Hub")]
    pub pid: Option<u32>,
    /// Leave the gateways of the run there
    #[arg(long, help_heading = "Hub")]
    pub keep: bool,
    /// Shards of a hub that is started here [default: all cores but one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Hub")]
    pub cores: Option<u16>,
    /// No TLS for a hub that is started here
    #[arg(long, help_heading = "Hub")]
    pub plain: bool,
}

/// How large and how lively.
#[derive(Args, Clone)]
pub struct FleetArgs {
    /// Gateways
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = at_least_one, help_heading = "Fleet")]
    pub gateways: usize,
    /// Connections of each gateway
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = at_least_one, help_heading = "Fleet")]
    pub per_gateway: usize,
    /// Bytes of a payload
    #[arg(long, value_name = "BYTES", default_value_t = 300, value_parser = payload_size, help_heading = "Fleet")]
    pub size: usize,
    /// Connections of the platform
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one, help_heading = "Fleet")]
    pub publishers: usize,
    /// Handshakes in flight
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one, help_heading = "Fleet")]
    pub window: usize,
    /// Connections over which the gateways are made
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one, help_heading = "Fleet")]
    pub fill_connections: usize,
    /// Answer each event with a deployment.ack
    #[arg(long, help_heading = "Fleet")]
    pub ack: bool,
}

/// The largest payload that a hub takes.
const PAYLOAD_BYTES_MAX: usize = gatecast::PAYLOAD_BYTES_MAX;

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a number from 1 on".to_owned())
}

fn payload_size(text: &str) -> Result<usize, String> {
    let least = crate::marker::PAYLOAD_BYTES_MIN;
    let fits = |size: &usize| (least..=PAYLOAD_BYTES_MAX).contains(size);
    text.parse()
        .ok()
        .filter(fits)
        .ok_or_else(|| format!("{least} to {PAYLOAD_BYTES_MAX}: an event carries what verifies it"))
}

fn positive(text: &str) -> Result<f64, String> {
    let fits = |number: &f64| number.is_finite() && *number > 0.0;
    text.parse().ok().filter(fits).ok_or_else(|| "a number above 0".to_owned())
}

/// `connect`.
#[derive(Args, Clone)]
pub struct Connect {
    /// What every scenario takes.
    #[command(flatten)]
    pub common: Common,
}

/// `idle`.
#[derive(Args, Clone)]
pub struct Idle {
    /// What every scenario takes.
    #[command(flatten)]
    pub common: Common,
    /// How long: two ping intervals and a little
    #[arg(long, value_name = "SECONDS", default_value_t = 45.0, value_parser = positive)]
    pub seconds: f64,
}

/// `fanout`.
#[derive(Args, Clone)]
pub struct Fanout {
    /// What every scenario takes.
    #[command(flatten)]
    pub common: Common,
    /// Connections of the gateway; a gateway for each number
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_values_t = [1, 10, 100, 1_000], value_parser = at_least_one)]
    pub connections: Vec<usize>,
    /// Events to each gateway
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    pub rounds: usize,
}

/// `throughput`.
#[derive(Args, Clone)]
pub struct Throughput {
    /// What every scenario takes.
    #[command(flatten)]
    pub common: Common,
    /// How the events come.
    #[command(flatten)]
    pub stream: Stream,
    /// Each publisher sends when its last event was answered, as fast as it goes, instead of at the rate
    #[arg(long)]
    pub closed: bool,
    /// Events in one request; 1 is a call for each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub batch: usize,
}

/// How events come.
#[derive(Args, Clone, Copy, Serialize)]
pub struct Stream {
    /// Events a second, whether the hub keeps up or not
    #[arg(long, value_name = "PER_SECOND", default_value_t = 1_000.0, value_parser = positive)]
    pub rate: f64,
    /// How long
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = positive)]
    pub seconds: f64,
}

/// `storm`.
#[derive(Args, Clone)]
pub struct Storm {
    /// What every scenario takes.
    #[command(flatten)]
    pub common: Common,
    /// Events a second to the gateways that stay
    #[arg(long, value_name = "PER_SECOND", default_value_t = 500.0, value_parser = positive)]
    pub rate: f64,
    /// How long before the storm
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = positive)]
    pub seconds: f64,
    /// Percent of the gateways that stay
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..100))]
    pub stay: u8,
    /// TLS goes on from the connection before
    #[arg(long)]
    pub resume: bool,
}

/// `slow`.
#[derive(Args, Clone)]
pub struct Slow {
    /// What every scenario takes.
    #[command(flatten)]
    pub common: Common,
    /// How the events come.
    #[command(flatten)]
    pub stream: Stream,
    /// Connections that never read
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub never_read: usize,
    /// Connections that read a few bytes now and then
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub trickle: usize,
}

/// `churn`.
#[derive(Args, Clone)]
pub struct Churn {
    /// What every scenario takes.
    #[command(flatten)]
    pub common: Common,
    /// How the events come.
    #[command(flatten)]
    pub stream: Stream,
    /// Connections cut in a second, every other one with a close frame
    #[arg(long, value_name = "PER_SECOND", default_value_t = 50.0, value_parser = positive)]
    pub cuts: f64,
}

/// `mixed`.
#[derive(Args, Clone)]
pub struct Mixed {
    /// What every scenario takes.
    #[command(flatten)]
    pub common: Common,
    /// How the events come.
    #[command(flatten)]
    pub stream: Stream,
    /// Connections cut in a second
    #[arg(long, value_name = "PER_SECOND", default_value_t = 20.0, value_parser = positive)]
    pub cuts: f64,
    /// Connections that never read
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub never_read: usize,
    /// Connections that read a few bytes now and then
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
    fn what_makes_no_sense_is_refused() {
        let check = |line: &str, expected: &str| {
            let parsed = Arguments::try_parse_from(std::iter::once("loadtest").chain(line.split(' ')));
            let error = parsed.err().expect(line).to_string();
            assert!(error.contains(expected), "{line}: {error}");
        };
        check("connect --gateways 0", "a number from 1 on");
        check("throughput --rate=-1", "a number above 0");
        check("throughput --rate NaN", "a number above 0");
        check("fanout --size 10", "an event carries what verifies it");
        check("storm --stay 100", "100 is not in 1..100");
        check("connect --spawn x --server y", "cannot be used with");
        check("idle --server https://x", "--admin-token");
    }

    #[test]
    fn lists_are_split() {
        let parsed = Arguments::try_parse_from(["loadtest", "fanout", "--connections", "1,5"]).unwrap();
        let Command::Fanout(fanout) = parsed.command else { panic!("it is a fan-out") };
        assert_eq!(fanout.connections, [1, 5]);
    }
}
