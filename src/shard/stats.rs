//! The statistics of one shard: its totals and counters, and a row for each connection (contract section 3).

use super::{
    Connection, Shard,
    command::{ConnectionRow, ConnectionStatus, ProcessingRow, Totals},
    processing::Processing,
};
use crate::model::{DeliveryMode, GatewayId, Position, Refused};

impl Shard {
    /// The totals. With `gateway`, only the numbers of connections and gateways are restricted to that gateway.
    pub(super) fn totals(&self, gateway: Option<GatewayId>) -> Totals {
        let (connections, gateways) = match gateway {
            None => (self.registry.len(), self.feeds.connected()),
            Some(gateway) => {
                let connections = self.registry.iter().filter(|(_, c)| c.gateway == gateway).count();
                (connections, usize::from(connections > 0))
            }
        };
        Totals {
            shard: self.settings.id,
            connections,
            gateways,
            deliveries: self.totals,
            behind: self.feeds.behind(),
            behind_bytes_max: self.registry.iter().map(|(_, it)| self.behind(it)).max().unwrap_or(0),
            unprocessed_max: self.registry.iter().filter_map(|(_, it)| self.unprocessed(it)).max().unwrap_or(0),
            recent_bytes: self.held_bytes() as u64,
            ids_repeated: self.ids_repeated,
            inbound: self.inbound,
            counters: Box::new(self.counters.clone()),
        }
    }

    /// At most `take` connections after the first `skip`, of one gateway or all, in a stable order.
    pub(super) fn rows(&self, gateway: Option<GatewayId>, skip: usize, take: usize) -> Vec<ConnectionRow> {
        let wanted = |connection: &Connection| gateway.is_none_or(|gateway| connection.gateway == gateway);
        let rows = self.registry.iter().map(|(_, connection)| connection).filter(|connection| wanted(connection));
        rows.skip(skip).take(take).map(|connection| self.row(connection)).collect()
    }

    fn row(&self, connection: &Connection) -> ConnectionRow {
        let status = match connection {
            Connection { closing: true, .. } => ConnectionStatus::Closing,
            Connection { stale: true, .. } => ConnectionStatus::Stale,
            _ => ConnectionStatus::Connected,
        };
        ConnectionRow {
            gateway_id: connection.gateway,
            connection_id: connection.id,
            connected_at: connection.connected_at,
            last_heartbeat: connection.last_heartbeat,
            status,
            remote_address: connection.address,
            shard: self.settings.id,
            round_trip_ms: (connection.round_trip_us > 0).then(|| f64::from(connection.round_trip_us) / 1_000.0),
            queued_bytes: self.behind(connection),
            delivery: if connection.is_proved { DeliveryMode::Processed } else { DeliveryMode::Written },
            processing: self.processing(connection),
            processed: self.position(connection, |processing| Some(processing.processed())),
            unprocessed: self.unprocessed(connection),
            missed: self.feeds.get(connection.feed).map_or(0, |feed| feed.missed.into()),
            delivery_stats: connection.stats,
        }
    }
}

impl Shard {
    /// Bytes of payloads between a connection and the end of its gateway's log.
    fn behind(&self, connection: &Connection) -> u64 {
        self.feeds.get(connection.feed).map_or(0, |feed| connection.cursor.behind(feed.bytes()))
    }

    /// A position of the connection's gateway, for a connection whose pongs prove something.
    fn position(&self, connection: &Connection, of: impl FnOnce(&Processing) -> Option<u64>) -> Option<Position> {
        let (processing, feed) = (connection.cursor.processing.as_ref()?, self.feeds.get(connection.feed)?);
        Some(Position { offset: of(processing)?, ..feed.end() })
    }

    /// What the gateway of a connection is at work on.
    fn processing(&self, connection: &Connection) -> Option<ProcessingRow> {
        let position = self.position(connection, |processing| Some(processing.first()?.0.offset))?;
        let (first, since) = connection.cursor.processing.as_ref()?.first()?;
        let (kind, correlation_id) = (first.about.kind.as_str().to_owned(), first.about.correlation);
        Some(ProcessingRow { position, kind, correlation_id, since })
    }

    /// Number of events of its gateway that a connection has not processed.
    fn unprocessed(&self, connection: &Connection) -> Option<u64> {
        let feed = self.feeds.get(connection.feed)?;
        let processing = connection.cursor.processing.as_ref()?;
        Some(feed.end().offset.saturating_sub(processing.processed()))
    }

    /// Counts a refused connect of a gateway.
    pub fn count_refused(&mut self, refused: Refused) {
        self.counters.connects_refused.add(refused.label());
    }

    /// Counts a connection that was not a gateway and ended by a fault. The label is one of the constants beside
    /// [`super::counters::TLS`], or that of a bad request.
    pub fn count_failed(&mut self, label: &'static str) {
        self.counters.failed.add(label);
    }

    /// Counts an HTTP call by the status of its answer, if that is 400 or above.
    pub fn count_answer(&mut self, status: u16) {
        if status >= 400 {
            self.counters.calls_refused.add(status);
        }
    }
}
