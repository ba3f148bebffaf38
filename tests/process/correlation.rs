//! The log's warning about repeated correlation ids.

use crate::program::Program;

#[test]
fn a_repeated_correlation_id_is_a_warning_that_names_it() {
    let program = Program::start(&["--set", "cores=1"]);
    let _gateway = program.connect();
    let list = program.call("GET", "/api/v1/gateways", "");
    let id = list["list"][0]["id"].as_str().expect("an id");
    let correlation = "5e1f0c3e-7f5a-4a64-9a53-0b6d6f1f6a10";
    let body = format!(r#"{{"type":"t","payload":{{}},"correlationId":"{correlation}"}}"#);
    for _ in 0..20 {
        program.call("POST", &format!("/api/v1/gateways/{id}/events"), &body);
    }
    program.wait_until("the warning is logged", |program| program.log().contains("correlation id repeated"));
    let log = program.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("correlation id repeated")).collect();
    assert!(lines.len() < 19, "each of the 19 repeats is logged");
    assert!(lines[0].contains("WARN") && lines[0].contains(correlation) && lines[0].contains(id), "{}", lines[0]);
}
