//! What `gatecast log status` prints.

use crate::{
    cli::{Failure, output},
    config::EventLogMode,
    model::{GatewayId, Position},
    store::log::{GatewayStatus, LastRun, LogStatus, LogSync},
};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};

/// What is shown of a log.
pub struct Shown {
    /// Its file.
    pub path: PathBuf,
    /// What it holds.
    pub status: LogStatus,
    /// Show only this gateway.
    pub gateway: Option<GatewayId>,
    /// Most gateways to show.
    pub limit: usize,
}

/// Totals over all gateways.
struct Totals {
    events: u64,
    bytes: u64,
    gateways: usize,
    oldest: Option<Duration>,
}

impl Shown {
    /// The gateways to show: those with the most bytes first.
    fn rows(&self) -> Vec<&GatewayStatus> {
        let gateways = self.status.gateways.iter();
        let mut rows: Vec<_> = gateways.filter(|it| self.gateway.is_none_or(|id| it.life.gateway == id)).collect();
        rows.sort_by_key(|it| (std::cmp::Reverse(it.bytes()), it.life.gateway.0));
        rows.truncate(self.limit);
        rows
    }

    fn totals(&self) -> Totals {
        let gateways = &self.status.gateways;
        Totals {
            events: gateways.iter().map(GatewayStatus::events).sum(),
            bytes: gateways.iter().map(GatewayStatus::bytes).sum(),
            gateways: gateways.iter().filter(|it| it.events() > 0).count(),
            oldest: gateways.iter().filter_map(|it| it.oldest).max(),
        }
    }

    /// As one JSON object.
    pub fn json(&self) -> Value {
        let (status, totals) = (&self.status, self.totals());
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        let row = |it: &&GatewayStatus| {
            json!({
                "gatewayId": it.life.gateway.to_string(),
                "events": it.events(),
                "bytes": it.bytes(),
                "firstPosition": first(it).map(|position| position.to_string()),
                "lastPosition": last(it).to_string(),
                "processedPosition": processed(it).map(|position| position.to_string()),
                "oldestSeconds": seconds(it.oldest),
            })
        };
        json!({
            "path": self.path.display().to_string(),
            "epoch": format!("{:016x}", status.epoch),
            "lastRun": status.last_run.map(|LastRun { sync, clean }| json!({ "sync": name(sync), "clean": clean })),
            "newEpochBecause": status.lost,
            "events": totals.events,
            "bytes": totals.bytes,
            "gateways": totals.gateways,
            "oldestSeconds": seconds(totals.oldest),
            "uptimeSeconds": status.uptime.as_secs(),
            "commits": status.commits,
            "fileBytes": status.bytes.0,
            "walBytes": status.bytes.1,
            "list": self.rows().iter().map(row).collect::<Vec<_>>(),
        })
    }

    /// As text.
    pub fn print(&self, mode: EventLogMode) -> Result<(), Failure> {
        let (status, totals) = (&self.status, self.totals());
        let Totals { events, bytes, gateways, oldest } = totals;
        let last_run = match status.last_run {
            Some(LastRun { sync, clean: true }) => format!("event_log.sync = \"{}\", closed cleanly", name(sync)),
            Some(LastRun { sync, clean: false }) => {
                format!("event_log.sync = \"{}\", not closed: it was killed", name(sync))
            }
            None => "unknown".to_owned(),
        };
        let next_start = status.lost.map_or_else(
            || "goes on with this epoch".to_owned(),
            |why| format!("begins a new epoch, and keeps events only of gateways that have not processed them: {why}"),
        );
        let facts = [
            ("log", self.path.display().to_string()),
            ("epoch", format!("{:016x}", status.epoch)),
            ("last run", last_run),
            ("next start", next_start),
            (
                "events",
                format!(
                    "{events}, of {}, {} as event_log.total_bytes counts",
                    output::count(gateways as u64, "gateway"),
                    output::bytes(bytes)
                ),
            ),
            ("oldest event", oldest.map_or_else(|| "none".to_owned(), |age| format!("{} of uptime ago", short(age)))),
            ("uptime", format!("{} of all hubs with this log, {} commits", short(status.uptime), status.commits)),
            ("file", output::bytes(status.bytes.0)),
            ("write-ahead log", output::bytes(status.bytes.1)),
        ];
        facts.iter().try_for_each(|(name, value)| output::line(&format!("{name:15}  {value}")))?;
        if mode == EventLogMode::Memory {
            output::line(
                "The configuration says event_log.mode = \"memory\": the hub keeps events in memory and does not use this log.",
            )?;
        }
        let rows: Vec<_> = self.rows().into_iter().map(row).collect();
        if rows.is_empty() {
            return Ok(());
        }
        output::line("")?;
        output::table(["GATEWAY", "EVENTS", "BYTES", "OLDEST", "FIRST", "LAST", "PROCESSED"], &rows)?;
        match status.gateways.len() - rows.len() {
            more if more > 0 && self.gateway.is_none() => {
                output::line(&format!("and {more} more gateways; --limit shows them"))
            }
            _ => Ok(()),
        }
    }
}

fn row(it: &GatewayStatus) -> [String; 7] {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        it.life.gateway.to_string(),
        it.events().to_string(),
        output::bytes(it.bytes()),
        or_none(it.oldest.map(short)),
        or_none(first(it).map(|position| position.to_string())),
        last(it).to_string(),
        or_none(processed(it).map(|position| position.to_string())),
    ]
}

/// The position of the oldest event that is kept.
fn first(it: &GatewayStatus) -> Option<Position> {
    (it.events() > 0).then_some(Position { epoch: it.head.epoch, offset: it.head.first })
}

/// The position at which the gateway's log ends.
fn last(it: &GatewayStatus) -> Position {
    Position { epoch: it.head.epoch, offset: it.head.last }
}

/// The position up to which the gateway has processed its events, if that is kept.
fn processed(it: &GatewayStatus) -> Option<Position> {
    it.processed.map(|offset| Position { epoch: it.head.epoch, offset })
}

fn name(sync: LogSync) -> &'static str {
    match sync {
        LogSync::Power => "power",
        LogSync::Process => "process",
    }
}

/// A time in its two largest units.
fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, ..) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_its_two_largest_units() {
        let check = |seconds, expected| assert_eq!(short(Duration::from_secs(seconds)), expected);
        check(0, "0s");
        check(61, "1m 1s");
        check(3_599, "59m 59s");
        check(7_260, "2h 1m");
        check(90_000, "1d 1h");
    }
}
