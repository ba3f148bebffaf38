//! The API's reads of gateways' logs that the log has not answered.
//!
//! They share the log with connections that catch up, so only a few are asked for at a time. A read counts until the log
//! has answered, also if its caller has stopped waiting.

use super::{in_flight::Origin, log::LogRequests};
use crate::{
    limits,
    model::{
        GatewayId,
        log::{LogRequest, ReadKey},
    },
};
use ahash::HashMap;

/// The reads that the log has not answered.
#[derive(Debug, Default)]
pub(super) struct History {
    reads: HashMap<ReadKey, (Origin, GatewayId)>,
}

impl History {
    /// Whether another read has to wait, and so is refused.
    pub(super) fn is_full(&self) -> bool {
        self.reads.len() >= limits::EVENT_READS_MAX
    }

    /// Counts a read that the log is asked for.
    pub(super) fn ask(&mut self, read: ReadKey, origin: Origin, gateway: GatewayId) {
        self.reads.insert(read, (origin, gateway));
    }

    /// Whether the answer to this read is awaited.
    pub(super) fn is_asked(&self, read: ReadKey) -> bool {
        self.reads.contains_key(&read)
    }

    /// The log has answered this read.
    pub(super) fn end(&mut self, read: ReadKey) -> Option<Origin> {
        self.reads.remove(&read).map(|(origin, _)| origin)
    }

    /// Takes back the reads of a gateway that was deleted; returns who waits for them.
    pub(super) fn cancel(&mut self, gateway: GatewayId, log: &mut LogRequests) -> Vec<Origin> {
        let read = |(key, (origin, of)): (&ReadKey, &(Origin, GatewayId))| (*of == gateway).then_some((*key, *origin));
        let mut cancelled: Vec<_> = self.reads.iter().filter_map(read).collect();
        // In the order in which they were asked for: a map has another one in each run.
        cancelled.sort_unstable_by_key(|(key, _)| *key);
        let end = |(key, origin)| {
            self.reads.remove(&key);
            log.push(LogRequest::Cancel(key));
            origin
        };
        cancelled.into_iter().map(end).collect()
    }
}
