//! How far a gateway has processed its events: the highest that one of its connections has reached, and what the log is told of it.

use super::{feed_key::FeedKey, settings::Delivery};
use crate::{
    limits,
    model::{
        Instant, Position,
        log::{Progress, ProgressStep},
    },
};
use std::time::Duration;

/// The progress of one gateway.
#[derive(Debug)]
pub(super) struct GatewayProgress {
    /// Each event up to this offset was processed, or passed over.
    processed: u64,
    /// Connections that have ended with the event behind it in the gateway's hands.
    attempts: u32,
    /// The time between the first and the last of these ends, and the last one of this process.
    attempts_time: Duration,
    attempted: Option<Instant>,
    /// The log was told less.
    is_unsaved: bool,
}

impl GatewayProgress {
    /// As the log has kept it. `attempted` is when the last attempt ended, if that was in this process.
    pub(super) fn new(progress: Progress, attempted: Option<Instant>) -> Self {
        Self {
            processed: progress.position.offset,
            attempts: progress.attempts,
            attempts_time: Duration::from_millis(progress.attempts_ms),
            attempted: attempted.filter(|_| progress.attempts > 0),
            is_unsaved: false,
        }
    }

    pub(super) fn processed(&self) -> u64 {
        self.processed
    }

    /// When the last connection ended with the next event in the gateway's hands.
    pub(super) fn attempted(&self) -> Option<Instant> {
        self.attempted
    }

    /// A connection has processed everything up to an offset. Returns whether the gateway comes further by it.
    pub(super) fn reach(&mut self, offset: u64) -> bool {
        let is_further = offset > self.processed;
        if is_further {
            *self = Self {
                processed: offset,
                attempts: 0,
                attempts_time: Duration::ZERO,
                attempted: None,
                is_unsaved: self.is_unsaved,
            };
        }
        is_further
    }

    /// A connection has ended with the next event in the gateway's hands.
    pub(super) fn attempt(&mut self, now: Instant) {
        self.attempts = self.attempts.saturating_add(1);
        self.attempts_time += self.attempted.map_or(Duration::ZERO, |before| now.since(before));
        self.attempted = Some(now);
    }

    /// Whether the next event is to be skipped, because the gateway never gets past it.
    pub(super) fn is_poisoned(&self, delivery: &Delivery) -> bool {
        self.attempts >= delivery.poison_connections && self.attempts_time >= delivery.poison_after
    }

    /// The log has another epoch, with this base.
    pub(super) fn rebase(&mut self, base: u64) {
        self.processed = self.processed.min(base);
    }

    /// Takes what the log is to be told, if it was told less.
    pub(super) fn take_unsaved(&mut self, epoch: u64) -> Option<ProgressStep> {
        std::mem::take(&mut self.is_unsaved).then(|| {
            ProgressStep::Reach(Progress {
                position: Position { epoch, offset: self.processed },
                attempts: self.attempts,
                attempts_ms: u64::try_from(self.attempts_time.as_millis()).unwrap_or(u64::MAX),
            })
        })
    }
}

/// The gateways whose progress the log is told next.
#[derive(Debug, Default)]
pub(super) struct ProgressSaves {
    unsaved: Vec<FeedKey>,
    due: Option<Instant>,
}

impl ProgressSaves {
    /// The log is told of this gateway within [`limits::PROGRESS_INTERVAL`], together with others.
    pub(super) fn note(&mut self, now: Instant, key: FeedKey, progress: &mut GatewayProgress) {
        if !std::mem::replace(&mut progress.is_unsaved, true) {
            self.unsaved.push(key);
            self.due.get_or_insert(now + limits::PROGRESS_INTERVAL);
        }
    }

    /// When the log is to be told.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Takes all of them, once it is time.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Vec<FeedKey>> {
        self.due.take_if(|due| *due <= now).map(|_| std::mem::take(&mut self.unsaved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(offset: u64) -> GatewayProgress {
        GatewayProgress::new(Progress { position: Position { epoch: 1, offset }, attempts: 0, attempts_ms: 0 }, None)
    }

    #[test]
    fn an_event_is_poison_after_enough_ends_over_enough_time() {
        let delivery = Delivery { poison_connections: 3, poison_after: Duration::from_secs(10), ..Delivery::default() };
        let ends = |seconds: &[u64]| {
            let mut progress = progress(4);
            seconds.iter().for_each(|second| progress.attempt(Instant(second * 1_000_000)));
            progress.is_poisoned(&delivery)
        };
        assert!(!ends(&[0, 10]), "too few");
        assert!(!ends(&[0, 1, 2, 3, 4, 9]), "too fast");
        assert!(ends(&[0, 1, 10]));
    }

    #[test]
    fn the_next_event_begins_with_no_attempts() {
        let mut progress = progress(4);
        progress.attempt(Instant(1));
        assert!(!progress.reach(4) && progress.attempts == 1);
        assert!(progress.reach(5) && progress.attempts == 0);
        assert!(!progress.reach(3) && progress.processed() == 5, "it never goes back");
    }

    #[test]
    fn the_log_is_told_once_of_what_came_together() {
        let (mut saves, mut one) = (ProgressSaves::default(), progress(4));
        let key = FeedKey { index: 1, serial: 1 };
        saves.note(Instant(0), key, &mut one);
        saves.note(Instant(5), key, &mut one);
        let due = saves.poll_timeout().unwrap();
        assert_eq!(due, Instant(0) + limits::PROGRESS_INTERVAL);
        assert_eq!(saves.take_due(Instant(0)), None);
        assert_eq!(saves.take_due(due), Some(vec![key]));
        assert!(matches!(one.take_unsaved(1), Some(ProgressStep::Reach(_))));
        assert_eq!((one.take_unsaved(1), saves.poll_timeout()), (None, None));
    }
}
