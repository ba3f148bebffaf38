//! Connections of one core that share a context.

use super::*;

const MESSAGE_BYTES_MAX: usize = 4096;
const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// A masked frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.push(first);
    match u8::try_from(payload.len()).ok().filter(|length| *length < LENGTH_16) {
        Some(length) => bytes.push(0x80 | length),
        None => {
            bytes.push(0x80 | LENGTH_16);
            bytes.extend_from_slice(&u16::try_from(payload.len()).expect("a short payload").to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Several connections of one core, and what each has received and sent.
#[derive(Default)]
struct Core {
    reading: Reading,
    connections: Vec<(Option<WebSocket>, Vec<Inbound>, Vec<u8>)>,
}

impl Core {
    fn read(&mut self, connection: usize, input: &[u8]) -> Result<u32, CloseReason> {
        while self.connections.len() <= connection {
            self.connections.push(<_>::default());
        }
        let (websocket, inbound, out) = &mut self.connections[connection];
        let websocket = websocket.get_or_insert_with(|| WebSocket::new(MESSAGE_BYTES_MAX));
        let result = websocket.handle_bytes(input, &mut self.reading, out);
        inbound.append(&mut self.reading.inbound);
        result
    }

    fn holds_context(&self, connection: usize) -> bool {
        self.connections[connection].0.as_ref().is_some_and(|websocket| websocket.context.is_some())
    }
}

#[test]
fn connections_that_share_a_context_mix_no_messages_however_their_bytes_are_cut() {
    let text = |connection: usize| format!("message of {connection}, {}", "x".repeat(connection * 700));
    // A fragmented message with a ping between its fragments, and a pong behind it.
    let stream = |connection: usize| {
        let text = text(connection);
        let (begin, end) = text.as_bytes().split_at(text.len() / 2);
        let ping = frame(PING, format!("ping {connection}").as_bytes());
        [frame(0x01, begin), ping, frame(0x80, end), frame(0x8a, b"1-2")].concat()
    };
    for cut in [1, 2, 3, 7, 64, 1024, usize::MAX] {
        let mut core = Core::default();
        let mut left: Vec<_> = (0..4).map(stream).collect();
        while left.iter().any(|bytes| !bytes.is_empty()) {
            for (connection, bytes) in left.iter_mut().enumerate().filter(|(_, bytes)| !bytes.is_empty()) {
                let piece: Vec<u8> = bytes.drain(..cut.min(bytes.len())).collect();
                core.read(connection, &piece).expect("valid frames");
                // Only the last frame, or nothing, is behind the message.
                let is_inside = !bytes.is_empty() && bytes.len() != frame(0x8a, b"1-2").len();
                assert_eq!(core.holds_context(connection), is_inside);
            }
        }
        for (connection, (_, inbound, out)) in core.connections.iter().enumerate() {
            let pong = Inbound::Pong("1-2".into());
            assert_eq!(*inbound, [Inbound::Ping, Inbound::Text(text(connection).into()), pong], "cut at {cut}");
            assert_eq!(*out, [&[0x8a, 6][..], format!("ping {connection}").as_bytes()].concat(), "cut at {cut}");
        }
    }
}

#[test]
fn a_context_that_has_read_a_large_message_or_a_violation_is_not_used_again() {
    let mut core = Core::default();
    core.read(0, &frame(TEXT, &[b'x'; KEPT_BYTES_MAX])).expect("a message within the bound");
    assert!(core.reading.context.is_some() && !core.holds_context(0));
    core.read(0, &frame(TEXT, &[b'x'; KEPT_BYTES_MAX + 1])).expect("a message within the bound");
    assert!(core.reading.context.is_none() && !core.holds_context(0));
    // The large message is complete in a read that ends inside the next frame.
    let pong = frame(0x8a, b"");
    core.read(0, &[frame(TEXT, &[b'x'; KEPT_BYTES_MAX + 1]), pong[..1].to_vec()].concat()).expect("valid frames");
    core.read(0, &pong[1..]).expect("the rest of a pong");
    assert!(core.reading.context.is_none() && !core.holds_context(0));
    assert_eq!(core.read(1, &frame(TEXT, &[0xff, 0xfe])), Err(CloseReason::NotUtf8));
    assert_eq!(core.read(2, &[0xff; 20]), Err(CloseReason::ProtocolError));
    assert!(core.reading.context.is_none() && core.holds_context(1) && core.holds_context(2));
}

#[test]
fn messages_that_a_panic_has_left_reach_no_other_connection() {
    let mut core = Core::default();
    core.reading.inbound.push(Inbound::Text("of another connection".into()));
    core.read(0, &frame(0x8a, b"")).expect("a pong");
    assert_eq!(core.connections[0].1, [Inbound::Pong("".into())]);
}

#[test]
fn the_close_handshake_goes_on_in_a_context_of_its_own() {
    let mut core = Core::default();
    core.read(0, &frame(0x8a, b"")).expect("a pong");
    core.read(1, &frame(0x8a, b"")).expect("a pong");
    let (websocket, _, out) = &mut core.connections[0];
    let websocket = websocket.as_mut().expect("a connection");
    websocket.close(CloseReason::KeyRevoked, out);
    assert_eq!(out[..2], [0x88, u8::try_from(out.len() - 2).expect("a short reason")]);
    assert!(core.holds_context(0) && core.reading.context.is_some());
    // The answering close frame, and one of a connection that begins to close.
    let close = frame(0x88, &1000u16.to_be_bytes());
    core.read(0, &close).expect("a close frame");
    core.read(1, &close).expect("a close frame");
    assert!(core.connections[0].0.as_ref().is_some_and(WebSocket::closed));
    assert!(core.connections[1].0.as_ref().is_some_and(WebSocket::closed));
    assert_eq!(core.connections[1].1.last(), Some(&Inbound::Close(1000)));
    assert!(core.reading.context.is_none(), "a context that has closed is not used again");
}
