//! The statistics of one shard: its totals and counters, and a row for each connection (contract section 3).

use super::{
    Connection, Shard,
    command::{ConnectionRow, ConnectionStatus, ProcessingRow, Rows, Totals},
    feed::Feed,
    processing::Processing,
};
use crate::model::{DeliveryMode, GatewayId, Position, Refused};

/// How far the connections of a shard have come.
#[derive(Default)]
struct Standing {
    /// Gateways with a connection that gets events.
    connected: usize,
    /// Connections that get their events from the log.
    behind: u64,
    /// Bytes of payloads that the farthest connection is behind its gateway's log.
    behind_bytes_max: u64,
    /// Events that the connection which is the farthest behind has not processed.
    unprocessed_max: u64,
}

impl Shard {
    /// The totals. With `gateway`, only the numbers of connections and gateways are restricted to that gateway.
    pub(super) fn totals(&self, gateway: Option<GatewayId>) -> Totals {
        let Standing { connected, behind, behind_bytes_max, unprocessed_max } = self.standing();
        let (connections, gateways) = match gateway {
            None => (self.registry.len(), connected),
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
            behind,
            behind_bytes_max,
            unprocessed_max,
            recent_bytes: self.held_bytes() as u64,
            ids_repeated: self.ids_repeated,
            inbound: self.inbound,
            counters: Box::new(self.counters.clone()),
        }
    }

    /// Goes over the gateways once, and looks at the connections of those only where one may be behind: with 15,000 idle ones the core is
    /// held for a tenth of a millisecond.
    fn standing(&self) -> Standing {
        let mut standing = Standing::default();
        for (_, feed) in self.feeds.iter() {
            standing.connected += usize::from(!feed.connections().is_empty());
            standing.behind += u64::from(feed.behind);
            if !feed.is_proved() && feed.has_given_all() {
                continue;
            }
            for member in feed.open() {
                let Some(connection) = self.registry.connection(*member) else { continue };
                let behind = connection.cursor.behind(feed.bytes());
                standing.behind_bytes_max = standing.behind_bytes_max.max(behind);
                let unprocessed = unprocessed(connection, feed).unwrap_or(0);
                standing.unprocessed_max = standing.unprocessed_max.max(unprocessed);
            }
        }
        debug_assert_eq!(
            standing.behind_bytes_max,
            self.registry.iter().map(|(_, it)| self.behind(it)).max().unwrap_or(0),
            "a feed that has given all has no connection that is behind"
        );
        standing
    }

    /// At most `take` connections after the first `skip` from `from` on, of one gateway or all, in a stable order.
    pub(super) fn rows(&self, gateway: Option<GatewayId>, from: usize, skip: usize, take: usize) -> Rows {
        let mut next = from;
        let wanted = |connection: &Connection| gateway.is_none_or(|gateway| connection.gateway == gateway);
        let rows = self.registry.iter_from(from).filter(|(_, connection)| wanted(connection)).skip(skip).take(take);
        let rows = rows.map(|(index, connection)| {
            next = index + 1;
            self.row(connection)
        });
        Rows { rows: rows.collect(), next }
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
            unprocessed: self.feeds.get(connection.feed).and_then(|feed| unprocessed(connection, feed)),
            missed: self.feeds.get(connection.feed).map_or(0, |feed| feed.missed.into()),
            delivery_stats: connection.delivery_stats(),
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

/// Number of events of its gateway, which has this feed, that a connection has not processed.
fn unprocessed(connection: &Connection, feed: &Feed) -> Option<u64> {
    let processing = connection.cursor.processing.as_ref()?;
    Some(feed.end().offset.saturating_sub(processing.processed()))
}
