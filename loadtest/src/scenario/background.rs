//! `slow`, `churn` and `mixed`: events while slow connections, reconnects or both are in the background.

use super::{Scenario, slow_connections, stream::measure_stream};
use crate::{
    args::{Churn, Mixed, Slow, Stream},
    clock::{Clock, Nanos, SECOND},
    fill::Api,
    run::{Run, span},
    tally,
};
use hdrhistogram::Histogram;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How long slow connections may read at the end: a little more than the hub's close deadline.
const WAKING: Nanos = 7 * SECOND;

/// `slow`.
pub fn slow(args: Slow) -> Scenario {
    let Slow { common, stream, never_read, trickle } = args;
    let question = format!(
        "How much do {never_read} connections that never read and {trickle} that read a trickle delay the other connections of their gateways?"
    );
    let slow = slow_connections(common.fleet.gateways, never_read, trickle);
    let act = move |run: &mut Run| act_slow(run, stream, never_read + trickle);
    let scenario = Scenario::new("slow", question, common, Box::new(act)).with(&stream_parameters(&stream));
    Scenario { slow, ..scenario }.with(&[("never-read", &never_read), ("trickle", &trickle)])
}

fn act_slow(run: &mut Run, stream: Stream, slow: usize) -> Result<(), String> {
    let (all, gateways) = (run.fleet.places.len(), run.fleet.ids().len());
    run.set_phase("connecting");
    // The slow places are the last ones (`Plan::readings`).
    run.connect(0..all - slow)?;
    run.fleet.publish_at(stream.rate, (0..gateways).collect());
    measure_stream(run, "alone", stream.seconds)?;
    run.connect(all - slow..all)?;
    let before = run.meter.read().hub_memory;
    measure_stream(run, "with slow ones", stream.seconds)?;
    memory(run, before);
    run.settle()?;
    read_slow_connections(run)?;
    Ok(())
}

/// Lets slow connections read everything that waits for them, and counts those that the hub has closed.
fn read_slow_connections(run: &mut Run) -> Result<(), String> {
    run.fleet.start_late_reading();
    let deadline = run.fleet.clock.now() + WAKING;
    run.run_until(deadline, |fleet| fleet.are_late_readers_done())?;
    let ended: u64 = run.fleet.tally.ended.values().sum();
    run.figure("slow connections that the hub has ended", ended as f64, "");
    if ended == 0 {
        run.notes.push(
            "no slow connection was closed: that takes 10 s without a byte taken, and its events fit into the kernel's \
             buffers of some megabytes before; raise --size, --rate or --seconds, or lower --gateways"
                .to_owned(),
        );
    }
    Ok(())
}

fn memory(run: &mut Run, before: Option<u64>) {
    let after = run.meter.read().hub_memory;
    if let Some((before, after)) = before.zip(after).filter(|_| run.meter.sees_memory()) {
        run.figure("hub's memory more than before", (after as f64 - before as f64) / f64::from(1 << 20), "MiB");
    }
}

/// `churn`.
pub fn churn(args: Churn) -> Scenario {
    let Churn { common, stream, cuts } = args;
    let question = format!("Are events lost while {cuts} connections a second are cut and reconnect?");
    let act = move |run: &mut Run| {
        let all = run.fleet.places.len();
        run.set_phase("connecting");
        run.connect(0..all)?;
        act_churn(run, stream, cuts, all)
    };
    Scenario::new("churn", question, common, Box::new(act)).with(&stream_parameters(&stream)).with(&[("cuts", &cuts)])
}

