//! The platform of a fleet: publishes events at a fixed rate, or each after the answer to the last.
//!
//! The order of a gateway's events must be known, so an event is sent only when the hub has accepted the one before.
//! That is known from its answer, or earlier from its arrival at any connection. The answer alone would be too slow: it
//! waits for slow connections, and a real platform would not wait for it.

use super::*;
use crate::publisher::PublishResult;

/// The events of one gateway that wait to be sent.
pub(super) struct GatewayQueue {
    waiting: VecDeque<DueEvent>,
    written: u64,
    may_send: bool,
}

impl Default for GatewayQueue {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), written: 0, may_send: true }
    }
}

impl GatewayQueue {
    /// The hub has accepted this event; returns whether the gateway may now send an event that waits.
    pub(super) fn confirm(&mut self, sequence: u64) -> bool {
        let confirmed = !self.may_send && sequence >= self.written;
        self.may_send |= confirmed;
        confirmed && !self.waiting.is_empty()
    }
}

/// Most connections of the platform if slow connections delay its answers.
const PUBLISHERS_MAX: usize = 1_024;

impl Fleet {
    /// Publishes one event now.
    pub fn publish(&mut self, gateway: usize) {
        let intended = self.clock.now();
        self.enqueue(DueEvent { gateway, intended });
        self.dispatch();
    }

    /// Publishes `rate` events a second from now on, to each of these gateways in turn; 0 stops it.
    pub fn publish_at(&mut self, rate: f64, gateways: Vec<usize>) {
        let next = self.clock.now();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the interval is positive")]
        let interval = (SECOND as f64 / rate.max(f64::MIN_POSITIVE)).max(1.0) as u64;
        // At least 1 ns: with an interval of 0, `publish_due` would never end.
        let schedule = Schedule { next, interval, gateways, turn: 0 };
        self.schedule = Some(schedule).filter(|it| rate > 0.0 && !it.gateways.is_empty());
    }

    /// Lets every publisher send its next request as soon as the last is answered, to each of these gateways in turn;
    /// `None` stops it.
    pub fn publish_closed(&mut self, gateways: Option<Vec<usize>>) {
        self.closed_loop = gateways;
        (0..self.publishers.len()).for_each(|publisher| self.send_next(publisher));
    }

    /// Whether every event that was to be published has been answered.
    pub fn is_answered(&self) -> bool {
        self.backlog() == 0 && self.publishers.iter().all(Publisher::is_idle)
    }

    /// How many events wait to be sent.
    pub fn backlog(&self) -> usize {
        self.gateway_queues.iter().map(|queue| queue.waiting.len()).sum()
    }

    pub(super) fn publish_due(&mut self, now: Nanos) {
        let Some(mut schedule) = self.schedule.take() else { return };
        // From the schedule and not from `now`: events that are late keep their intended times, so a stall shows in the
        // latencies.
        while schedule.next <= now {
            let gateway = schedule.gateways[schedule.turn % schedule.gateways.len()];
            self.enqueue(DueEvent { gateway, intended: schedule.next });
            schedule.turn += 1;
            schedule.next += schedule.interval;
        }
        self.schedule = Some(schedule);
    }

    fn enqueue(&mut self, due: DueEvent) {
        let queue = &mut self.gateway_queues[due.gateway];
        if queue.may_send && queue.waiting.is_empty() {
            self.sendable.push_back(due.gateway);
        }
        queue.waiting.push_back(due);
    }

    /// Sends events that may be sent, while there are idle publishers.
    pub(super) fn dispatch(&mut self) {
        if self.closed_loop.is_some() {
            return;
        }
        while !self.sendable.is_empty() {
            let Some(publisher) = self.idle.pop().or_else(|| self.add_publisher()) else { break };
            let mut events = Vec::new();
            while events.len() < self.template.batch {
                let Some(gateway) = self.sendable.pop_front() else { break };
                let queue = &mut self.gateway_queues[gateway];
                let room = queue.waiting.len().min(self.template.batch - events.len());
                events.extend(queue.waiting.drain(..room));
                // The gateway's other events wait until the hub has accepted these.
                queue.may_send = false;
            }
            self.send(publisher, &events);
        }
    }

