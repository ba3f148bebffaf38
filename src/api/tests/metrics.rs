//! The text for Prometheus.

use super::*;
use std::collections::BTreeSet;

/// What a scrape shows.
fn scrape(world: &World) -> String {
    let response = world.run(&Request::new("GET", "/metrics"), |ask| {
        let Ask::Shard(shard, Command::Totals(None)) = ask else { panic!("{ask:?}") };
        Answer::Shard(Reply::Totals(totals(shard, 2, 10, 1)))
    });
    String::from_utf8(response.body).unwrap()
}

#[test]
fn every_sample_has_its_help_and_its_type() {
    let world = World::new();
    let response = world.run(&Request::new("GET", "/metrics"), |ask| {
        let Ask::Shard(shard, Command::Totals(None)) = ask else { panic!("{ask:?}") };
        Answer::Shard(Reply::Totals(totals(shard, 2, 10, 1)))
    });
    assert_eq!(response.status, 200);
    assert_eq!(response.content_type, Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = String::from_utf8(response.body).unwrap();
    for line in [
        "gatecast_ready 1",
        "gatecast_store_degraded 0",
        "gatecast_connections_max 1000",
        "gatecast_gateways 2",
        "gatecast_panics_total 3",
        "gatecast_stalls_total 1",
        "gatecast_connects_refused_total{shard=\"1\",reason=\"rate limited\"} 0",
        "gatecast_connections_closed_total{shard=\"2\",reason=\"slow consumer\"} 0",
        "gatecast_connections_failed_total{shard=\"0\",reason=\"tls\"} 0",
        "gatecast_calls_refused_total{shard=\"0\",status=\"503\"} 0",
        "gatecast_deadline_lateness_seconds_max 0.0265",
        "gatecast_connections{shard=\"0\"} 2",
        "gatecast_gateways_connected{shard=\"2\"} 1",
        "gatecast_events_sent_total{shard=\"1\"} 10",
        "gatecast_deliveries_failed_total{shard=\"2\"} 1",
        "gatecast_correlation_ids_repeated_total{shard=\"0\"} 3",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        let name = sample.split(['{', ' ']).next().unwrap();
        // The samples of a histogram have its name with an ending.
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(text.contains(&format!("# HELP {name} ")) && text.contains(&format!("# TYPE {name} ")), "{name}");
    }
    assert!(text.ends_with('\n'));
}

#[test]
fn operations_name_every_metric_and_no_other() {
    let text = scrape(&World::new());
    let shown: BTreeSet<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    // The page names a metric as code, with its labels behind it.
    let page = include_str!("../../../docs/OPERATIONS.md");
    let quoted = page.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let named: BTreeSet<_> =
        quoted.filter(|name| name.starts_with("gatecast_")).filter_map(|name| name.split('{').next()).collect();
    assert_eq!(shown, named);
}
