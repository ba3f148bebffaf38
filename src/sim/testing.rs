//! Helpers for worlds that a test builds by hand.

use super::{
    behaviour::Profile,
    requests::Request,
    rng::Rng,
    roster::Roster,
    scenario::Scenario,
    world::{Report, World},
};
use std::time::Duration;

/// A calm world with this number of gateways and one key for each.
pub(super) fn world(gateways: usize) -> (Scenario, Rng) {
    let mut rng = Rng::new(1);
    let mut scenario = Scenario::calm(1);
    scenario.roster = Roster::of(gateways, &mut rng);
    (scenario, rng)
}

/// `count` publishes of at most `size` bytes, one every `every`.
pub(super) fn stream(gateway: usize, size: usize, count: u64, every: Duration) -> Vec<(Duration, Request)> {
    (1..=count).map(|number| (every * number as u32, Request::Publish { gateway, size })).collect()
}

/// `count` peers with the same profile.
pub(super) fn several(count: usize, profile: &Profile) -> impl Iterator<Item = Profile> + use<> {
    std::iter::repeat_n(profile.clone(), count)
}

/// Runs the world, and panics with the trace if a rule is broken.
pub(super) fn holds(scenario: Scenario, rng: Rng) -> Report {
    let report = World::new(scenario, rng, true).run();
    if let Some(violation) = &report.violation {
        panic!("{violation:?}\n{}", report.trace.excerpt(violation.conn, 40));
    }
    report
}
