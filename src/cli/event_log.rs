//! `gatecast log`: looks at, checks, trims and renews the event log in the data directory of a hub that is stopped.

mod confirm;
mod status;
mod verify;

use super::{
    Failure,
    config_args::ConfigArgs,
    endpoint::{self, ADDRESS_FILE},
    gateway::gateway_id,
    output,
};
use crate::{
    config::{Config, EventLogMode},
    model::GatewayId,
    store::{
        StoreError, Trouble,
        log::{GatewayStatus, LogStatus, OfflineLog},
    },
};
use clap::{Args, Subcommand};
use confirm::Confirm;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The subcommands.
#[derive(Subcommand)]
pub enum EventLog {
    /// Show what the log holds, and whether the next start will begin a new epoch
    Status {
        /// Show only this gateway
        #[arg(long, value_name = "UUID", value_parser = gateway_id)]
        gateway: Option<GatewayId>,
        /// Most gateways to show; those with the most bytes come first
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Read all events and check them; exit code 1 if something is damaged
    Verify {
        #[command(flatten)]
        place: Place,
    },
    /// Remove the oldest events, for example to make room on a full disk
    ///
    /// A gateway that comes back and asks for a removed event is told `"resumed":false`, and has to sync. The newest events are
    /// kept, so one that has missed only these still resumes.
    Trim {
        /// Trim only this gateway [default: every gateway]
        #[arg(long, value_name = "UUID", value_parser = gateway_id)]
        gateway: Option<GatewayId>,
        /// Keep this many of the newest events of each gateway
        #[arg(long, value_name = "N", required_unless_present = "all")]
        keep: Option<u64>,
        /// Keep no event
        #[arg(long, conflicts_with = "keep")]
        all: bool,
        /// Say what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        confirm: Confirm,
        #[command(flatten)]
        place: Place,
    },
    /// Declare all positions of before invalid, after a snapshot of the machine was put back
    ///
    /// A hub that was put back to an earlier state gives positions a second time, to other events, and a gateway that is ahead of it would
    /// be told that it has missed nothing. The hub finds that out by itself if only its store or only the log's file was put back from a backup. It
    /// cannot if the whole data directory or the machine was. After this command no event of before can be read, and every
    /// gateway that asks to resume is told `"resumed":false` once, and has to sync. A gateway with delivery `processed` is still given
    /// what it has not processed.
    NewEpoch {
        #[command(flatten)]
        confirm: Confirm,
        #[command(flatten)]
        place: Place,
    },
}

/// The flags that say where the log is.
#[derive(Args, Clone, Default)]
pub struct Place {
    /// Data directory of the hub [default: as configured, or gatecast-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Configuration file of the hub [default: $GATECAST_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl EventLog {
    /// Runs the command.
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Self::Status { gateway, limit, json, place } => {
                let (log, config) = place.open("status")?;
                let status = log.status().map_err(|error| failure(&error))?;
                if let Some(gateway) = gateway {
                    check_known(&status, gateway)?;
                }
                let shown = status::Shown { path: log.path(), status, gateway, limit };
                if json { output::line(&shown.json().to_string()) } else { shown.print(config.event_log_mode) }
            }
            Self::Verify { place } => {
                let (log, _) = place.open("verify")?;
                verify::report(&log.path(), &log.verify().map_err(|error| failure(&error))?)
            }
            Self::Trim { gateway, keep, all: _, dry_run, confirm, place } => {
                let (log, _) = place.open_by("trim", OfflineLog::open_to_trim)?;
                trim(log, gateway, keep.unwrap_or(0), dry_run, &confirm)
            }
            Self::NewEpoch { confirm, place } => {
                let (log, _) = place.open("new-epoch")?;
                let path = log.path();
                let status = log.status().map_err(|error| failure(&error))?;
                output::line(&announce_epoch(&path, &status))?;
                confirm.ask()?;
                log.new_epoch().map_err(|error| failure(&error))?;
                output::line("The log has a new epoch. The hub can be started.")
            }
        }
    }
}

/// What a new epoch does to a log.
fn announce_epoch(path: &Path, status: &LogStatus) -> String {
    let kept: u64 = status.gateways.iter().map(GatewayStatus::events_in_new_epoch).sum();
    let removed = status.gateways.iter().map(GatewayStatus::events).sum::<u64>() - kept;
    let path = path.display();
    let removed = output::count(removed, "event");
    let kept = match kept {
        0 => String::new(),
        kept => format!(
            " {} of gateways that have not processed them are kept under new positions.",
            output::count(kept, "event")
        ),
    };
    format!(
        "A new epoch for {path}: {removed} cannot be read any more, and every gateway that asks to resume has to sync.{kept}"
    )
}

