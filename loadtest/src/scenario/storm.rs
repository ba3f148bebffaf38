//! `storm`: most gateways lose their connections at one moment and reconnect at once.

use super::{Scenario, stream::measure_stream};
use crate::{args::Storm, run::Run};

/// Connections cut in one turn of the generator.
const CUT_BATCH: usize = 20;

/// `storm`.
pub fn storm(args: Storm) -> Scenario {
    let Storm { common, rate, seconds, stay, resume } = args;
    let how = if resume { "resumed" } else { "full" };
    let question = format!(
        "If {} % of the fleet reconnect at one moment with {how} handshakes, when are all back, and how late are events for those that stayed?",
        100 - stay
    );
    let act = move |run: &mut Run| act(run, rate, seconds, stay);
    let scenario = Scenario::new("storm", question, common, Box::new(act));
    Scenario { resumes: resume, ..scenario }.with(&[("rate", &rate), ("stay", &stay), ("resume", &resume)])
}

fn act(run: &mut Run, rate: f64, seconds: f64, stay: u8) -> Result<(), String> {
    let (all, gateways) = (run.fleet.places.len(), run.fleet.ids().len());
    run.set_phase("connecting");
    run.connect(0..all)?;
    let staying = (gateways * usize::from(stay) / 100).max(1);
    run.fleet.publish_at(rate, (0..staying).collect());
    measure_stream(run, "calm", seconds)?;
    let leaving: Vec<usize> = (0..all).filter(|place| run.fleet.places[*place].gateway >= staying).collect();
    let (count, resumed) = (leaving.len() as u64, run.fleet.tally.resumed);
    // Real gateways do not wait for each other's handshakes.
    run.fleet.window = usize::MAX;
    run.fleet.tally.restart();
    let phase = run.measure("storm", |run| {
        let mut leaving = leaving.into_iter();
        // A few per turn, or the generator itself would delay the events of those that stay.
        run.run_until(u64::MAX, |fleet| {
            leaving.by_ref().take(CUT_BATCH).for_each(|place| fleet.cut(place, false));
            leaving.len() == 0
        })?;
        run.wait_for(all)
    })?;
    let tally = &run.fleet.tally;
    let (delivery, connecting, resumed) = (tally.delivery.clone(), tally.connecting.clone(), tally.resumed - resumed);
    run.figure("storm: until all were back", phase.seconds, "s");
    run.figure("storm: connections a second", count as f64 / phase.seconds, "/s");
    run.figure("storm: resumed", resumed as f64 / count.max(1) as f64 * 100.0, "%");
    run.cost("storm: hub's processor time for a connection, deliveries included", phase, count);
    run.distribution("storm: delivery to those that stayed", &delivery);
    run.distribution("storm: TCP connect to ack", &connecting);
    measure_stream(run, "after", seconds)?;
    run.settle()
}
