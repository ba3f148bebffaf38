//! Checks the delivery counts of an answer against the connections that were there.

use super::{
    ledger::Counts,
    oracle::{NOWHERE, Oracle, SLACK},
};
use crate::model::{DeliveryMode, Instant};

impl Oracle {
    /// Whether a gateway has asked to go on behind a position: it may be behind.
    pub(super) fn has_resumers(&self) -> bool {
        let mut watched = self.watched.iter().zip(&self.scenario.profiles);
        watched.any(|(watched, profile)| watched.accepted.is_some() && profile.resumes.is_some())
    }

    /// Checks the counts against the gateway's connections: those that were certainly live, and those that may have
    /// been.
    pub(super) fn check_members(&mut self, event: usize, offset: u64, counts: &Counts) -> Result<(), String> {
        let entry = &self.ledger.events[event];
        let (gateway, id) = (entry.gateway, entry.id);
        let call = &self.ledger.calls[entry.call];
        let begun = call.begun;
        // A change of the delivery closes all connections.
        if self.roster.gateways[gateway].mode.is_none_or(|(_, since)| since >= begun) {
            return Ok(());
        }
        // The hub decides the counts a little before the kernel takes the answer. Where the publisher's socket was
        // blocked, or where the publisher has waited for the processing, it may have been any time since the request.
        let waited = (self.watched[call.conn].was_blocked || call.wait.is_some()).then_some(begun);
        let lately = waited.unwrap_or(Instant(
            counts.at.0.saturating_sub(2 * SLACK.as_micros() as u64 + 2 * self.scenario.mesh_delay_max),
        ));
        let (mut sure, mut perhaps, mut undecided) = (0, 0, 0);
        for conn in 0..self.watched.len() {
            let watched = &self.watched[conn];
            if watched.key.is_none_or(|key| self.roster.keys[key].gateway != gateway) {
                continue;
            }
            let Some(ack) = watched.ack else {
                let may_be = u64::from(watched.requested_at.is_some() && watched.refused.is_none());
                perhaps += may_be;
                undecided += may_be;
                continue;
            };
            if ack.offset == NOWHERE {
                perhaps += 1;
                undecided += 1;
            }
            if ack.offset >= offset {
                continue;
            }
            perhaps += 1;
            // One that resumes may be anywhere, and a publisher does not wait for it while it catches up. Nor for one whose window is
            // full.
            let proves = watched.proving.mode != Some(DeliveryMode::Written);
            undecided += u64::from(proves && !ack.resumed);
            if ack.resumed || (proves && ack.at >= begun) {
                undecided += u64::from(ack.resumed);
                continue;
            }
            let written = entry.written.iter().any(|(at, _)| *at == conn);
            let free = watched.blocked_since.is_none() && !watched.was_blocked_since(lately);
            undecided += u64::from(!free);
            // One that was admitted without the log counts once that has told where it begins.
            let late = watched.proving.begun.is_some_and(|begun| begun > ack.at);
            let firm = !late && watched.ended.is_none() && watched.leaving.is_none() && free && self.drained.is_none();
            let firm =
                firm && watched.good && watched.key.is_some_and(|key| self.roster.removal_of(key).begun.is_none());
            if !firm {
                continue;
            }
            sure += u64::from(ack.at < begun);
            if counts.failures.contains(&ack.connection) {
                return Err(format!("#{conn} was never blocked, and is listed as failed"));
            }
            // One that joins while a follow is interrupted gets what was kept before, and counts for nobody.
            if !written && counts.pending == 0 && self.scenario.log.interrupts == 0 {
                return Err(format!("#{conn} of {id} was never blocked, and does not have event {event}"));
            }
        }
        if counts.connections < sure || counts.connections > perhaps {
            return Err(format!("expected {sure} to {perhaps} connections"));
        }
        if counts.pending > undecided && !self.scenario.is_scarce() && !self.scenario.log.is_faulty() {
            return Err(format!("expected at most {undecided} pending"));
        }
        Ok(())
    }
}
