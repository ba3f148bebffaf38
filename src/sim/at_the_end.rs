//! What a gateway with the delivery `processed` must have handled when the world ends.

use super::{
    behaviour::{Ending, Profile},
    ledger::Outcome,
    oracle::{NOWHERE, Oracle, SLACK},
    processed::LOST,
};
use crate::{limits, model::DeliveryMode};
use std::time::Duration;

impl Oracle {
    /// The world ends: a gateway whose last connection does everything right, for long enough, has handled all events.
    pub(super) fn check_handled(&mut self) {
        for (conn, at, text) in std::mem::take(&mut self.handled.doubts) {
            if self.watched[conn].ended.is_none_or(|ended| ended > at + SLACK) {
                self.fail("a wait ends when each connection has handled the event", Some(conn), text);
            }
        }
        for conn in 0..self.watched.len() {
            let Some(gateway) = self.gateway_of(conn) else { continue };
            let Some(lost) = self.find_lost(conn, gateway) else { continue };
            self.cover("a gateway handles all that waits for it");
            if let Some(lost) = lost {
                self.fail(LOST, Some(conn), format!("offset {lost} is not handled at the end"));
            }
        }
    }

    /// An event that is lost at the end, if there is one; `None` if the connection had no time for all.
    fn find_lost(&self, conn: usize, gateway: usize) -> Option<Option<u64>> {
        let (watched, profile) = (&self.watched[conn], &self.scenario.profiles[conn]);
        let entry = &self.roster.gateways[gateway];
        let (_, since) = entry.mode.filter(|(mode, _)| *mode == DeliveryMode::Processed)?;
        let ack = watched.ack.filter(|ack| !ack.resumed)?;
        let stays = watched.good && profile.ending == Ending::Stay && watched.proving.is_processed();
        if !stays || self.drained_early() || entry.deletion.begun.is_some() {
            return None;
        }
        let until = watched.leaving?;
        let answered = self.ledger.events.iter().filter(|event| event.gateway == gateway);
        let answered = answered.filter_map(|event| match &event.outcome {
            Outcome::Answered(counts) => Some((event.offset?, counts.at)),
            _ => None,
        });
        let all: Vec<_> = answered.collect();
        let last = all.iter().map(|(_, at)| *at).max()?;
        let count = all.iter().filter(|(offset, _)| *offset > ack.offset.min(u64::MAX - 1)).count().max(1);
        let count = if ack.offset == NOWHERE { all.len() } else { count };
        let time = self.time_for(count as u32, profile);
        (last.max(ack.at) + time < until)
            .then(|| all.iter().map(|(offset, _)| *offset).find(|offset| self.is_lost(gateway, *offset, since)))
    }

    /// The hub has drained before its peers were told to leave.
    fn drained_early(&self) -> bool {
        self.scenario.drain.is_some() || self.dead.is_some()
    }

    /// Time within which a quick gateway handles a number of events that wait for it.
    fn time_for(&self, count: u32, profile: &Profile) -> Duration {
        let scenario = &self.scenario;
        let each = profile.handling.usual_max + profile.handling.pong_delay_max + 2 * profile.latency_max;
        let each = Duration::from_micros(each) + Duration::from_millis(1) * scenario.cost as u32;
        let is_faulty = scenario.log.is_faulty() || scenario.log.read_fails > 0;
        let again = if is_faulty || scenario.is_scarce() { Duration::from_secs(1) } else { Duration::ZERO };
        let reads = count / 4 + 4;
        each * count + (scenario.log.lateness() * 2 + again) * reads + limits::RESUME_PATIENCE
    }
}
