//! Load tests of a hub with thousands of simulated gateways, in which every event is verified.
//!
//! ```text
//! args → scenario → run → fleet (one thread, epoll) → peer, publisher → link → the hub
//!                    ↓       ↓
//!                 outcome ← tally, verify                    outcome → table, page, compare
//! ```

mod args;
mod chart;
mod clock;
mod compare;
mod fill;
mod fleet;
mod frames;
mod http;
mod link;
mod machine;
mod marker;
mod meter;
mod outcome;
mod page;
mod peer;
mod publisher;
mod run;
mod scenario;
mod table;
mod tally;
mod target;
mod verify;

use args::{Arguments, Command};
use clap::Parser;
use clock::Clock;
use fleet::{Fleet, Plan};
use indicatif::ProgressBar;
use outcome::Outcome;
use publisher::RequestTemplate;
use run::Run;
use scenario::Scenario;
use std::process::ExitCode;
use target::Target;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Compare { before, after } => compare::show(&before, &after).map(|()| true),
        command => Scenario::of(command).ok_or_else(|| "`compare` is not a scenario".to_owned()).and_then(perform),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        // 1 for wrong events, 2 for a run that could not be made: a script must be able to tell them apart.
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs a scenario; returns whether every event was as it should be.
fn perform(scenario: Scenario) -> Result<bool, String> {
    let Scenario { name, question, common, layout, slow, batch, resumes, parameters, act } = scenario;
    println!("{question}\n");
    let args = &common.fleet;
    let plan =
        Plan { layout, slow, publishers: args.publishers, window: args.window, answers_events: args.ack, resumes };
    machine::allow_descriptors(plan.connections(), common.target.server.is_none() && common.target.spawn.is_none())?;
    // `_running` has a name because a plain `_` would drop it here, and stop the hub.
    let Target { endpoint, meter, what, is_kept, running: _running } =
        Target::open(&common.target, machine::room_for(plan.connections()))?;
    println!("Hub: {what}\n");
    let bar = if common.quiet { ProgressBar::hidden() } else { ProgressBar::new(plan.layout.len() as u64) };
    let registered = fill::register_all(&endpoint, plan.layout.len(), args.fill_connections, &|_| bar.inc(1))?;
    bar.finish_and_clear();
    let (ids, keys): (Vec<_>, Vec<_>) =
        registered.into_iter().map(|registered| (registered.id, registered.key)).unzip();
    let (host, token) = (endpoint.host.clone(), endpoint.admin_token.clone());
    let template = RequestTemplate { host, token, ids, size: args.size, batch };
    let mut given = vec![
        ("gateways", plan.layout.len().to_string()),
        ("per-gateway", args.per_gateway.to_string()),
        ("size", args.size.to_string()),
        ("publishers", args.publishers.to_string()),
        ("window", args.window.to_string()),
        ("tls", endpoint.tls.is_some().to_string()),
    ];
    given.extend(parameters);
    let fleet = Fleet::new(Clock::start(), endpoint, plan, template, keys)?;
    let mut run = Run::new(fleet, meter, run::span(common.patience), common.quiet);
    // Judge and delete the gateways even if the scenario failed; its error is returned after that.
    let acted = act(&mut run);
    run.fleet.judge();
    run.finish();
    if !is_kept {
        fill::delete_all(run.fleet.endpoint(), run.fleet.ids(), args.fill_connections)?;
    }
    acted?;
    let outcome = conclude(run, name, question, what, given);
    print!("{}", table::show(&outcome));
    common.json.as_deref().map_or(Ok(()), |path| outcome.save(path))?;
    common.report.as_deref().map_or(Ok(()), |path| page::save(&outcome, path))?;
    Ok(outcome.is_well())
}

fn conclude(run: Run, name: &str, question: String, target: String, given: Vec<(&str, String)>) -> Outcome {
    let tally = &run.fleet.tally;
    let mut figures = run.figures;
    let mut count =
        |name: String, value: u64| figures.push(outcome::Figure { name, value: value as f64, unit: String::new() });
    count("all: connections opened".to_owned(), tally.opened);
    count("all: events accepted".to_owned(), tally.published);
    count("all: deliveries verified".to_owned(), tally.deliveries);
    tally.refused.iter().for_each(|(why, times)| count(format!("all: connects refused: {why}"), *times));
    tally.ended.iter().for_each(|(how, times)| count(format!("all: connections ended by the hub: {how}"), *times));
    tally.unpublished.iter().for_each(|(status, times)| count(format!("all: events not accepted: {status}"), *times));
    count("all: deliveries answered as pending".to_owned(), tally.answered.pending);
    count("all: deliveries answered as failed".to_owned(), tally.answered.failed);
    Outcome {
        scenario: name.to_owned(),
        question,
        began: machine::seconds_since_1970(),
        target,
        machine: machine::describe(),
        parameters: given.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        figures,
        times: run.times,
        line: run.line,
        verdict: run.fleet.verifier.verdict(),
        notes: run.notes,
    }
}
