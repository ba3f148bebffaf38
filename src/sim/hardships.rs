//! One world for each hardship: a pause, a dead core, a kernel with large buffers, peers that occupy sockets or memory.
//! Each is a bug that once disconnected a fleet or blocked a core.

use super::{
    behaviour::{Ending, Misbehaviour, Profile, Reading},
    requests::Request,
    rng::Rng,
    scenario::Scenario,
    socket::Conditions,
    testing::{self, several, stream, world},
    world::{Report, World},
};
use crate::session::Heartbeat;
use std::time::Duration;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Runs the world with the strict rules too, which worlds from seeds need not keep.
fn holds(mut scenario: Scenario, rng: Rng) -> Report {
    scenario.strict = true;
    testing::holds(scenario, rng)
}

/// All cores stand still, as under SIGSTOP: the pause must not count as silence of the gateways.
#[test]
fn a_pause_of_the_hub_closes_at_most_one_percent() {
    const CLOSED: &str = "a well-behaved peer is not closed";
    for pause in [15, 45] {
        let (mut scenario, rng) = world(4);
        scenario.active = seconds(140);
        scenario.pause = Some((seconds(60), seconds(60 + pause)));
        scenario.profiles.extend((0..4).flat_map(|key| several(50, &Profile::gateway(key))));
        scenario.counted = vec![CLOSED, "a silent peer is closed at the heartbeat timeout"];
        let report = World::new(scenario, rng, false).run();
        assert!(report.violation.is_none(), "{:?}", report.violation);
        let closed = report.counted[CLOSED];
        assert!(closed <= 2, "a pause of {pause} s closed {closed} of 200 connections, expected at most 2");
    }
}

/// The hub keeps little unsent data in the kernel, so a ping never waits behind megabytes of events in its buffer.
#[test]
fn a_ping_behind_a_full_kernel_buffer_is_answered_in_time() {
    let (mut scenario, rng) = world(1);
    scenario.active = seconds(90);
    let slow = Conditions { capacity: 4 << 20, rate: Some(60_000), window: 64 * 1024, ..Conditions::PERFECT };
    scenario.profiles.push(Profile { conditions: slow, ..Profile::gateway(0) });
    let burst = Request::Batch { count: 120, size: 60_000, gateway: Some(0) };
    let mut requests = stream(0, 10_000, 300, millis(250));
    requests.insert(0, (millis(50), burst));
    scenario.profiles.push(Profile { pipelines: true, ..Profile::platform(requests) });
    holds(scenario, rng);
}

/// The close frame of a revoked key cannot be sent because the socket is blocked.
#[test]
fn a_revoked_peer_that_reads_nothing_is_closed() {
    let (mut scenario, rng) = world(1);
    scenario.active = seconds(12);
    let full = Conditions { capacity: 20_000, window: 1_000, ..Conditions::PERFECT };
    scenario.profiles.push(Profile { reading: Reading::Never, conditions: full, ..Profile::gateway(0) });
    scenario.profiles.push(Profile { pipelines: true, ..Profile::platform(stream(0, 10_000, 40, millis(25))) });
    // On its own connection: a request that is pipelined after publishes waits for their answers.
    scenario.profiles.push(Profile::platform(vec![(millis(3_000), Request::Revoke(0))]));
    holds(scenario, rng);
}

/// Events every 20 ms and acknowledgements after 40 ms: the hub's kernel always has unacknowledged bytes, although the
/// peer is alive.
#[test]
fn a_peer_whose_kernel_acknowledges_late_gets_the_busy_grace() {
    let (mut scenario, rng) = world(1);
    scenario.active = seconds(20);
    let heartbeat = Heartbeat { interval: seconds(2), timeout: seconds(3), busy_grace: seconds(8) };
    scenario.session.heartbeat = heartbeat;
    let late = Conditions { ack_delay: millis(40), ..Conditions::PERFECT };
    scenario.profiles.push(Profile { pongs: false, conditions: late, ..Profile::gateway(0) });
    scenario.profiles.push(Profile::platform(stream(0, 300, 700, millis(20))));
    holds(scenario, rng);
}

/// Idle sockets of one address use up the descriptors.
#[test]
fn idle_sockets_of_one_address_are_closed_for_gateways_from_elsewhere() {
    let (mut scenario, rng) = world(1);
    (scenario.active, scenario.sockets_max) = (seconds(15), 200);
    let idle = Profile { misbehaviour: Misbehaviour::HalfHead, host: Some(1), ..Profile::gateway(0) };
    scenario.profiles.extend(several(250, &idle));
    scenario.profiles.push(Profile { host: Some(2), arrives: millis(1_000), ..Profile::gateway(0) });
    holds(scenario, rng);
}

/// The same, but the kernel gave all idle sockets to one core and all other connections to the other core.
#[test]
fn idle_sockets_on_one_core_are_closed_for_gateways_on_another() {
    let (mut scenario, rng) = world(2);
    (scenario.active, scenario.sockets_max, scenario.shards) = (seconds(15), 200, 2);
    let idle = Profile { misbehaviour: Misbehaviour::HalfHead, host: Some(1), core: Some(0), ..Profile::gateway(0) };
    scenario.profiles.extend(several(250, &idle));
    let elsewhere = |key| Profile { host: Some(2 + key as u8), core: Some(1), ..Profile::gateway(key) };
    // The platform has two idle connections on the core that needs a descriptor. They must stay: the other core has
    // 200.
    let publish = Request::Publish { gateway: 0, size: 100 };
    let mut platform = Profile::platform(vec![(millis(50), publish), (seconds(9), publish)]);
    (platform.core, platform.host) = (Some(1), Some(9));
    scenario.profiles.extend(several(2, &platform));
    for key in 0..40 {
        let arrives = millis(500 + 100 * key as u64);
        scenario.profiles.push(Profile { arrives, ..elsewhere(key % 2) });
    }
    let report = holds(scenario, rng);
    assert!(report.coverage.contains_key("made room"), "the world never ran out of descriptors");
}

