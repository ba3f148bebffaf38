//! One run: drives the fleet, takes a sample now and then, shows the progress, gathers the figures.

use crate::{
    clock::{MILLISECOND, Nanos, SECOND},
    fleet::Fleet,
    meter::{Meter, Usage},
    outcome::{Figure, Sample, Times},
};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use std::ops::Range;

/// A run.
pub struct Run {
    /// Its fleet.
    pub fleet: Fleet,
    /// What its hub uses.
    pub meter: Meter,
    /// What it has found.
    pub figures: Vec<Figure>,
    /// Distributions.
    pub times: Vec<Times>,
    /// How it went.
    pub line: Vec<Sample>,
    /// What a reader must know.
    pub notes: Vec<String>,
    patience: Nanos,
    bar: ProgressBar,
    last: Point,
}

/// Where the counts stood at a moment.
#[derive(Clone, Copy, Default)]
struct Point {
    at: Nanos,
    opened: u64,
    published: u64,
    deliveries: u64,
    usage: Usage,
}

/// What a phase took.
#[derive(Clone, Copy)]
pub struct Phase {
    /// Seconds.
    pub seconds: f64,
    /// Processor time of the hub in microseconds, where it can be seen.
    pub hub_micros: Option<f64>,
}

const SAMPLE_INTERVAL: Nanos = 200 * MILLISECOND;
/// The generator's share of its core from which on it may be what is measured.
const BUSY: f64 = 0.9;
/// How long it may take until one more connection is there.
const PATIENCE: Nanos = 15 * SECOND;

impl Run {
    /// A run with this fleet, whose last events may take so long.
    pub fn new(fleet: Fleet, meter: Meter, patience: Nanos, quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        bar.set_style(
            ProgressStyle::with_template("{spinner} {elapsed_precise} {prefix:>12}  {msg}").expect("it is valid"),
        );
        let (figures, times, line, notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut run = Self { fleet, meter, figures, times, line, notes, patience, bar, last: Point::default() };
        run.last = run.point();
        run
    }

    /// Goes on until it is so, or until then; says whether it is so.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn run_until(
        &mut self,
        deadline: Nanos,
        mut condition: impl FnMut(&mut Fleet) -> bool,
    ) -> Result<bool, String> {
        loop {
            if condition(&mut self.fleet) {
                return Ok(true);
            }
            let now = self.fleet.clock.now();
            if now >= deadline {
                return Ok(false);
            }
            if now >= self.last.at + SAMPLE_INTERVAL {
                self.sample();
            }
            self.fleet.turn(deadline.min(self.last.at + SAMPLE_INTERVAL))?;
        }
    }

