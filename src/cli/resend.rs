//! `gatecast resend`: sends an event of a gateway's log once more.

use super::{Failure, endpoint::AdminArgs, events::position, gateway::gateway_id, outcome::WaitArgs};
use crate::model::{GatewayId, Position};
use clap::Args;

/// Send an event of the log once more, behind all others: with the same payload, a new position and a new correlation id.
#[derive(Args)]
pub struct Resend {
    /// The gateway's UUID
    #[arg(value_parser = gateway_id)]
    gateway: GatewayId,
    /// The event's position, as `gatecast events` shows it
    #[arg(value_parser = position)]
    position: Position,
    #[command(flatten)]
    wait: WaitArgs,
    /// Print the hub's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Resend {
    /// Runs the command, which fails as `gatecast publish` does.
    pub fn run(self) -> Result<(), Failure> {
        let path = format!("/api/v1/gateways/{}/events/{}/resend", self.gateway, self.position);
        let answer = self.wait.post(&self.admin.client()?, &path, "")?;
        self.wait.report(&answer, self.json)
    }
}
