//! The log's warning about origins that are not allowed.

use crate::program::Program;
use std::{
    io::{Read, Write},
    net::TcpStream,
};

fn connect_from_origin(program: &Program, origin: &str) -> String {
    let mut stream = TcpStream::connect(program.address).expect("a connection");
    let request = format!(
        "GET /api/internal/v1/ws/gateways/connect HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\napi-key: k\r\nOrigin: {origin}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the hub closes the connection after the refusal");
    answer
}

#[test]
fn a_refused_origin_is_a_warning_once_a_second_with_the_origin() {
    let program = Program::start(&["--set", "cores=1"]);
    for _ in 0..20 {
        let answer = connect_from_origin(&program, "https://console.example");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    let line = |log: &str| log.lines().find(|line| line.contains("origin not allowed")).map(str::to_owned);
    program.wait_until("the warning is logged", |program| line(&program.log()).is_some());
    let line = line(&program.log()).expect("the warning is logged");
    assert!(line.contains("WARN") && line.contains("https://console.example"), "{line}");
    let lines = program.log().matches("origin not allowed").count();
    assert!(lines < 20, "each of the 20 refusals is logged");

    // Unsafe characters in the origin are escaped, and a long origin is truncated.
    let program = Program::start(&["--set", "cores=1"]);
    connect_from_origin(&program, &format!("https://\u{202e}{}", "x".repeat(4_000)));
    program.wait_until("the warning is logged", |program| program.log().contains("origin not allowed"));
    let log = program.log();
    let line = log.lines().find(|line| line.contains("origin not allowed")).expect("the warning is logged");
    assert!(!line.contains('\u{202e}') && line.len() < 1_000, "{line}");
}
