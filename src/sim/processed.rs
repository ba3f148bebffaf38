//! The rules of the delivery `processed`: each event is handled at least once, in order, at most the window is repeated, and a
//! gateway has the processing timeout for each.

use super::{
    ledger::{Event, Outcome},
    oracle::{NOWHERE, Oracle, SLACK},
    store::life_of,
};
use crate::model::{DeliveryMode, Instant, Position};
use std::time::Duration;

/// Rules of this file that several checks share.
pub(super) const LOST: &str = "a gateway with delivery processed handles each event at least once";
const NAMES: &str = "a ping names the last event before it";
const TIMEOUT: &str = "a gateway has the processing timeout for each event";

impl Oracle {
    /// The index of a connection's gateway.
    pub(super) fn gateway_of(&self, conn: usize) -> Option<usize> {
        self.watched[conn].key.map(|key| self.roster.keys[key].gateway)
    }

    /// A gateway's connection has its ack: its delivery is what its gateway had when it asked, if that is known.
    pub(super) fn begin_proving(&mut self, now: Instant, conn: usize) {
        let (Some(gateway), Some(ack)) = (self.gateway_of(conn), self.watched[conn].ack) else { return };
        let asked = self.watched[conn].requested_at.unwrap_or(now);
        let known = self.roster.gateways[gateway].mode.filter(|(_, since)| *since < asked);
        let written_only = self.scenario.profiles[conn].written_only;
        let proving = &mut self.watched[conn].proving;
        proving.mode = match known {
            _ if written_only => Some(DeliveryMode::Written),
            known => known.map(|(mode, _)| mode),
        };
        proving.since = known.map_or(now, |(_, since)| since);
        if !proving.is_processed() {
            return;
        }
        self.cover("delivery processed");
        if ack.offset < NOWHERE {
            self.begin_behind(now, conn, ack.offset);
        }
    }

    /// A connection begins behind this offset: everything before it was handled, and nothing behind it was proved.
    fn begin_behind(&mut self, now: Instant, conn: usize, offset: u64) {
        let Some(gateway) = self.gateway_of(conn) else { return };
        let proving = &mut self.watched[conn].proving;
        (proving.begun, proving.handled) = (Some(now), offset);
        proving.pinged = proving.pinged.max(offset);
        let floor = proving.floor;
        if self.watched[conn].ack.is_some_and(|ack| ack.resumed) {
            return self.cover("delivery processed and a position");
        }
        if offset < floor {
            let text = format!("it begins behind {offset}, and {floor} was proved");
            self.fail("nothing that a pong has proved is repeated", Some(conn), text);
        }
        if offset > 0 && self.ledger.at(gateway, offset + 1).is_some() {
            self.cover("a gateway gets what it has missed");
        }
        let since = self.watched[conn].proving.since;
        let lost = (1..=offset).rev().find(|before| self.is_lost(gateway, *before, since));
        if let Some(lost) = lost {
            self.fail(LOST, Some(conn), format!("offset {lost} is not handled, and it begins behind {offset}"));
        }
    }

    /// Whether an event that was published after `since` was neither handled nor passed over by a rule.
    pub(super) fn is_lost(&self, gateway: usize, offset: u64, since: Instant) -> bool {
        let Some(event) = self.ledger.at(gateway, offset) else { return false };
        let is_handled = self.handled.events.contains(&(gateway, offset));
        let later = self.ledger.calls[event.call].begun > since;
        if is_handled || !later || self.is_trimmed(gateway, offset) {
            return false;
        }
        let mut connections = (0..self.watched.len()).filter(|conn| self.gateway_of(*conn) == Some(gateway));
        !connections.any(|conn| self.may_pass_over(conn, gateway, offset))
    }

    /// Whether the log may have dropped an event: enough came behind it.
    fn is_trimmed(&self, gateway: usize, offset: u64) -> bool {
        const OVERHEAD: usize = 600;
        let events = self.ledger.events.iter().filter(|event| event.gateway == gateway);
        let later = events.filter(|event| event.offset.is_none_or(|other| other > offset));
        let bytes: usize = later.map(|event| event.payload.len() + OVERHEAD).sum();
        self.scenario.trims() && bytes > self.scenario.log_gateway_bytes_max / 2
    }

