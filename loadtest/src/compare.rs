//! Compares two runs: their figures side by side, with ratios.

use crate::{outcome::Outcome, table::number};
use std::{fmt::Write, path::Path};

/// Prints the comparison of two files that `--json` has written.
///
/// # Errors
/// One of the files cannot be read.
pub fn show(before: &Path, after: &Path) -> Result<(), String> {
    print!("{}", compare(&Outcome::load(before)?, &Outcome::load(after)?));
    Ok(())
}

fn compare(before: &Outcome, after: &Outcome) -> String {
    let mut out = String::new();
    if before.scenario != after.scenario {
        let _ = writeln!(out, "The scenarios differ: {} and {}.\n", before.scenario, after.scenario);
    }
    for (what, one, other) in
        [("parameter", &before.parameters, &after.parameters), ("machine", &before.machine, &after.machine)]
    {
        for (name, value) in one.iter().filter(|(name, value)| other.get(*name) != Some(value)) {
            let there = other.get(name).map_or("-", String::as_str);
            let _ = writeln!(out, "{what} {name} differs: {value} and {there}");
        }
    }
    let _ = writeln!(out, "{:<74} {:>12} {:>12} {:>7}", "", "A", "B", "B / A");
    for figure in &before.figures {
        let there = after.figures.iter().find(|it| it.name == figure.name).map(|it| it.value);
        let name = format!("{} {}", figure.name, figure.unit);
        line(&mut out, name.trim_end(), figure.value, there);
    }
    for times in &before.times {
        let there = after.times.iter().find(|it| it.name == times.name);
        for (label, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            line(&mut out, &format!("{}, {label} µs", times.name), times.at(quantile), there.map(|it| it.at(quantile)));
        }
    }
    for (name, outcome) in [("A", before), ("B", after)] {
        let said = if outcome.is_well() {
            "every event arrived once and in order"
        } else {
            "EVENTS WERE WRONG, see its table"
        };
        let _ = writeln!(out, "{name}: {said}");
    }
    out
}

fn line(out: &mut String, name: &str, here: f64, there: Option<f64>) {
    let (shown, ratio) = match there {
        Some(there) if here != 0.0 => (number(there), format!("{:.2}", there / here)),
        Some(there) => (number(there), "-".to_owned()),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let _ = writeln!(out, "{name:<74} {:>12} {shown:>12} {ratio:>7}", number(here));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{outcome::Figure, verify::Verdict};

    fn outcome(figures: &[(&str, f64)], rate: &str) -> Outcome {
        let figure =
            |(name, value): &(&str, f64)| Figure { name: (*name).to_owned(), value: *value, unit: "µs".to_owned() };
        Outcome {
            scenario: "connect".to_owned(),
            question: String::new(),
            began: 0,
            target: String::new(),
            machine: [].into(),
            parameters: [("rate".to_owned(), rate.to_owned())].into(),
            figures: figures.iter().map(figure).collect(),
            times: Vec::new(),
            line: Vec::new(),
            verdict: Verdict::default(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn ratios_and_differences_are_shown() {
        let text = compare(&outcome(&[("cost", 100.0), ("gone", 1.0)], "5"), &outcome(&[("cost", 150.0)], "6"));
        let has = |parts: &[&str]| text.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == parts);
        assert!(has(&["cost", "µs", "100", "150", "1.50"]), "{text}");
        assert!(has(&["gone", "µs", "1", "-", "-"]), "{text}");
        assert!(text.contains("parameter rate differs: 5 and 6"));
    }
}
