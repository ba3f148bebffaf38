//! `gatecast token`: creates, lists and revokes the tokens with which gateways connect.

use super::{Failure, endpoint::AdminArgs, gateway::gateway_id, output};
use crate::model::{GatewayId, TokenId};
use clap::Subcommand;
use serde_json::{Value, json};

/// The subcommands.
#[derive(Subcommand)]
pub enum Token {
    /// Create a token and print it; it cannot be shown again
    Create {
        /// The gateway's UUID
        #[arg(value_parser = gateway_id)]
        gateway: GatewayId,
        /// Register an existing token by its SHA-256 in hex, and print the token's id
        #[arg(long, value_name = "HEX", value_parser = sha256)]
        sha256: Option<String>,
        /// Print the hub's answer as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// List a gateway's tokens, without their secrets
    List {
        /// The gateway's UUID
        #[arg(value_parser = gateway_id)]
        gateway: GatewayId,
        /// Print the hub's answer as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Revoke a token and close its connections within a second
    Revoke {
        /// The gateway's UUID
        #[arg(value_parser = gateway_id)]
        gateway: GatewayId,
        /// The token's UUID
        #[arg(value_parser = token_id)]
        token: TokenId,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

fn token_id(text: &str) -> Result<TokenId, String> {
    TokenId::parse(text).ok_or_else(|| "expected the token's UUID; `gatecast token list` shows it".to_owned())
}

fn sha256(text: &str) -> Result<String, String> {
    let hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex { Ok(text.to_ascii_lowercase()) } else { Err("expected 64 hexadecimal digits".to_owned()) }
}

impl Token {
    /// Runs the command.
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create { gateway, sha256, json, admin } => {
                let body = sha256.as_ref().map_or_else(|| json!({}), |hash| json!({ "sha256": hash }));
                let answer = admin.client()?.post(&path(gateway), &body.to_string())?;
                if json {
                    return output::line(answer.text.trim_end());
                }
                // The hub never sees an existing token, so there is no token to print, only its id.
                let shown = if sha256.is_some() { "id" } else { "token" };
                output::line(&output::cell(&answer.json()[shown]))
            }
            Self::List { gateway, json, admin } => {
                let answer = admin.client()?.get(&path(gateway))?;
                if json {
                    return output::line(answer.text.trim_end());
                }
                let answer = answer.json();
                let tokens = answer["list"].as_array().or(answer.as_array()).map(Vec::as_slice).unwrap_or_default();
                let row = |token: &Value| ["id", "createdAt"].map(|member| output::cell(&token[member]));
                output::table(["ID", "CREATED"], &tokens.iter().map(row).collect::<Vec<_>>())
            }
            Self::Revoke { gateway, token, admin } => {
                admin.client()?.delete(&format!("{}/{token}", path(gateway))).map(drop)
            }
        }
    }
}

fn path(gateway: GatewayId) -> String {
    format!("/api/v1/gateways/{gateway}/tokens")
}
