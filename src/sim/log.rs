//! The simulated log of events: it answers in order, sometimes late, and fails as a disk can.
//!
//! What it keeps is decided when it is asked, by a log in memory; only the answers take time. So what a failed append has
//! kept is known here, and the oracle can judge what the hub has said about it.

use super::rng::Rng;
use crate::{
    model::{
        Instant,
        log::{Busy, FollowKey, LogReply, LogRequest, NotAppended, Why},
    },
    store::log::LogPort,
};
use std::{collections::VecDeque, time::Duration};

/// How late the log is, and how often it fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogFaults {
    /// Longest time until an answer, if nothing goes wrong; with 0 it answers inside the call.
    pub(super) delay_max: Duration,
    /// How likely a request takes up to `late_max`, and those behind it, per mille.
    pub(super) late: u64,
    pub(super) late_max: Duration,
    /// How likely an append fails, per mille.
    pub(super) fails: u64,
    /// How likely the answer to a failed append is `Unknown`, per mille. Half of these are kept.
    pub(super) in_doubt: u64,
    /// How likely a read fails, per mille.
    pub(super) read_fails: u64,
    /// How likely a follow is interrupted instead of being told something, per mille.
    pub(super) interrupts: u64,
    /// Answers that may wait; then it is busy.
    pub(super) queue_max: usize,
}

impl LogFaults {
    /// Answers at once, and never fails.
    pub(super) const NONE: Self = Self {
        delay_max: Duration::ZERO,
        late: 0,
        late_max: Duration::ZERO,
        fails: 0,
        in_doubt: 0,
        read_fails: 0,
        interrupts: 0,
        queue_max: 10_000,
    };

    /// How late an answer may be.
    pub(super) fn lateness(&self) -> Duration {
        if self.late > 0 { self.late_max.max(self.delay_max) } else { self.delay_max }
    }

    /// Whether a publisher can be told nothing, or a connection be told late, although both do everything right.
    pub(super) fn is_faulty(&self) -> bool {
        self.interrupts > 0 || self.fails > 0 || self.late > 0 || self.queue_max < Self::NONE.queue_max
    }
}

/// One core's port.
pub(super) struct ModelLog {
    kept: Box<dyn LogPort>,
    faults: LogFaults,
    /// Answers in order, each with the time at which it comes.
    waiting: VecDeque<(Instant, LogReply)>,
    last_due: Instant,
    scratch: Vec<LogReply>,
}

/// What came of a request that the simulation has to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Accident {
    /// An append failed, and nothing is kept.
    Refused,
    /// An append failed, and the hub cannot tell whether something is kept.
    InDoubt,
    /// A read failed.
    ReadFailed,
    /// A follow was interrupted.
    Interrupted,
}

impl Accident {
    /// Its name among what must have happened.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Refused => "the log refused events",
            Self::InDoubt => "the log cannot tell whether events are kept",
            Self::ReadFailed => "a read of the log failed",
            Self::Interrupted => "a follow was interrupted",
        }
    }
}

impl ModelLog {
    pub(super) fn new(kept: Box<dyn LogPort>, faults: LogFaults) -> Self {
        Self { kept, faults, waiting: VecDeque::new(), last_due: Instant(0), scratch: Vec::new() }
    }

    /// Takes a request. Returns when its last answer comes, and what went wrong.
    ///
    /// # Errors
    /// Gives the request back where too many answers wait.
    pub(super) fn submit(
        &mut self,
        now: Instant,
        request: LogRequest,
        replies: &mut Vec<LogReply>,
        rng: &mut Rng,
    ) -> Result<(Instant, Option<Accident>), Busy<LogRequest>> {
        let may_be_busy =
            matches!(request, LogRequest::Append { .. } | LogRequest::Follow { .. } | LogRequest::Read { .. });
        if may_be_busy && self.waiting.len() >= self.faults.queue_max {
            return Err(Busy(request));
        }
        if let LogRequest::Unfollow(key) = &request {
            self.waiting.retain(|(_, reply)| !matches!(reply, LogReply::Live { key: of, .. } if of == key));
        }
        let accident = self.execute(request, rng);
        let due = self.due(now, rng);
        for reply in self.scratch.drain(..) {
            if self.faults.delay_max.is_zero() && self.waiting.is_empty() {
                replies.push(reply);
            } else {
                self.waiting.push_back((due, reply));
            }
        }
        Ok((due, accident))
    }