    /// Whether a connection may be given no event between the last one and this offset.
    pub(super) fn may_leave_out(&mut self, conn: usize, from: u64, until: u64) -> bool {
        let Some(gateway) = self.gateway_of(conn) else { return false };
        let all = (from..until).all(|offset| self.may_pass_over(conn, gateway, offset));
        if all {
            self.cover("an event is passed over");
        }
        all
    }

    /// Whether the rules allow that a connection is not given an event.
    fn may_pass_over(&self, conn: usize, gateway: usize, offset: u64) -> bool {
        let (watched, delivery) = (&self.watched[conn], &self.scenario.delivery);
        let resumed = watched.ack.is_some_and(|ack| ack.resumed);
        if watched.ack.is_none() || resumed || watched.proving.mode == Some(DeliveryMode::Written) {
            return false;
        }
        // One whose position nobody was told may be of any type.
        let Some(event) = self.ledger.at(gateway, offset) else { return self.has_unknown(gateway) };
        let before = watched.proving.begun.is_none_or(|begun| self.ledger.calls[event.call].begun <= begun);
        let skips = is_skipped_late(event, &delivery.replay_skip);
        let is_poison = self.handled.attempts.get(&(gateway, offset)).is_some_and(|attempts| {
            let (first, last) = (attempts.values().min(), attempts.values().max());
            let time = first.zip(last).map(|(first, last)| last.since(*first) + SLACK);
            attempts.len() >= delivery.poison_connections as usize && time >= Some(delivery.poison_after)
        });
        (skips && before) || is_poison
    }

    /// Whether an event was perhaps kept, at a position that nothing has shown.
    fn has_unknown(&self, gateway: usize) -> bool {
        let mut events = self.ledger.events.iter().filter(|event| event.gateway == gateway);
        events.any(|event| event.offset.is_none() && event.outcome != Outcome::Refused)
    }

    /// The kernel has taken the last byte of an event.
    pub(super) fn check_window(&mut self, now: Instant, conn: usize, offset: u64) {
        self.watched[conn].proving.last_event = Some(offset);
        if !self.watched[conn].proving.is_processed() {
            return;
        }
        if self.watched[conn].proving.begun.is_none() {
            self.begin_behind(now, conn, offset - 1);
        }
        let window = self.scenario.delivery.window as usize;
        let proving = &mut self.watched[conn].proving;
        let behind = proving.in_flight.back().filter(|(before, _)| *before > proving.pinged).map(|(before, _)| *before);
        proving.in_flight.push_back((offset, now));
        let count = proving.in_flight.len();
        if let Some(before) = behind {
            self.fail(NAMES, Some(conn), format!("no ping names {before}, and {offset} follows"));
        }
        if count > window {
            self.fail("at most the window is in flight", Some(conn), format!("{count} events, with {offset}"));
        } else if count == window && window > 1 {
            self.cover("a window of several events is full");
        }
    }

    /// The kernel has taken a ping: where pongs prove something it names the last event before it, elsewhere nothing.
    pub(super) fn check_ping_payload(&mut self, conn: usize, payload: &[u8]) {
        let Some(gateway) = self.gateway_of(conn) else { return };
        match self.watched[conn].proving.mode {
            None => {}
            Some(DeliveryMode::Written) if payload.is_empty() => {}
            Some(DeliveryMode::Written) => {
                let text = String::from_utf8_lossy(payload).into_owned();
                self.fail("pings name positions only where pongs prove something", Some(conn), text);
            }
            Some(DeliveryMode::Processed) => {
                let text = String::from_utf8_lossy(payload).into_owned();
                let id = self.roster.gateways[gateway].id;
                match self.offset_of(id, &text) {
                    Some(offset) => self.check_named(conn, gateway, offset),
                    // Before its begin is known there is nothing to name.
                    None if payload.is_empty() && self.watched[conn].proving.begun.is_none() => {}
                    None => self.fail(NAMES, Some(conn), format!("it names {text:?}")),
                }
            }
        }
    }

