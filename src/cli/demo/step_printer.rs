//! How the demo speaks: numbered steps on standard output, in colour where a person looks at it.

use super::super::{Failure, output};
use std::{fmt, io::IsTerminal};

/// Writes the story, a line at a time.
pub(super) struct StepPrinter {
    colour: bool,
    step: u32,
}

/// How a piece of text stands out (ECMA-48 section 8.3.117).
#[derive(Clone, Copy)]
enum Style {
    /// A heading.
    Heading,
    /// What went as it should.
    Success,
    /// What is only said beside it.
    Note,
}

impl StepPrinter {
    /// Colours only for a terminal whose user has not asked for none (<https://no-color.org>).
    pub(super) fn new() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colour: std::io::stdout().is_terminal() && !unwanted, step: 0 }
    }

    /// The text in its tone.
    fn styled(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Heading => "1",
            Style::Success => "32",
            Style::Note => "2",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A heading without a number.
    pub(super) fn title(&self, text: &str) -> Result<(), Failure> {
        output::line(&format!("\n{}", self.styled(Style::Heading, text)))
    }

    /// The next step begins.
    pub(super) fn step(&mut self, text: &str) -> Result<(), Failure> {
        self.step += 1;
        let heading = format!("{}. {text}", self.step);
        output::line(&format!("\n{}", self.styled(Style::Heading, &heading)))
    }

    /// Something that happens in a step.
    pub(super) fn line(&self, text: &str) -> Result<(), Failure> {
        output::line(&format!("   {text}"))
    }

    /// Something that was expected and is so.
    pub(super) fn success(&self, text: &str) -> Result<(), Failure> {
        self.line(&format!("{} {text}", self.styled(Style::Success, "✓")))
    }

    /// What is good to know beside it.
    pub(super) fn note(&self, text: &str) -> Result<(), Failure> {
        self.line(&self.styled(Style::Note, text))
    }
}

/// Fails with what was expected where something else was found.
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
    fn a_tone_is_seen_on_a_terminal_only() {
        let check = |colour, expected: &str| {
            assert_eq!(StepPrinter { colour, step: 0 }.styled(Style::Success, "ok"), expected);
        };
        check(false, "ok");
        check(true, "\x1b[32mok\x1b[0m");
    }

    #[test]
    fn a_disappointed_expectation_says_what_was_expected() {
        assert_eq!(expect("connections", 3, 3), Ok(()));
        let sentence = "connections: expected 3, found 2".to_owned();
        assert_eq!(expect("connections", 2, 3), Err(Failure::Failed(sentence)));
    }
}
