//! `gatecast gateway`: registers, changes, lists and deletes gateways.

use super::{Failure, client::Client, endpoint::AdminArgs, output};
use crate::{
    limits::PAGE_ROWS_MAX,
    model::{DeliveryMode, GatewayId},
};
use clap::{Args, Subcommand, builder::PossibleValuesParser};
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
        /// When an event counts as delivered: once a socket has taken it, or once the gateway has processed it [default: as the
        /// hub's delivery.mode says]
        #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(DeliveryMode::WORDS))]
        delivery: Option<String>,
        /// Print the hub's answer as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Change a gateway
    Set {
        /// The gateway's UUID
        #[arg(value_parser = gateway_id)]
        id: GatewayId,
        #[command(flatten)]
        changes: Changes,
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

/// What `gatecast gateway set` changes: at least one of these.
#[derive(Args)]
#[group(required = true, multiple = true)]
pub struct Changes {
    /// When an event counts as delivered: once a socket has taken it, or once the gateway has processed it; default: as the
    /// hub's delivery.mode says
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(DeliveryMode::WORDS.iter().copied().chain([DEFAULT])))]
    delivery: Option<String>,
    /// A name to show to people; "" for none
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
}

impl Changes {
    /// The body of the call.
    fn body(self) -> Value {
        let mut body = json!({});
        if let Some(delivery) = self.delivery {
            body["delivery"] = if delivery == DEFAULT { Value::Null } else { delivery.into() };
        }
        if let Some(text) = self.display_name {
            body["displayName"] = if text.is_empty() { Value::Null } else { text.into() };
        }
        body
    }
}

/// The word for a gateway that has no delivery of its own.
const DEFAULT: &str = "default";

/// Parses the id of a gateway.
pub fn gateway_id(text: &str) -> Result<GatewayId, String> {
    GatewayId::parse(text).ok_or_else(|| "expected the gateway's UUID; `gatecast gateway list` shows it".to_owned())
}

impl Gateway {
    /// Runs the command.
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create { name, display_name, organization, id, delivery, json, admin } => {
                let mut body = json!({ "name": name });
                let id = id.map(|id| id.to_string());
                let members = [
                    ("displayName", display_name),
                    ("organizationId", organization),
                    ("id", id),
                    ("delivery", delivery),
                ];
                for (member, value) in members {
                    if let Some(value) = value {
                        body[member] = Value::from(value);
                    }
                }
                let answer = admin.client()?.post("/api/v1/gateways", &body.to_string())?;
                let id = output::cell(&answer.json()["id"]);
                output::line(if json { answer.text.trim_end() } else { &id })
            }
            Self::Set { id, changes, json, admin } => {
                let answer = admin.client()?.patch(&format!("/api/v1/gateways/{id}"), &changes.body().to_string())?;
                if json { output::line(answer.text.trim_end()) } else { Ok(()) }
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
    output::table(["ID", "NAME", "ORGANIZATION", "CREATED", "DELIVERY"], &gateways.iter().map(row).collect::<Vec<_>>())
}

/// A row of the table.
fn row(gateway: &Value) -> [String; 5] {
    ["id", "name", "organizationId", "createdAt", "delivery"].map(|member| match (member, &gateway[member]) {
        ("delivery", Value::Null) => DEFAULT.to_owned(),
        (_, value) => output::cell(value),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_sends_the_members_that_were_given_and_null_for_default_and_none() {
        let check = |delivery: Option<&str>, display_name: Option<&str>, expected: Value| {
            let changes =
                Changes { delivery: delivery.map(str::to_owned), display_name: display_name.map(str::to_owned) };
            assert_eq!(changes.body(), expected);
        };
        check(Some("processed"), None, json!({ "delivery": "processed" }));
        check(Some("default"), None, json!({ "delivery": null }));
        check(None, Some("Edge"), json!({ "displayName": "Edge" }));
        check(Some("written"), Some(""), json!({ "delivery": "written", "displayName": null }));
    }

    #[test]
    fn the_list_says_default_for_a_gateway_without_a_delivery_of_its_own() {
        let shown = |delivery: Value| row(&json!({ "id": "i", "name": "n", "createdAt": "t", "delivery": delivery }));
        assert_eq!(shown(Value::Null), ["i", "n", "-", "t", "default"]);
        assert_eq!(shown("processed".into())[4], "processed");
    }
}
