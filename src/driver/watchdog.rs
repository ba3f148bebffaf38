//! Detects within two seconds, from a thread of its own, that a core has stopped beginning passes.
//!
//! It counts its own checks instead of measuring how long a core has been stuck: while the whole process is stopped, it
//! checks nothing, so a hub that was stopped for a minute is not aborted when it goes on.

use crate::{engine::HubState, model::ShardId};
use std::{
    process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

// Each check wakes a thread, which costs an otherwise idle hub more than what the thread does.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Checks without a new pass after which a core is stuck.
// One may fall between two passes of an idle core, which are up to 520 ms apart, and one behind a stop of the process that is too short
// for `LATE_CHECK`.
const STUCK_CHECKS: u32 = 3;
/// A check that comes later than this after the last one shows that this thread did not run, and the cores may not have
/// run either: counting starts anew.
const LATE_CHECK: Duration = Duration::from_secs(1);
/// Time for the log's thread to write the last line before the process is aborted.
const LOG_FLUSH_TIME: Duration = Duration::from_millis(200);

/// Starts the thread, which ends with the hub. A core that begins no pass for `abort_after` aborts the process, unless
/// that is zero.
///
/// # Errors If the thread cannot be started.
pub(crate) fn start(hub: Arc<HubState>, shards: u16, abort_after: Duration) -> std::io::Result<()> {
    let mut watchdog = Watchdog::new(shards, abort_after);
    let watch = move || {
        let mut checked = Instant::now();
        while !hub.has_ended() {
            thread::sleep(CHECK_INTERVAL);
            let late = checked.elapsed() > LATE_CHECK;
            checked = Instant::now();
            watchdog.check(late, |shard| hub.passes(shard), |finding| report(&hub, finding));
            hub.set_stuck(watchdog.stuck());
        }
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(watch).map(drop)
}

fn report(hub: &HubState, finding: Finding) {
    match finding {
        Finding::Stuck(shard) => {
            hub.count_stall();
            tracing::error!(%shard, "shard has stalled");
        }
        Finding::Recovered(shard, stalled) => {
            tracing::warn!(%shard, stalled_ms = stalled.as_millis() as u64, "shard is running again");
        }
        Finding::AbortDue(shard, stalled) => {
            tracing::error!(%shard, stalled_ms = stalled.as_millis() as u64, "shard is still stalled: aborting the process");
            thread::sleep(LOG_FLUSH_TIME);
            // Not an exit: a stuck core may hold locks that exit handlers wait for, and an abort leaves a core dump.
            process::abort();
        }
    }
}

/// What a check has found about a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Finding {
    /// It has begun no pass for [`STUCK_CHECKS`] checks.
    Stuck(ShardId),
    /// It was stuck for about this time and is running again.
    Recovered(ShardId, Duration),
    /// It has been stuck for this time, and the process is to be aborted.
    AbortDue(ShardId, Duration),
}

/// The state of all cores.
struct Watchdog {
    cores: Vec<Core>,
    /// Checks without a new pass after which the process is aborted; `None` for never.
    abort_checks: Option<u32>,
}

/// The state of one core.
#[derive(Clone, Copy, Default)]
struct Core {
    passes: u64,
    /// Consecutive checks without a new pass.
    checks: u32,
    stuck: bool,
}

impl Watchdog {
    fn new(shards: u16, abort_after: Duration) -> Self {
        let checks = abort_after.as_nanos().div_ceil(CHECK_INTERVAL.as_nanos());
        let checks = u32::try_from(checks).unwrap_or(u32::MAX).max(STUCK_CHECKS + 1);
        Self {
            cores: vec![Core::default(); usize::from(shards)],
            abort_checks: (!abort_after.is_zero()).then_some(checks),
        }
    }

    /// Checks all cores once. `late` says that the last check was more than [`LATE_CHECK`] ago.
    fn check(&mut self, late: bool, passes: impl Fn(ShardId) -> Option<u64>, mut found: impl FnMut(Finding)) {
        for (shard, core) in (0..).map(ShardId).zip(&mut self.cores) {
            let passes = passes(shard);
            if passes != Some(core.passes) {
                if core.stuck {
                    found(Finding::Recovered(shard, CHECK_INTERVAL * core.checks));
                }
                *core = Core { passes: passes.unwrap_or_default(), checks: 0, stuck: false };
            } else if late {
                core.checks = 0;
            } else {
                core.checks = core.checks.saturating_add(1);
                if core.checks >= STUCK_CHECKS && !core.stuck {
                    core.stuck = true;
                    found(Finding::Stuck(shard));
                }
                if self.abort_checks == Some(core.checks) {
                    found(Finding::AbortDue(shard, CHECK_INTERVAL * core.checks));
                }
            }
        }
    }

    /// The lowest stuck core.
    fn stuck(&self) -> Option<ShardId> {
        (0..).map(ShardId).zip(&self.cores).find(|(_, core)| core.stuck).map(|(shard, _)| shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks two cores, of which the second has begun a new pass at each check, and collects the findings.
    struct Fixture {
        watchdog: Watchdog,
        checks: u64,
        found: Vec<Finding>,
    }

    const STILL: ShardId = ShardId(0);

    impl Fixture {
        fn new(abort_after: Duration) -> Self {
            Self { watchdog: Watchdog::new(2, abort_after), checks: 0, found: Vec::new() }
        }

        fn check(&mut self, late: bool, passes: Option<u64>) -> Option<ShardId> {
            self.checks += 1;
            let turning = self.checks;
            let of = |shard| if shard == STILL { passes } else { Some(turning) };
            self.watchdog.check(late, of, |finding| self.found.push(finding));
            self.watchdog.stuck()
        }

        fn check_often(&mut self, times: u32, passes: Option<u64>) {
            for _ in 0..times {
                self.check(false, passes);
            }
        }
    }

    #[test]
    fn a_core_is_stuck_after_three_checks_until_its_next_pass() {
        let mut fixture = Fixture::new(Duration::ZERO);
        fixture.check(false, Some(7));
        for look in 1..=STUCK_CHECKS + 1 {
            assert_eq!(fixture.check(false, Some(7)), (look >= STUCK_CHECKS).then_some(STILL), "look {look}");
        }
        assert_eq!(fixture.check(false, Some(8)), None);
        assert_eq!(fixture.found, [Finding::Stuck(STILL), Finding::Recovered(STILL, Duration::from_secs(2))]);
    }

    #[test]
    fn a_core_that_never_began_a_pass_is_stuck_as_well() {
        let mut fixture = Fixture::new(Duration::ZERO);
        fixture.check_often(STUCK_CHECKS, Some(0));
        assert_eq!(fixture.found, [Finding::Stuck(STILL)]);
    }

    #[test]
    fn the_process_is_aborted_once_after_the_configured_time() {
        let mut fixture = Fixture::new(Duration::from_secs(30));
        fixture.check(false, Some(7));
        fixture.check_often(59, Some(7));
        assert_eq!(fixture.found, [Finding::Stuck(STILL)]);
        fixture.check(false, Some(7));
        assert_eq!(fixture.found[1..], [Finding::AbortDue(STILL, Duration::from_secs(30))]);
        fixture.check(false, Some(7));
        assert_eq!(fixture.found.len(), 2);
    }

    #[test]
    fn zero_never_aborts_and_an_abort_never_precedes_stuck() {
        let mut fixture = Fixture::new(Duration::ZERO);
        fixture.check_often(10000, Some(7));
        assert_eq!(fixture.found, [Finding::Stuck(STILL)]);
        let mut fixture = Fixture::new(Duration::from_millis(1));
        fixture.check(false, Some(7));
        fixture.check_often(STUCK_CHECKS, Some(7));
        assert_eq!(fixture.found, [Finding::Stuck(STILL)], "a core is reported as stuck before the abort");
    }

    /// However long the process was stopped, that is one late check.
    #[test]
    fn a_stopped_process_does_not_make_cores_stuck() {
        let mut fixture = Fixture::new(Duration::from_secs(2));
        fixture.check(false, Some(7));
        for _ in 0..100 {
            fixture.check_often(STUCK_CHECKS - 1, Some(7));
            fixture.check(true, Some(7));
        }
        assert_eq!(fixture.found, []);
        fixture.check_often(STUCK_CHECKS, Some(7));
        assert_eq!(fixture.found, [Finding::Stuck(STILL)], "a core that does not go on is found");
        assert_eq!(fixture.check(true, Some(7)), Some(STILL), "a stop of the process does not clear a stuck core");
        fixture.check_often(3, Some(7));
        assert_eq!(fixture.found, [Finding::Stuck(STILL)], "but the time until the abort starts anew");
    }

    #[test]
    fn a_core_that_has_ended_is_not_stuck() {
        let mut fixture = Fixture::new(Duration::from_secs(2));
        fixture.check(false, Some(7));
        fixture.check_often(100, None);
        assert_eq!(fixture.found, []);
    }
}
