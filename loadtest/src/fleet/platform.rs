//! The platform's side of a fleet: events at a rate, or one after the other.

use super::*;
use crate::publisher::Fate;

impl Fleet {
    /// Publishes one event now.
    pub fn publish(&mut self, gateway: usize) {
        let intended = self.clock.now();
        self.give(Due { gateway, intended });
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
        if self.closed_loop.is_some() {
            (0..self.publishers.len()).for_each(|publisher| self.go_on(publisher));
        }
    }

    /// Whether every event that was to be published has been answered.
    pub fn is_answered(&self) -> bool {
        self.publishers.iter().all(Publisher::is_idle)
    }

    /// Events that wait for a publisher.
    pub fn backlog(&self) -> usize {
        self.publishers.iter().map(|publisher| publisher.waiting.len()).sum()
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

    /// All events of a gateway go over one connection, so that their order is known.
    fn give(&mut self, due: Due) {
        let publisher = due.gateway % self.publishers.len();
        self.publishers[publisher].waiting.push_back(due);
        self.send(publisher);
    }

    /// In a closed loop: gives a publisher that has nothing to do its next request.
    fn go_on(&mut self, publisher: usize) {
        let Some(gateways) = &self.closed_loop else { return };
        if !self.publishers[publisher].is_idle() {
            return;
        }
        let (count, intended) = (self.publishers.len(), self.clock.now());
        let own: Vec<usize> = gateways.iter().copied().filter(|gateway| gateway % count == publisher).collect();
        if own.is_empty() {
            return;
        }
        let begin = usize::try_from(self.tally.published).unwrap_or(0) / count;
        for turn in 0..self.form.batch {
            let gateway = own[(begin + turn) % own.len()];
            self.publishers[publisher].waiting.push_back(Due { gateway, intended });
        }
        self.send(publisher);
    }

    fn send(&mut self, index: usize) {
        if self.publishers[index].link.is_none() {
            let manner = Self::manner(&self.endpoint, self.shared_tls.as_ref());
            let Ok(link) = Link::open(&manner) else { return };
            if self.watch(&link, PUBLISHER_BIT | index as u64).is_err() {
                return;
            }
            self.publishers[index].link = Some(link);
        }
        let verifier = &mut self.verifier;
        if self.publishers[index].send(&self.form, |gateway| verifier.write(gateway)).is_err() {
            self.lose_publisher(index);
        }
    }

    pub(super) fn handle_publisher(&mut self, index: usize) {
        let Self { publishers, scratch, plain, verifier, tally, clock, .. } = self;
        let Some(publisher) = publishers.get_mut(index).filter(|publisher| publisher.link.is_some()) else { return };
        let more = publisher.read(scratch, plain, |marker, Fate { status, delivered, failed, pending, .. }| {
            let well = status == 200;
            verifier.settle(marker.gateway, marker.sequence, well);
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
        if !matches!(more, Ok(true)) {
            self.lose_publisher(index);
        }
        self.go_on(index);
        if !self.publishers[index].waiting.is_empty() {
            self.send(index);
        }
    }

    fn lose_publisher(&mut self, index: usize) {
        for marker in self.publishers[index].lose() {
            self.verifier.settle(marker.gateway, marker.sequence, false);
            *self.tally.unpublished.entry(0).or_default() += 1;
        }
    }
}
