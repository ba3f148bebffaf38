//! What the engine tells, as log lines (contract section 4). One noisy address or kind does not fill the log.

use super::{
    log_limit::LogLimit,
    peer_text::{clean, peer_text},
};
use crate::{
    engine::Notice,
    model::{KeyHash, Now, ShardId},
    shard::Repeated,
};
use std::net::Ipv4Addr;

/// The log lines of one core.
pub(super) struct Notices {
    shard: ShardId,
    limit: LogLimit,
}

impl Notices {
    pub(super) fn new(shard: ShardId) -> Self {
        Self { shard, limit: LogLimit::default() }
    }

    pub(super) fn write(&mut self, now: Now, notice: &Notice<'_>) {
        let shard = self.shard;
        match notice {
            Notice::Connected { gateway, connection, address } => {
                tracing::info!(%gateway, %connection, %address, %shard, "gateway connected");
            }
            Notice::Disconnected { gateway, connection, address, reason, lasted } => {
                let seconds = lasted.as_secs_f64();
                tracing::info!(%gateway, %connection, %address, reason = reason.label(), seconds, "gateway disconnected");
            }
            Notice::Refused { address, refused } => {
                if let Some(left_out) = self.limit.allow(now.instant, address.ip(), refused.label()) {
                    tracing::warn!(%address, reason = refused.label(), left_out, "gateway not admitted");
                }
            }
            Notice::OriginRefused { address, origin, tokens } => {
                if let Some(left_out) = self.limit.allow(now.instant, address.ip(), "origin") {
                    tracing::warn!(%address, origin = &*peer_text(origin, *tokens), left_out, "origin not allowed");
                }
            }
            Notice::MadeRoom { address } => {
                if let Some(left_out) = self.limit.allow(now.instant, address.ip(), "made room") {
                    tracing::warn!(%address, left_out, "closed an idle connection: no room for another");
                }
            }
            Notice::Unauthorized { address, key } => {
                if let Some(left_out) = self.limit.allow(now.instant, address.ip(), "unauthorized") {
                    let key = key.as_ref().map_or_else(|| "none".to_owned(), KeyHash::fingerprint);
                    tracing::warn!(%address, key, left_out, "authentication failed");
                }
            }
            Notice::DeliveryFailed { failure, tokens } => {
                let connection = failure.connection.map(|id| id.to_string()).unwrap_or_default();
                tracing::error!(gateway = %failure.gateway, connection, kind = %peer_text(failure.kind.as_str(), *tokens),
                    correlation = %failure.correlation, reason = failure.reason, "delivery failed");
            }
            Notice::FailuresLeftOut(count) => {
                tracing::error!(%shard, count, "more deliveries failed at once than can be logged one by one");
            }
            Notice::IdRepeated(Repeated { gateway, correlation, count }) => {
                // The publisher's address is not known here: all of a core's are one.
                let anyone = Ipv4Addr::UNSPECIFIED.into();
                if let Some(left_out) = self.limit.allow(now.instant, anyone, "id repeated") {
                    tracing::warn!(%gateway, %correlation, count, left_out, "correlation id repeated");
                }
            }
            Notice::Malformed { gateway, connection, address } => {
                if let Some(left_out) = self.limit.allow(now.instant, address.ip(), "malformed message") {
                    tracing::warn!(%gateway, %connection, left_out, "message is not JSON with a type; ignored");
                }
            }
            rare => self.write_rare(rare),
        }
    }

    fn write_rare<'a>(&self, notice: &'a Notice<'_>) {
        let shard = self.shard;
        match notice {
            Notice::Acknowledged { gateway, connection, ack, tokens } => {
                let text = |field: &'a Option<String>| peer_text(field.as_deref().unwrap_or_default(), *tokens);
                tracing::info!(%gateway, %connection, deployment = &*text(&ack.deployment_id), artifact = &*text(&ack.artifact_id),
                    action = &*text(&ack.action), status = &*text(&ack.status), error = &*text(&ack.error_code),
                    "deployment acknowledged");
            }
            Notice::UnknownMessage { gateway, connection } => {
                tracing::debug!(%gateway, %connection, "message of an unknown type ignored");
            }
            Notice::Ignored { address } => tracing::debug!(%address, "message ignored"),
            Notice::TlsFailed { address, error } => tracing::debug!(%address, error = &*clean(error), "TLS failed"),
            Notice::Panicked { address } => {
                tracing::error!(%address, "a connection's code panicked; the connection ends");
            }
            Notice::CannotAccept(error) => tracing::error!(%error, "cannot accept connections"),
            Notice::TimeLost(lost) => {
                let lost_ms = lost.as_millis() as u64;
                tracing::warn!(%shard, lost_ms, "the core did not run; nobody's deadline counts that time");
            }
            Notice::ReplyLost => tracing::error!(%shard, "a reply found no room"),
            Notice::Forced { connections } => {
                tracing::warn!(%shard, connections, "closed by force at the end of the drain");
            }
            _ => debug_assert!(false, "{notice:?} has its line elsewhere"),
        }
    }
}
