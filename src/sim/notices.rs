//! Checks the engine's notices against the wire. No other rule takes a notice as proof that something happened.

use super::oracle::{FIRST_PORT, Oracle};
use crate::{
    engine::Notice,
    model::{CloseReason, ConnectionId, GatewayId, Instant},
};
use std::{net::SocketAddr, time::Duration};

impl Oracle {
    /// The engine has given a notice.
    pub(super) fn noticed(&mut self, now: Instant, notice: &Notice<'_>) {
        match notice {
            Notice::Connected { gateway, connection, address } => self.connected(*gateway, *connection, *address),
            Notice::Disconnected { connection, address, reason, .. } => {
                self.cover(reason.label());
                let Some(conn) = self.conn_of(*address) else { return };
                if *reason == CloseReason::HeartbeatTimeout {
                    self.check_answered_pings(conn);
                }
                let watched = &mut self.watched[conn];
                let known = watched.connected == Some(*connection);
                if !known || watched.reason.replace(*reason).is_some() {
                    self.fail(
                        "a connection is reported connected once and disconnected once",
                        Some(conn),
                        reason.to_string(),
                    );
                }
            }
            Notice::MadeRoom { address } => {
                self.cover("made room");
                let Some(conn) = self.conn_of(*address) else { return };
                if self.watched[conn].connected.is_some() {
                    self.fail("no gateway's connection is closed to free a descriptor", Some(conn), String::new());
                }
                self.check_eviction(now, conn);
                self.watched[conn].made_room = true;
            }
            Notice::DeliveryFailed { .. } => self.failed_deliveries += 1,
            Notice::FailuresLeftOut(count) => self.failed_deliveries += count,
            Notice::Panicked { address } => {
                let conn = self.conn_of(*address);
                self.fail("nothing panics", conn, String::new());
            }
            Notice::ReplyLost if self.drained.is_none() => self.fail("no reply is lost", None, String::new()),
            Notice::Malformed { .. } => self.cover("malformed message"),
            Notice::Acknowledged { .. } => self.cover("acknowledged"),
            Notice::Forced { .. } => self.cover("closed by force"),
            _ => {}
        }
    }

    /// A connection that was closed for another must have had a second to authenticate, or be of an address with an eighth of
    /// all unauthenticated connections. (An engine's own limit is a quarter of its core's.)
    fn check_eviction(&mut self, now: Instant, conn: usize) {
        let open = |conn: &usize| {
            let watched = &self.watched[*conn];
            watched.accepted.is_some() && watched.closed.is_none() && watched.connected.is_none()
        };
        let all = (0..self.watched.len()).filter(open).count();
        let own = (0..self.watched.len()).filter(|other| self.addresses[*other] == self.addresses[conn]).filter(open);
        let own = own.count();
        let age = now.since(self.watched[conn].accepted.unwrap_or(now));
        if self.scenario.strict && age < Duration::from_secs(1) && own * 8 < all {
            let text = format!("closed after {age:?}, as one of {own} of its address, of {all}");
            self.fail("a newcomer has a second to authenticate", Some(conn), text);
        }
    }

    fn connected(&mut self, gateway: GatewayId, connection: ConnectionId, address: SocketAddr) {
        let Some(conn) = self.conn_of(address) else { return };
        let own = self.watched[conn].key.map(|key| self.roster.gateways[self.roster.keys[key].gateway].id);
        if own != Some(gateway) || self.watched[conn].connected.replace(connection).is_some() {
            self.fail(
                "a connection is reported connected once and disconnected once",
                Some(conn),
                connection.to_string(),
            );
        }
    }

    /// The connection with this peer address; each has a port of its own.
    fn conn_of(&self, address: SocketAddr) -> Option<usize> {
        usize::from(address.port()).checked_sub(usize::from(FIRST_PORT)).filter(|conn| *conn < self.watched.len())
    }
}
