//! Prints the demo's numbered steps to standard output, in colour on a terminal.

use super::super::{Failure, output};
use std::{fmt, io::IsTerminal};

/// Prints steps, one line at a time.
pub(super) struct StepPrinter {
    colour: bool,
    step: u32,
}

/// The style of a piece of text (ECMA-48 section 8.3.117).
#[derive(Clone, Copy)]
enum Style {
    /// A heading.
    Heading,
    /// An expectation that was met.
    Success,
    /// A remark.
    Note,
}

impl StepPrinter {
    /// Uses colours if standard output is a terminal and the user has not disabled them (<https://no-color.org>).
    pub(super) fn new() -> Self {
        // An empty NO_COLOR does not count, by that convention.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colour: std::io::stdout().is_terminal() && !unwanted, step: 0 }
    }

    /// Wraps the text in the escape codes of its style.
    fn styled(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Heading => "1",
            Style::Success => "32",
            Style::Note => "2",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Prints a heading without a number.
    pub(super) fn title(&self, text: &str) -> Result<(), Failure> {
        output::line(&format!("\n{}", self.styled(Style::Heading, text)))
    }

    /// Prints the heading of the next step.
    pub(super) fn step(&mut self, text: &str) -> Result<(), Failure> {
        self.step += 1;
        let heading = format!("{}. {text}", self.step);
        output::line(&format!("\n{}", self.styled(Style::Heading, &heading)))
    }

    /// Prints a line of the current step.
    pub(super) fn line(&self, text: &str) -> Result<(), Failure> {
        output::line(&format!("   {text}"))
    }

    /// Prints an expectation that was met.
    pub(super) fn success(&self, text: &str) -> Result<(), Failure> {
        self.line(&format!("{} {text}", self.styled(Style::Success, "✓")))
    }

    /// Prints a remark.
    pub(super) fn note(&self, text: &str) -> Result<(), Failure> {
        self.line(&self.styled(Style::Note, text))
    }
}

/// Fails with both values if the one that was found is not the expected one.
pub(super) fn expect<F, E>(what: &str, found: F, expected: E) -> Result<(), Failure>
where
    F: PartialEq<E> + fmt::Debug,
    E: fmt::Debug,
{
    if found == expected {
        return Ok(());
    }
    Err(Failure::Failed(format!("{what}: expected {expected:?}, found {found:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_codes_are_written_only_with_colour() {
        let check = |colour, expected: &str| {
            assert_eq!(StepPrinter { colour, step: 0 }.styled(Style::Success, "ok"), expected);
        };
        check(false, "ok");
        check(true, "\x1b[32mok\x1b[0m");
    }

    #[test]
    fn a_failed_expectation_names_both_values() {
        assert_eq!(expect("connections", 3, 3), Ok(()));
        let sentence = "connections: expected 3, found 2".to_owned();
        assert_eq!(expect("connections", 2, 3), Err(Failure::Failed(sentence)));
    }
}