    /// Adds a publisher, if slow connections can delay the answers to the others.
    fn add_publisher(&mut self) -> Option<usize> {
        let may = !self.plan.slow.is_empty() && self.publishers.len() < PUBLISHERS_MAX;
        may.then(|| self.publishers.push(Publisher::default()))?;
        Some(self.publishers.len() - 1)
    }

    /// In a closed loop: sends an idle publisher's next request. Each gateway has one publisher, which keeps its events
    /// in order.
    fn send_next(&mut self, publisher: usize) {
        let Some(gateways) = &self.closed_loop else { return };
        let (count, intended) = (self.publishers.len(), self.clock.now());
        let own: Vec<usize> = gateways.iter().copied().filter(|gateway| gateway % count == publisher).collect();
        if own.is_empty() || !self.publishers[publisher].is_idle() {
            return;
        }
        let begin = self.turn;
        self.turn += self.template.batch;
        let due = |turn: usize| DueEvent { gateway: own[(begin + turn) % own.len()], intended };
        let events: Vec<_> = (0..self.template.batch).map(due).collect();
        // In a closed loop `dispatch` must not use this publisher as well.
        self.idle.retain(|idle| *idle != publisher);
        self.send(publisher, &events);
    }

    fn send(&mut self, index: usize, events: &[DueEvent]) {
        if self.publishers[index].link.is_none() {
            let options = Self::connect_options(&self.endpoint, self.shared_tls.as_ref());
            // If it cannot connect, `send` below fails, and the events count as not accepted.
            let link = Link::open(&options).ok();
            self.publishers[index].link =
                link.filter(|link| watch(&self.epoll, link, PUBLISHER_BIT | index as u64).is_ok());
        }
        let (verifier, gateway_queues) = (&mut self.verifier, &mut self.gateway_queues);
        let number = |gateway: usize| {
            let sequence = verifier.write(gateway);
            gateway_queues[gateway].written = sequence;
            sequence
        };
        if self.publishers[index].send(&self.template, events, number).is_err() {
            self.lose_publisher(index);
        }
    }

    pub(super) fn handle_publisher(&mut self, index: usize) {
        let Self { publishers, scratch, plain, verifier, tally, clock, gateway_queues, sendable, .. } = self;
        let Some(publisher) = publishers.get_mut(index).filter(|publisher| publisher.link.is_some()) else { return };
        let was_idle = publisher.is_idle();
        let more =
            publisher.read(scratch, plain, |marker, PublishResult { status, delivered, failed, pending, .. }| {
                let accepted = status == 200;
                verifier.record_answer(marker.gateway, marker.sequence, accepted);
                if gateway_queues[marker.gateway].confirm(marker.sequence) {
                    sendable.push_back(marker.gateway);
                }
                if accepted {
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
        // `lose_publisher` may have put it there.
        if is_idle && !was_idle && !self.idle.contains(&index) {
            self.idle.push(index);
        }
        self.send_next(index);
        self.dispatch();
    }

    fn lose_publisher(&mut self, index: usize) {
        let lost = self.publishers[index].lose();
        // Without events in flight it is in `idle` already.
        if !lost.is_empty() {
            self.idle.push(index);
        }
        for marker in lost {
            self.verifier.record_answer(marker.gateway, marker.sequence, false);
            *self.tally.unpublished.entry(0).or_default() += 1;
            if self.gateway_queues[marker.gateway].confirm(marker.sequence) {
                self.sendable.push_back(marker.gateway);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_event_may_be_sent_when_the_last_was_accepted() {
        let mut queue = GatewayQueue { waiting: VecDeque::new(), written: 3, may_send: false };
        queue.waiting.push_back(DueEvent { gateway: 0, intended: 0 });
        assert!(!queue.confirm(2) && !queue.may_send, "an earlier event does not confirm the last one");
        assert!(queue.confirm(3) && queue.may_send);
        assert!(!queue.confirm(3), "it is confirmed once");
    }
}
