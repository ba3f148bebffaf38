//! The tool detects a hub that loses, repeats, swaps or changes events.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by panicking")]

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

/// The frames to send after a publish, made from all events of the gateway so far; the last one is new.
type Lie = fn(&[Vec<u8>]) -> Vec<Vec<u8>>;

/// The hub's state of one gateway: its socket and its events.
#[derive(Default)]
struct Gateway {
    socket: Option<TcpStream>,
    events: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Hub {
    gateways: HashMap<String, Gateway>,
    /// The id of the only gateway.
    id: String,
}

fn serve(lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hub = Arc::new(Mutex::new(Hub::default()));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let hub = Arc::clone(&hub);
            thread::spawn(move || while handle(&socket, &hub, lie).is_some() {});
        }
    });
    address
}

/// Serves one request; `None` ends the connection, or leaves it to the gateway after the upgrade.
fn handle(mut socket: &TcpStream, hub: &Mutex<Hub>, lie: Lie) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    socket.read_exact(&mut body).ok()?;
    let path = head.split(' ').nth(1).unwrap();
    let mut hub = hub.lock().unwrap();
    if path.ends_with("/connect") {
        let id = hub.id.clone();
        socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
        socket.write_all(&frame(br#"{"type":"connection.ack"}"#)).unwrap();
        hub.gateways.entry(id).or_default().socket = Some(socket.try_clone().unwrap());
        return None;
    }
    if let Some(id) = path.strip_suffix("/events").and_then(|path| path.rsplit('/').next()) {
        let gateway = hub.gateways.get_mut(id).unwrap();
        gateway.events.push(body);
        let sent = lie(&gateway.events);
        let bytes: Vec<u8> = sent.iter().flat_map(|event| frame(event)).collect();
        gateway.socket.as_mut().unwrap().write_all(&bytes).unwrap();
    } else if path.ends_with("/gateways") {
        let text = String::from_utf8(body).unwrap();
        hub.id = text.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    }
    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").ok()
}

fn frame(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    let head: &[u8] = if text.len() < 126 { &[0x81, length[1]] } else { &[0x81, 126, length[0], length[1]] };
    [head, text].concat()
}

fn check(lie: Lie, expected: Option<&str>) {
    let url = format!("http://{}", serve(lie));
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(
        "throughput --gateways 1 --rate 50 --seconds 0.5 --patience 0.5 --quiet --admin-token t --server".split(' '),
    );
    let output = command.arg(url).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(i32::from(expected.is_some())), "{said}\n{complained}");
    let said_so = expected.map_or(said.contains("once and in order"), |wrong| said.contains(&format!("{wrong}: ")));
    assert!(said_so, "{expected:?} in {said}");
}

#[test]
fn a_correct_hub_passes() {
    check(|events| vec![events.last().unwrap().clone()], None);
}

#[test]
fn lost_events_are_detected() {
    check(|events| events.last().filter(|_| events.len() % 5 != 3).into_iter().cloned().collect(), Some("Lost"));
}

#[test]
fn repeated_events_are_detected() {
    check(|events| vec![events.last().unwrap().clone(); 1 + usize::from(events.len() == 3)], Some("Repeated"));
}

#[test]
fn swapped_events_are_detected() {
    let swap: Lie = |events| match events.len() {
        3 => Vec::new(),
        4 => vec![events[3].clone(), events[2].clone()],
        _ => vec![events.last().unwrap().clone()],
    };
    check(swap, Some("Swapped"));
}

#[test]
fn a_changed_payload_is_detected() {
    let change: Lie = |events| {
        let mut event = events.last().unwrap().clone();
        if events.len() == 3 {
            let at = event.iter().rposition(|byte| *byte == b'x').unwrap();
            event[at] = b'y';
        }
        vec![event]
    };
    check(change, Some("Garbled"));
}