    fn execute(&mut self, request: LogRequest, rng: &mut Rng) -> Option<Accident> {
        let faults = self.faults;
        match request {
            LogRequest::Append { key, drafts, bulk } if rng.chance(faults.fails) => {
                let in_doubt = rng.chance(faults.in_doubt);
                let why = if in_doubt { NotAppended::Unknown(Why::Io) } else { NotAppended::Refused(Why::Full) };
                let results = drafts.iter().map(|_| Err(why.clone())).collect();
                let mut told = Vec::new();
                if in_doubt && rng.chance(500) {
                    self.ask(LogRequest::Append { key, drafts, bulk }, &mut told);
                }
                // It appears whole or never, and what appears is told to those who follow.
                self.scratch.push(LogReply::Appended { key, from: 0, results, last: true });
                self.scratch.extend(told.into_iter().filter(|reply| matches!(reply, LogReply::Live { .. })));
                Some(if in_doubt { Accident::InDoubt } else { Accident::Refused })
            }
            LogRequest::Read { key, .. } if rng.chance(faults.read_fails) => {
                let end = crate::model::log::End::Failed(Why::Io);
                self.scratch.push(LogReply::Chunk { key, records: Vec::new(), end });
                Some(Accident::ReadFailed)
            }
            request => {
                let mut told = Vec::new();
                self.ask(request, &mut told);
                let interrupted = rng.chance(faults.interrupts).then(|| self.interrupt(&mut told)).flatten();
                self.scratch.extend(told);
                interrupted.map(|_| Accident::Interrupted)
            }
        }
    }

    fn ask(&mut self, request: LogRequest, told: &mut Vec<LogReply>) {
        let asked = self.kept.submit(request, told);
        debug_assert!(asked.is_ok(), "a log in memory is never busy");
    }

    /// Replaces what is told to one follow by its interruption.
    fn interrupt(&mut self, told: &mut Vec<LogReply>) -> Option<FollowKey> {
        let key =
            told.iter().find_map(|reply| if let LogReply::Live { key, .. } = reply { Some(*key) } else { None })?;
        told.retain(|reply| !matches!(reply, LogReply::Live { key: of, .. } if *of == key));
        told.push(LogReply::Interrupted(key));
        self.ask(LogRequest::Unfollow(key), &mut Vec::new());
        Some(key)
    }

    /// When the answer to a request comes: not before the one in front of it.
    fn due(&mut self, now: Instant, rng: &mut Rng) -> Instant {
        let most = if rng.chance(self.faults.late) { self.faults.late_max } else { self.faults.delay_max };
        let due = now + Duration::from_micros(rng.below(most.as_micros() as u64 + 1));
        self.last_due = self.last_due.max(due);
        self.last_due
    }

    /// When the next answer comes.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// Takes the answers that have come.
    pub(super) fn drain(&mut self, now: Instant, replies: &mut Vec<LogReply>) {
        while self.waiting.front().is_some_and(|(due, _)| *due <= now)
            && let Some((_, reply)) = self.waiting.pop_front()
        {
            replies.push(reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{LogStats, log::Promise},
        store::log::{EventLog, MemoryLog, MemorySettings, Waker, laws},
    };
    use std::sync::Arc;

    /// The model as a log, for the suite of laws: each look moves its clock on.
    struct ModelEventLog(MemoryLog);

    struct ModelPort {
        log: ModelLog,
        now: Instant,
        rng: Rng,
    }

    impl EventLog for ModelEventLog {
        fn ports(&mut self, wakers: Vec<Waker>) -> Vec<Box<dyn LogPort>> {
            let faults = LogFaults {
                delay_max: Duration::from_millis(1),
                late: 50,
                late_max: Duration::from_millis(9),
                ..LogFaults::NONE
            };
            let port = |kept| {
                let log = ModelLog::new(kept, faults);
                Box::new(ModelPort { log, now: Instant(0), rng: Rng::new(7) }) as Box<dyn LogPort>
            };
            self.0.ports(wakers).into_iter().map(port).collect()
        }

        fn stop(&self) {
            self.0.stop();
        }

        fn join(self: Box<Self>) {}

        fn stats(&self) -> Arc<LogStats> {
            self.0.stats()
        }
    }

    impl LogPort for ModelPort {
        fn submit(&mut self, request: LogRequest, out: &mut Vec<LogReply>) -> Result<(), Busy<LogRequest>> {
            self.log.submit(self.now, request, out, &mut self.rng).map(drop)
        }

        fn drain(&mut self, _: usize, out: &mut Vec<LogReply>) {
            self.now = self.now + Duration::from_micros(200);
            self.log.drain(self.now, out);
        }

        fn promise(&self) -> Promise {
            self.log.kept.promise()
        }
    }

    #[test]
    fn the_log_of_the_simulation_keeps_the_laws() {
        let settings = MemorySettings { epoch: 7, gateway_bytes_max: 8_000, port_bytes_max: 20_000 };
        laws::hold(20, || Box::new(ModelEventLog(MemoryLog::new(settings))));
    }
}