/// Publishes, and cuts connections of the first `places` places.
fn act_churn(run: &mut Run, stream: Stream, cuts: f64, places: usize) -> Result<(), String> {
    let gateways = run.fleet.ids().len();
    run.fleet.publish_at(stream.rate, (0..gateways).collect());
    run.fleet.tally.restart();
    let opened = run.fleet.tally.opened;
    let phase = run.measure("churn", |run| {
        let mut next = Cuts { due: run.fleet.clock.now(), interval: span(1.0 / cuts), turn: 0 };
        let deadline = next.due + span(stream.seconds);
        run.run_until(deadline, |fleet| {
            while let Some(turn) = next.take(fleet.clock.now()) {
                // A large prime step: neighbouring places, which may be of one gateway, are not cut one after the
                // other.
                fleet.cut(turn * 7_919 % places, turn % 2 == 0);
            }
            false
        })
        .map(drop)
    })?;
    let tally = &run.fleet.tally;
    let (delivery, publishing, connecting) =
        (tally.delivery.clone(), tally.publishing.clone(), tally.connecting.clone());
    let (opened, published) = (tally.opened - opened, publishing.len());
    run.figure("churn: connections a second", opened as f64 / phase.seconds, "/s");
    run.figure("churn: events", published as f64 / phase.seconds, "/s");
    run.distribution("churn: delivery, from the intended send", &delivery);
    run.distribution("churn: publish answered, from the intended send", &publishing);
    run.distribution("churn: TCP connect to ack", &connecting);
    let all = run.fleet.live().max(places);
    run.fleet.publish_at(0.0, Vec::new());
    run.wait_for(all)?;
    run.settle()
}

/// The schedule of the cuts.
struct Cuts {
    due: Nanos,
    interval: Nanos,
    turn: usize,
}

impl Cuts {
    fn take(&mut self, now: Nanos) -> Option<usize> {
        if now < self.due {
            return None;
        }
        self.due += self.interval.max(1);
        self.turn += 1;
        Some(self.turn - 1)
    }
}

/// `mixed`.
pub fn mixed(args: Mixed) -> Scenario {
    let Mixed { common, stream, cuts, never_read, trickle } = args;
    let question =
        "Are events lost under everything at once: churn, slow connections, and statistics every second?".to_owned();
    let slow = slow_connections(common.fleet.gateways, never_read, trickle);
    let act = move |run: &mut Run| act_mixed(run, stream, cuts, never_read + trickle);
    let scenario = Scenario::new("mixed", question, common, Box::new(act)).with(&stream_parameters(&stream));
    Scenario { slow, ..scenario }.with(&[("cuts", &cuts), ("never-read", &never_read), ("trickle", &trickle)])
}

fn act_mixed(run: &mut Run, stream: Stream, cuts: f64, slow: usize) -> Result<(), String> {
    let all = run.fleet.places.len();
    run.set_phase("connecting");
    run.connect(0..all)?;
    let stop = Arc::new(AtomicBool::new(false));
    let asking = {
        let (api, clock, stop) = (Api::new(run.fleet.endpoint()), run.fleet.clock, Arc::clone(&stop));
        thread::spawn(move || ask_statistics(&api, clock, &stop))
    };
    // Slow connections, the last places, are not cut: the hub is expected to close them.
    let done = act_churn(run, stream, cuts, all - slow);
    stop.store(true, Ordering::Relaxed);
    let statistics = asking.join().map_err(|_| "the thread that requests the statistics has panicked".to_owned())?;
    // Only after the thread has been joined: it must not outlive a failed run.
    done?;
    read_slow_connections(run)?;
    run.distribution("statistics answered", &statistics?);
    Ok(())
}

/// Requests a page of statistics every second, and returns how long the answers took.
fn ask_statistics(api: &Api, clock: Clock, stop: &AtomicBool) -> Result<Histogram<u64>, String> {
    let (mut took, mut next) = (tally::times(), clock.now());
    while !stop.load(Ordering::Relaxed) {
        if clock.now() >= next {
            let begun = clock.now();
            api.call("GET", "/api/internal/v1/stats?limit=1000", "")?;
            took.saturating_record(clock.now() - begun);
            next += SECOND;
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(took)
}

fn stream_parameters(stream: &Stream) -> [(&'static str, &dyn ToString); 2] {
    [("rate", &stream.rate), ("seconds", &stream.seconds)]
}