    fn check_named(&mut self, conn: usize, gateway: usize, offset: u64) {
        let (seen, proving) = (self.watched[conn].seen, &self.watched[conn].proving);
        let last = proving.in_flight.back().map(|(last, _)| *last);
        let begun = proving.begun.is_some();
        let is_right = match last {
            // One that has waited for the end of a frame is behind the event in it.
            Some(last) => offset == last || (offset < last && self.watched[conn].was_blocked),
            None if !begun => true,
            // With nothing in flight it names what was processed, which is what was passed over behind the last event.
            None => offset <= seen || (seen + 1..=offset).all(|passed| self.may_pass_over(conn, gateway, passed)),
        };
        if !is_right || (begun && offset < proving.pinged && !self.watched[conn].was_blocked) {
            let text = format!("it names {offset}, behind {seen}, in flight {last:?}, named before {}", proving.pinged);
            return self.fail(NAMES, Some(conn), text);
        }
        let proving = &mut self.watched[conn].proving;
        proving.pinged = proving.pinged.max(offset);
        if begun {
            self.watched[conn].seen = seen.max(offset);
        }
    }

    /// A peer has written a pong, which ends here in its stream.
    pub(super) fn pongs(&mut self, conn: usize, end: u64, payload: &[u8]) {
        let Some(gateway) = self.gateway_of(conn) else { return };
        let text = String::from_utf8_lossy(payload);
        if let Some(offset) = self.offset_of(self.roster.gateways[gateway].id, &text) {
            self.watched[conn].proving.pongs.push_back((end, offset));
        }
    }

    /// The payload of a ping that names an offset of a connection's gateway, in another epoch if `more` is not 0.
    pub(super) fn payload_of(&self, conn: usize, offset: u64, more: u64) -> Vec<u8> {
        let Some(gateway) = self.gateway_of(conn) else { return Vec::new() };
        let epoch = life_of(self.roster.gateways[gateway].id).epoch_in(self.scenario.seed).wrapping_add(more);
        Position { epoch, offset }.to_string().into_bytes()
    }

    /// The hub has read the first `total` bytes of a peer: what the pongs in them have proved.
    pub(super) fn receive_pongs(&mut self, now: Instant, conn: usize, total: u64) {
        let Some(gateway) = self.gateway_of(conn) else { return };
        let proved = self.handled.proved.get(&gateway).copied().unwrap_or(0);
        let is_early = self.scenario.profiles[conn].early;
        let watched = &mut self.watched[conn];
        if watched.requested_at.is_some() && watched.request_received == Some(now) {
            // The early frames of one that sends some end behind its request.
            watched.proving.floor = if is_early { 0 } else { proved };
        }
        // Behind a violation nothing is read.
        let is_sound = self.scenario.profiles[conn].misbehaviour.is_tolerated();
        while let Some((_, offset)) = self.watched[conn].proving.pongs.pop_front_if(|(end, _)| *end <= total) {
            let is_open = self.watched[conn].ended.is_none();
            // The hub takes a ping for written once the socket has all bytes of that write.
            let is_free = self.watched[conn].blocked_since.is_none();
            let proving = &mut self.watched[conn].proving;
            let is_known = proving.in_flight.iter().any(|(of, _)| *of == offset && offset <= proving.pinged);
            if !is_known {
                continue;
            }
            // A gateway that names an event says that it has handled it, whatever is true.
            let answered: Vec<_> = proving.in_flight.iter().map(|(of, _)| *of).filter(|of| *of <= offset).collect();
            proving.in_flight.drain(..answered.len());
            proving.proved_at = Some(now);
            if !(is_free && is_sound && is_open) {
                proving.doubtful.extend(answered.iter().copied());
            }
            // One that has named a position further on proves nothing about what lies between.
            let begin = self.watched[conn].ack.filter(|ack| ack.resumed).map_or(0, |ack| ack.offset);
            let is_gapless = begin <= self.handled.proved.get(&gateway).copied().unwrap_or(0);
            let proving = &mut self.watched[conn].proving;
            if is_open && is_sound && is_free && is_gapless && proving.is_processed() {
                let most = self.handled.proved.entry(gateway).or_default();
                *most = (*most).max(offset);
            }
            answered.into_iter().for_each(|of| self.handled(now, conn, of));
        }
    }

    /// A gateway has handled an event, or has received it if it proves no more than that.
    pub(super) fn handled(&mut self, _: Instant, conn: usize, offset: u64) {
        let Some(gateway) = self.gateway_of(conn) else { return };
        if !self.handled.events.insert((gateway, offset)) && self.watched[conn].proving.handled < offset {
            self.cover("an event is handled again");
        }
        let proving = &mut self.watched[conn].proving;
        proving.handled = proving.handled.max(offset);
    }

