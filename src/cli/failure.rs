//! Why a command did not do what was asked, and its exit code.

use std::fmt;

/// Why a command did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was asked wrongly, or is configured wrongly: exit code 2.
    Usage(String),
    /// The hub refused it, or it did not work: exit code 1.
    Failed(String),
    /// Whoever read the output has gone: exit code 1, and nobody is told.
    OutputClosed,
}

impl Failure {
    /// The program's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) | Self::OutputClosed => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(sentence) | Self::Failed(sentence) => f.write_str(sentence),
            Self::OutputClosed => f.write_str("standard output is closed"),
        }
    }
}
