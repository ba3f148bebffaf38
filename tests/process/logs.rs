//! Claims about what the program logs: peers cannot forge lines, hide in them, or have a token written into them.

use super::program::{Program, send_text};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

fn acknowledge(gateway: &mut TcpStream, deployment: &str) {
    let payload = json!({ "deploymentId": deployment, "status": "success", "errorCode": "end-of-ack" });
    send_text(gateway, &json!({ "type": "deployment.ack", "payload": payload }).to_string());
}

/// An escape, a line break, NEL and CSI of C1, a bidi override and isolate, a mark, line and paragraph separator.
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
            assert_eq!(line["deployment"], CLEANED, "what a reader of the JSON shows is clean as well");
        }
    }
}

#[test]
fn a_live_token_in_a_field_is_masked() {
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
