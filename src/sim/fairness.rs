//! Worlds in which one peer floods the hub: another gateway's events are delayed by 50 ms at most, whatever a call
//! costs.

use super::{
    behaviour::Profile,
    requests::Request,
    testing::{holds, several, stream, world},
};
use std::time::Duration;

/// The rule whose greatest lateness each test prints; its clock starts when the publish is in the hub's kernel.
const PROMPT: &str = "an event reaches a reading connection at once";

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_thousand_pipelined_requests_hold_up_no_other_gateway() {
    for shards in [1, 2] {
        let (mut scenario, rng) = world(2);
        (scenario.shards, scenario.cost, scenario.active) = (shards, 20, millis(3_000));
        let flood = (0..1_000).map(|_| (millis(500), Request::Publish { gateway: 0, size: 500 })).collect();
        scenario.profiles.extend(several(3, &Profile::gateway(0)));
        scenario.profiles.push(Profile::gateway(1));
        scenario.profiles.push(Profile { pipelines: true, ..Profile::platform(flood) });
        scenario.profiles.push(Profile::platform(stream(1, 300, 200, millis(10))));
        let report = holds(scenario, rng);
        assert_eq!(report.events_seen, 3_200);
        println!("{shards} shards: {:?}", report.lateness[PROMPT]);
    }
}

#[test]
fn many_floods_hold_up_no_other_gateway() {
    let (mut scenario, rng) = world(2);
    (scenario.cost, scenario.active) = (30, millis(3_000));
    let flood = (0..1_500).map(|_| (millis(500), Request::Publish { gateway: 0, size: 500 })).collect();
    scenario.profiles.push(Profile::gateway(1));
    scenario.profiles.extend(several(12, &Profile { pipelines: true, ..Profile::platform(flood) }));
    scenario.profiles.push(Profile::platform(stream(1, 300, 100, millis(20))));
    let report = holds(scenario, rng);
    assert_eq!(report.events_seen, 100);
    println!("{:?}", report.lateness[PROMPT]);
}

#[test]
fn a_batch_of_megabytes_to_many_connections_holds_up_no_other_gateway() {
    for (cost, connections) in [(5, 6), (50, 12)] {
        let (mut scenario, rng) = world(2);
        (scenario.cost, scenario.active) = (cost, millis(6_000));
        let batch = vec![(millis(500), Request::Batch { count: 400, size: 60_000, gateway: Some(0) })];
        scenario.profiles.extend(several(connections, &Profile::gateway(0)));
        scenario.profiles.push(Profile::gateway(1));
        scenario.profiles.push(Profile::platform(batch));
        scenario.profiles.push(Profile::platform(stream(1, 300, 200, millis(10))));
        let report = holds(scenario, rng);
        assert!(report.events_seen > 200 + 380 * connections as u64, "{}", report.events_seen);
        println!("{:?}", report.lateness[PROMPT]);
    }
}

#[test]
fn a_storm_of_handshakes_holds_up_no_event() {
    let (mut scenario, rng) = world(2);
    (scenario.tls, scenario.cost, scenario.active) = (true, 5, millis(3_000));
    let storm = Profile { arrives: millis(500), ..Profile::gateway(0) };
    scenario.profiles.extend(several(300, &storm));
    scenario.profiles.push(Profile::gateway(1));
    scenario.profiles.push(Profile::platform(stream(1, 300, 200, millis(10))));
    // The storm itself needs its time, 600 handshake flights of 0.6 ms, so its own connections may be late.
    scenario.counted =
        vec!["a gateway with a valid key gets its ack at once", "a waiting connection is accepted at once"];
    let report = holds(scenario, rng);
    assert_eq!(report.events_seen, 200);
    println!("{:?}", report.lateness[PROMPT]);
}
