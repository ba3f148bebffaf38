//! The progress of gateways: random steps, and what a follow must tell after them.

use super::{Following, Shard};
use crate::model::{
    Position,
    log::{Head, LogRequest, Progress, ProgressStep},
};

impl Shard {
    /// Submits a step, and notes what is kept after it: all that was handed in before is in front of it.
    pub(super) fn step_progress(&mut self, gateway: usize) {
        let (step, known) = (self.some_step(gateway), &mut self.gateways[gateway]);
        let (life, last) = (known.life, known.submitted);
        match step {
            ProgressStep::Begin => _ = known.progress.get_or_insert((last, 0, 0)),
            ProgressStep::Restart => known.progress = Some((last, 0, 0)),
            ProgressStep::End => known.progress = None,
            ProgressStep::Reach(Progress { position, attempts, attempts_ms }) => {
                let reached = position.offset;
                if let Some((offset, ..)) = known.progress
                    && known.epoch == Some(position.epoch)
                    && offset <= reached
                    && reached <= last
                {
                    known.progress = Some((reached, attempts, attempts_ms));
                }
            }
        }
        self.submit(LogRequest::Progress { life, step });
    }

    fn some_step(&mut self, gateway: usize) -> ProgressStep {
        match self.numbers.below(14) {
            0..=2 => ProgressStep::Begin,
            3 => ProgressStep::Restart,
            4 => ProgressStep::End,
            _ => {
                let known = &self.gateways[gateway];
                let (epoch, submitted, kept) = (known.epoch.unwrap_or(0), known.submitted, known.progress);
                let from = kept.map_or(0, |(offset, ..)| offset.saturating_sub(2));
                let offset = from + self.numbers.below((submitted + 3 - from) as usize) as u64;
                let epoch = if self.numbers.below(8) == 0 { epoch ^ 1 } else { epoch };
                let (attempts, attempts_ms) = (self.numbers.below(5) as u32, self.numbers.below(1_000) as u64);
                ProgressStep::Reach(Progress { position: Position { epoch, offset }, attempts, attempts_ms })
            }
        }
    }

    pub(super) fn check_progress(&self, follow: &Following, head: Head, told: Option<Progress>) {
        let expected = follow.progress.map(|(offset, attempts, attempts_ms)| {
            assert!(offset <= head.last, "{offset} is above the end: {head:?}");
            Progress { position: Position { epoch: head.epoch, offset }, attempts, attempts_ms }
        });
        assert_eq!(told, expected, "the progress after all steps in front of the follow");
    }
}
