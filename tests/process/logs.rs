//! The program's log: peers cannot forge lines, send control characters, have tokens logged, or flood it.

use super::program::{Program, read_to_end, send_text};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

fn acknowledge(gateway: &mut TcpStream, deployment: &str) {
    let payload = json!({ "deploymentId": deployment, "status": "success", "errorCode": "end-of-ack" });
    send_text(gateway, &json!({ "type": "deployment.ack", "payload": payload }).to_string());
}

/// An escape, a line break, NEL and CSI (C1), a bidi override, isolate and mark, a line and a paragraph separator.
const HOSTILE: &str = "a\u{1b}[2Jb\nc\u{85}d\u{9b}e\u{202e}f\u{2066}g\u{200f}h\u{2028}i\u{2029}j";
const CLEANED: &str = "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}f\u{fffd}g\u{fffd}h\u{fffd}i\u{fffd}j";

#[test]
fn text_of_a_gateway_is_cleaned_before_it_is_logged() {
    for format in ["text", "json"] {
        let program = Program::start(&["--log-format", format, "--set", "log.filter=debug"]);
        let mut gateway = program.connect();
        acknowledge(&mut gateway, HOSTILE);
        let line = program.log_line("end-of-ack");
        assert!(line.contains(CLEANED), "{format}: {line:?}");
        if format == "json" {
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(line["deployment"], CLEANED, "the decoded field is clean as well");
        }
    }
}

#[test]
fn a_live_token_in_a_logged_field_is_masked() {
    let program = Program::start(&["--set", "log.filter=debug"]);
    let mut platform = TcpStream::connect(program.address).unwrap();
    program.register_over(&mut platform, "other", "another-gateways.token+1");
    let mut gateway = program.connect();
    let admin = program.admin_token();
    let fields = ["another-gateways.token+1", "Bearer another-gateways.token+1", admin, &format!("token=\"{admin}\";")];
    for (at, field) in fields.into_iter().enumerate() {
        acknowledge(&mut gateway, field);
        acknowledge(&mut gateway, &format!("field {at} was read"));
        program.log_line(&format!("field {at} was read"));
    }
    let log = program.log();
    assert!(!log.contains("another-gateways.token") && !log.contains(admin), "{log}");
    assert_eq!(log.matches("deployment=\"(live token)\"").count(), fields.len(), "{log}");
}

#[test]
fn an_ipv4_peer_of_an_ipv6_listener_is_logged_as_ipv4() {
    let data = tempfile::tempdir().unwrap();
    let program = Program::start_at("[::]:0", data.path(), &[]);
    let mut platform = TcpStream::connect(program.address).unwrap();
    program.register_over(&mut platform, "g", "k");
    let ipv4 = SocketAddr::from((Ipv4Addr::LOCALHOST, program.address.port()));
    let gateway = program.send_upgrade_to(ipv4, "k");
    let address = gateway.local_addr().unwrap().to_string();
    let line = program.log_line("gateway connected");
    assert!(line.contains(&format!("address={address}")), "{line}");
    let stats = program.call("GET", "/api/internal/v1/stats", "");
    assert_eq!(stats["gatewayConnections"]["connections"][0]["remoteAddress"], address);
}

/// The number of lines with this message, and the sum of their `left_out`.
fn count(program: &Program, message: &str) -> (u64, u64) {
    let log = program.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let left_out = lines.filter(|line| line["message"] == message).map(|line| line["left_out"].as_u64().unwrap_or(0));
    left_out.fold((0, 0), |(lines, sum), left_out| (lines + 1, sum + left_out))
}

#[test]
fn a_flood_from_many_addresses_does_not_fill_the_log() {
    const ATTEMPTS: u64 = 400;
    let program = Program::start(&["--log-format", "json", "--cores", "2"]);
    let attempt = |at: u64| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let from = Ipv4Addr::new(127, 0, u8::try_from(at / 200).unwrap() + 1, u8::try_from(at % 200).unwrap() + 1);
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&program.address.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.write_all(Program::connect_request("unknown").as_bytes()).expect("sent");
        assert!(read_to_end(&mut stream).starts_with(b"HTTP/1.1 401 "));
    };
    (0..ATTEMPTS).for_each(attempt);
    // A line in a later second reports the number left out before it.
    thread::sleep(Duration::from_millis(1_100));
    attempt(ATTEMPTS);
    program.wait_until("every refusal is logged or counted", |program| {
        let (lines, left_out) = count(program, "authentication failed");
        lines + left_out == ATTEMPTS + 1
    });
    let (lines, _) = count(&program, "authentication failed");
    assert!(lines < ATTEMPTS / 4, "{lines} lines");
}

