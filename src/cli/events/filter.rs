//! Which events are shown: by type and by correlation id.

use super::pages::Event;
use crate::model::{CorrelationId, EventType};

/// An event type, or the beginning of several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum TypePattern {
    /// This type.
    Exactly(String),
    /// All types that begin so.
    BeginsWith(String),
}

impl TypePattern {
    /// Parses a type, or the beginning of one with a `*` behind it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (beginning, is_whole) = text.strip_suffix('*').map_or((text, true), |beginning| (beginning, false));
        if EventType::parse(beginning).is_none() && (is_whole || !beginning.is_empty()) {
            return Err(
                "expected a type such as api.deployed, or the beginning of types and a * such as 'api.*'".to_owned()
            );
        }
        let beginning = beginning.to_owned();
        Ok(if is_whole { Self::Exactly(beginning) } else { Self::BeginsWith(beginning) })
    }

    fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Exactly(wanted) => event_type == wanted,
            Self::BeginsWith(beginning) => event_type.starts_with(beginning.as_str()),
        }
    }
}

/// What an event must have to be shown.
#[derive(Clone, Copy)]
pub(super) struct Filter<'a> {
    /// Its type.
    pub event_type: Option<&'a TypePattern>,
    /// Its correlation id.
    pub correlation: Option<CorrelationId>,
}

impl Filter<'_> {
    /// Whether every event is shown.
    pub(super) fn is_empty(self) -> bool {
        self.event_type.is_none() && self.correlation.is_none()
    }

    /// Whether this event is shown.
    pub(super) fn matches(self, event: &Event) -> bool {
        let members = &event.members;
        self.event_type.is_none_or(|pattern| pattern.matches(&members.event_type))
            && self.correlation.is_none_or(|wanted| CorrelationId::parse(&members.correlation_id) == Some(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_type_or_the_beginning_of_types() {
        let check = |pattern: &str, event_type: &str, expected: bool| {
            assert_eq!(
                TypePattern::parse(pattern).expect(pattern).matches(event_type),
                expected,
                "{pattern} {event_type}"
            );
        };
        check("api.deployed", "api.deployed", true);
        check("api.deployed", "api.deployed.x", false);
        check("api.*", "api.deployed", true);
        check("api.*", "apikey.created", false);
        check("*", "t", true);
        for bad in ["", "a*b", "**", "api deployed", "*.deployed"] {
            assert!(TypePattern::parse(bad).is_err(), "{bad}");
        }
    }
}
