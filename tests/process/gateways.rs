//! The commands `gatecast gateway …` against a running hub.

use super::{command, program::Program};
use serde_json::{Value, json};
use std::process::Command;

fn gateway(program: &Program, arguments: &[&str]) -> Command {
    command::against(program, &[&["gateway"], arguments].concat())
}

fn succeed(program: &Program, arguments: &[&str]) -> String {
    command::succeed(&mut gateway(program, arguments))
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
    let (code, _, err) = command::run(&mut gateway(&program, &["set", id]));
    assert!(code == Some(2) && err.contains("--delivery") && err.contains("--display-name"), "{code:?} {err}");
    let (code, _, err) =
        command::run(&mut gateway(&program, &["set", &uuid::Uuid::new_v4().to_string(), "--delivery", "written"]));
    assert!(code == Some(1) && err.contains("404"), "{code:?} {err}");
}
