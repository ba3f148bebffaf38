//! The commands of the `gatecast` program, one file for each.

pub mod client;
mod config_args;
mod demo;
pub mod doctor;
pub mod endpoint;
mod event_log;
mod events;
mod failure;
mod gateway;
pub mod link;
pub mod listen;
pub mod log;
mod outcome;
mod output;
mod publish;
mod resend;
mod resume;
pub mod serve;
mod signals;
mod stats;
#[cfg(test)]
mod testing;
mod token;

pub use failure::Failure;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The event hub between an API platform and its fleet of API gateways.
#[derive(Parser)]
#[command(name = "gatecast", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a hub until SIGTERM or Ctrl-C.
    Serve(serve::Serve),
    /// Show a hub at work: start one on this machine, connect gateways and deploy an API.
    Demo(demo::Demo),
    /// Check whether a hub can run on this machine, and say what to change if it cannot.
    Doctor(doctor::Doctor),
    /// Register, change, list and delete gateways.
    #[command(subcommand)]
    Gateway(gateway::Gateway),
    /// Create, list and revoke the tokens with which gateways connect.
    #[command(subcommand)]
    Token(token::Token),
    /// Publish one event to a gateway.
    Publish(publish::Publish),
    /// Send an event of a gateway's log once more.
    Resend(resend::Resend),
    /// Show the log of a gateway: the events that the hub keeps.
    Events(events::Events),
    /// Show the gateway connections, what they are at work on and their delivery counters.
    Stats(stats::Stats),
    /// Connect as a gateway and print the events that arrive.
    Listen(listen::Listen),
    /// Look at, check and trim the event log of a hub that is stopped.
    #[command(subcommand)]
    Log(event_log::EventLog),
}

/// Runs the command that the arguments of this process name, and returns the exit code.
pub fn run() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Gateway(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Publish(command) => command.run(),
        Command::Resend(command) => command.run(),
        Command::Events(command) => command.run(),
        Command::Stats(command) => command.run(),
        Command::Listen(command) => command.run(),
        Command::Log(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // `gatecast gateway list | head -1` ends with a closed pipe, which is not worth a message.
            if failure != Failure::OutputClosed {
                eprintln!("gatecast: {failure}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn invalid_arguments_are_refused() {
        let check = |line: &str, expected: bool| {
            assert_eq!(Arguments::try_parse_from(line.split(' ')).is_ok(), expected, "{line}");
        };
        let id = "4ad0a1f6-6c5b-4d0f-8f2e-6f4c3ad9c1b7";
        check("gatecast", false);
        check("gatecast serve", true);
        check("gatecast demo --once", true);
        check("gatecast serve --tls off --set heartbeat.interval=1s --set drain.window=0s --cores 2", true);
        check("gatecast serve --set heartbeat.interval", false);
        check("gatecast doctor --json", true);
        check("gatecast gateway create edge-1 --organization acme", true);
        check("gatecast gateway create", false);
        check("gatecast gateway create edge-1 --delivery processed", true);
        check("gatecast gateway create edge-1 --delivery default", false);
        check(&format!("gatecast gateway set {id} --delivery default --json"), true);
        check(&format!("gatecast gateway set {id} --display-name Edge --delivery written"), true);
        check(&format!("gatecast gateway set {id} --delivery sent"), false);
        check(&format!("gatecast gateway set {id} --json"), false);
        check("gatecast gateway set edge-1 --delivery written", false);
        check("gatecast gateway delete edge-1", false);
        check(&format!("gatecast gateway delete {id}"), true);
        check(&format!("gatecast token create {id}"), true);
        check(&format!("gatecast token create {id} --sha256 abc"), false);
        check(&format!("gatecast token revoke {id} {id}"), true);
        check("gatecast gateway list --admin-token -begins-with-a-hyphen", true);
        check("gatecast listen --token -begins-with-a-hyphen", true);
        check(&format!("gatecast publish {id} --type api.deployed --payload {{}}"), true);
        check(&format!("gatecast publish {id} --payload {{}}"), false);
        check(&format!("gatecast publish {id} --type t --payload 1 --wait 30s --json"), true);
        for bad in ["61s", "0s", "30", "1m", "-1s"] {
            check(&format!("gatecast publish {id} --type t --payload 1 --wait={bad}"), false);
        }
        check(&format!("gatecast publish {id} --type t --payload 1 --wait"), false);
        check(&format!("gatecast resend {id} 0000000000000001-2 --wait 500ms --json"), true);
        check(&format!("gatecast resend {id} 0000000000000001-2"), true);
        check(&format!("gatecast resend {id}"), false);
        check(&format!("gatecast resend {id} 2"), false);
        check("gatecast resend edge-1 0000000000000001-2", false);
        check(&format!("gatecast events {id} --limit 5 --type api.* --correlation {id} --follow --json"), true);
        check(&format!("gatecast events {id} --after 0000000000000001-2"), true);
        check(&format!("gatecast events {id} --after 2"), false);
        check("gatecast events edge-1", false);
        check("gatecast stats --json --server https://hub:9243 --admin-token t --ca ca.pem", true);
        check("gatecast listen --token t --ack --once", true);
        check("gatecast listen --resume", true);
        check("gatecast listen --resume place --json", true);
        check("gatecast log status --data d --json --limit 3", true);
        check(&format!("gatecast log status --gateway {id}"), true);
        check("gatecast log verify", true);
        check("gatecast log trim", false);
        check("gatecast log trim --all", true);
        check("gatecast log trim --all --keep 3", false);
        check(&format!("gatecast log trim --gateway {id} --keep 3 --dry-run"), true);
        check("gatecast log trim --keep many", false);
        check("gatecast log new-epoch --yes", true);
    }
}
