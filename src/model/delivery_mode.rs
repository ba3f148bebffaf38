//! What `delivered` means for a gateway: written to its socket, or handled by it.

use serde::Serialize;

/// How the events of a gateway are delivered.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryMode {
    /// An event is delivered once a socket has taken it.
    #[default]
    Written,
    /// A ping behind each event asks the gateway whether it has handled it. A connection begins behind the last event that the
    /// gateway has handled.
    Processed,
}

impl DeliveryMode {
    /// The words for the modes, in the order of their declaration.
    pub const WORDS: &[&str] = &["written", "processed"];

    /// Parses one of [`DeliveryMode::WORDS`]; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "written" => Some(Self::Written),
            "processed" => Some(Self::Processed),
            _ => None,
        }
    }

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Processed => "processed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_parses_from_its_word_and_nothing_else_parses() {
        for mode in [DeliveryMode::Written, DeliveryMode::Processed] {
            assert_eq!(DeliveryMode::parse(mode.as_str()), Some(mode));
            assert_eq!(DeliveryMode::WORDS[mode as usize], mode.as_str());
        }
        assert_eq!(DeliveryMode::parse("Processed"), None);
    }
}
