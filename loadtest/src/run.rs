//! One run: drives the fleet, samples it every 200 ms, shows the progress and collects the figures.

use crate::{
    clock::{MILLISECOND, Nanos, SECOND},
    fleet::Fleet,
    meter::{Meter, Usage},
    outcome::{Figure, Sample, Times},
};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use std::ops::Range;

/// One run.
pub struct Run {
    /// The fleet under test.
    pub fleet: Fleet,
    /// Measures the hub's resources.
    pub meter: Meter,
    /// Measured numbers.
    pub figures: Vec<Figure>,
    /// Distributions of times.
    pub times: Vec<Times>,
    /// Samples over time.
    pub line: Vec<Sample>,
    /// Remarks without which the numbers may be misread.
    pub notes: Vec<String>,
    patience: Nanos,
    bar: ProgressBar,
    last: Point,
}

/// The counters at a moment.
#[derive(Clone, Copy, Default)]
struct Point {
    at: Nanos,
    opened: u64,
    published: u64,
    deliveries: u64,
    usage: Usage,
}

/// The cost of a measured phase.
#[derive(Clone, Copy)]
pub struct Phase {
    /// Its length in seconds.
    pub seconds: f64,
    /// Processor time of the hub in microseconds, if it can be measured.
    pub hub_micros: Option<f64>,
}

const SAMPLE_INTERVAL: Nanos = 200 * MILLISECOND;
/// From this share of its core on, the generator may be the bottleneck and not the hub.
const BUSY: f64 = 0.9;
/// Longest time without a new connection while the fleet connects.
const PATIENCE: Nanos = 15 * SECOND;

impl Run {
    /// A run with this fleet; `patience` is how long to wait for the last events.
    pub fn new(fleet: Fleet, meter: Meter, patience: Nanos, quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        bar.set_style(
            ProgressStyle::with_template("{spinner} {elapsed_precise} {prefix:>12}  {msg}")
                .expect("the template is valid"),
        );
        let (figures, times, line, notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut run = Self { fleet, meter, figures, times, line, notes, patience, bar, last: Point::default() };
        run.last = run.point();
        run
    }

    /// Drives the fleet until `condition` holds or the deadline has passed; returns whether it holds.
    ///
    /// # Errors
    /// A system call failed.
    pub fn run_until(
        &mut self,
        deadline: Nanos,
        mut condition: impl FnMut(&mut Fleet) -> bool,
    ) -> Result<bool, String> {
        loop {
            // The condition before the deadline: if it comes true in the last turn, that is not a timeout.
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
            // Not later than the next sample: the time line has no holes even if nothing happens.
            self.fleet.turn(deadline.min(self.last.at + SAMPLE_INTERVAL))?;
        }
    }

    /// Drives the fleet for this many seconds.
    ///
    /// # Errors
    /// A system call failed.
    pub fn run_for(&mut self, seconds: f64) -> Result<(), String> {
        let deadline = self.fleet.clock.now() + span(seconds);
        self.run_until(deadline, |_| false).map(drop)
    }

    /// Connects these places and waits until all have their ack.
    ///
    /// # Errors
    /// No further connection came up for 15 s.
    pub fn connect(&mut self, places: Range<usize>) -> Result<(), String> {
        let wanted = self.fleet.live() + places.len();
        self.fleet.connect(places);
        self.wait_for(wanted)
    }

    /// Waits until `wanted` connections have their ack.
    ///
    /// # Errors
    /// No further connection came up for 15 s.
    pub fn wait_for(&mut self, wanted: usize) -> Result<(), String> {
        let mut reached = self.fleet.live();
        // Only a standstill is an error: a large fleet may take minutes.
        while !self.run_until(self.fleet.clock.now() + PATIENCE, |fleet| fleet.live() >= wanted)? {
            let live = self.fleet.live();
            if live <= reached {
                return Err(format!(
                    "only {live} of {wanted} connections came up; refused: {:?}",
                    self.fleet.tally.refused
                ));
            }
            reached = live;
        }
        Ok(())
    }

    /// Stops publishing, and waits until every event is answered and received, but not longer than the patience.
    ///
    /// # Errors
    /// A system call failed.
    pub fn settle(&mut self) -> Result<(), String> {
        self.fleet.publish_at(0.0, Vec::new());
        self.fleet.publish_closed(None);
        let deadline = self.fleet.clock.now() + self.patience;
        let mut next = 0;
        // `is_complete` visits every connection, so it is called every 10 ms only.
        self.run_until(deadline, |fleet| {
            let now = fleet.clock.now();
            let is_due = now >= next && fleet.is_answered();
            next = if is_due { now + 10 * MILLISECOND } else { next };
            is_due && fleet.is_complete()
        })
        .map(drop)
    }

    /// Shows the name of the current phase.
    pub fn set_phase(&self, what: &'static str) {
        self.bar.set_prefix(what);
    }

    /// Measures the resources that `work` uses; adds a note if the generator was the bottleneck.
    ///
    /// # Errors
    /// The error of `work`.
    pub fn measure(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<Phase, String> {
        self.set_phase(what);
        let (began, before) = (self.fleet.clock.now(), self.meter.read());
        work(self)?;
        let (ended, after) = (self.fleet.clock.now(), self.meter.read());
        // At least 1, so that no rate is divided by zero.
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

    /// Adds a measured number.
    pub fn figure(&mut self, name: &str, value: f64, unit: &str) {
        self.figures.push(Figure { name: name.to_owned(), value, unit: unit.to_owned() });
    }

    /// Adds the hub's processor time in a phase, divided by `count`.
    pub fn cost(&mut self, name: &str, phase: Phase, count: u64) {
        if let Some(micros) = phase.hub_micros.filter(|_| count > 0) {
            self.figure(name, micros / count as f64, "µs");
        }
    }

    /// Adds a distribution, unless it is empty.
    pub fn distribution(&mut self, name: &str, histogram: &Histogram<u64>) {
        if !histogram.is_empty() {
            self.times.push(Times::of(name, histogram));
        }
    }

    /// Takes the last sample and ends the display of the progress.
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
        // Each sample has the latencies of its own interval.
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

/// Converts seconds to nanoseconds.
pub fn span(seconds: f64) -> Nanos {
    std::time::Duration::try_from_secs_f64(seconds).map_or(u64::MAX / 2, crate::clock::nanos)
}
