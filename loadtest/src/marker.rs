//! The marker in an event's payload, by which its receiver verifies it: gateway, sequence number, and the time at which
//! it should have been sent.

use crate::clock::Nanos;
use memchr::memmem;

/// The marker of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The gateway, by its number in this run.
    pub gateway: usize,
    /// Its number among that gateway's events, counted from 1.
    pub sequence: u64,
    /// When it should have been sent.
    pub intended: Nanos,
}

/// The beginning of the payload, before the marker.
const BEGIN: &[u8] = b"{\"mark\":\"";
const BETWEEN: &[u8] = b"\",\"pad\":\"";
const END: &[u8] = b"\"}";
const FILL: u8 = b'x';
const DIGITS: [usize; 3] = [8, 12, 18];

/// The smallest payload that holds a marker, in bytes.
pub const PAYLOAD_BYTES_MIN: usize = BEGIN.len() + 8 + 12 + 18 + 2 + BETWEEN.len() + END.len();

impl Marker {
    /// Appends a payload of `size` bytes, or of [`PAYLOAD_BYTES_MIN`] if that is more.
    pub fn push_payload(&self, size: usize, out: &mut Vec<u8>) {
        let Self { gateway, sequence, intended } = self;
        out.extend_from_slice(BEGIN);
        out.extend_from_slice(format!("{gateway:08}.{sequence:012}.{intended:018}").as_bytes());
        out.extend_from_slice(BETWEEN);
        out.resize(out.len() + size.saturating_sub(PAYLOAD_BYTES_MIN), FILL);
        out.extend_from_slice(END);
    }

    /// Finds the payload of `size` bytes in a message; `None` unless it is exactly as it was published.
    pub fn find(message: &[u8], size: usize) -> Option<Self> {
        let start = memmem::find(message, BEGIN)?;
        let payload = message.get(start..start + size.max(PAYLOAD_BYTES_MIN))?;
        let (digits, rest) = payload[BEGIN.len()..].split_at(DIGITS.iter().sum::<usize>() + 2);
        let pad = rest.strip_prefix(BETWEEN)?.strip_suffix(END)?;
        let (gateway, digits) = number(digits, DIGITS[0])?;
        let (sequence, digits) = number(digits.strip_prefix(b".")?, DIGITS[1])?;
        let (intended, _) = number(digits.strip_prefix(b".")?, DIGITS[2])?;
        let marker = Self { gateway: usize::try_from(gateway).ok()?, sequence, intended };
        // Fixed widths and a checked fill: a changed, missing or repeated byte anywhere in the payload is noticed.
        pad.iter().all(|byte| *byte == FILL).then_some(marker)
    }
}

fn number(text: &[u8], digits: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    let value = number.iter().try_fold(0u64, |value, digit| {
        digit.is_ascii_digit().then(|| value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
    })?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_payload_is_found_and_a_changed_one_is_not() {
        let marker = Marker { gateway: 12, sequence: 345, intended: 6_789 };
        let check = |size: usize| {
            let mut message = b"{\"type\":\"t\",\"payload\":".to_vec();
            marker.push_payload(size, &mut message);
            message.extend_from_slice(b",\"gatewayId\":\"x\"}");
            assert_eq!(Marker::find(&message, size), Some(marker), "{size} bytes");
            assert_eq!(Marker::find(&message[..40], size), None);
            let changed = message.iter().rposition(|byte| *byte == b'}').unwrap() - 20;
            message[changed] ^= 1;
            assert_eq!(Marker::find(&message, size), None);
        };
        [0, PAYLOAD_BYTES_MIN, 300, 10_000].into_iter().for_each(check);
    }
}
