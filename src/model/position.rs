//! The position of an event in its gateway's sequence; opaque to gateways (contract section 1).

use std::fmt;

/// An epoch, which is different for each life of a gateway and for each epoch of the log, and an offset, which rises by one from
/// 1. The offset 0 is before the first event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Position {
    /// Changes when the log may have lost events, or the gateway is created again; see [`super::Life::epoch_in`].
    pub epoch: u64,
    /// The number of the event in that epoch.
    pub offset: u64,
}

impl Position {
    /// A position that no log has: its offset is beyond all that are given.
    pub const UNKNOWN: Self = Self { epoch: 0, offset: u64::MAX };

    /// Parses the output of `Display`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        // Only the one canonical form, so that equal texts and equal positions are the same thing. `parse` of an
        // integer alone would accept a sign and leading zeros.
        let (epoch, offset) = text.split_once('-')?;
        if epoch.len() != 16 || offset.is_empty() || offset.len() > 20 || (offset.len() > 1 && offset.starts_with('0'))
        {
            return None;
        }
        if !epoch.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) || !offset.bytes().all(|b| b.is_ascii_digit())
        {
            return None;
        }
        Some(Self { epoch: u64::from_str_radix(epoch, 16).ok()?, offset: offset.parse().ok()? })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Fixed width, so that the epoch ends at the same place in each position.
        write!(f, "{:016x}-{}", self.epoch, self.offset)
    }
}

impl serde::Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_parses_as_displayed_and_nothing_else_parses() {
        for position in [Position { epoch: 0, offset: 0 }, Position { epoch: u64::MAX, offset: u64::MAX }] {
            assert_eq!(Position::parse(&position.to_string()), Some(position));
        }
        for bad in [
            "",
            "-",
            "1-1",
            "0000000000000000-",
            "0000000000000000-01",
            "0000000000000000-+1",
            "000000000000000G-1",
            "0000000000000000-99999999999999999999",
        ] {
            assert_eq!(Position::parse(bad), None, "{bad}");
        }
    }
}
