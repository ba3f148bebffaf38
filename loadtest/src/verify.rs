//! Whether each connection saw each event of its gateway once and in order, from its ack to its end.
//!
//! A gateway's events are numbered from 1 and written by one publisher in that order, so the order is known. An event
//! that was under way when a connection got its ack may be seen or not; if it is, none after it may be missing. Events
//! whose publishing did not end well may be missing.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    /// An accepted event did not come.
    Lost,
    /// It came again.
    Repeated,
    /// It came after a later one.
    Swapped,
    /// It was another gateway's.
    Foreign,
    /// Its payload was not what was published.
    Garbled,
    /// An event came before the ack, or the connection broke the protocol.
    Protocol,
    /// The hub ended a connection that had done nothing wrong.
    Ended,
}

/// One thing that was wrong, for the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub wrong: Wrong,
    /// Which gateway, by its number in this run.
    pub gateway: usize,
    /// Which event; 0 where it is about none.
    pub sequence: u64,
    /// In words.
    pub detail: String,
}

/// What is known of the events of one gateway.
#[derive(Default)]
struct GatewayEvents {
    written: u64,
    answered: u64,
    unconfirmed: BTreeSet<u64>,
}

/// What one connection has seen.
#[derive(Default)]
pub struct Progress {
    gateway: usize,
    floor: u64,
    due: u64,
    last: Option<u64>,
    missing: BTreeSet<u64>,
}

/// Judges a run.
#[derive(Default)]
pub struct Verifier {
    gateways: Vec<GatewayEvents>,
    counts: BTreeMap<Wrong, u64>,
    findings: Vec<Finding>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How often each thing was wrong; empty is well.
    pub counts: BTreeMap<Wrong, u64>,
    /// The first of them.
    pub findings: Vec<Finding>,
}

/// Findings kept one by one; the counts go on.
const FINDINGS_MAX: usize = 50;
/// Missing events remembered for one connection.
const MISSING_MAX: u64 = 100_000;

impl Verifier {
    /// For so many gateways.
    pub fn new(count: usize) -> Self {
        Self { gateways: (0..count).map(|_| GatewayEvents::default()).collect(), ..Self::default() }
    }

    /// The number of the next event, which is being written now.
    pub fn write(&mut self, gateway: usize) -> u64 {
        self.gateways[gateway].written += 1;
        self.gateways[gateway].written
    }

    /// An event was answered; `well` is whether the hub has accepted it.
    pub fn record_answer(&mut self, gateway: usize, sequence: u64, accepted: bool) {
        let events = &mut self.gateways[gateway];
        events.answered = events.answered.max(sequence);
        if !accepted {
            events.unconfirmed.insert(sequence);
        }
    }

    /// A connection begins: what was settled before cannot reach it.
    pub fn begin(&self, gateway: usize) -> Progress {
        Progress { gateway, floor: self.gateways[gateway].answered, ..Progress::default() }
    }

    /// It has got its ack: whatever is written from now on must reach it.
    pub fn acknowledge(&self, progress: &mut Progress) {
        let written = self.gateways[progress.gateway].written;
        progress.due = written + 1;
        // Where events are under way, the first one seen decides from where on none may be missing.
        progress.last = (written == progress.floor).then_some(written);
    }

    /// It has got this event.
    pub fn see(&mut self, progress: &mut Progress, sequence: u64) {
        let gateway = progress.gateway;
        let Some(last) = progress.last else { return self.see_first(progress, sequence) };
        if sequence == last + 1 {
            progress.last = Some(sequence);
        } else if sequence > last {
            let unconfirmed = &self.gateways[gateway].unconfirmed;
            progress
                .missing
                .extend((last + 1..sequence.min(last + MISSING_MAX)).filter(|it| !unconfirmed.contains(it)));
            progress.last = Some(sequence);
        } else if progress.missing.remove(&sequence) {
            self.find(Wrong::Swapped, gateway, sequence, format!("it came after {last}"));
        } else {
            self.find(Wrong::Repeated, gateway, sequence, format!("{last} had come already"));
        }
    }

    fn see_first(&mut self, progress: &mut Progress, sequence: u64) {
        if sequence <= progress.floor {
            let detail = "it was answered before the connection began".to_owned();
            self.find(Wrong::Repeated, progress.gateway, sequence, detail);
        }
        progress.last = Some(sequence.min(progress.due).saturating_sub(1));
        self.see(progress, sequence);
    }

    /// It has ended, and need not have seen what it was not yet given.
    pub fn end(&mut self, progress: Progress) {
        for sequence in progress.missing {
            // An answer that came after the gap was noticed may have excused it.
            if !self.gateways[progress.gateway].unconfirmed.contains(&sequence) {
                self.find(Wrong::Lost, progress.gateway, sequence, "later ones came".to_owned());
            }
        }
    }

    /// Whether a living connection has seen all that it must.
    pub fn is_complete(&self, progress: &Progress) -> bool {
        self.outstanding(progress).next().is_none()
    }

