//! What holds at every step, at every tick and at the end of a world.

use super::oracle::{EVENT_BYTES_AROUND, Oracle};
use crate::{
    driver::wheel::TICK,
    limits,
    model::{Change, GatewayId, Instant},
    shard::Shard,
};
use std::{collections::BTreeMap, time::Duration};

impl Oracle {
    /// Looks at a shard after everything of a step has been done.
    pub(super) fn check_step(&mut self) {
        self.ledger.settled();
        for line in 0..self.watched.len() {
            let watched = &self.watched[line];
            let Some(member) = watched.member.filter(|_| watched.closing.is_none() && !watched.left) else { continue };
            let length = self.ledger.length(member.gateway);
            if watched.good && (watched.seen < length || !watched.acked) {
                let text = format!("{} of {length}, ack {}", watched.seen, watched.acked);
                self.fail("who can take it gets it at once", Some(line), text);
                return;
            }
            let gone = self.revoked.iter().any(|(shard, change)| {
                *shard == member.shard
                    && match change {
                        Change::TokenRevoked { token, .. } => *token == member.token,
                        Change::GatewayDeleted(gateway) => *gateway == member.gateway,
                        Change::GatewayCreated(_) | Change::TokenCreated { .. } => false,
                    }
            });
            if gone {
                self.fail("a revoked key ends its connections", Some(line), format!("{member:?}"));
            }
        }
    }

    /// Looks at one live connection at a tick.
    pub(super) fn check_tick(&mut self, now: Instant, line: usize, shard: &Shard, backlog: usize, progress: Instant) {
        let watched = &self.watched[line];
        let Some(member) = watched.member else { return };
        let largest = self.scenario.payload_max + EVENT_BYTES_AROUND;
        let queued = shard.connection(member.key).map_or(0, |connection| connection.outbox.queued_bytes());
        let most = self.scenario.outbox_bytes_max.max(largest) + 2 * largest + limits::WRITE_BATCH_BYTES;
        if queued > most || backlog > BACKLOG_MAX {
            let text = format!("{queued} bytes of events, {backlog} sealed");
            return self.fail("memory of a connection is bounded", Some(line), text);
        }
        if watched.good && watched.closing.is_none() && queued + backlog > 0 {
            return self.fail("nothing waits for who takes all", Some(line), format!("{queued} {backlog}"));
        }
        let tick = Duration::from_micros(2 * TICK);
        if backlog == 0 {
            self.watched[line].last_idle = now;
        }
        let watched = &self.watched[line];
        let stalled = now.since(progress.max(watched.last_idle).max(watched.joined));
        if backlog > 0 && stalled > self.scenario.session.write_deadline + tick {
            return self.fail("a stalled socket is closed at its time", Some(line), format!("{stalled:?}"));
        }
        let heartbeat = self.scenario.session.heartbeat;
        let silent = now.since(watched.last_life);
        let live = watched.closing.is_none() && !watched.draining;
        if live && silent > heartbeat.timeout + heartbeat.busy_grace + tick {
            return self.fail("a silent peer is closed at its time", Some(line), format!("{silent:?}"));
        }
        let unasked = now.since(watched.last_ping);
        if watched.good && live && unasked > heartbeat.interval + tick {
            self.fail("pings are an interval apart at most", Some(line), format!("{unasked:?}"));
        }
    }

    /// Everybody has left: what must be true of each connection now.
    pub(super) fn check_end(&mut self) {
        let by_position: BTreeMap<GatewayId, u64> = self.ledger.lengths();
        for line in 0..self.watched.len() {
            let watched = &self.watched[line];
            let Some(member) = watched.member else { continue };
            let (seen, length) = (watched.seen, by_position.get(&member.gateway).copied().unwrap_or(0));
            if !watched.left {
                self.fail("everybody leaves", Some(line), format!("{member:?}"));
            } else if seen > length {
                self.fail("events in order, none twice, none missing", Some(line), format!("{seen} of {length}"));
            } else if self.watched[line].good && self.watched[line].told.is_none() {
                self.fail("a good peer is told why", Some(line), format!("{:?}", self.watched[line].closing));
            }
        }
        self.ledger.check_end();
        if let Some((rule, text)) = self.ledger.broken.take() {
            self.fail(rule, None, text);
        }
    }
}

/// Sealed bytes that may wait: one write, and what a reading of pings was answered with.
const BACKLOG_MAX: usize = 4 * limits::READ_BATCH_BYTES;
