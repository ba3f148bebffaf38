//! An event as it is sent: the texts around its payload, and the payload itself, which is shared and not copied.

use super::Event;
use std::{ops::Range, sync::Arc};

/// The bytes of one event for the connections of its gateway, and of the ping behind it if it has one.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// All bytes but the payload.
    texts: Vec<u8>,
    /// The event whose payload stands at `payload_at` of `texts`; `None` if `texts` has all bytes.
    event: Option<Arc<Event>>,
    payload_at: usize,
    /// Bytes of the ping at the end.
    ping_bytes: usize,
}

impl Frame {
    /// The payload of `event` with `texts` around it: it stands at byte `payload_at` of them. The last `ping_bytes` are the
    /// ping.
    pub fn around(event: Arc<Event>, texts: Vec<u8>, payload_at: usize, ping_bytes: usize) -> Self {
        debug_assert!(payload_at + ping_bytes <= texts.len());
        Self { texts, event: Some(event), payload_at, ping_bytes }
    }

    /// A frame that has its payload in its own bytes. The last `ping_bytes` are the ping.
    pub fn whole(bytes: Vec<u8>, ping_bytes: usize) -> Self {
        debug_assert!(ping_bytes <= bytes.len());
        Self { payload_at: bytes.len(), texts: bytes, event: None, ping_bytes }
    }

    /// All of its bytes.
    pub fn len(&self) -> usize {
        self.texts.len() + self.event.as_ref().map_or(0, |event| event.payload.len())
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes without the ping at the end.
    pub fn event_bytes(&self) -> usize {
        self.len() - self.ping_bytes
    }

    /// Its bytes in three pieces: the texts in front of the payload, the payload, and the texts behind it.
    pub fn pieces(&self) -> [&[u8]; 3] {
        let (before, behind) = self.texts.split_at(self.payload_at);
        [before, self.event.as_ref().map_or(&[], |event| &event.payload), behind]
    }

    /// The memory of its texts.
    pub fn into_buffer(self) -> Vec<u8> {
        self.texts
    }

    /// A copy of its bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.pieces().concat()
    }
}

/// Appends a range of the bytes of these pieces, one after the other, to `out`.
pub fn copy_pieces(pieces: [&[u8]; 3], Range { mut start, mut end }: Range<usize>, out: &mut Vec<u8>) {
    for piece in pieces {
        let (from, until) = (start.min(piece.len()), end.min(piece.len()));
        out.extend_from_slice(&piece[from..until]);
        (start, end) = (start - from, end - until);
    }
    debug_assert_eq!((start, end), (0, 0), "the range is within the pieces");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CorrelationId, EventType, GatewayId};

    #[test]
    fn any_range_of_a_frame_is_copied_from_its_pieces() {
        let event = Event {
            gateway: GatewayId::random(),
            kind: EventType::parse("t").unwrap(),
            payload: b"payload".as_slice().into(),
            correlation: CorrelationId::random(),
            correlation_given: false,
            user_id: None,
        };
        let frame = Frame::around(Arc::new(event), b"<>ping".to_vec(), 1, 4);
        let bytes = b"<payload>ping";
        assert_eq!((frame.to_vec().as_slice(), frame.len(), frame.event_bytes()), (&bytes[..], 13, 9));
        for start in 0..=bytes.len() {
            for end in start..=bytes.len() {
                let mut out = Vec::new();
                copy_pieces(frame.pieces(), start..end, &mut out);
                assert_eq!(out, bytes[start..end], "{start}..{end}");
            }
        }
        let whole = Frame::whole(bytes.to_vec(), 4);
        assert_eq!((whole.to_vec(), whole.event_bytes()), (bytes.to_vec(), 9));
        assert!(Frame::default().is_empty());
    }
}
