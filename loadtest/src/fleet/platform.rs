//! The platform's side of a fleet: events at a rate, or one after the other.
//!
//! The order of a gateway's events must be known, so the next is written only when the one before was answered or has
//! been seen by a connection: both say that the hub has accepted it. The answer alone would not do, because it waits
//! for slow connections, and a platform has more than one request on the way.

use super::*;
use crate::publisher::Fate;

/// The events of one gateway on their way out.
pub(super) struct Gate {
    waiting: VecDeque<Due>,
    written: u64,
    is_open: bool,
}

impl Default for Gate {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), written: 0, is_open: true }
    }
}

impl Gate {
    /// The hub has accepted this event; says whether another can go and waits.
    pub(super) fn pass(&mut self, sequence: u64) -> bool {
        let opens = !self.is_open && sequence >= self.written;
        self.is_open |= opens;
        opens && !self.waiting.is_empty()
    }
}

/// Connections of the platform where slow gateways keep answers waiting.
const PUBLISHERS_MAX: usize = 1_024;

impl Fleet {
    /// Publishes one event now.
    pub fn publish(&mut self, gateway: usize) {
        let intended = self.clock.now();
        self.give(Due { gateway, intended });
        self.dispatch();
    }

    /// Publishes so many events a second from now on, to each of these gateways in turn; 0 ends it.
    pub fn publish_at(&mut self, rate: f64, gateways: Vec<usize>) {
        let next = self.clock.now();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a positive time")]
        let interval = (SECOND as f64 / rate.max(f64::MIN_POSITIVE)).max(1.0) as u64;
        let schedule = Schedule { next, interval, gateways, turn: 0 };
        self.schedule = Some(schedule).filter(|it| rate > 0.0 && !it.gateways.is_empty());
    }

    /// Lets every publisher send its next request when its last was answered, to each of these gateways in turn.
    pub fn publish_closed(&mut self, gateways: Option<Vec<usize>>) {
        self.closed_loop = gateways;
        (0..self.publishers.len()).for_each(|publisher| self.go_on(publisher));
    }

    /// Whether every event that was to be published has been answered.
    pub fn is_answered(&self) -> bool {
        self.backlog() == 0 && self.publishers.iter().all(Publisher::is_idle)
    }

    /// Events that were to be sent and are not.
    pub fn backlog(&self) -> usize {
        self.gates.iter().map(|gate| gate.waiting.len()).sum()
    }

    pub(super) fn publish_due(&mut self, now: Nanos) {
        let Some(mut schedule) = self.schedule.take() else { return };
        while schedule.next <= now {
            let gateway = schedule.gateways[schedule.turn % schedule.gateways.len()];
            self.give(Due { gateway, intended: schedule.next });
            schedule.turn += 1;
            schedule.next += schedule.interval;
        }
        self.schedule = Some(schedule);
    }

    fn give(&mut self, due: Due) {
        let gate = &mut self.gates[due.gateway];
        if gate.is_open && gate.waiting.is_empty() {
            self.eager.push_back(due.gateway);
        }
        gate.waiting.push_back(due);
    }

    /// Sends what can go, as far as there are publishers with nothing to do.
    pub(super) fn dispatch(&mut self) {
        if self.closed_loop.is_some() {
            return;
        }
        while !self.eager.is_empty() {
            let Some(publisher) = self.idle.pop().or_else(|| self.grow()) else { break };
            let mut events = Vec::new();
            while events.len() < self.form.batch {
                let Some(gateway) = self.eager.pop_front() else { break };
                let gate = &mut self.gates[gateway];
                let room = gate.waiting.len().min(self.form.batch - events.len());
                events.extend(gate.waiting.drain(..room));
                gate.is_open = false;
            }
            self.send(publisher, &events);
        }
    }

