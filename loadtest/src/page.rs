//! The results of a run as one self-contained HTML page.

use crate::{
    chart::{Chart, Curve, escape},
    outcome::{Outcome, Sample},
    table,
};
use std::{fmt::Write, fs, path::Path};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2328}\
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.15rem .8rem .15rem 0;text-align:right;border-bottom:1px solid #d0d7de}\
td:first-child,th:first-child{text-align:left}figure{margin:1.5rem 0}figcaption{font-weight:600}svg{width:100%;height:auto}\
svg text{font-size:11px;fill:#57606a}.left{text-anchor:end}.below{text-anchor:middle}.grid{stroke:#d0d7de}\
polyline{fill:none;stroke-width:1.5}figure p{margin:0;font-size:13px}.well{color:#1a7f37}.wrong{color:#cf222e}";

/// Writes the page.
///
/// # Errors
/// The file cannot be written.
pub fn save(outcome: &Outcome, path: &Path) -> Result<(), String> {
    fs::write(path, page(outcome)).map_err(|error| format!("{}: {error}", path.display()))
}

fn page(outcome: &Outcome) -> String {
    let name = escape(&outcome.scenario);
    let mut out = format!(
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>Gatecast load test: {name}</title><style>{STYLE}</style>\
         <h1>{name}</h1><p>{}</p><p>{}</p>\n",
        escape(&outcome.question),
        escape(&outcome.target)
    );
    let said = if outcome.is_well() {
        r#"<p class="well">Every connection saw each of its events once and in order.</p>"#.to_owned()
    } else {
        let rows = outcome.verdict.counts.iter().map(|(wrong, count)| vec![format!("{wrong:?}"), count.to_string()]);
        let finding = |it: &crate::verify::Finding| {
            vec![format!("{:?}", it.wrong), it.gateway.to_string(), it.sequence.to_string(), it.detail.clone()]
        };
        let findings = rows_of(&["", "gateway", "event", ""], outcome.verdict.findings.iter().map(finding));
        format!("<h2 class=\"wrong\">Wrong</h2>{}{findings}", rows_of(&["", "times"], rows))
    };
    out.push_str(&said);
    out.extend(outcome.notes.iter().map(|note| format!("<p><strong>Note:</strong> {}.</p>\n", escape(note))));
    let figure = |it: &crate::outcome::Figure| vec![it.name.clone(), table::number(it.value), it.unit.clone()];
    out.push_str(&rows_of(&["figure", "", ""], outcome.figures.iter().map(figure)));
    out.push_str(&times(outcome));
    out.push_str(&line(&outcome.line));
    for (title, entries) in [("parameters", &outcome.parameters), ("machine", &outcome.machine)] {
        let entries = entries.iter().map(|(name, value)| vec![name.clone(), value.clone()]);
        out.push_str(&rows_of(&[title, ""], entries));
    }
    let _ = writeln!(out, "<p>Began {} s after 1970-01-01.</p></html>", outcome.began);
    out
}

/// A table and the curves of the distributions. The horizontal axis is logarithmic in the distance to 100 %, so that
/// p99, p99.9 and p99.99 are equally far apart.
fn times(outcome: &Outcome) -> String {
    let nines = |quantile: f64| -(1.0 - quantile).max(1e-5).log10();
    let row = |times: &crate::outcome::Times| {
        let at = [0.5, 0.9, 0.99, 0.999].map(|quantile| table::number(times.at(quantile)));
        let mut row = vec![times.name.clone(), times.count.to_string(), table::number(times.mean)];
        row.extend(at);
        row.push(table::number(times.max));
        row
    };
    let head = ["time, µs", "count", "mean", "p50", "p90", "p99", "p99.9", "max"];
    let mut out = rows_of(&head, outcome.times.iter().map(row));
    let marks = [(0.0, "min"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];
    let marks = marks.map(|(quantile, label)| (nines(quantile), label.to_owned())).to_vec();
    let points = |times: &crate::outcome::Times| times.quantiles.iter().map(|(at, time)| (nines(*at), *time)).collect();
    let curves: Vec<_> = outcome.times.iter().map(|times| Curve { name: &times.name, points: points(times) }).collect();
    out.push_str(&Chart { title: "Distribution of times", marks, unit: "µs", is_log: true }.svg(&curves));
    out
}

/// The charts over time.
fn line(samples: &[Sample]) -> String {
    let of = |name, value: &dyn Fn(&Sample) -> Option<f64>| Curve {
        name,
        points: samples.iter().filter_map(|sample| Some((sample.at, value(sample)?))).collect(),
    };
    let (first, last) = (samples.first().map_or(0.0, |it| it.at), samples.last().map_or(1.0, |it| it.at));
    let marks: Vec<_> = (0..=4).map(|quarter| first + (last - first) * f64::from(quarter) / 4.0).collect();
    let marks: Vec<_> = marks.into_iter().map(|at| (at, format!("{at:.1} s"))).collect();
    let chart = |title, unit, is_log, curves: &[Curve]| Chart { title, marks: marks.clone(), unit, is_log }.svg(curves);
    let mut out = chart(
        "Rates",
        "/s",
        false,
        &[
            of("events", &|it| Some(it.published)),
            of("deliveries", &|it| Some(it.delivered)),
            of("connections opened", &|it| Some(it.opened)),
        ],
    );
    // An interval without deliveries has the p99 0, which must not be drawn as a fast one.
    out +=
        &chart("Delivery, p99 of each interval", "µs", true, &[of("p99", &|it| Some(it.p99).filter(|p99| *p99 > 0.0))]);
    out += &chart("Connections", "", false, &[of("connected", &|it| Some(it.live as f64))]);
    out += &chart(
        "Processor",
        "cores",
        false,
        &[of("hub", &|it| it.hub_cores), of("generator", &|it| Some(it.own_cores))],
    );
    out += &chart("Memory of the hub's process", "MiB", false, &[of("resident", &|it| it.hub_memory)]);
    out
}

fn rows_of(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        cells.map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect::<String>()
    };
    let mut out = format!("<table><tr>{}</tr>", cells("th", &mut head.iter().copied()));
    out.extend(rows.map(|row| format!("<tr>{}</tr>", cells("td", &mut row.iter().map(String::as_str)))));
    out.push_str("</table>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        outcome::{Figure, Times},
        tally,
        verify::{Verifier, Wrong},
    };

    fn outcome() -> Outcome {
        let mut histogram = tally::times();
        (1..1_000).for_each(|micros| histogram.record(micros * 1_000).unwrap());
        Outcome {
            scenario: "fanout".to_owned(),
            question: "a < b?".to_owned(),
            began: 1,
            target: "here".to_owned(),
            machine: [("cores".to_owned(), "2".to_owned())].into(),
            parameters: [("rate".to_owned(), "7".to_owned())].into(),
            figures: vec![Figure { name: "rate".to_owned(), value: 12.5, unit: "/s".to_owned() }],
            times: vec![Times::of("delivery", &histogram)],
            line: (0..5).map(|at| Sample { at: f64::from(at), p99: 3.0, ..Sample::default() }).collect(),
            verdict: crate::verify::Verdict::default(),
            notes: vec!["it was slow".to_owned()],
        }
    }

    #[test]
    fn a_page_shows_everything_and_loads_nothing() {
        let page = page(&outcome());
        for expected in ["a &lt; b?", "it was slow", "12.5", "p99.9", "<polyline", "once and in order", "cores"] {
            assert!(page.contains(expected), "{expected}");
        }
        for foreign in ["http://", "https://", "src=", "NaN", "inf,"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_page_lists_wrong_events() {
        let mut verifier = Verifier::new(1);
        verifier.find(Wrong::Lost, 0, 7, "it <never> came".to_owned());
        let page = page(&Outcome { verdict: verifier.verdict(), ..outcome() });
        assert!(page.contains("it &lt;never&gt; came") && !page.contains("once and in order"));
    }

    #[test]
    fn results_are_loaded_as_they_were_saved() {
        let file = tempfile::NamedTempFile::new().unwrap();
        outcome().save(file.path()).unwrap();
        assert_eq!(Outcome::load(file.path()).unwrap(), outcome());
        fs::write(file.path(), "{}").unwrap();
        assert!(Outcome::load(file.path()).unwrap_err().contains("not a file written by --json"));
    }
}
