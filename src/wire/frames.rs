//! Checks a gateway's frames by their headers: a violation of RFC 6455 or of a bound is refused before the payload
//! arrives.
//!
//! tungstenite unmasks, assembles messages and answers. It does not count fragments, and reports some errors only once
//! the payload is complete. This guard reads headers only and keeps no payload.

use crate::{limits, model::CloseReason};

/// The state of the check between two pieces of input.
#[derive(Debug, Default)]
pub struct FrameGuard {
    header: [u8; HEADER_BYTES_MAX],
    /// Bytes of `header` that have arrived.
    header_bytes: u8,
    payload_left: u64,
    /// Declared payload bytes of the current message, over all of its frames.
    message_bytes: u64,
    /// Frames of the current message; 0 between messages.
    fragments: u32,
}

/// The result for one piece of input.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// Bytes before the first invalid frame.
    pub valid_bytes: usize,
    /// Control frames whose header is complete in them.
    pub controls: u32,
    /// Why the frame after them is invalid. The connection ends with this reason.
    pub violation: Option<CloseReason>,
}

/// Two bytes, a 64-bit length and a mask.
const HEADER_BYTES_MAX: usize = 14;

impl FrameGuard {
    /// Checks the next bytes of the stream.
    pub fn inspect(&mut self, input: &[u8], message_bytes_max: usize) -> Seen {
        let mut at = 0;
        // Start of the current frame. 0 if its header began in an earlier piece: of this piece nothing is valid then.
        let mut begin = 0;
        let mut controls = 0;
        while at < input.len() {
            if self.payload_left > 0 {
                let step = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(input.len() - at);
                self.payload_left -= step as u64;
                at += step;
                continue;
            }
            let have = usize::from(self.header_bytes);
            if have == 0 {
                begin = at;
            }
            let missing = self.header_length().saturating_sub(have).min(input.len() - at);
            self.header[have..have + missing].copy_from_slice(&input[at..at + missing]);
            self.header_bytes += u8::try_from(missing).expect("a header is 14 bytes at most");
            at += missing;
            if usize::from(self.header_bytes) < self.header_length() {
                continue;
            }
            match self.check_header(message_bytes_max) {
                Ok(control) => controls += u32::from(control),
                Err(reason) => return Seen { valid_bytes: begin, controls, violation: Some(reason) },
            }
            self.header_bytes = 0;
        }
        Seen { valid_bytes: at, controls, violation: None }
    }

    /// Whether the input so far ends between two messages.
    pub fn between_messages(&self) -> bool {
        self.fragments == 0 && self.payload_left == 0 && self.header_bytes == 0
    }

    /// The length of this frame's header: 2 until its second byte has arrived, which gives the real one.
    fn header_length(&self) -> usize {
        if self.header_bytes < 2 {
            return 2;
        }
        let extended = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if self.header[1] & 0x80 == 0 { 0 } else { 4 }
    }

