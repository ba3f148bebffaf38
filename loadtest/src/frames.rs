//! WebSocket frames as a gateway reads and writes them (RFC 6455 section 5). tungstenite parses the headers; the caller
//! keeps the bytes.

use std::io::Cursor;
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

/// One whole frame from the hub.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The opcode.
    pub opcode: OpCode,
    /// The FIN bit: whether the message ends with this frame.
    pub last: bool,
    /// The payload.
    pub payload: &'a [u8],
    /// Length of the whole frame in bytes.
    pub length: usize,
}

/// The frame at the beginning of `bytes`; `None` if it is incomplete.
///
/// # Errors
/// The bytes are not a frame that a hub may send.
pub fn next(bytes: &[u8]) -> Result<Option<Frame<'_>>, String> {
    let mut cursor = Cursor::new(bytes);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|error| format!("invalid frame header: {error}"))?;
    let Some((header, payload)) = parsed else { return Ok(None) };
    if header.mask.is_some() || header.rsv1 || header.rsv2 || header.rsv3 {
        return Err("a masked frame, or one with reserved bits".to_owned());
    }
    let start = usize::try_from(cursor.position()).map_err(|error| error.to_string())?;
    let end = usize::try_from(payload).ok().and_then(|length| start.checked_add(length));
    let end = end.ok_or("the frame length does not fit into memory")?;
    let whole = bytes.get(start..end);
    Ok(whole.map(|payload| Frame { opcode: header.opcode, last: header.is_final, payload, length: end }))
}

/// Appends a frame as a client sends it.
pub fn push(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    // A fixed mask is enough here: random ones protect proxies from scripts in browsers (section 10.3), and cost time.
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let header = FrameHeader { is_final: true, rsv1: false, rsv2: false, rsv3: false, opcode, mask: Some(mask) };
    header.format(payload.len() as u64, out).expect("a Vec takes every write");
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// The answer to a ping.
pub const PONG: OpCode = OpCode::Control(Control::Pong);
/// A close frame.
pub const CLOSE: OpCode = OpCode::Control(Control::Close);
/// Text.
pub const TEXT: OpCode = OpCode::Data(Data::Text);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_frames_are_read_and_incomplete_ones_are_not() {
        let bytes = b"\x81\x05hello\x89\x00";
        let first = next(bytes).unwrap().unwrap();
        assert_eq!((first.opcode, first.last, first.payload, first.length), (TEXT, true, &b"hello"[..], 7));
        assert_eq!(next(&bytes[7..]).unwrap().unwrap().opcode, OpCode::Control(Control::Ping));
        (0..7).for_each(|cut| assert_eq!(next(&bytes[..cut]).unwrap(), None, "{cut} bytes"));
    }

    #[test]
    fn a_masked_frame_from_the_hub_is_an_error() {
        let mut out = Vec::new();
        push(PONG, b"x", &mut out);
        assert!(next(&out).unwrap_err().contains("masked"));
        assert_eq!(out[6] ^ 0x37, b'x');
    }
}