    /// A connection has ended, or its socket was closed: what it had in flight was tried once more.
    pub(super) fn count_attempts(&mut self, now: Instant, conn: usize) {
        let Some(gateway) = self.gateway_of(conn) else { return };
        let proving = &self.watched[conn].proving;
        let in_flight = proving.in_flight.iter().map(|(offset, _)| *offset);
        for offset in in_flight.chain(proving.doubtful.iter().copied()) {
            self.handled.attempts.entry((gateway, offset)).or_default().insert(conn, now);
        }
    }

    /// A connection has ended: its gateway was not at work on an event for too long.
    pub(super) fn end_proving(&mut self, now: Instant, conn: usize) {
        self.count_attempts(now, conn);
        let watched = &self.watched[conn];
        let Some((_, since)) = watched.proving.first().filter(|_| watched.proving.is_processed()) else { return };
        let due = since + self.scenario.session.processing_timeout;
        let is_overdue = watched.close_reason.as_deref() == Some("processing timeout");
        let firm = !watched.was_blocked && self.drained.is_none() && watched.leaving.is_none();
        let lately = Instant(now.0.saturating_sub(1_000_000));
        // The engine reads the clock once a visit.
        if is_overdue && now + Duration::from_millis(10) < due && !watched.was_blocked_since(lately) {
            self.fail(TIMEOUT, Some(conn), format!("closed {:?} early", due.since(now)));
        }
        let misbehaves = !self.scenario.profiles[conn].misbehaviour.is_tolerated();
        if firm && !misbehaves {
            self.late(TIMEOUT, conn, due, now);
        }
    }

    /// Whether a connection may take its events from the log: it began behind the end, or there is little memory.
    pub(super) fn is_behind(&self, conn: usize) -> bool {
        let (Some(gateway), Some(ack)) = (self.gateway_of(conn), self.watched[conn].ack) else { return false };
        let mut events = self.ledger.events.iter().filter(|event| event.gateway == gateway);
        let missed = |event: &Event| {
            let before = self.ledger.calls[event.call].begun <= ack.at;
            before && event.offset.is_none_or(|offset| offset > ack.offset)
        };
        self.scenario.is_scarce() || ack.offset == NOWHERE || events.any(missed)
    }

    /// Whether what a connection is given may depend on a window: its own, or that of another one of its gateway. Records that wait for
    /// a window leave the memory, and those who read them from the log go on there.
    pub(super) fn shares_windows(&self, conn: usize) -> bool {
        let gateway = self.gateway_of(conn);
        let mut others = (0..self.watched.len()).filter(|other| *other != conn && self.gateway_of(*other) == gateway);
        self.is_behind(conn) || others.any(|other| self.watched[other].proving.mode != Some(DeliveryMode::Written))
    }

    /// A connection was closed because the delivery of its gateway was changed.
    pub(super) fn check_change(&mut self, conn: usize) {
        self.cover("delivery changed");
        let Some(gateway) = self.gateway_of(conn) else { return };
        let entry = &self.roster.gateways[gateway];
        let since = self.watched[conn].proving.since;
        // It was changed since this connection was made, or is being changed.
        if entry.mode.is_some_and(|(_, at)| at <= since) && self.watched[conn].proving.mode.is_some() {
            let text = format!("the last change was answered at {:?}", entry.mode);
            self.fail("only a change of the delivery closes connections for it", Some(conn), text);
        }
    }

    /// Until when a gateway that is at work on an event may be silent.
    pub(super) fn may_work_until(&self, conn: usize) -> Instant {
        let proving = &self.watched[conn].proving;
        let since = proving.first().map_or(Instant(0), |(_, since)| since);
        if proving.mode.is_none() {
            return Instant(u64::MAX);
        }
        if proving.mode == Some(DeliveryMode::Written) {
            Instant(0)
        } else {
            since + self.scenario.session.processing_timeout
        }
    }
}

fn is_skipped_late(event: &Event, types: &[String]) -> bool {
    types.iter().any(|skipped| match skipped.strip_suffix('*') {
        Some(begin) => event.kind.starts_with(begin),
        None => event.kind == skipped,
    })
}
