//! The totals for Prometheus: `GET /metrics`, in its text format, version 0.0.4.

use super::{
    call::{Answer, Call, Continuation, Handled, Pending, Phase, Step, View},
    params::Params,
    stats::{ask_totals, read_totals},
};
use crate::{shard::command::Totals, wire::http::Response};
use std::fmt::Write;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Asks every shard for its sums.
pub(super) fn handle(_: &Call<'_>, view: &View<'_>, _: Params<'_>) -> Handled {
    Ok(Step::Ask(ask_totals(view.placement), Pending::new(Waiting)))
}

/// The shards are being counted.
#[derive(Debug)]
struct Waiting;

impl Continuation for Waiting {
    fn handle_answers(self: Box<Self>, answers: Vec<Answer>, view: &View<'_>) -> Handled {
        let body = exposition(&read_totals(answers)?, view).into_bytes();
        Ok(Step::Respond(Response { body, content_type: Some(CONTENT_TYPE), ..Response::empty(200) }))
    }
}

/// One sample of each shard.
type PerShard = (&'static str, &'static str, &'static str, fn(&Totals) -> u64);

const PER_SHARD: [PerShard; 8] = [
    ("gatecast_connections", "gauge", "Live connections of gateways.", |t| t.connections as u64),
    ("gatecast_gateways_connected", "gauge", "Gateways with a live connection.", |t| t.gateways as u64),
    ("gatecast_events_sent_total", "counter", "Events written whole to a socket.", |t| t.deliveries.total_events_sent),
    ("gatecast_deliveries_failed_total", "counter", "Deliveries that failed.", |t| t.deliveries.failed_deliveries),
    (
        "gatecast_correlation_ids_repeated_total",
        "counter",
        "Events with a correlation id that their gateway got within its last 1,024 events.",
        |t| t.ids_repeated,
    ),
    ("gatecast_deployments_acknowledged_total", "counter", "Deployments that gateways said went well.", |t| {
        t.inbound.acknowledged
    }),
    ("gatecast_deployments_refused_total", "counter", "Deployments that gateways said did not.", |t| t.inbound.refused),
    ("gatecast_malformed_messages_total", "counter", "Messages of gateways that were none.", |t| t.inbound.malformed),
];

fn exposition(totals: &[Totals], view: &View<'_>) -> String {
    let mut text = String::new();
    let is_ready = view.phase == Phase::Ready && view.stuck.is_none();
    let hub = [
        ("gatecast_ready", "Whether the hub takes connections on all cores.", usize::from(is_ready)),
        ("gatecast_store_degraded", "Whether the store cannot write.", usize::from(view.degraded)),
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
    for (name, kind, help, sample) in PER_SHARD {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for shard in totals {
            let _ = writeln!(text, "{name}{{shard=\"{}\"}} {}", shard.shard, sample(shard));
        }
    }
    text
}
