//! How far a gateway has processed its events: the rules that every log follows.

use crate::model::{
    Position,
    log::{Head, Progress, ProgressStep},
};

/// What a log keeps of one gateway. The offset is one of the epoch that the log has now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    /// Each event up to this offset was processed, or passed over by a rule.
    pub offset: u64,
    /// See [`Progress::attempts`].
    pub attempts: u32,
    /// See [`Progress::attempts_ms`].
    pub attempts_ms: u64,
}

impl Kept {
    /// Nothing behind this offset was tried.
    pub fn at(offset: u64) -> Self {
        Self { offset, attempts: 0, attempts_ms: 0 }
    }

    /// In a log that ends at this offset. Behind a lost end nothing was tried.
    pub fn capped(self, last: u64) -> Self {
        if self.offset > last { Self::at(last) } else { self }
    }

    /// As it is told, in a log with these ends.
    pub fn told(self, head: Head) -> Progress {
        let Self { offset, attempts, attempts_ms } = self.capped(head.last);
        Progress { position: Position { epoch: head.epoch, offset }, attempts, attempts_ms }
    }
}

/// What is kept after a step, in a log with these ends.
pub(super) fn step(kept: Option<Kept>, step: ProgressStep, head: Head) -> Option<Kept> {
    match (step, kept) {
        (ProgressStep::End, _) | (ProgressStep::Reach(_), None) => None,
        (ProgressStep::Begin, Some(kept)) => Some(kept),
        (ProgressStep::Begin, None) | (ProgressStep::Restart, _) => Some(Kept::at(head.last)),
        (ProgressStep::Reach(Progress { position, attempts, attempts_ms }), Some(kept)) => {
            let is_newer = position.epoch == head.epoch && (kept.offset..=head.last).contains(&position.offset);
            Some(if is_newer { Kept { offset: position.offset, attempts, attempts_ms } } else { kept })
        }
    }
}