#[test]
fn all_failed_deliveries_are_counted_and_some_are_logged() {
    const EVENTS: u64 = 1_000;
    let program = Program::start(&["--log-format", "json"]);
    let answers = program.publish_batch(EVENTS as usize);
    assert!(answers.iter().all(|answer| answer["failed"] == 1) && answers.len() as u64 == EVENTS);
    thread::sleep(Duration::from_millis(1_100));
    program.publish_batch(1);
    program.wait_until("every failure is logged or counted", |program| {
        let (lines, left_out) = count(program, "delivery failed");
        lines + left_out == EVENTS + 1
    });
    let (lines, _) = count(&program, "delivery failed");
    assert!(lines < EVENTS / 4, "{lines} lines");
    assert_eq!(program.metric("gatecast_deliveries_failed_total"), EVENTS as f64 + 1.0);
}

#[test]
fn an_acknowledgement_is_logged_at_debug_level_only() {
    let program = Program::start(&[]);
    let mut gateway = program.connect();
    acknowledge(&mut gateway, "d");
    drop(gateway);
    program.log_line("gateway disconnected");
    assert_eq!(program.metric("gatecast_deployments_acknowledged_total"), 1.0);
    assert!(!program.log().contains("deployment acknowledged"), "{}", program.log());
}

#[test]
fn no_key_no_token_and_no_payload_is_in_the_log_at_trace() {
    const PAYLOAD: u64 = 9_182_736_455_463_728_190;
    let program = Program::start(&["--set", "log.filter=trace"]);
    let mut platform = TcpStream::connect(program.address).unwrap();
    let admin = program.admin_token();
    let call = |method: &str, path: &str, fields: &str, body: &str| {
        let length = body.len();
        program.raw(&format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {length}\r\n\r\n{body}"))
    };
    let bearer = format!("Authorization: Bearer {admin}\r\n");
    let tokens = format!("/api/v1/gateways/{}/tokens", program.gateway());
    let created = program.call("POST", &tokens, "{}");
    let (made, id) = (created["token"].as_str().expect("a token"), created["id"].as_str().expect("an id"));
    program.register_over(&mut platform, "other", "a-key-that-was-brought-over");

    let connected = [program.connect_with(made), program.connect_with("a-key-that-was-brought-over")];
    assert!(program.publish_over(&mut platform, PAYLOAD).contains(r#""delivered":1"#));
    let manifest = format!("/api/internal/v1/gateways/{}/manifest", program.gateway());
    assert!(call("POST", &manifest, &format!("api-key: {made}\r\n"), "{}").starts_with("HTTP/1.1 204 "));
    assert!(call("POST", &manifest, "api-key: a-bad-key-of-a-manifest\r\n", "{}").starts_with("HTTP/1.1 401 "));
    assert!(call("GET", "/api/v1/gateways", "Authorization: Bearer a-bad-admin-token\r\n", "").contains(" 401 "));
    assert!(call("DELETE", &format!("{tokens}/{id}"), &bearer, "").starts_with("HTTP/1.1 204 "));
    for key in [made, "a-key-that-nobody-has", admin] {
        assert!(read_to_end(&mut program.send_upgrade(key)).starts_with(b"HTTP/1.1 401 "), "{key}");
    }
    assert!(program.publish_over(&mut platform, PAYLOAD).contains(r#""failed":1"#), "its token was revoked");
    drop(connected);
    program.wait_until("both gateways have left", |program| program.log().matches("gateway disconnected").count() == 2);
    program.log_line("authentication failed");
    program.log_line("delivery failed");

    let log = program.log();
    let secrets = [made, admin, "a-key-that-", "a-bad-key-of-a-manifest", "a-bad-admin-token", &PAYLOAD.to_string()];
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is in the log: {log}");
    }
}
