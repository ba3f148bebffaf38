//! The command that shows the log of a gateway.

use super::{background::Background, program::Program};
use std::process::{Command, Output};

/// The command `gatecast events` for the program's gateway, with these arguments.
fn events(program: &Program, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatecast"));
    command.args(["events", program.gateway(), "--server", &format!("http://{}", program.address)]);
    command.args(["--admin-token", program.admin_token()]).args(arguments);
    command
}

fn run(program: &Program, arguments: &[&str]) -> Output {
    events(program, arguments).output().expect("the program runs")
}

/// The lines that the command prints.
fn lines(program: &Program, arguments: &[&str]) -> Vec<String> {
    let output = run(program, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

/// Publishes an event; returns its position and correlation id.
fn publish(program: &Program, kind: &str, payload: &str) -> [String; 2] {
    let path = format!("/api/v1/gateways/{}/events", program.gateway());
    let answer = program.call("POST", &path, &format!(r#"{{"type":"{kind}","payload":{payload}}}"#));
    ["position", "correlationId"].map(|member| answer[member].as_str().expect("a string").to_owned())
}

#[test]
fn the_last_events_of_a_gateway_are_shown_and_those_after_a_position() {
    let program = Program::start(&["--cores", "1"]);
    assert!(lines(&program, &[]).is_empty());
    let published: Vec<_> =
        (0..25).map(|number| publish(&program, "api.deployed", &format!("{{\"n\":{number}}}"))).collect();
    let shown = lines(&program, &[]);
    assert_eq!(shown.len(), 20);
    for (line, ([position, correlation], number)) in shown.iter().zip(published[5..].iter().zip(5..)) {
        let rest = line.split_once(' ').expect("the time comes first").1;
        assert_eq!(rest, format!("{position} api.deployed {correlation} {{\"n\":{number}}}"));
    }
    assert_eq!(lines(&program, &["--limit", "3"]), shown[17..]);
    let after = published[4][0].as_str();
    assert_eq!(lines(&program, &["--after", after]), shown);
    assert_eq!(lines(&program, &["--after", after, "--limit", "2"]), shown[..2]);
    assert_eq!(lines(&program, &["--limit", "1001"]).len(), 25);
    for line in lines(&program, &["--json"]) {
        assert!(line.starts_with("{\"position\":") && line.contains("\"payload\":{\"n\":"), "{line}");
    }
}

#[test]
fn events_are_filtered_by_type_and_correlation_id_and_secrets_are_not_shown() {
    let program = Program::start(&["--cores", "1"]);
    let [_, correlation] = publish(&program, "api.deployed", "1");
    publish(&program, "api.undeployed", "2");
    publish(&program, "apikey.created", "\"s3cret\"");
    for number in 0..30 {
        publish(&program, "t", &number.to_string());
    }
    // Found although none of them is among the last 20.
    assert_eq!(lines(&program, &["--type", "api.*"]).len(), 2);
    assert_eq!(lines(&program, &["--type", "api.*", "--limit", "1"]).len(), 1);
    let found = lines(&program, &["--correlation", &correlation]);
    assert!(found.len() == 1 && found[0].ends_with(&format!("{correlation} 1")), "{found:?}");
    let secret = lines(&program, &["--type", "apikey.created"]);
    assert!(secret.len() == 1 && secret[0].ends_with(" (payload omitted)"), "{secret:?}");
}

#[test]
fn following_shows_new_events_as_they_come() {
    let program = Program::start(&["--cores", "1"]);
    publish(&program, "t", "\"old\"");
    let mut follower = Background::start(&mut events(&program, &["--follow", "--type", "t"]));
    assert!(follower.line().ends_with("\"old\"\n"));
    publish(&program, "other", "\"left out\"");
    publish(&program, "t", "\"new\"");
    assert!(follower.line().ends_with("\"new\"\n"));
}

#[test]
fn a_position_that_the_log_does_not_have_is_an_error_that_says_what_to_do() {
    let program = Program::start(&["--cores", "1"]);
    let [position, _] = publish(&program, "t", "1");
    let check = |arguments: &[&str], code: i32, expected: &[&str]| {
        let output = run(&program, arguments);
        let error = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(code), "{error}");
        expected.iter().for_each(|text| assert!(error.contains(text), "{error}"));
    };
    let above = format!("{position}0");
    check(&["--after", &above], 1, &[&above, &position, "omit --after"]);
    check(&["--after", "7"], 2, &["expected a position"]);
    check(&["--limit", "0"], 2, &["expected a number of events"]);
    check(&["--type", "a b"], 2, &["expected a type such as api.deployed"]);
    check(&["--after", &position, "--limit", "1", "--follow"], 2, &["would leave a gap"]);
}
