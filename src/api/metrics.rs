//! `GET /metrics`: the totals of all shards in Prometheus' text format, version 0.0.4.

use super::{
    call::{Answers, Call, Continuation, Handled, Pending, Phase, Step, View},
    log_metrics,
    params::Params,
    stats::{ask_totals, read_totals},
};
use crate::{
    shard::{
        command::Totals,
        counters::{Histogram, POISON, Tally},
    },
    wire::http::Response,
};
use std::{
    fmt::{Display, Write},
    time::Duration,
};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Asks every shard for its totals.
pub(super) fn handle(_: &Call<'_>, view: &View<'_>, _: Params<'_>) -> Handled {
    Ok(Step::Ask(ask_totals(view.placement), Pending::new(Waiting)))
}

/// Waits for the totals of all shards.
#[derive(Debug)]
struct Waiting;

impl Continuation for Waiting {
    fn handle_answers(self: Box<Self>, answers: Answers, view: &View<'_>) -> Handled {
        let body = exposition(&read_totals(answers)?, view).into_bytes();
        Ok(Step::Respond(Response { body, content_type: Some(CONTENT_TYPE), ..Response::empty(200) }))
    }
}

/// A metric with one sample for each shard: name, type, help text, and the value.
type PerShard = (&'static str, &'static str, &'static str, fn(&Totals) -> u64);

const PER_SHARD: [PerShard; 16] = [
    ("gatecast_connections", "gauge", "Live connections of gateways.", |t| t.connections as u64),
    ("gatecast_gateways_connected", "gauge", "Gateways with a live connection.", |t| t.gateways as u64),
    (
        "gatecast_connections_behind",
        "gauge",
        "Connections that get their events from the event log, because they are behind.",
        |t| t.behind,
    ),
    (
        "gatecast_behind_bytes_max",
        "gauge",
        "Bytes of payloads between the connection that is the farthest behind and the end of its gateway's log.",
        |t| t.behind_bytes_max,
    ),
    (
        "gatecast_unprocessed_events_max",
        "gauge",
        "Events that the gateway which is the farthest behind has not processed (delivery `processed`).",
        |t| t.unprocessed_max,
    ),
    (
        "gatecast_events_replayed_total",
        "counter",
        "Events written to a connection of the delivery `processed` that lay in the past when it began.",
        |t| t.counters.replayed,
    ),
    ("gatecast_events_missed_total", "counter", "Events that were behind gateways when they came back.", |t| {
        t.counters.missed
    }),
    (
        "gatecast_events_poisoned_total",
        "counter",
        "Events that were skipped because their gateway never got past them (delivery `processed`).",
        |t| t.counters.skipped.of_key(POISON),
    ),
    ("gatecast_pongs_unexpected_total", "counter", "Pongs with a payload that no ping asked for.", |t| {
        t.counters.pongs_unexpected
    }),
    ("gatecast_recent_bytes", "gauge", "Memory of events that connections have yet to take.", |t| t.recent_bytes),
    ("gatecast_events_sent_total", "counter", "Events written whole to a socket.", |t| t.deliveries.total_events_sent),
    ("gatecast_deliveries_failed_total", "counter", "Deliveries that failed.", |t| t.deliveries.failed_deliveries),
    (
        "gatecast_correlation_ids_repeated_total",
        "counter",
        "Events with a correlation id that their gateway got within its last 1,024 events.",
        |t| t.ids_repeated,
    ),
    ("gatecast_deployments_acknowledged_total", "counter", "Deployments that gateways reported as successful.", |t| {
        t.inbound.acknowledged
    }),
    ("gatecast_deployments_refused_total", "counter", "Deployments that gateways reported as failed.", |t| {
        t.inbound.refused
    }),
    (
        "gatecast_malformed_messages_total",
        "counter",
        "Text messages from gateways that were not JSON objects with a `type`.",
        |t| t.inbound.malformed,
    ),
];

/// A counter with one sample for each shard and reason: name, help text, and the tally.
type PerReason = (&'static str, &'static str, fn(&Totals) -> &Tally<&'static str>);

const PER_REASON: [PerReason; 4] = [
    ("gatecast_connects_refused_total", "Connects of gateways that were refused.", |t| &t.counters.connects_refused),
    ("gatecast_connections_closed_total", "Connections of gateways that have ended.", |t| &t.counters.closed),
    ("gatecast_events_skipped_total", "Events that a connection of the delivery `processed` was not given.", |t| {
        &t.counters.skipped
    }),
    ("gatecast_connections_failed_total", "Other connections that ended by a fault.", |t| &t.counters.failed),
];

fn exposition(totals: &[Totals], view: &View<'_>) -> String {
    let mut text = String::new();
    let is_ready = view.phase == Phase::Ready && view.stuck.is_none();
    let hub = [
        ("gatecast_ready", "Whether the hub takes connections on all cores.", usize::from(is_ready)),
        ("gatecast_store_degraded", "Whether the store cannot write.", usize::from(view.store_degraded)),
        ("gatecast_connections_max", "Connections that gateways may hold.", view.connections_max),
        ("gatecast_gateways", "Gateways that are registered.", view.directory.gateways()),
    ];
    // Writing to a string cannot fail.
    for (name, help, value) in hub {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    let (name, late) = ("gatecast_deadline_lateness_seconds_max", view.lateness_max.as_secs_f64());
    let help = "The latest that a ping or another deadline of a connection was served since the start.";
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {late}");
    for (name, help, count) in [
        ("gatecast_panics_total", "Panics in the code of one connection or call.", view.panics),
        ("gatecast_stalls_total", "How often a core had not turned for a second.", view.stalls),
    ] {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {count}");
    }
    for (name, kind, help, sample) in PER_SHARD {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for shard in totals {
            let _ = writeln!(text, "{name}{{shard=\"{}\"}} {}", shard.shard, sample(shard));
        }
    }
    for (name, help, tally) in PER_REASON {
        write_tallies(&mut text, (name, help, "reason"), totals, tally);
    }
    let calls = ("gatecast_calls_refused_total", "HTTP calls answered with a status of 400 or above.", "status");
    write_tallies(&mut text, calls, totals, |totals| &totals.counters.calls_refused);
    let resumes =
        ("gatecast_resumes_total", "Connects that asked to go on behind a position, by what came of it.", "result");
    write_tallies(&mut text, resumes, totals, |totals| &totals.counters.resumes);
    write_processing(&mut text, totals);
    log_metrics::write(&mut text, view.log);
    text
}

/// Writes the histogram of the time that gateways took for one event, over all shards.
fn write_processing(text: &mut String, totals: &[Totals]) {
    let name = "gatecast_event_processing_seconds";
    let help = "Time that gateways took for one event (delivery `processed`).";
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
    let (mut count, mut sum) = (0, Duration::ZERO);
    for bucket in 0..=Histogram::ENDS.len() {
        count += totals.iter().map(|shard| shard.counters.processing.buckets[bucket]).sum::<u64>();
        let end = Histogram::ENDS.get(bucket).map_or_else(|| "+Inf".to_owned(), |end| end.as_secs_f64().to_string());
        let _ = writeln!(text, "{name}_bucket{{le=\"{end}\"}} {count}");
    }
    totals.iter().for_each(|shard| sum += shard.counters.processing.sum);
    let _ = writeln!(text, "{name}_sum {}\n{name}_count {count}", sum.as_secs_f64());
}

/// Writes one counter with a sample for each key of each shard's tally. `label` is the name of the label that holds the
/// key.
fn write_tallies<'a, K: Copy + PartialEq + Display + 'a>(
    text: &mut String,
    (name, help, label): (&str, &str, &str),
    totals: &'a [Totals],
    tally: impl Fn(&'a Totals) -> &'a Tally<K>,
) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
    for shard in totals {
        for (key, count) in tally(shard).iter() {
            let _ = writeln!(text, "{name}{{shard=\"{}\",{label}=\"{key}\"}} {count}", shard.shard);
        }
    }
}
