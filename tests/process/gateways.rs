//! The commands `gatecast gateway …` against a running hub.

use super::program::Program;
use serde_json::{Value, json};
use std::process::Command;

/// Runs a command; its exit code, standard output and standard error.
fn run(program: &Program, arguments: &[&str]) -> (Option<i32>, String, String) {
    let server = format!("http://{}", program.address);
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatecast"));
    command.arg("gateway").args(arguments).args(["--server", &server, "--admin-token", program.admin_token()]);
    let done = command.output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (done.status.code(), text(done.stdout), text(done.stderr))
}

fn succeed(program: &Program, arguments: &[&str]) -> String {
    let (code, out, err) = run(program, arguments);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}: {out}");
    out
}

#[test]
fn the_delivery_of_a_gateway_is_set_and_listed_by_the_commands() {
    let program = Program::start(&[]);
    let id = succeed(&program, &["create", "edge", "--delivery", "processed"]);
    let id = id.trim_end();
    let check_listed = |delivery: &str| {
        let table = succeed(&program, &["list"]);
        assert!(table.lines().next().unwrap().ends_with("  DELIVERY"), "{table}");
        let row = table.lines().find(|line| line.starts_with(id)).expect("a row");
        assert!(row.ends_with(&format!("  {delivery}")), "{table}");
    };
    check_listed("processed");
    assert_eq!(succeed(&program, &["set", id, "--delivery", "default"]), "");
    check_listed("default");
    let shown = succeed(&program, &["set", id, "--delivery", "written", "--display-name", "Edge", "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!((&shown["delivery"], &shown["displayName"]), (&json!("written"), &json!("Edge")), "{shown}");
    check_listed("written");
    assert_eq!(succeed(&program, &["set", id, "--display-name", ""]), "");
    let shown = program.call("GET", &format!("/api/v1/gateways/{id}"), "");
    assert_eq!((&shown["delivery"], &shown["displayName"]), (&json!("written"), &json!(null)), "{shown}");
    let (code, _, err) = run(&program, &["set", id]);
    assert!(code == Some(2) && err.contains("--delivery") && err.contains("--display-name"), "{code:?} {err}");
    let (code, _, err) = run(&program, &["set", &uuid::Uuid::new_v4().to_string(), "--delivery", "written"]);
    assert!(code == Some(1) && err.contains("404"), "{code:?} {err}");
}
