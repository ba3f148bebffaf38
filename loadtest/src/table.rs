//! The results of a run as text for the terminal.

use crate::outcome::{Outcome, Times};
use std::fmt::Write;

/// The tables of a run.
pub fn show(outcome: &Outcome) -> String {
    let mut out = String::new();
    for figure in &outcome.figures {
        let _ = writeln!(out, "{:<70} {:>12} {}", figure.name, number(figure.value), figure.unit);
    }
    if !outcome.times.is_empty() {
        let _ = writeln!(
            out,
            "\n{:<56} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "µs", "count", "p50", "p90", "p99", "p99.9", "max"
        );
        outcome.times.iter().for_each(|times| row(&mut out, times));
    }
    for note in &outcome.notes {
        let _ = writeln!(out, "\nNote: {note}.");
    }
    if outcome.is_well() {
        out.push_str("\nEvery connection saw each of its events once and in order.\n");
        return out;
    }
    out.push_str("\nWRONG:\n");
    for (wrong, count) in &outcome.verdict.counts {
        let _ = writeln!(out, "  {count:>8} {wrong:?}");
    }
    for finding in &outcome.verdict.findings {
        let (gateway, sequence, detail) = (finding.gateway, finding.sequence, &finding.detail);
        let _ = writeln!(out, "  gateway {gateway:>6}  event {sequence:>8}  {:?}: {detail}", finding.wrong);
    }
    out
}

fn row(out: &mut String, times: &Times) {
    let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|quantile| number(times.at(quantile)));
    let (name, count, max) = (&times.name, times.count, number(times.max));
    let _ = writeln!(out, "{name:<56} {count:>9} {p50:>9} {p90:>9} {p99:>9} {p999:>9} {max:>9}");
}

/// A number with about three significant digits; the integer part is always shown whole.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_their_significant_digits() {
        for (value, expected) in [(0.0, "0"), (3.0, "3"), (0.126, "0.13"), (12.34, "12.3"), (1234.5, "1234")] {
            assert_eq!(number(value), expected);
        }
    }
}
