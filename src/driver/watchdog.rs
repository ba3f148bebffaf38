//! Notices within about a second that a core does not turn any more, from a thread of its own.
//!
//! It counts its own looks and never measures time: when the whole process is stopped, no look is taken, so that nothing is held
//! against the cores when it goes on.

use crate::{engine::HubState, model::ShardId};
use std::{
    process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// A core's loop turns several times a second even when it is idle; one that has not turned for so many looks is stuck.
const STUCK_CHECKS: u32 = 5;
/// A look that comes so late says that this thread was kept from running, and the cores perhaps with it: it starts anew.
const LATE_CHECK: Duration = Duration::from_secs(1);
/// What the log's own thread has to write the last line before the process is aborted.
const LOG_FLUSH_TIME: Duration = Duration::from_millis(200);

/// Starts the thread; it ends with the hub. A core that has not turned for `abort_after` ends the process, unless that is zero.
///
/// # Errors
/// Where the system gives no thread.
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
            tracing::warn!(%shard, stalled_ms = stalled.as_millis() as u64, "shard turns again");
        }
        Finding::AbortDue(shard, stalled) => {
            tracing::error!(%shard, stalled_ms = stalled.as_millis() as u64, "shard does not turn: the process is aborted");
            thread::sleep(LOG_FLUSH_TIME);
            process::abort();
        }
    }
}

/// What a look has found out about a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Finding {
    /// It has not turned for [`STUCK_CHECKS`].
    Stuck(ShardId),
    /// It was stuck and turns again, after about this long.
    Recovered(ShardId, Duration),
    /// It has not turned for so long that the process is to end.
    AbortDue(ShardId, Duration),
}

/// What is known of all cores.
struct Watchdog {
    cores: Vec<Core>,
    /// Looks without a turn after which there is no hope; `None` where there is always hope.
    abort_checks: Option<u32>,
}

/// What is known of one core.
#[derive(Clone, Copy, Default)]
struct Core {
    passes: u64,
    /// Looks in a row that found no new pass.
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

    /// Looks at all cores once. `late` says that the look before was long ago.
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

    /// The lowest core that is stuck.
    fn stuck(&self) -> Option<ShardId> {
        (0..).map(ShardId).zip(&self.cores).find(|(_, core)| core.stuck).map(|(shard, _)| shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at two cores, of which the second turns at each look, and collects what is found.
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
    fn a_core_is_stuck_after_five_looks_and_heals_when_it_turns() {
        let mut fixture = Fixture::new(Duration::ZERO);
        fixture.check(false, Some(7));
        for look in 1..=10 {
            assert_eq!(fixture.check(false, Some(7)), (look >= 5).then_some(STILL), "look {look}");
        }
        assert_eq!(fixture.check(false, Some(8)), None);
        assert_eq!(fixture.found, [Finding::Stuck(STILL), Finding::Recovered(STILL, Duration::from_secs(2))]);
    }

    #[test]
    fn a_core_that_never_began_a_pass_is_stuck_as_well() {
        let mut fixture = Fixture::new(Duration::ZERO);
        fixture.check_often(5, Some(0));
        assert_eq!(fixture.found, [Finding::Stuck(STILL)]);
    }

    #[test]
    fn hope_ends_once_after_as_many_looks_as_are_configured() {
        let mut fixture = Fixture::new(Duration::from_secs(30));
        fixture.check(false, Some(7));
        fixture.check_often(149, Some(7));
        assert_eq!(fixture.found, [Finding::Stuck(STILL)]);
        fixture.check(false, Some(7));
        assert_eq!(fixture.found[1..], [Finding::AbortDue(STILL, Duration::from_secs(30))]);
        fixture.check(false, Some(7));
        assert_eq!(fixture.found.len(), 2);
    }

    #[test]
    fn zero_is_hope_for_ever_and_less_than_stuck_is_not_possible() {
        let mut fixture = Fixture::new(Duration::ZERO);
        fixture.check_often(10000, Some(7));
        assert_eq!(fixture.found, [Finding::Stuck(STILL)]);
        let mut fixture = Fixture::new(Duration::from_millis(1));
        fixture.check(false, Some(7));
        fixture.check_often(5, Some(7));
        assert_eq!(fixture.found, [Finding::Stuck(STILL)], "an abort is not the first that is heard of it");
    }

    /// However long the process was stopped, that is one look, and a late one.
    #[test]
    fn a_pause_of_the_process_is_not_held_against_the_cores() {
        let mut fixture = Fixture::new(Duration::from_secs(2));
        fixture.check(false, Some(7));
        for _ in 0..100 {
            fixture.check_often(4, Some(7));
            fixture.check(true, Some(7));
        }
        assert_eq!(fixture.found, []);
        fixture.check_often(5, Some(7));
        assert_eq!(fixture.found, [Finding::Stuck(STILL)], "one that does not go on is found");
        fixture.check_often(4, Some(7));
        assert_eq!(fixture.check(true, Some(7)), Some(STILL), "a stuck core has not healed by a pause");
        fixture.check_often(9, Some(7));
        assert_eq!(fixture.found, [Finding::Stuck(STILL)], "but the time until the abort counts anew");
    }

    #[test]
    fn a_core_that_has_ended_is_not_stuck() {
        let mut fixture = Fixture::new(Duration::from_secs(2));
        fixture.check(false, Some(7));
        fixture.check_often(100, None);
        assert_eq!(fixture.found, []);
    }
}
