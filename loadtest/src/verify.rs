//! Verifies that each connection receives each event of its gateway once and in order, from its ack to its end.
//!
//! A gateway's events are numbered from 1. Each is sent only when the hub has accepted the one before, or in the same
//! batch, so their order is known. An event that was in flight when a connection got its ack may arrive there or not;
//! if it does, none after it may be missing. An event that the hub has not accepted may be missing.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The kinds of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    /// An accepted event did not arrive.
    Lost,
    /// An event arrived again.
    Repeated,
    /// An event arrived after a later one.
    Swapped,
    /// An event of another gateway arrived.
    Foreign,
    /// A payload was not as published.
    Garbled,
    /// An event came before the ack, or the connection broke the protocol.
    Protocol,
    /// The hub ended a connection that had followed the protocol.
    Ended,
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its kind.
    pub wrong: Wrong,
    /// The gateway, by its number in this run.
    pub gateway: usize,
    /// The event's sequence number; 0 if it is not about one event.
    pub sequence: u64,
    /// A description.
    pub detail: String,
}

/// The events of one gateway that were published so far.
#[derive(Default)]
struct GatewayEvents {
    written: u64,
    answered: u64,
    unconfirmed: BTreeSet<u64>,
}

/// The events that one connection has received.
#[derive(Default)]
pub struct Progress {
    gateway: usize,
    floor: u64,
    due: u64,
    last: Option<u64>,
    missing: BTreeSet<u64>,
}

/// Verifies the events of a run.
#[derive(Default)]
pub struct Verifier {
    gateways: Vec<GatewayEvents>,
    counts: BTreeMap<Wrong, u64>,
    findings: Vec<Finding>,
}

/// The errors of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How many errors of each kind; empty if there were none.
    pub counts: BTreeMap<Wrong, u64>,
    /// The first errors.
    pub findings: Vec<Finding>,
}

/// How many errors are kept with their description; the counts go on.
const FINDINGS_MAX: usize = 50;
/// How many missing events are remembered after one gap.
const MISSING_MAX: u64 = 100_000;

impl Verifier {
    /// A verifier for this number of gateways.
    pub fn new(count: usize) -> Self {
        Self { gateways: (0..count).map(|_| GatewayEvents::default()).collect(), ..Self::default() }
    }

    /// The sequence number of the event that is written next.
    pub fn write(&mut self, gateway: usize) -> u64 {
        self.gateways[gateway].written += 1;
        self.gateways[gateway].written
    }

    /// Records the answer to an event: whether the hub has accepted it. An event without an answer counts as not
    /// accepted.
    pub fn record_answer(&mut self, gateway: usize, sequence: u64, accepted: bool) {
        let events = &mut self.gateways[gateway];
        events.answered = events.answered.max(sequence);
        if !accepted {
            events.unconfirmed.insert(sequence);
        }
    }

    /// A connection begins. Events answered before cannot reach it.
    pub fn begin(&self, gateway: usize) -> Progress {
        Progress { gateway, floor: self.gateways[gateway].answered, ..Progress::default() }
    }

    /// A connection has got its ack. Every event written from now on must reach it.
    pub fn acknowledge(&self, progress: &mut Progress) {
        let written = self.gateways[progress.gateway].written;
        progress.due = written + 1;
        // The hub may have put events in flight before or after the ack. The first event received shows which; from
        // that one on none may be missing.
        progress.last = (written == progress.floor).then_some(written);
    }

    /// A connection has received an event.
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
            self.find(Wrong::Swapped, gateway, sequence, format!("it arrived after {last}"));
        } else {
            self.find(Wrong::Repeated, gateway, sequence, format!("it arrived again after {last}"));
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

    /// A connection has ended. Events after the last one received are not missing: they may not have been sent yet.
    pub fn end(&mut self, progress: Progress) {
        for sequence in progress.missing {
            // An event that was refused after the gap was noticed is not lost.
            if !self.gateways[progress.gateway].unconfirmed.contains(&sequence) {
                self.find(Wrong::Lost, progress.gateway, sequence, "later events arrived".to_owned());
            }
        }
    }

    /// Whether a connection has received every event that it must.
    pub fn is_complete(&self, progress: &Progress) -> bool {
        self.outstanding(progress).next().is_none()
    }

    /// A connection is still open at the end of the run: what it has not received is lost.
    pub fn close(&mut self, progress: Progress) {
        let lost: Vec<u64> = self.outstanding(&progress).collect();
        for sequence in lost {
            self.find(Wrong::Lost, progress.gateway, sequence, "it had not arrived at the end of the run".to_owned());
        }
        self.end(progress);
    }

    fn outstanding(&self, progress: &Progress) -> impl Iterator<Item = u64> {
        let events = &self.gateways[progress.gateway];
        let from = progress.last.map_or(progress.due, |last| last + 1);
        (from..=events.written).filter(|sequence| !events.unconfirmed.contains(sequence))
    }

    /// Records an error.
    pub fn find(&mut self, wrong: Wrong, gateway: usize, sequence: u64, detail: String) {
        *self.counts.entry(wrong).or_default() += 1;
        // A broken hub makes millions of errors: the first ones and the counts say enough.
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { wrong, gateway, sequence, detail });
        }
    }

    /// The errors so far.
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

    /// A connection that exists before `published` events, and receives `seen` of them.
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
    fn each_event_once_and_in_order_is_no_error() {
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

    /// A connection that begins after three answered events; two more are in flight at its ack, and two follow.
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
    fn a_new_connection_may_receive_events_that_were_in_flight() {
        check_late(&[6, 7], &[]);
        check_late(&[5, 6, 7], &[]);
        check_late(&[4, 5, 6, 7], &[]);
        check_late(&[4, 6, 7], &[(Wrong::Lost, 1)]);
        check_late(&[7], &[(Wrong::Lost, 1)]);
        check_late(&[3, 4, 5, 6, 7], &[(Wrong::Repeated, 1)]);
        check_late(&[], &[(Wrong::Lost, 2)]);
    }

    #[test]
    fn a_refused_event_need_not_arrive() {
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
    fn a_connection_that_ended_need_not_receive_later_events() {
        let mut verifier = Verifier::new(1);
        let mut progress = verifier.begin(0);
        verifier.acknowledge(&mut progress);
        write(&mut verifier, 4);
        [1, 3].iter().for_each(|sequence| verifier.see(&mut progress, *sequence));
        verifier.end(progress);
        assert_eq!(verifier.verdict().counts.into_iter().collect::<Vec<_>>(), [(Wrong::Lost, 1)]);
    }
}
