//! The commands for gateways of the delivery `processed`, end to end: published while away, `publish --wait`, `stats`, `resend`.

use super::{
    background::Background,
    command,
    program::{Program, read_until},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Stdio,
};

/// Runs a command against this hub; its exit code, standard output and standard error.
fn run(program: &Program, arguments: &[&str]) -> (Option<i32>, String, String) {
    command::run(&mut command::against(program, arguments))
}

/// Runs a command that succeeds; what it prints.
fn succeed(program: &Program, arguments: &[&str]) -> String {
    command::succeed(&mut command::against(program, arguments))
}

/// Reads the next frame, which is short enough for a length of 16 bits: its opcode and payload.
fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a frame");
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            usize::from(u16::from_be_bytes(length))
        }
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).expect("a payload");
    (head[0] & 0x0f, payload)
}

/// Handles frames in one loop, as a gateway does, until this many events are handled: a ping is answered once the events before it
/// are. Returns the events.
fn handle(stream: &mut TcpStream, count: usize) -> Vec<String> {
    let (mut events, mut is_answered) = (Vec::new(), false);
    while events.len() < count || !is_answered {
        let (opcode, payload) = frame(stream);
        match opcode {
            1 => events.push(String::from_utf8(payload).expect("text")),
            9 => {
                let length = u8::try_from(payload.len()).expect("a control frame");
                stream.write_all(&[&[0x8a, 0x80 | length, 0, 0, 0, 0], &payload[..]].concat()).expect("sent");
            }
            other => panic!("opcode {other}"),
        }
        is_answered = opcode == 9;
    }
    events
}

/// Connects the gateway and reads its ack, and nothing behind it.
fn connect(program: &Program) -> TcpStream {
    let mut stream = program.send_upgrade("k2");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    assert!(String::from_utf8(frame(&mut stream).1).expect("text").contains("connection.ack"));
    stream
}

/// The cells of the only row whose status column is `connected` and whose delivery is this one, by their column.
fn row(program: &Program, id: &str, delivery: &str) -> Vec<(String, String)> {
    let table = succeed(program, &["stats", "--gateway", id]);
    let cells =
        |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
    let head: Vec<String> = cells(table.lines().nth(1).expect("a head"));
    let row: Vec<String> = table.lines().skip(2).map(cells).find(|row: &Vec<_>| row[3] == delivery).expect("a row");
    head.into_iter().zip(row).collect()
}

fn check_cells(row: &[(String, String)], expected: &[(&str, &str)]) {
    for (column, value) in expected {
        let cell = row.iter().find(|(name, _)| name == column).map(|(_, cell)| cell.as_str());
        assert_eq!(cell, Some(*value), "{column} in {row:?}");
    }
}

#[test]
fn a_gateway_that_was_away_processes_what_it_missed_and_the_commands_say_so() {
    let program = Program::start(&["--cores", "2"]);
    let id = succeed(&program, &["gateway", "create", "edge", "--delivery", "processed"]);
    let id = id.trim_end();
    // SHA-256 of `k2`.
    let hash = "015f7e6bc5aeaf483724089e9252cc13b50951a6b69412522765cff4d780306e";
    program.call("POST", &format!("/api/v1/gateways/{id}/tokens"), &format!(r#"{{"sha256":"{hash}"}}"#));
    let publish = |kind: &'static str, payload: &'static str| ["publish", id, "--type", kind, "--payload", payload];

    let away = succeed(&program, &publish("api.deployed", "1"));
    assert!(away.starts_with("waits for the gateway to connect, correlation id "), "{away}");
    let (code, out, err) = run(&program, &[&publish("t", "2")[..], &["--wait", "100ms"]].concat());
    assert!(code == Some(1) && out.starts_with("waits for the gateway to connect, "), "{code:?} {out}");
    assert_eq!(err, "gatecast: not processed within 100ms: gateway not connected\n");

    // A listener beside the gateway takes nothing from it.
    let mut listen = command::against(&program, &["listen", "--token", "k2", "--count", "1"]);
    let mut listener = Background::start(listen.stderr(Stdio::piped()));
    assert!(listener.line().contains("connection.ack"));
    let mut gateway = connect(&program);
    let (opcode, _) = frame(&mut gateway);
    assert_eq!(opcode, 9, "a ping comes first, after the silence");
    program.wait_until("the gateway is at work", |program| {
        row(program, id, "processed").last().is_some_and(|(_, cell)| cell.starts_with("api.deployed "))
    });
    let busy = row(&program, id, "processed");
    check_cells(&busy, &[("STATUS", "connected"), ("UNPROCESSED", "2"), ("MISSED", "2"), ("FAILED", "0")]);
    check_cells(&row(&program, id, "written"), &[("UNPROCESSED", "-"), ("PROCESSING", "-")]);
    let (code, _, err) = run(&program, &[&publish("t", "3")[..], &["--wait", "100ms"]].concat());
    assert!(code == Some(1) && err.ends_with("has 2 events to process before it\n"), "{code:?} {err}");
    assert!(listener.line().ends_with(" 3\n"), "the listener gets what is new");

    let events = handle(&mut gateway, 3);
    assert!(events[0].contains(r#""payload":1,"#) && events[2].contains(r#""payload":3,"#), "{events:?}");
    program.wait_until("all is processed", |program| {
        row(program, id, "processed").iter().any(|(name, cell)| name == "UNPROCESSED" && cell == "0")
    });
    check_cells(&row(&program, id, "processed"), &[("PROCESSING", "-"), ("MISSED", "2")]);

    let works = std::thread::spawn(move || (handle(&mut gateway, 2), gateway));
    let done = succeed(&program, &[&publish("t", "4")[..], &["--wait", "20s"]].concat());
    assert!(done.starts_with("processed by the gateway, correlation id "), "{done}");
    let log = succeed(&program, &["events", id, "--limit", "1"]);
    let position = log.split(' ').nth(1).expect("a position");
    let again = succeed(&program, &["resend", id, position, "--wait", "20s"]);
    assert!(again.starts_with("processed by the gateway, correlation id ") && again != done, "{again}");
    let (events, mut gateway) = works.join().expect("the gateway works");
    assert!(events.iter().all(|event| event.contains(r#""payload":4,"#)), "{events:?}");

    let json = succeed(&program, &["resend", id, position, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["delivered"], json.get("processed")), (&serde_json::json!(1), None), "{json}");
    read_until(&mut gateway, br#""payload":4,"#);
    let beyond = format!("{position}9");
    let (code, _, err) = run(&program, &["resend", id, &beyond]);
    assert!(code == Some(1) && err.contains("404 the gateway has no event at this position"), "{code:?} {err}");
    let (code, _, err) = run(&program, &[&publish("t", "5")[..], &["--wait", "2m"]].concat());
    assert!(code == Some(2) && err.contains("expected a time from 1ms to 60s"), "{code:?} {err}");
}
