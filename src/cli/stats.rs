//! `gatecast stats`: shows the gateway connections and their delivery counters.

use super::{Failure, endpoint::AdminArgs, gateway::gateway_id, output};
use crate::model::GatewayId;
use clap::Args;
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
        show(&answer.json())
    }
}

/// Prints the totals and one row for each connection.
pub fn show(stats: &Value) -> Result<(), Failure> {
    let (connections, delivery) = (&stats["gatewayConnections"], &stats["eventDelivery"]);
    output::line(&format!(
        "{} of {} connections; {} events sent, {} deliveries failed",
        output::cell(&connections["totalActive"]),
        output::cell(&connections["maxConnections"]),
        output::cell(&delivery["totalEventsSent"]),
        output::cell(&delivery["failedDeliveries"]),
    ))?;
    let rows: Vec<_> = connections["connections"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    output::table(["GATEWAY", "CONNECTION", "STATUS", "SINCE", "ADDRESS", "SENT", "FAILED", "QUEUED", "RTT MS"], &rows)
}

fn row(connection: &Value) -> [String; 9] {
    let delivery = &connection["deliveryStats"];
    [
        &connection["gatewayId"],
        &connection["connectionId"],
        &connection["status"],
        &connection["connectedAt"],
        &connection["remoteAddress"],
        &delivery["totalEventsSent"],
        &delivery["failedDeliveries"],
        &connection["queuedBytes"],
        &connection["roundTripMs"],
    ]
    .map(output::cell)
}
