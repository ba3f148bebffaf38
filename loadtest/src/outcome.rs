//! The results of a run, as they are shown and written to a file.

use crate::verify::Verdict;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, path::Path};

/// The results of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The question that it answers.
    pub question: String,
    /// When it began, in seconds since 1970-01-01 UTC.
    pub began: u64,
    /// A description of the hub.
    pub target: String,
    /// The machine, and the version of this tool.
    pub machine: BTreeMap<String, String>,
    /// The arguments.
    pub parameters: BTreeMap<String, String>,
    /// Measured numbers.
    pub figures: Vec<Figure>,
    /// Distributions of times.
    pub times: Vec<Times>,
    /// Samples over time.
    pub line: Vec<Sample>,
    /// What was wrong with the events, if anything.
    pub verdict: Verdict,
    /// Remarks without which the numbers may be misread.
    pub notes: Vec<String>,
}

/// One measured number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The value.
    pub value: f64,
    /// Its unit; empty for a count.
    pub unit: String,
}

/// One distribution of times, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// What was measured.
    pub name: String,
    /// How many times were recorded.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Pairs of a quantile (0 to 1) and its time.
    pub quantiles: Vec<(f64, f64)>,
    /// The longest time.
    pub max: f64,
}

/// One sample of a run; rates are since the sample before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the run began.
    pub at: f64,
    /// Connections with their ack.
    pub live: u64,
    /// Connections that got their ack, per second.
    pub opened: f64,
    /// Events accepted, per second.
    pub published: f64,
    /// Deliveries, per second.
    pub delivered: f64,
    /// 99th percentile of the delivery latency in microseconds; 0 without deliveries.
    pub p99: f64,
    /// How many cores the hub used, if that can be measured.
    pub hub_cores: Option<f64>,
    /// The resident memory of the hub's process in MiB, if that can be measured.
    pub hub_memory: Option<f64>,
    /// Share of its core that the generator used, 0 to 1.
    pub own_cores: f64,
}

const QUANTILES: [f64; 13] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];

impl Times {
    /// The distribution in a histogram of nanoseconds.
    pub fn of(name: &str, histogram: &Histogram<u64>) -> Self {
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        let quantiles = QUANTILES.map(|quantile| (quantile, micros(histogram.value_at_quantile(quantile))));
        Self {
            name: name.to_owned(),
            count: histogram.len(),
            mean: histogram.mean() / 1_000.0,
            quantiles: quantiles.to_vec(),
            max: micros(histogram.max()),
        }
    }

    /// The time at a quantile; 0 if it is not one of those stored.
    pub fn at(&self, quantile: f64) -> f64 {
        // Not `==`: a quantile that was read from JSON may differ in its last bit.
        let near = |found: &&(f64, f64)| (found.0 - quantile).abs() < 1e-9;
        self.quantiles.iter().find(near).map_or(0.0, |(_, time)| *time)
    }
}

impl Outcome {
    /// Whether every event was as it should be.
    pub fn is_well(&self) -> bool {
        self.verdict.counts.is_empty()
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads what [`Outcome::save`] has written.
    ///
    /// # Errors
    /// The file cannot be read, or was not written by [`Outcome::save`].
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text)
            .map_err(|error| format!("{} is not a file written by --json: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally;

    #[test]
    fn times_are_in_microseconds() {
        let mut histogram = tally::times();
        (1..=1_000u64).for_each(|micros| histogram.record(micros * 1_000).unwrap());
        let times = Times::of("x", &histogram);
        let near =
            |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.002, "{found}, not {expected}");
        near(times.at(0.5), 500.0);
        near(times.at(0.99), 990.0);
        near(times.max, 1_000.0);
        assert_eq!(times.count, 1_000);
    }
}
