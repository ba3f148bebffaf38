//! `gatecast stats`: shows the gateway connections and their delivery counters.

use super::{Failure, endpoint::AdminArgs, gateway::gateway_id, output};
use crate::model::GatewayId;
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

/// Show statistics.
#[derive(Args)]
pub struct Stats {
    /// Show only this gateway's connections
    #[arg(long, value_name = "UUID", value_parser = gateway_id)]
    gateway: Option<GatewayId>,
    /// Most connections to show, up to 1000
    #[arg(long, value_name = "N", default_value_t = crate::limits::PAGE_ROWS_DEFAULT)]
    limit: usize,
    /// Number of connections to skip
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: usize,
    /// Print the hub's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Stats {
    /// Runs the command.
    pub fn run(self) -> Result<(), Failure> {
        let gateway = self.gateway.map_or_else(String::new, |id| format!("&gatewayId={id}"));
        let path = format!("/api/internal/v1/stats?limit={}&offset={}{gateway}", self.limit, self.offset);
        let answer = self.admin.client()?.get(&path)?;
        // Printed as it came: a script sees every member, also those that this version does not know.
        if self.json {
            return output::line(answer.text.trim_end());
        }
        // Ages by the hub's clock, where it tells it: that of this machine may differ.
        show(&answer.json(), answer.at.unwrap_or_else(Timestamp::now))
    }
}

/// Prints the totals and one row for each connection.
fn show(stats: &Value, now: Timestamp) -> Result<(), Failure> {
    let (connections, delivery) = (&stats["gatewayConnections"], &stats["eventDelivery"]);
    output::line(&format!(
        "{} of {} connections; {} events sent, {} deliveries failed",
        output::cell(&connections["totalActive"]),
        output::cell(&connections["maxConnections"]),
        output::cell(&delivery["totalEventsSent"]),
        output::cell(&delivery["failedDeliveries"]),
    ))?;
    let rows: Vec<_> = connections["connections"].as_array().into_iter().flatten().map(|it| row(it, now)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    output::table(HEAD, &rows)
}

/// What an operator looks for comes first, and the longest texts of unknown length last.
const HEAD: [&str; 14] = [
    "GATEWAY",
    "CONNECTION",
    "STATUS",
    "DELIVERY",
    "PROCESSED",
    "UNPROCESSED",
    "MISSED",
    "SENT",
    "FAILED",
    "QUEUED",
    "RTT MS",
    "SINCE",
    "ADDRESS",
    "PROCESSING",
];

fn row(connection: &Value, now: Timestamp) -> [String; HEAD.len()] {
    let delivery = &connection["deliveryStats"];
    let cells = [
        &connection["gatewayId"],
        &connection["connectionId"],
        &connection["status"],
        &connection["delivery"],
        &connection["processed"],
        &connection["unprocessed"],
        &connection["missed"],
        &delivery["totalEventsSent"],
        &delivery["failedDeliveries"],
        &connection["queuedBytes"],
        &connection["roundTripMs"],
        &connection["connectedAt"],
        &connection["remoteAddress"],
        &Value::Null,
    ];
    let mut row = cells.map(output::cell);
    row[HEAD.len() - 1] = processing(&connection["processing"], now);
    row
}

/// The type of the event that a gateway is at work on, and for how long.
fn processing(event: &Value, now: Timestamp) -> String {
    let Some(since) = event["since"].as_str() else { return "-".to_owned() };
    let kind = output::cell(&event["type"]);
    match since.parse::<Timestamp>() {
        Ok(since) => format!("{kind} {}", age(now.as_second() - since.as_second())),
        Err(_) => kind,
    }
}

/// A time in its two largest units.
fn age(seconds: i64) -> String {
    // The hub's clock may have been set back.
    let seconds = seconds.max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_row_says_what_a_gateway_is_at_work_on_and_for_how_long() {
        let check = |processing: Value, expected: &str| {
            let connection = json!({
                "gatewayId": "g", "connectionId": "c", "status": "connected", "connectedAt": "t", "remoteAddress": "a",
                "delivery": "processed", "processing": processing, "processed": "e-4", "unprocessed": 3, "missed": 5, "queuedBytes": 7,
                "roundTripMs": null, "deliveryStats": { "totalEventsSent": 9, "failedDeliveries": 1 },
            });
            let row = row(&connection, at("2026-11-26T10:00:12Z"));
            assert_eq!(
                row,
                ["g", "c", "connected", "processed", "e-4", "3", "5", "9", "1", "7", "-", "t", "a", expected]
            );
        };
        check(json!(null), "-");
        check(json!({ "type": "api.deployed", "since": "2026-11-26T10:00:00.007Z" }), "api.deployed 12s");
        check(json!({ "type": "api.deployed", "since": "2026-11-26T10:00:13.000Z" }), "api.deployed 0s");
    }

    #[test]
    fn a_hub_without_these_members_is_shown_all_the_same() {
        let row = row(&json!({ "gatewayId": "g" }), at("2026-11-26T10:00:12Z"));
        assert_eq!((row[0].as_str(), &row[1..]), ("g", &["-"; 13].map(str::to_owned)[..]));
    }

    #[test]
    fn a_time_is_shown_in_its_two_largest_units() {
        for (seconds, expected) in
            [(0, "0s"), (59, "59s"), (60, "1m0s"), (754, "12m34s"), (3_600, "1h0m"), (90_061, "25h1m")]
        {
            assert_eq!(age(seconds), expected);
        }
    }
}
