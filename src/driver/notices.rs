//! Writes the engine's notices as log lines (contract section 4), limited by address and by kind of line.

use super::{
    line_limit::{LineKind, LineLimit},
    log_limit::LogLimit,
    peer_text::{clean, peer_text},
};
use crate::{
    engine::Notice,
    model::{Instant, KeyHash, Now, Refused, ShardId},
    shard::{Missed, Repeated, Skipped, Undelivered},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

/// Writes the log lines of one core.
pub(super) struct Notices {
    shard: ShardId,
    addresses: LogLimit,
    lines: Arc<LineLimit>,
}

impl Notices {
    pub(super) fn new(shard: ShardId, lines: Arc<LineLimit>) -> Self {
        Self { shard, addresses: LogLimit::default(), lines }
    }

    pub(super) fn write(&mut self, now: Now, notice: &Notice<'_>) {
        let shard = self.shard;
        let now = now.instant;
        match notice {
            Notice::Connected { gateway, connection, address } => {
                tracing::info!(%gateway, %connection, %address, %shard, "gateway connected");
            }
            Notice::Disconnected { gateway, connection, address, reason, lasted } => {
                let seconds = lasted.as_secs_f64();
                tracing::info!(%gateway, %connection, %address, reason = reason.label(), seconds, "gateway disconnected");
            }
            Notice::Refused { address, refused } => {
                if let Some(left_out) = self.allow(now, address, kind_of(*refused)) {
                    tracing::warn!(%address, reason = refused.label(), left_out, "gateway not admitted");
                }
            }
            Notice::OriginRefused { address, origin, tokens } => {
                if let Some(left_out) = self.allow(now, address, LineKind::OriginRefused) {
                    tracing::warn!(%address, origin = &*peer_text(origin, *tokens), left_out, "origin not allowed");
                }
            }
            Notice::MadeRoom { address } => {
                if let Some(left_out) = self.allow(now, address, LineKind::MadeRoom) {
                    tracing::warn!(%address, left_out, "closed an idle connection to make room for a new one");
                }
            }
            Notice::Unauthorized { address, key } => {
                if let Some(left_out) = self.allow(now, address, LineKind::Unauthorized) {
                    let key = key.as_ref().map_or_else(|| "none".to_owned(), KeyHash::fingerprint);
                    tracing::warn!(%address, key, left_out, "authentication failed");
                }
            }
            Notice::IdRepeated(Repeated { gateway, correlation, count }) => {
                // The publisher's address is not known here, so all publishers of a core share one address limit.
                let publishers = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
                if let Some(left_out) = self.allow(now, &publishers, LineKind::IdRepeated) {
                    tracing::warn!(%gateway, %correlation, count, left_out, "correlation id repeated");
                } else {
                    // One line is counted already; it would have stood for `count` repeats.
                    self.lines.leave_out(LineKind::IdRepeated, count - 1);
                }
            }
            Notice::Malformed { gateway, connection, address } => {
                if let Some(left_out) = self.allow(now, address, LineKind::Malformed) {
                    tracing::warn!(%gateway, %connection, left_out, "message is not JSON with a type; ignored");
                }
            }
            Notice::DeliveryFailed { failure, tokens } => {
                if let Some(left_out) = self.lines.allow(now, LineKind::DeliveryFailed) {
                    let connection = failure.connection.map(|id| id.to_string()).unwrap_or_default();
                    tracing::error!(gateway = %failure.gateway, connection, kind = %peer_text(failure.kind.as_str(), *tokens),
                        correlation = %peer_text(&failure.correlation.to_string(), *tokens), reason = failure.reason, left_out, "delivery failed");
                }
            }
            Notice::FailuresLeftOut(count) => self.lines.leave_out(LineKind::DeliveryFailed, *count),
            Notice::Waiting { .. } | Notice::Missed(_) | Notice::Skipped { .. } => self.write_late(now, notice),
            rare => self.write_rare(now, rare),
        }
    }

    /// If a line about this address may be written now, returns the number of lines of its kind left out since the last
    /// one.
    fn allow(&mut self, now: Instant, address: &SocketAddr, kind: LineKind) -> Option<u64> {
        // The address first: lines that it may not write must not use up the hub's limit for this kind.
        if self.addresses.allow(now, address.ip(), kind) {
            return self.lines.allow(now, kind);
        }
        self.lines.leave_out(kind, 1);
        None
    }

    /// Lines about events that their gateways get late, or not at all.
    fn write_late(&self, now: Instant, notice: &Notice<'_>) {
        let kind = match notice {
            Notice::Waiting { .. } => LineKind::EventWaits,
            Notice::Skipped { .. } => LineKind::EventSkipped,
            _ => LineKind::EventsMissed,
        };
        let Some(left_out) = self.lines.allow(now, kind) else { return };
        match notice {
            Notice::Waiting { waiting: Undelivered { gateway, kind, correlation }, tokens } => {
                tracing::info!(%gateway, kind = %peer_text(kind.as_str(), *tokens),
                    correlation = %peer_text(&correlation.to_string(), *tokens), left_out, "event waits for its gateway to connect");
            }
            Notice::Missed(Missed { gateway, connection, events, is_lost: true }) => {
                tracing::warn!(%gateway, %connection, events, left_out, "gateway has come back and missed events");
            }
            Notice::Missed(Missed { gateway, connection, events, is_lost: false }) => {
                tracing::info!(%gateway, %connection, events, left_out, "gateway has come back and gets the events that it missed");
            }
            Notice::Skipped { skipped: Skipped { gateway, position, about, why }, tokens } => {
                let kind = about.as_ref().map_or("", |about| about.kind.as_str());
                let correlation = about.as_ref().map(|about| about.correlation.to_string()).unwrap_or_default();
                tracing::error!(%gateway, %position, kind = %peer_text(kind, *tokens),
                    correlation = %peer_text(&correlation, *tokens), reason = why, left_out, "event skipped");
            }
            _ => {}
        }
    }

    fn write_rare<'a>(&self, now: Instant, notice: &'a Notice<'_>) {
        let shard = self.shard;
        match notice {
            Notice::Acknowledged { gateway, connection, ack, tokens } => {
                let text = |field: &'a Option<String>| peer_text(field.as_deref().unwrap_or_default(), *tokens);
                tracing::debug!(%gateway, %connection, deployment = &*text(&ack.deployment_id), artifact = &*text(&ack.artifact_id),
                    action = &*text(&ack.action), status = &*text(&ack.status), error = &*text(&ack.error_code),
                    "deployment acknowledged");
            }
            Notice::UnknownMessage { gateway, connection } => {
                tracing::debug!(%gateway, %connection, "message of an unknown type ignored");
            }
            Notice::Ignored { address } => tracing::debug!(%address, "message ignored"),
            Notice::TlsFailed { address, error } => tracing::debug!(%address, error = &*clean(error), "TLS failed"),
            Notice::Panicked { address } => {
                if let Some(left_out) = self.lines.allow(now, LineKind::Panicked) {
                    tracing::error!(%address, left_out, "a connection's code panicked; the connection ends");
                }
            }
            Notice::CannotAccept(error) => {
                if let Some(left_out) = self.lines.allow(now, LineKind::CannotAccept) {
                    tracing::error!(%error, left_out, "cannot accept connections");
                }
            }
            Notice::TimeLost(lost) => {
                if let Some(left_out) = self.lines.allow(now, LineKind::TimeLost) {
                    let lost_ms = lost.as_millis() as u64;
                    tracing::warn!(%shard, lost_ms, left_out, "the core did not run; its connections' deadlines are extended by that time");
                }
            }
            Notice::ReplyLost => {
                if let Some(left_out) = self.lines.allow(now, LineKind::ReplyLost) {
                    tracing::error!(%shard, left_out, "a reply was lost: its core's lane was full");
                }
            }
            // Not limited: it is written at most once for each core, when the core ends.
            Notice::Forced { connections } => {
                tracing::warn!(%shard, connections, "closed by force at the end of the drain");
            }
            _ => debug_assert!(false, "{notice:?} is written by `write`"),
        }
    }
}

fn kind_of(refused: Refused) -> LineKind {
    match refused {
        Refused::RateLimited { .. } => LineKind::RateLimited,
        Refused::Unauthorized => LineKind::Unauthorized,
        Refused::CapacityExceeded => LineKind::CapacityExceeded,
        Refused::Unavailable => LineKind::Unavailable,
        Refused::Draining => LineKind::Draining,
    }
}
