//! The generation of the store: by it the event log sees at its opening that the store was put back to an earlier state.
//!
//! A gateway that was deleted is forgotten by the log, too. If the store then comes back from a backup, the gateway exists again with its
//! old incarnation, and the log would give it positions from 1 a second time. So each deletion raises the store's generation in the same
//! commit, and each commit of the log notes the generation of that moment. A store below what the log has noted lacks a deletion.
//!
//! A count of starts would not do: a backup and its restore may have one start between them, like any two runs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The number of deletions in one line of the store's history is below this.
const LINE: u64 = 1 << 32;

/// The generation as the store's file has it, shared with the log. It never falls while a hub runs.
#[derive(Clone, Default, Debug)]
pub struct Generation(Arc<AtomicU64>);

impl Generation {
    /// The generation now.
    pub fn get(&self) -> u64 {
        // A log that is told to forget a gateway sees at least the generation of its deletion.
        self.0.load(Ordering::Acquire)
    }

    /// Notes a generation that the store's file has.
    pub(super) fn raise(&self, to: u64) {
        self.0.fetch_max(to, Ordering::AcqRel);
    }

    /// Begins a new line of history, above everything that a log has noted: no copy of the store that was made in an earlier line passes
    /// as one of this.
    pub(super) fn begin_line(&self, noted: u64) {
        self.raise((self.get().max(noted) / LINE).saturating_add(1).saturating_mul(LINE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_line_is_above_all_generations_of_before() {
        let generation = Generation::default();
        let copy = generation.clone();
        generation.raise(7);
        generation.raise(3);
        assert_eq!(copy.get(), 7);
        generation.begin_line(0);
        assert_eq!(copy.get(), LINE);
        generation.begin_line(3 * LINE + 5);
        assert_eq!(copy.get(), 4 * LINE);
    }
}