    /// Goes on for so many seconds.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn run_for(&mut self, seconds: f64) -> Result<(), String> {
        let deadline = self.fleet.clock.now() + span(seconds);
        self.run_until(deadline, |_| false).map(drop)
    }

    /// Connects these places and waits until all are there.
    ///
    /// # Errors
    /// They do not come up.
    pub fn connect(&mut self, places: Range<usize>) -> Result<(), String> {
        let wanted = self.fleet.live() + places.len();
        self.fleet.connect(places);
        self.wait_for(wanted)
    }

    /// Waits until so many are connected.
    ///
    /// # Errors
    /// They do not come up.
    pub fn wait_for(&mut self, wanted: usize) -> Result<(), String> {
        let mut reached = self.fleet.live();
        // It may take long, but something must happen.
        while !self.run_until(self.fleet.clock.now() + PATIENCE, |fleet| fleet.live() >= wanted)? {
            let live = self.fleet.live();
            if live <= reached {
                return Err(format!("{live} of {wanted} connections came up; refused: {:?}", self.fleet.tally.refused));
            }
            reached = live;
        }
        Ok(())
    }

    /// Ends the publishing and waits until every event has come.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn settle(&mut self) -> Result<(), String> {
        self.fleet.publish_at(0.0, Vec::new());
        self.fleet.publish_closed(None);
        let deadline = self.fleet.clock.now() + self.patience;
        let mut next = 0;
        // To look at all connections is work; now and then is enough.
        self.run_until(deadline, |fleet| {
            let now = fleet.clock.now();
            let is_due = now >= next && fleet.is_answered();
            next = if is_due { now + 10 * MILLISECOND } else { next };
            is_due && fleet.is_complete()
        })
        .map(drop)
    }

    /// Names what goes on.
    pub fn set_phase(&self, what: &'static str) {
        self.bar.set_prefix(what);
    }

    /// Measures what `work` uses; notes where the generator was what limited it.
    ///
    /// # Errors
    /// Those of the work.
    pub fn measure(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<Phase, String> {
        self.set_phase(what);
        let (began, before) = (self.fleet.clock.now(), self.meter.read());
        work(self)?;
        let (ended, after) = (self.fleet.clock.now(), self.meter.read());
        let wall = (ended - began).max(1) as f64;
        let busy = (after.own_cpu - before.own_cpu) as f64 / wall;
        self.figure(&format!("{what}: generator's use of its core"), busy * 100.0, "%");
        if busy > BUSY {
            self.notes.push(format!(
                "{what}: the generator was busy {:.0} % of the time; rates and latencies are bounded by it, not by the hub",
                busy * 100.0
            ));
        }
        let hub = after.hub_cpu.zip(before.hub_cpu).map(|(after, before)| after.saturating_sub(before) as f64);
        if let Some(hub) = hub {
            self.figure(&format!("{what}: hub's processor time"), hub / wall * 100.0, "% of a core");
        }
        Ok(Phase { seconds: wall / SECOND as f64, hub_micros: hub.map(|nanos| nanos / 1_000.0) })
    }

    /// Notes a number.
    pub fn figure(&mut self, name: &str, value: f64, unit: &str) {
        self.figures.push(Figure { name: name.to_owned(), value, unit: unit.to_owned() });
    }

    /// Notes the hub's processor time for each of `count`.
    pub fn cost(&mut self, name: &str, phase: Phase, count: u64) {
        if let Some(micros) = phase.hub_micros.filter(|_| count > 0) {
            self.figure(name, micros / count as f64, "µs");
        }
    }

    /// Notes a distribution, if there is one.
    pub fn distribution(&mut self, name: &str, histogram: &Histogram<u64>) {
        if !histogram.is_empty() {
            self.times.push(Times::of(name, histogram));
        }
    }

    /// Ends the display.
    pub fn finish(&mut self) {
        self.sample();
        self.bar.finish_and_clear();
    }

    fn point(&self) -> Point {
        let tally = &self.fleet.tally;
        let (opened, published, deliveries) = (tally.opened, tally.published, tally.deliveries);
        Point { at: self.fleet.clock.now(), opened, published, deliveries, usage: self.meter.read() }
    }

    fn sample(&mut self) {
        let (now, last) = (self.point(), self.last);
        let wall = (now.at - last.at).max(1) as f64;
        let rate = |now: u64, last: u64| now.saturating_sub(last) as f64 * SECOND as f64 / wall;
        let cores = |now: Nanos, last: Nanos| now.saturating_sub(last) as f64 / wall;
        let hub_cores = now.usage.hub_cpu.zip(last.usage.hub_cpu).map(|(now, last)| cores(now, last));
        let sample = Sample {
            at: now.at as f64 / SECOND as f64,
            live: self.fleet.live() as u64,
            opened: rate(now.opened, last.opened),
            published: rate(now.published, last.published),
            delivered: rate(now.deliveries, last.deliveries),
            p99: self.fleet.tally.interval.value_at_quantile(0.99) as f64 / 1_000.0,
            hub_cores,
            hub_memory: now.usage.hub_memory.map(|bytes| bytes as f64 / f64::from(1 << 20)),
            own_cores: cores(now.usage.own_cpu, last.usage.own_cpu),
        };
        self.fleet.tally.interval.reset();
        self.bar.set_message(format!(
            "{} connected ({:.0}/s)   {:.0} events/s   {:.0} deliveries/s   p99 {:.2} ms   generator {:.0} %",
            sample.live,
            sample.opened,
            sample.published,
            sample.delivered,
            sample.p99 / 1_000.0,
            sample.own_cores * 100.0
        ));
        self.bar.tick();
        self.line.push(sample);
        self.last = now;
    }
}

/// Seconds as nanoseconds.
pub fn span(seconds: f64) -> Nanos {
    std::time::Duration::try_from_secs_f64(seconds).map_or(u64::MAX / 2, crate::clock::nanos)
}
