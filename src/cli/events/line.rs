//! One event as one line of text, with its payload shortened.

use super::{super::output, pages::Event};
use std::io::IsTerminal;

/// Characters of a payload where the output is not a terminal.
const PAYLOAD_WIDTH: usize = 120;
/// Characters of a payload that are shown however narrow the terminal is.
const PAYLOAD_WIDTH_MIN: usize = 16;

/// How long a line may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Width {
    /// The output is a terminal with this number of columns.
    Terminal(usize),
    /// It is a file or a pipe.
    Unbounded,
}

impl Width {
    /// The width of standard output.
    pub(super) fn of_output() -> Self {
        let out = std::io::stdout();
        if !out.is_terminal() {
            return Self::Unbounded;
        }
        // Zero columns: the terminal does not know its size.
        let columns = rustix::termios::tcgetwinsize(&out).map_or(0, |size| usize::from(size.ws_col));
        if columns == 0 { Self::Unbounded } else { Self::Terminal(columns) }
    }

    /// Characters of a payload behind a text of this length.
    fn left_behind(self, used: usize) -> usize {
        match self {
            Self::Unbounded => PAYLOAD_WIDTH,
            Self::Terminal(columns) => columns.saturating_sub(used).max(PAYLOAD_WIDTH_MIN),
        }
    }
}

/// Time, position, type, correlation id and payload.
pub(super) fn describe(event: &Event, width: Width) -> String {
    let it = &event.members;
    let texts = [&it.timestamp, &it.position, &it.event_type, &it.correlation_id].map(|text| output::clean(text));
    let mut line = texts.join(" ");
    line.push(' ');
    match &it.payload {
        Some(payload) => {
            let payload = output::clean(&output::one_line(payload.get()));
            line.push_str(&shorten(&payload, width.left_behind(line.chars().count())));
        }
        None => line.push_str("(payload omitted)"),
    }
    line
}

/// Cuts a text to this number of characters, of which the last then says that there are more.
fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    fn event(payload: &str) -> Event {
        let text =
            format!("{{\"position\":\"P\",\"type\":\"t\",\"timestamp\":\"T\",\"correlationId\":\"C\"{payload}}}");
        Event::parse(RawValue::from_string(text).expect("JSON")).expect("an event")
    }

    #[test]
    fn a_payload_is_cut_to_the_width_and_stays_on_its_line() {
        let check = |payload: &str, width: Width, expected: &str| {
            assert_eq!(describe(&event(&format!(",\"payload\":{payload}")), width), expected);
        };
        check("{\"a\":\n1}", Width::Unbounded, "T P t C {\"a\": 1}");
        check("\"ä\u{85}\"", Width::Unbounded, "T P t C \"ä\u{fffd}\"");
        check("\"0123456789012345\"", Width::Terminal(26), "T P t C \"0123456789012345\"");
        check("\"0123456789012345\"", Width::Terminal(25), "T P t C \"012345678901234…");
        check("\"0123456789012345\"", Width::Terminal(3), "T P t C \"01234567890123…");
        let long = format!("\"{}\"", "x".repeat(200));
        check(&long, Width::Unbounded, &format!("T P t C {}…", &long[..PAYLOAD_WIDTH - 1]));
    }

    #[test]
    fn an_omitted_payload_is_said_to_be() {
        assert_eq!(describe(&event(",\"payloadOmitted\":true"), Width::Unbounded), "T P t C (payload omitted)");
        assert_eq!(describe(&event(",\"payload\":null"), Width::Unbounded), "T P t C null");
    }
}
