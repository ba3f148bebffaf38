//! Why a command failed, and its exit code.

use std::fmt;

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The arguments or the configuration are wrong: exit code 2, as for errors that clap finds.
    Usage(String),
    /// The command could not do its work, or the hub refused it: exit code 1.
    Failed(String),
    /// The reader of standard output has closed it: exit code 1, without a message.
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