/// Many addresses hold one connection each, so that none of them stands out, and newcomers need some round trips to authenticate.
#[test]
fn idle_sockets_of_many_addresses_are_closed_before_newcomers() {
    for behind_one_address in [false, true] {
        let (mut scenario, rng) = world(1);
        (scenario.active, scenario.sockets_max, scenario.tls) = (seconds(15), 150, true);
        for host in 1..=200 {
            let idle = Profile { misbehaviour: Misbehaviour::HalfHead, host: Some(host), ..Profile::gateway(0) };
            // The first of them have had their second when the descriptors run out.
            let arrives = millis(u64::from(host) + if host > 150 { 1_200 } else { 0 });
            scenario.profiles.push(Profile { arrives, ..idle });
        }
        for newcomer in 0..24 {
            let host = if behind_one_address { 250 } else { 210 + newcomer };
            let arrives = millis(2_000 + 10 * u64::from(newcomer));
            let far = Profile { host: Some(host), latency_max: 40_000, ..Profile::gateway(0) };
            scenario.profiles.push(Profile { arrives, ..far });
        }
        let report = holds(scenario, rng);
        assert!(report.coverage.contains_key("made room"), "the world never ran out of descriptors");
    }
}

/// All descriptors are taken within a second, by addresses with one connection each. None of them may be closed yet, and that is
/// no reason to close the platform's connection.
#[test]
fn the_platforms_idle_connection_stays_while_others_are_too_young_to_be_closed() {
    let (mut scenario, rng) = world(1);
    (scenario.active, scenario.sockets_max) = (seconds(12), 50);
    scenario.counted = vec!["a waiting connection is accepted at once"];
    let publish = Request::Publish { gateway: 0, size: 100 };
    scenario.profiles.push(Profile::platform(vec![(millis(10), publish), (seconds(9), publish)]));
    for host in 1..=100 {
        let idle = Profile { misbehaviour: Misbehaviour::HalfHead, host: Some(host), ..Profile::gateway(0) };
        scenario.profiles.push(Profile { arrives: millis(100 + u64::from(host)), ..idle });
    }
    let report = holds(scenario, rng);
    assert!(report.coverage.contains_key("made room"), "the world never ran out of descriptors");
}

/// One key begins many manifests and never sends their last byte.
#[test]
fn unfinished_manifests_of_one_key_share_one_memory_bound() {
    let (mut scenario, rng) = world(1);
    scenario.active = seconds(5);
    let manifest = vec![(millis(10), Request::Manifest { key: 0, size: 500_000 })];
    let unfinished = Profile { withholds_last_byte: true, ending: Ending::Vanish, ..Profile::platform(manifest) };
    scenario.profiles.extend(several(30, &unfinished));
    holds(scenario, rng);
}

/// `close_notify` arrives in the same read as pipelined requests. It ends only the client's direction (RFC 8446 section
/// 6.1), so the client still expects all answers.
#[test]
fn pipelined_requests_before_a_close_notify_are_all_answered() {
    let (mut scenario, rng) = world(1);
    (scenario.active, scenario.tls) = (seconds(3), true);
    let requests = (0..5).map(|_| (millis(500), Request::Publish { gateway: 0, size: 100 }));
    let first = std::iter::once((millis(10), Request::Get("/health")));
    let profile = Profile::platform(first.chain(requests).collect());
    scenario.profiles.push(Profile { pipelines: true, half_closes: true, leaves: millis(500), ..profile });
    holds(scenario, rng);
}

/// One of two cores stops running.
#[test]
fn a_hub_with_a_dead_core_is_not_ready() {
    let (mut scenario, rng) = world(1);
    (scenario.active, scenario.shards, scenario.death) = (seconds(20), 2, Some((1, seconds(2))));
    let look = |at| (seconds(at), Request::Get("/ready"));
    // Six connections, so that some of them are accepted by the core that runs.
    scenario.profiles.extend(several(6, &Profile::platform((1..15).map(look).collect())));
    holds(scenario, rng);
}

/// A core no longer takes from its control lane; the other core must still apply revocations.
#[test]
fn a_dead_core_delays_no_revocation_on_the_others() {
    let behind = |mark| {
        let (mut scenario, rng) = world(8);
        (scenario.active, scenario.shards, scenario.death) = (seconds(20), 2, Some((1, seconds(1))));
        scenario.control_max = mark;
        scenario.profiles.extend((0..8).map(Profile::gateway));
        let revocations = (0..8).map(|key| (seconds(2 + key as u64), Request::Revoke(key)));
        scenario.profiles.extend(several(4, &Profile::platform(revocations.collect())));
        (scenario, rng)
    };
    let (scenario, rng) = behind(100);
    holds(scenario, rng);
    let (scenario, rng) = behind(2);
    let report = testing::holds(scenario, rng);
    assert!(
        report.coverage.contains_key("a control lane is full"),
        "the lane of 2 never filled up, so no change was refused"
    );
}

/// The same with a FIN, for answers that are ready at once and for answers that wait for the store.
#[test]
fn pipelined_requests_before_a_fin_are_all_answered() {
    for request in [Request::Publish { gateway: 0, size: 100 }, Request::GetGateway(0)] {
        let (mut scenario, rng) = world(1);
        scenario.active = seconds(3);
        let requests = (0..5).map(|_| (millis(500), request)).collect();
        let profile = Profile { pipelines: true, half_closes: true, ..Profile::platform(requests) };
        scenario.profiles.push(Profile { leaves: millis(500), ..profile });
        holds(scenario, rng);
    }
}