    /// One publisher more, where slow gateways hold back the others.
    fn grow(&mut self) -> Option<usize> {
        let may = !self.plan.slow.is_empty() && self.publishers.len() < PUBLISHERS_MAX;
        may.then(|| self.publishers.push(Publisher::default()))?;
        Some(self.publishers.len() - 1)
    }

    /// In a closed loop: gives a publisher that has nothing to do its next request, for gateways that are its own.
    fn go_on(&mut self, publisher: usize) {
        let Some(gateways) = &self.closed_loop else { return };
        let (count, intended) = (self.publishers.len(), self.clock.now());
        let own: Vec<usize> = gateways.iter().copied().filter(|gateway| gateway % count == publisher).collect();
        if own.is_empty() || !self.publishers[publisher].is_idle() {
            return;
        }
        let begin = self.turn;
        self.turn += self.form.batch;
        let due = |turn: usize| Due { gateway: own[(begin + turn) % own.len()], intended };
        let events: Vec<_> = (0..self.form.batch).map(due).collect();
        self.idle.retain(|idle| *idle != publisher);
        self.send(publisher, &events);
    }

    fn send(&mut self, index: usize, events: &[Due]) {
        if self.publishers[index].link.is_none() {
            let manner = Self::manner(&self.endpoint, self.shared_tls.as_ref());
            // Where it cannot connect, the events count as not accepted.
            let link = Link::open(&manner).ok();
            self.publishers[index].link =
                link.filter(|link| watch(&self.epoll, link, PUBLISHER_BIT | index as u64).is_ok());
        }
        let (verifier, gates) = (&mut self.verifier, &mut self.gates);
        let number = |gateway: usize| {
            let sequence = verifier.write(gateway);
            gates[gateway].written = sequence;
            sequence
        };
        if self.publishers[index].send(&self.form, events, number).is_err() {
            self.lose_publisher(index);
        }
    }

    pub(super) fn handle_publisher(&mut self, index: usize) {
        let Self { publishers, scratch, plain, verifier, tally, clock, gates, eager, .. } = self;
        let Some(publisher) = publishers.get_mut(index).filter(|publisher| publisher.link.is_some()) else { return };
        let was_idle = publisher.is_idle();
        let more = publisher.read(scratch, plain, |marker, Fate { status, delivered, failed, pending, .. }| {
            let well = status == 200;
            verifier.settle(marker.gateway, marker.sequence, well);
            if gates[marker.gateway].pass(marker.sequence) {
                eager.push_back(marker.gateway);
            }
            if well {
                tally.published += 1;
                tally.publishing.saturating_record(clock.now().saturating_sub(marker.intended));
                tally.answered.delivered += delivered;
                tally.answered.failed += failed;
                tally.answered.pending += pending;
            } else {
                *tally.unpublished.entry(status).or_default() += 1;
            }
        });
        let is_idle = publisher.is_idle();
        if !matches!(more, Ok(true)) {
            self.lose_publisher(index);
        }
        if is_idle && !was_idle && !self.idle.contains(&index) {
            self.idle.push(index);
        }
        self.go_on(index);
        self.dispatch();
    }

    fn lose_publisher(&mut self, index: usize) {
        let lost = self.publishers[index].lose();
        if !lost.is_empty() {
            self.idle.push(index);
        }
        for marker in lost {
            self.verifier.settle(marker.gateway, marker.sequence, false);
            *self.tally.unpublished.entry(0).or_default() += 1;
            if self.gates[marker.gateway].pass(marker.sequence) {
                self.eager.push_back(marker.gateway);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_opens_when_its_last_event_was_accepted() {
        let mut gate = Gate { waiting: VecDeque::new(), written: 3, is_open: false };
        gate.waiting.push_back(Due { gateway: 0, intended: 0 });
        assert!(!gate.pass(2) && !gate.is_open, "an earlier one says nothing of the last");
        assert!(gate.pass(3) && gate.is_open);
        assert!(!gate.pass(3), "it is eager once");
    }
}