    /// Checks a complete header; returns whether the frame is a control frame.
    fn check_header(&mut self, message_bytes_max: usize) -> Result<bool, CloseReason> {
        let [first, second, ..] = self.header;
        let length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => u64::from_be_bytes(self.header[2..10].try_into().expect("eight bytes")),
            short => u64::from(short),
        };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let known = matches!(opcode, 0..=2 | 8..=10);
        let minimal = match second & 0x7f {
            126 => length > 125,
            127 => length > u64::from(u16::MAX),
            _ => true,
        };
        // RSV bits without an extension, an unknown opcode, no mask, a length of 2^63 or more or not in its shortest
        // form (RFC 6455 section 5.2).
        if first & 0x70 != 0 || !known || second & 0x80 == 0 || length >> 63 != 0 || !minimal {
            return Err(CloseReason::ProtocolError);
        }
        self.payload_left = length;
        if opcode >= 8 {
            // A control frame has at most 125 bytes and no fragments (RFC 6455 section 5.5). It may come between the
            // fragments of a message, so it does not count there.
            return if fin && length <= 125 { Ok(true) } else { Err(CloseReason::ProtocolError) };
        }
        // A continuation frame needs a message to continue, and no new message may begin before that one ends.
        if (opcode == 0) != (self.fragments > 0) {
            return Err(CloseReason::ProtocolError);
        }
        self.fragments += 1;
        // Declared, not received: a message that is too long is refused before memory is needed for it.
        self.message_bytes += length;
        if self.message_bytes > message_bytes_max as u64 || self.fragments > limits::INBOUND_FRAGMENTS_MAX {
            return Err(CloseReason::MessageTooBig);
        }
        if fin {
            (self.fragments, self.message_bytes) = (0, 0);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0; 4];

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut out = vec![first];
        match payload {
            0..126 => out.push(0x80 | payload as u8),
            126..65536 => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(payload as u16).to_be_bytes());
            }
            _ => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&MASK);
        out.resize(out.len() + payload, b'x');
        out
    }

    fn check(input: &[u8], violation: Option<CloseReason>) {
        let whole = FrameGuard::default().inspect(input, 1_000);
        assert_eq!(whole.violation, violation, "{input:x?}");
        let mut guard = FrameGuard::default();
        let split = input.iter().find_map(|byte| guard.inspect(&[*byte], 1_000).violation);
        assert_eq!(split, violation, "byte by byte, {input:x?}");
    }

    #[test]
    fn valid_frames_pass() {
        check(&frame(0x81, 0), None);
        check(&frame(0x82, 1_000), None);
        check(&[frame(0x01, 10), frame(0x89, 125), frame(0x80, 990)].concat(), None);
    }

    #[test]
    fn a_protocol_violation_is_refused_on_the_header() {
        for first in [0xc1, 0xa1, 0x91, 0x83, 0x87, 0x8b, 0x8f, 0x80, 0x09] {
            check(&frame(first, 1), Some(CloseReason::ProtocolError));
        }
        check(&[0x81, 0x01, b'x'], Some(CloseReason::ProtocolError));
        check(&frame(0x89, 126), Some(CloseReason::ProtocolError));
        check(&[frame(0x01, 1), frame(0x81, 1)].concat(), Some(CloseReason::ProtocolError));
        check(
            &[[0x81, 0xff].as_slice(), &(1_u64 << 63).to_be_bytes(), &MASK].concat(),
            Some(CloseReason::ProtocolError),
        );
    }

    #[test]
    fn a_length_that_is_not_in_its_shortest_form_is_refused_on_the_header() {
        let in_16_bits = |length: u16| [[0x81, 0xfe].as_slice(), &length.to_be_bytes(), &MASK].concat();
        let in_64_bits = |length: u64| [[0x81, 0xff].as_slice(), &length.to_be_bytes(), &MASK].concat();
        for length in [0, 1, 125] {
            check(&in_16_bits(length), Some(CloseReason::ProtocolError));
        }
        for length in [0, 125, 126, 999, 65_535] {
            check(&in_64_bits(length), Some(CloseReason::ProtocolError));
        }
        check(&in_16_bits(126), None);
        check(&in_64_bits(65_536), Some(CloseReason::MessageTooBig));
        assert_eq!(FrameGuard::default().inspect(&in_64_bits(65_536), 65_536).violation, None);
    }

    #[test]
    fn a_message_over_its_bound_is_refused_on_the_header() {
        check(&frame(0x81, 1_001), Some(CloseReason::MessageTooBig));
        check(&[frame(0x01, 999), frame(0x80, 2)].concat(), Some(CloseReason::MessageTooBig));
        check(
            &[[0x81, 0xff].as_slice(), &(1_u64 << 40).to_be_bytes(), &MASK].concat(),
            Some(CloseReason::MessageTooBig),
        );
    }

    #[test]
    fn fragments_are_counted_even_when_empty() {
        let mut frames = frame(0x01, 0);
        for _ in 1..limits::INBOUND_FRAGMENTS_MAX {
            frames.extend(frame(0x00, 0));
        }
        check(&frames, None);
        frames.extend(frame(0x00, 0));
        check(&frames, Some(CloseReason::MessageTooBig));
    }

    #[test]
    fn the_bytes_before_an_invalid_frame_are_valid() {
        let input = [frame(0x81, 3), frame(0x89, 0), frame(0x83, 1)].concat();
        let seen = FrameGuard::default().inspect(&input, 1_000);
        assert_eq!(seen, Seen { valid_bytes: 9 + 6, controls: 1, violation: Some(CloseReason::ProtocolError) });
    }
}
