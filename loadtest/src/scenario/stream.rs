//! `throughput`: events at a fixed rate, even if the hub does not keep up, or as fast as the hub answers.

use super::Scenario;
use crate::{
    args::{Stream, Throughput},
    run::{Phase, Run},
};

/// Time before the measurement.
const WARM_SECONDS: f64 = 0.5;
/// Below this share of the requested rate a note says that the hub or the generator did not keep up.
const KEPT_UP: f64 = 0.98;

/// `throughput`.
pub fn throughput(args: Throughput) -> Scenario {
    let Throughput { common, stream, closed, batch } = args;
    let publishers = common.fleet.publishers;
    let question = if closed {
        format!(
            "How many events a second are possible if {publishers} publishers send {batch} at a time, each after the last answer?"
        )
    } else {
        format!(
            "What is the latency of a stream of {} events a second, measured from when each should have been sent?",
            stream.rate
        )
    };
    let act = move |run: &mut Run| act(run, stream, closed);
    let scenario = Scenario::new("throughput", question, common, Box::new(act));
    let scenario = Scenario { batch, ..scenario }.with(&[("seconds", &stream.seconds), ("batch", &batch)]);
    if closed { scenario.with(&[("closed", &closed)]) } else { scenario.with(&[("rate", &stream.rate)]) }
}

fn act(run: &mut Run, stream: Stream, closed: bool) -> Result<(), String> {
    let all = run.fleet.places.len();
    run.set_phase("connecting");
    run.connect(0..all)?;
    let gateways: Vec<usize> = (0..run.fleet.ids().len()).collect();
    if closed {
        run.fleet.publish_closed(Some(gateways));
    } else {
        run.fleet.publish_at(stream.rate, gateways);
    }
    run.set_phase("warming");
    run.run_for(WARM_SECONDS)?;
    let phase = measure_stream(run, "stream", stream.seconds)?;
    let achieved = run.figures.iter().find(|figure| figure.name == "stream: events").map_or(0.0, |figure| figure.value);
    if !closed && achieved < stream.rate * KEPT_UP {
        let backlog = run.fleet.backlog();
        run.notes.push(format!(
            "{achieved:.0} of {:.0} events a second were accepted, {backlog} were not sent yet after {:.1} s: the hub or the generator did not keep up",
            stream.rate, phase.seconds
        ));
    }
    run.settle()
}

/// Measures the stream of events for this many seconds.
pub fn measure_stream(run: &mut Run, what: &'static str, seconds: f64) -> Result<Phase, String> {
    run.fleet.tally.restart();
    let (published, deliveries) = (run.fleet.tally.published, run.fleet.tally.deliveries);
    let phase = run.measure(what, |run| run.run_for(seconds))?;
    let tally = &run.fleet.tally;
    let (published, deliveries) = (tally.published - published, tally.deliveries - deliveries);
    let (delivery, publishing) = (tally.delivery.clone(), tally.publishing.clone());
    run.figure(&format!("{what}: events"), published as f64 / phase.seconds, "/s");
    run.figure(&format!("{what}: deliveries"), deliveries as f64 / phase.seconds, "/s");
    run.cost(&format!("{what}: hub's processor time for an event"), phase, published);
    run.cost(&format!("{what}: hub's processor time for a delivery"), phase, deliveries);
    run.distribution(&format!("{what}: delivery, from the intended send"), &delivery);
    run.distribution(&format!("{what}: publish answered, from the intended send"), &publishing);
    Ok(phase)
}