    /// It lives at the end of the run: what it has not seen now is lost.
    pub fn close(&mut self, progress: Progress) {
        let lost: Vec<u64> = self.outstanding(&progress).collect();
        for sequence in lost {
            self.find(Wrong::Lost, progress.gateway, sequence, "it had not come at the end".to_owned());
        }
        self.end(progress);
    }

    fn outstanding(&self, progress: &Progress) -> impl Iterator<Item = u64> {
        let events = &self.gateways[progress.gateway];
        let from = progress.last.map_or(progress.due, |last| last + 1);
        (from..=events.written).filter(|sequence| !events.unconfirmed.contains(sequence))
    }

    /// Notes what is wrong.
    pub fn find(&mut self, wrong: Wrong, gateway: usize, sequence: u64, detail: String) {
        *self.counts.entry(wrong).or_default() += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { wrong, gateway, sequence, detail });
        }
    }

    /// What came of it.
    pub fn verdict(&self) -> Verdict {
        Verdict { counts: self.counts.clone(), findings: self.findings.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(verifier: &mut Verifier, events: usize) {
        (0..events).for_each(|_| assert!(verifier.write(0) > 0));
    }

    /// A connection that is there before `published` events, and sees `seen` of them.
    fn check(published: u64, seen: &[u64], expected: &[(Wrong, u64)]) {
        let mut verifier = Verifier::new(1);
        let mut progress = verifier.begin(0);
        verifier.acknowledge(&mut progress);
        for _ in 0..published {
            let sequence = verifier.write(0);
            verifier.record_answer(0, sequence, true);
        }
        seen.iter().for_each(|sequence| verifier.see(&mut progress, *sequence));
        verifier.close(progress);
        let found: Vec<_> = verifier.verdict().counts.into_iter().collect();
        assert_eq!(found, expected, "{seen:?}");
    }

    #[test]
    fn each_event_once_and_in_order_is_well() {
        check(0, &[], &[]);
        check(3, &[1, 2, 3], &[]);
    }

    #[test]
    fn losses_repeats_and_swaps_are_found() {
        check(3, &[], &[(Wrong::Lost, 3)]);
        check(3, &[1, 2], &[(Wrong::Lost, 1)]);
        check(3, &[1, 3], &[(Wrong::Lost, 1)]);
        check(3, &[2, 3], &[(Wrong::Lost, 1)]);
        check(3, &[1, 2, 2, 3], &[(Wrong::Repeated, 1)]);
        check(3, &[1, 3, 2], &[(Wrong::Swapped, 1)]);
        check(4, &[1, 3, 2, 2, 4], &[(Wrong::Repeated, 1), (Wrong::Swapped, 1)]);
    }

    /// Three events settled before it began, two under way at its ack, two after.
    fn check_late(seen: &[u64], expected: &[(Wrong, u64)]) {
        let mut verifier = Verifier::new(1);
        write(&mut verifier, 3);
        (1..=3).for_each(|sequence| verifier.record_answer(0, sequence, true));
        let mut progress = verifier.begin(0);
        write(&mut verifier, 2);
        verifier.acknowledge(&mut progress);
        write(&mut verifier, 2);
        (4..=7).for_each(|sequence| verifier.record_answer(0, sequence, true));
        seen.iter().for_each(|sequence| verifier.see(&mut progress, *sequence));
        verifier.close(progress);
        assert_eq!(verifier.verdict().counts.into_iter().collect::<Vec<_>>(), expected, "{seen:?}");
    }

    #[test]
    fn a_latecomer_may_see_what_was_under_way() {
        check_late(&[6, 7], &[]);
        check_late(&[5, 6, 7], &[]);
        check_late(&[4, 5, 6, 7], &[]);
        check_late(&[4, 6, 7], &[(Wrong::Lost, 1)]);
        check_late(&[7], &[(Wrong::Lost, 1)]);
        check_late(&[3, 4, 5, 6, 7], &[(Wrong::Repeated, 1)]);
        check_late(&[], &[(Wrong::Lost, 2)]);
    }

    #[test]
    fn what_was_refused_need_not_come() {
        let mut verifier = Verifier::new(1);
        let mut progress = verifier.begin(0);
        verifier.acknowledge(&mut progress);
        write(&mut verifier, 3);
        verifier.record_answer(0, 2, false);
        verifier.see(&mut progress, 1);
        assert!(!verifier.is_complete(&progress));
        verifier.see(&mut progress, 3);
        assert!(verifier.is_complete(&progress));
        verifier.close(progress);
        assert_eq!(verifier.verdict(), Verdict::default());
    }

    #[test]
    fn a_connection_that_ended_misses_nothing_that_came_after() {
        let mut verifier = Verifier::new(1);
        let mut progress = verifier.begin(0);
        verifier.acknowledge(&mut progress);
        write(&mut verifier, 4);
        [1, 3].iter().for_each(|sequence| verifier.see(&mut progress, *sequence));
        verifier.end(progress);
        assert_eq!(verifier.verdict().counts.into_iter().collect::<Vec<_>>(), [(Wrong::Lost, 1)]);
    }
}
