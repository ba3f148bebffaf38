//! What a run has found, as it is written to a file and shown.

use crate::verify::Verdict;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, path::Path};

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario.
    pub scenario: String,
    /// The question that it answers.
    pub question: String,
    /// Seconds since 1970.
    pub began: u64,
    /// The hub.
    pub target: String,
    /// Where, and what.
    pub machine: BTreeMap<String, String>,
    /// What was asked.
    pub parameters: BTreeMap<String, String>,
    /// The answers.
    pub figures: Vec<Figure>,
    /// Distributions of times.
    pub times: Vec<Times>,
    /// How it went.
    pub line: Vec<Sample>,
    /// Whether every event came as it should.
    pub verdict: Verdict,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: String,
}

/// One distribution of times, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Of what.
    pub name: String,
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Share of the times, and the time that is not exceeded by it.
    pub quantiles: Vec<(f64, f64)>,
    /// The longest.
    pub max: f64,
}

/// One moment of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since its beginning.
    pub at: f64,
    /// Connections with their ack.
    pub live: u64,
    /// Connections that came up, a second.
    pub opened: f64,
    /// Events accepted, a second.
    pub published: f64,
    /// Events seen, a second.
    pub delivered: f64,
    /// Of the deliveries since the sample before, in microseconds; 0 where there was none.
    pub p99: f64,
    /// Cores that the hub used, where that can be seen.
    pub hub_cores: Option<f64>,
    /// Its resident memory in MiB, where that can be seen.
    pub hub_memory: Option<f64>,
    /// Cores that the generator used, of the one that it can.
    pub own_cores: f64,
}

const QUANTILES: [f64; 13] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];

impl Times {
    /// From a histogram of nanoseconds.
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

    /// The time that is not exceeded by this share.
    pub fn at(&self, quantile: f64) -> f64 {
        let near = |found: &&(f64, f64)| (found.0 - quantile).abs() < 1e-9;
        self.quantiles.iter().find(near).map_or(0.0, |(_, time)| *time)
    }
}

impl Outcome {
    /// Whether nothing was wrong.
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
    /// The file cannot be read, or is no such thing.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{} is no run: {error}", path.display()))
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
