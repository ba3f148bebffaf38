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

/// Room for the text of a position: an epoch of 16 digits, a hyphen, and an offset of up to 20 digits.
pub type PositionBuffer = [u8; 37];

impl Position {
    /// The text of the position, written into `buffer`. Each publish needs it three times, so without formatting machinery.
    pub fn encode(self, buffer: &mut PositionBuffer) -> &str {
        // Fixed width, so that the epoch ends at the same place in each position.
        for (index, digit) in buffer[..16].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(self.epoch >> (60 - 4 * index)) as usize & 15];
        }
        buffer[16] = b'-';
        let mut digits = itoa::Buffer::new();
        let offset = digits.format(self.offset).as_bytes();
        buffer[17..17 + offset.len()].copy_from_slice(offset);
        std::str::from_utf8(&buffer[..17 + offset.len()]).expect("digits and a hyphen are ASCII")
    }

    /// Appends the text of the position.
    pub fn append_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.encode(&mut [0; _]).as_bytes());
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encode(&mut [0; _]))
    }
}

impl serde::Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.encode(&mut [0; _]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_parses_as_displayed_and_nothing_else_parses() {
        for (epoch, offset) in [(0, 0), (0, 9), (1, 10), (u64::MAX, u64::MAX), (0x0123_4567_89ab_cdef, 1_234_567_890)] {
            let position = Position { epoch, offset };
            assert_eq!(position.to_string(), format!("{epoch:016x}-{offset}"));
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