fn trim(
    log: OfflineLog,
    gateway: Option<GatewayId>,
    keep: u64,
    dry_run: bool,
    confirm: &Confirm,
) -> Result<(), Failure> {
    let status = log.status().map_err(|error| failure(&error))?;
    if let Some(gateway) = gateway {
        check_known(&status, gateway)?;
    }
    if let Some(why) = status.lost {
        return Err(Failure::Failed(format!(
            "nothing to trim: {why}, so the next start of the hub begins a new epoch, and removes the events of all gateways but those \
             that have not processed theirs"
        )));
    }
    let chosen = status.gateways.iter().filter(|it| gateway.is_none_or(|id| it.life.gateway == id));
    let removed: Vec<u64> = chosen.map(|it| it.events().saturating_sub(keep)).filter(|events| *events > 0).collect();
    let (events, gateways) = (removed.iter().sum::<u64>(), removed.len());
    if events == 0 {
        return output::line("There is nothing to remove.");
    }
    let would = if dry_run { "would be" } else { "will be" };
    output::line(&format!(
        "{} of {} {would} removed from {}.",
        output::count(events, "event"),
        output::count(gateways as u64, "gateway"),
        log.path().display()
    ))?;
    if dry_run {
        return Ok(());
    }
    confirm.ask()?;
    let path = log.path();
    let before = fs::metadata(&path).map_or(0, |found| found.len());
    let removed = log.trim(gateway, keep).map_err(|error| failure(&error))?;
    let after = fs::metadata(&path).map_or(0, |found| found.len());
    output::line(&format!(
        "Removed {}. The file has {}, before {}.",
        output::count(removed, "event"),
        output::bytes(after),
        output::bytes(before)
    ))
}

fn check_known(status: &LogStatus, gateway: GatewayId) -> Result<(), Failure> {
    if status.gateways.iter().any(|it| it.life.gateway == gateway) {
        return Ok(());
    }
    Err(Failure::Failed(format!("the log has had no events of the gateway {gateway}")))
}

impl Place {
    fn load(&self) -> Result<Config, Failure> {
        ConfigArgs { data: self.data.clone(), config: self.config.clone(), ..ConfigArgs::default() }.load()
    }

    /// Opens the log for this command.
    fn open(&self, command: &str) -> Result<(OfflineLog, Config), Failure> {
        self.open_by(command, OfflineLog::open)
    }

    fn open_by(
        &self,
        command: &str,
        open: fn(&Path) -> Result<OfflineLog, StoreError>,
    ) -> Result<(OfflineLog, Config), Failure> {
        let config = self.load()?;
        match open(&config.data) {
            Ok(log) => Ok((log, config)),
            Err(StoreError::InUse { path, pid }) => {
                let pid = pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
                let url = fs::read_to_string(path.join(ADDRESS_FILE)).unwrap_or_default();
                let metrics = if url.is_empty() { "/metrics".to_owned() } else { format!("{}/metrics", url.trim()) };
                Err(Failure::Failed(format!(
                    "{} is in use by process {pid}: `gatecast log {command}` works only while the hub is stopped. The live \
                     numbers of the log are the metrics gatecast_event_log_* at {metrics} (with the token in {})",
                    path.display(),
                    path.join(endpoint::ADMIN_TOKEN_FILE).display()
                )))
            }
            Err(error @ StoreError::NoLog { .. }) => {
                let advice = match config.event_log_mode {
                    EventLogMode::Memory => {
                        "the configuration says event_log.mode = \"memory\", so the hub keeps events in memory only, and \
                         /metrics has the numbers"
                    }
                    EventLogMode::Durable => "name it with --data, or start the hub once",
                };
                Err(Failure::Failed(format!("{error}; {advice}")))
            }
            Err(error) => Err(failure(&error)),
        }
    }
}

/// The failure for an error of the log, with what to do about it.
fn failure(error: &StoreError) -> Failure {
    let StoreError::File { path, trouble } = error else { return Failure::Failed(error.to_string()) };
    let path = path.display();
    Failure::Failed(match trouble {
        Trouble::Busy => format!("{path} is locked by another program: end it, or try again later"),
        Trouble::Full => {
            format!("{path} cannot be written, because its disk is full: free some space, then run this again")
        }
        Trouble::ReadOnly => {
            format!(
                "{path} cannot be opened for writing: run this as the user of the hub, and check that its disk is not read-only"
            )
        }
        Trouble::Damaged(why) => format!("{path} cannot be used: {why}. Nothing was changed"),
        _ => error.to_string(),
    })
}
