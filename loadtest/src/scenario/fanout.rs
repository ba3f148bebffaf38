//! `fanout`: one event at a time to gateways with few and with many connections.

use super::Scenario;
use crate::{args::Fanout, clock::SECOND, run::Run, tally};

/// Longest wait for all deliveries of one event.
const PATIENCE: u64 = 10 * SECOND;
/// Rounds before the measurement.
const WARM: usize = 3;

/// `fanout`.
pub fn fanout(args: Fanout) -> Scenario {
    let Fanout { common, connections, rounds } = args;
    let question = format!(
        "How long after a publish of {} bytes do the first, the median and the last of a gateway's connections have it?",
        common.fleet.size
    );
    let layout = connections.clone();
    let list = connections.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let act = move |run: &mut Run| {
        run.set_phase("connecting");
        run.connect(0..connections.iter().sum())?;
        connections.iter().enumerate().try_for_each(|(gateway, count)| series(run, gateway, *count, rounds))
    };
    let scenario = Scenario::new("fanout", question, common, Box::new(act));
    Scenario { layout, ..scenario }.with(&[("connections", &list), ("rounds", &rounds)])
}

/// All rounds for one gateway with `count` connections.
fn series(run: &mut Run, gateway: usize, count: usize, rounds: usize) -> Result<(), String> {
    for _ in 0..WARM {
        round(run, gateway, count)?;
    }
    run.fleet.tally.restart();
    let (mut first, mut last) = (tally::times(), tally::times());
    let phase = run.measure("fan-out", |run| {
        for _ in 0..rounds {
            round(run, gateway, count)?;
            first.saturating_record(run.fleet.tally.round.first);
            last.saturating_record(run.fleet.tally.round.last);
        }
        Ok(())
    })?;
    // Utilisation says little here, because every round waits for the one before.
    run.figures.retain(|figure| !figure.name.starts_with("fan-out:"));
    run.cost(&format!("hub's processor time for a delivery, K = {count}"), phase, (count * rounds) as u64);
    let every = run.fleet.tally.delivery.clone();
    run.distribution(&format!("K = {count}: to the first"), &first);
    run.distribution(&format!("K = {count}: to each"), &every);
    run.distribution(&format!("K = {count}: to the last"), &last);
    Ok(())
}

fn round(run: &mut Run, gateway: usize, count: usize) -> Result<(), String> {
    run.fleet.tally.round = tally::Round::default();
    run.fleet.publish(gateway);
    let deadline = run.fleet.clock.now() + PATIENCE;
    let done = run.run_until(deadline, |fleet| fleet.tally.round.count >= count && fleet.is_answered())?;
    if done {
        return Ok(());
    }
    // No error here: the verifier finds the missing events at the end.
    run.notes
        .push(format!("only {} of {count} connections had received an event after 10 s", run.fleet.tally.round.count));
    Ok(())
}
