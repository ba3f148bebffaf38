//! `gatecast gateway`: registers, lists and deletes gateways.

use super::{Failure, client::Client, endpoint::AdminArgs, output};
use crate::{limits::PAGE_ROWS_MAX, model::GatewayId};
use clap::Subcommand;
use serde_json::{Value, json};

/// The subcommands.
#[derive(Subcommand)]
pub enum Gateway {
    /// Register a gateway and print its id
    Create {
        /// The gateway's name, unique in its organization
        name: String,
        /// A name to show to people
        #[arg(long, value_name = "TEXT")]
        display_name: Option<String>,
        /// The organization to which the gateway belongs
        #[arg(long, value_name = "ID")]
        organization: Option<String>,
        /// Use this UUID, for a gateway that already has one [default: a new one]
        #[arg(long, value_name = "UUID", value_parser = gateway_id)]
        id: Option<GatewayId>,
        /// Print the hub's answer as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// List all gateways
    List {
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Delete a gateway, revoke its tokens and close its connections
    Delete {
        /// The gateway's UUID
        #[arg(value_parser = gateway_id)]
        id: GatewayId,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Parses the id of a gateway.
pub fn gateway_id(text: &str) -> Result<GatewayId, String> {
    GatewayId::parse(text).ok_or_else(|| "expected the gateway's UUID; `gatecast gateway list` shows it".to_owned())
}

impl Gateway {
    /// Runs the command.
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create { name, display_name, organization, id, json, admin } => {
                let mut body = json!({ "name": name });
                let id = id.map(|id| id.to_string());
                for (member, value) in [("displayName", display_name), ("organizationId", organization), ("id", id)] {
                    if let Some(value) = value {
                        body[member] = Value::from(value);
                    }
                }
                let answer = admin.client()?.post("/api/v1/gateways", &body.to_string())?;
                let id = output::cell(&answer.json()["id"]);
                output::line(if json { answer.text.trim_end() } else { &id })
            }
            Self::List { json, admin } => list(&admin.client()?, json),
            Self::Delete { id, admin } => admin.client()?.delete(&format!("/api/v1/gateways/{id}")).map(drop),
        }
    }
}

fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let gateways = all(client)?;
    if json {
        return gateways.iter().try_for_each(|gateway| output::line(&gateway.to_string()));
    }
    let row =
        |gateway: &Value| ["id", "name", "organizationId", "createdAt"].map(|member| output::cell(&gateway[member]));
    output::table(["ID", "NAME", "ORGANIZATION", "CREATED"], &gateways.iter().map(row).collect::<Vec<_>>())
}

/// Fetches the gateways of all pages.
fn all(client: &Client) -> Result<Vec<Value>, Failure> {
    let mut gateways = Vec::new();
    loop {
        let path = format!("/api/v1/gateways?limit={PAGE_ROWS_MAX}&offset={}", gateways.len());
        let page = client.get(&path)?.json();
        let rows = page["list"].as_array().map(Vec::as_slice).unwrap_or_default();
        gateways.extend_from_slice(rows);
        // An empty page ends the loop, too: the total may change while the pages are fetched.
        let total = page["pagination"]["total"].as_u64().unwrap_or(0);
        if rows.is_empty() || gateways.len() as u64 >= total {
            return Ok(gateways);
        }
    }
}
