//! Line charts as inline SVG.

use std::fmt::Write;

/// One curve of a chart.
pub struct Curve<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// Its points (x, y), ordered by x.
    pub points: Vec<(f64, f64)>,
}

/// Labels and scale of a chart.
pub struct Chart<'a> {
    /// The caption.
    pub title: &'a str,
    /// Marks of the horizontal axis: x and label.
    pub marks: Vec<(f64, String)>,
    /// The unit of the vertical axis.
    pub unit: &'a str,
    /// Whether the vertical axis is logarithmic.
    pub is_log: bool,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 28.0;
const TOP: f64 = 10.0;
const COLOURS: [&str; 8] = ["#1f6feb", "#d1590a", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#57606a", "#0a7ea4"];

impl Chart<'_> {
    /// The chart as an HTML figure; empty if the curves have no points.
    pub fn svg(&self, curves: &[Curve]) -> String {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let Some((left, right)) = range(points().map(|point| point.0)) else { return String::new() };
        // A logarithm has no zero: such values are left out of the scale and drawn at its lower end.
        let values = points().map(|point| point.1).filter(|value| !self.is_log || *value > 0.0);
        let (low, high) = range(values).unwrap_or((0.0, 1.0));
        // A linear axis begins at 0, so that a small change does not look like a large one.
        let (low, high) = if self.is_log { (low, high) } else { (0.0, high) };
        let x = |value: f64| LEFT + (value - left) / (right - left).max(1e-9) * (WIDTH - LEFT - 10.0);
        let scale = |value: f64| if self.is_log { value.max(low).log10() } else { value };
        let span = (scale(high) - scale(low)).max(1e-9);
        let y = |value: f64| HEIGHT - BOTTOM - (scale(value) - scale(low)) / span * (HEIGHT - BOTTOM - TOP);
        let mut out = format!("<figure><figcaption>{}</figcaption>", escape(self.title));
        let _ = write!(out, r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">"#);
        for mark in self.heights(low, high) {
            let (at, shown) = (y(mark), crate::table::number(mark));
            let unit = escape(self.unit);
            let _ = write!(out, r#"<line x1="{LEFT}" x2="{WIDTH}" y1="{at:.1}" y2="{at:.1}" class="grid"/>"#);
            let _ =
                write!(out, r#"<text x="{:.1}" y="{:.1}" class="left">{shown} {unit}</text>"#, LEFT - 6.0, at + 4.0);
        }
        for (at, label) in &self.marks {
            let (at, label) = (x(*at), escape(label));
            let _ = write!(out, r#"<text x="{at:.1}" y="{:.1}" class="below">{label}</text>"#, HEIGHT - 8.0);
        }
        for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
            let path: Vec<_> = curve.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py))).collect();
            let _ = write!(out, r#"<polyline points="{}" stroke="{colour}"/>"#, path.join(" "));
        }
        out.push_str("</svg><p>");
        for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
            let _ = write!(out, r#"<span style="color:{colour}">■ {}</span> "#, escape(curve.name));
        }
        out.push_str("</p></figure>\n");
        out
    }

    fn heights(&self, low: f64, high: f64) -> Vec<f64> {
        if !self.is_log {
            return (0..=4).map(|quarter| high * f64::from(quarter) / 4.0).collect();
        }
        #[expect(clippy::cast_possible_truncation, reason = "powers of ten of a value that is finite")]
        let (from, to) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        (from..=to).map(|power| 10f64.powi(power)).filter(|mark| (low..=high).contains(mark)).collect()
    }
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.filter(|value| value.is_finite());
    finite.fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// Escapes a text for HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_show_every_curve_and_escape_names() {
        let chart = Chart { title: "a<b", marks: vec![(0.0, "0".to_owned())], unit: "µs", is_log: true };
        let curve = Curve { name: "x & y", points: vec![(0.0, 1.0), (1.0, 1_000.0)] };
        let svg = chart.svg(&[curve, Curve { name: "z", points: vec![(0.5, 0.0)] }]);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("a&lt;b") && svg.contains("x &amp; y") && !svg.contains("NaN") && !svg.contains("inf"));
        assert!(chart.svg(&[]).is_empty());
    }
}
