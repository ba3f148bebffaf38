//! Checks what the publishers of gateways with the delivery `processed` are told: what waits, and what was processed.

use super::{
    ledger::Counts,
    oracle::{Oracle, SLACK},
};
use crate::model::{DeliveryMode, Instant};
use serde_json::Value;
use std::time::Duration;

impl Oracle {
    /// Whether the world has gateways with the delivery `processed`.
    pub(super) fn has_processed(&self) -> bool {
        self.scenario
            .roster
            .gateways
            .iter()
            .any(|gateway| gateway.mode.is_none_or(|(mode, _)| mode == DeliveryMode::Processed))
    }

    /// Whether the gateway of an event has, or may have had, the delivery `processed` when the event was published.
    pub(super) fn may_be_processed(&self, event: usize) -> bool {
        let entry = &self.ledger.events[event];
        let gateway = &self.roster.gateways[entry.gateway];
        gateway.was_changed || gateway.mode.is_none_or(|(mode, _)| mode == DeliveryMode::Processed)
    }

    /// Whether the gateway of an event had the delivery `processed` all the time since the event was published.
    fn is_processed(&self, event: usize) -> bool {
        let entry = &self.ledger.events[event];
        let gateway = &self.roster.gateways[entry.gateway];
        let begun = self.ledger.calls[entry.call].begun;
        gateway.deletion.begun.is_none()
            && gateway.mode.is_some_and(|(mode, since)| mode == DeliveryMode::Processed && since < begun)
    }

    /// An event of such a gateway waits for it, and fails only on connections with `?delivery=written`.
    pub(super) fn check_waiting(&mut self, event: usize, counts: &Counts) -> Result<(), String> {
        if counts.waiting {
            self.cover("an event waits for its gateway");
        }
        let gateway = self.ledger.events[event].gateway;
        let all = self.watched.iter().zip(&self.scenario.profiles);
        let own = all.filter(|(watched, profile)| {
            profile.written_only && watched.key.is_some_and(|key| self.roster.keys[key].gateway == gateway)
        });
        // The ack of one whose socket is blocked was not seen yet.
        let acks: Vec<_> = own.map(|(watched, _)| watched.ack.map(|ack| ack.connection)).collect();
        let others = counts.connections.saturating_sub(acks.len() as u64);
        if counts.waiting && (others > 0 || !self.may_be_processed(event)) {
            return Err("an event waits only if its gateway has the delivery processed, and no connection".to_owned());
        }
        if !self.is_processed(event) {
            return Ok(());
        }
        if counts.connections == 0 && !counts.waiting && !counts.processed {
            return Err("without connections it is not said that the event waits".to_owned());
        }
        let is_known = |connection| acks.contains(&None) || acks.contains(&Some(connection));
        if counts.failed > acks.len() as u64 || !counts.failures.iter().all(|connection| is_known(*connection)) {
            return Err("a gateway with delivery processed fails no publish".to_owned());
        }
        Ok(())
    }

    /// A publisher that waits is told the truth about the processing, and not before its time is over if it is not complete.
    pub(super) fn check_wait(
        &mut self,
        now: Instant,
        event: usize,
        value: &Value,
        took: Duration,
    ) -> Result<(), String> {
        let call = &self.ledger.calls[self.ledger.events[event].call];
        let Some(wait) = call.wait else {
            return if value.get("processed").is_none() { Ok(()) } else { Err("nobody has asked for it".to_owned()) };
        };
        match (value["processed"].as_bool(), value.get("skipped").is_some()) {
            (None, _) => Err("it is not said whether the event was processed".to_owned()),
            (Some(true), _) if !self.may_be_processed(event) => Err("nothing proves that".to_owned()),
            (Some(true), true) => {
                self.cover("a wait ends with an event that is passed over");
                Ok(())
            }
            (Some(true), false) => {
                self.cover("a wait ends with a processed event");
                self.check_reached(now, event)
            }
            (Some(false), true) => {
                self.cover("a wait ends with an event that its gateway never gets");
                Ok(())
            }
            (Some(false), false) => {
                self.cover("a wait is over in vain");
                let is_early = took + SLACK < wait && self.drained.is_none();
                if is_early && self.is_processed(event) { Err(format!("after {took:?} of {wait:?}")) } else { Ok(()) }
            }
        }
    }

    /// Each connection that was there when the event was published has handled it, or has ended.
    fn check_reached(&mut self, now: Instant, event: usize) -> Result<(), String> {
        if !self.is_processed(event) {
            return Ok(());
        }
        let entry = &self.ledger.events[event];
        let (gateway, begun) = (entry.gateway, self.ledger.calls[entry.call].begun);
        let Some(offset) = entry.offset else { return Ok(()) };
        // A gateway that goes on behind a position says that it has what lies before it.
        let goes_on = |conn: usize| self.watched[conn].ack.is_some_and(|ack| ack.resumed && ack.offset >= offset);
        let is_claimed = (0..self.watched.len()).any(|conn| self.gateway_of(conn) == Some(gateway) && goes_on(conn));
        if !is_claimed && self.is_lost(gateway, offset, Instant(0)) {
            return Err(format!("offset {offset} was not handled"));
        }
        for (conn, watched) in self.watched.iter().enumerate() {
            let own = watched.key.is_some_and(|key| self.roster.keys[key].gateway == gateway);
            let there = watched.ack.is_some_and(|ack| ack.at < begun && ack.offset < offset);
            // One that is blocked may be closing, which its socket has not shown yet.
            let there = own && there && watched.ended.is_none() && watched.leaving.is_none() && !watched.was_blocked;
            if there && watched.proving.is_processed() && watched.proving.handled < offset {
                let text = format!("it has handled {} and not {offset}", watched.proving.handled);
                self.handled.doubts.push((conn, now, text));
            }
        }
        Ok(())
    }
}
