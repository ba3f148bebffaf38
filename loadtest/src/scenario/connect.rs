//! `connect` and `idle`: the cost of making connections, and of keeping them open.

use super::Scenario;
use crate::{
    args::{Connect, Idle},
    run::Run,
};

/// Connections made before the measurement, so that memory that the hub allocates once is not counted.
const WARM: usize = 32;
/// Pause before memory is measured, in which the hub frees what the handshakes used.
const REST_SECONDS: f64 = 0.5;

/// `connect`.
pub fn connect(args: Connect) -> Scenario {
    let fleet = &args.common.fleet;
    let question = format!(
        "How fast do {} connections come up, {} handshakes at a time, and how much does each cost the hub?",
        fleet.gateways * fleet.per_gateway,
        fleet.window
    );
    Scenario::new("connect", question, args.common, Box::new(act_connect))
}

fn act_connect(run: &mut Run) -> Result<(), String> {
    let all = run.fleet.places.len();
    // Half of a small fleet must be left to measure.
    let warm = WARM.min(all / 2);
    run.set_phase("warming");
    run.connect(0..warm)?;
    run.run_for(REST_SECONDS)?;
    let before = run.meter.read().hub_memory;
    run.fleet.tally.restart();
    let count = all - warm;
    let phase = run.measure("connecting", |run| run.connect(warm..all))?;
    run.figure("connections a second", count as f64 / phase.seconds, "/s");
    run.cost("hub's processor time for a connection", phase, count as u64);
    run.run_for(REST_SECONDS)?;
    let after = run.meter.read().hub_memory;
    match before.zip(after).filter(|_| run.meter.sees_memory()) {
        Some((before, after)) => {
            let each = (after as f64 - before as f64) / 1024.0 / count as f64;
            run.figure("hub's memory for an idle connection", each, "KiB");
        }
        None => {
            run.notes.push("the hub's memory was not measured: it needs --spawn, or --server with --pid".to_owned())
        }
    }
    let connecting = run.fleet.tally.connecting.clone();
    run.distribution("TCP connect to ack", &connecting);
    Ok(())
}

/// `idle`.
pub fn idle(args: Idle) -> Scenario {
    let fleet = &args.common.fleet;
    let count = fleet.gateways * fleet.per_gateway;
    let question = format!("How much do {count} connections cost the hub that only answer pings?");
    let seconds = args.seconds;
    let act = move |run: &mut Run| act_idle(run, seconds);
    Scenario::new("idle", question, args.common, Box::new(act)).with(&[("seconds", &seconds)])
}

fn act_idle(run: &mut Run, seconds: f64) -> Result<(), String> {
    let all = run.fleet.places.len();
    run.set_phase("connecting");
    run.connect(0..all)?;
    let pings = run.fleet.tally.pings;
    let phase = run.measure("idle", |run| run.run_for(seconds))?;
    let pings = run.fleet.tally.pings - pings;
    run.figure("pings a second", pings as f64 / phase.seconds, "/s");
    run.cost("hub's processor time for a ping and its pong", phase, pings);
    if let Some(micros) = phase.hub_micros {
        run.figure("hub's processor time for 10,000 connections", micros / phase.seconds / all as f64, "% of a core");
    }
    Ok(())
}
