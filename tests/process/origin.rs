//! What the log says about origins that may not connect.

use crate::program::Program;
use std::{
    io::{Read, Write},
    net::TcpStream,
};

fn knock_from(program: &Program, origin: &str) -> String {
    let mut stream = TcpStream::connect(program.address).expect("a connection");
    let request = format!(
        "GET /api/internal/v1/ws/gateways/connect HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\napi-key: k\r\nOrigin: {origin}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the refusal closes");
    answer
}

#[test]
fn a_refused_origin_is_a_warning_once_a_second_with_the_origin() {
    let program = Program::start(&["--set", "cores=1"]);
    for _ in 0..20 {
        let answer = knock_from(&program, "https://console.example");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    let line = |log: &str| log.lines().find(|line| line.contains("origin not allowed")).map(str::to_owned);
    program.wait_until("there is a line", |program| line(&program.log()).is_some());
    let line = line(&program.log()).expect("it is there");
    assert!(line.contains("WARN") && line.contains("https://console.example"), "{line}");
    let lines = program.log().matches("origin not allowed").count();
    assert!(lines < 20, "each of 20 refusals has a line");

    // What cannot be shown in a line is escaped, and what is long is cut.
    let program = Program::start(&["--set", "cores=1"]);
    knock_from(&program, &format!("https://\u{202e}{}", "x".repeat(4_000)));
    program.wait_until("there is a line", |program| program.log().contains("origin not allowed"));
    let log = program.log();
    let line = log.lines().find(|line| line.contains("origin not allowed")).expect("it is there");
    assert!(!line.contains('\u{202e}') && line.len() < 1_000, "{line}");
}
