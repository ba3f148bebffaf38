//! The commands `gatecast log …` on the data directory of a hub, and what they mean for its gateways afterwards.

use super::{
    command,
    program::{Program, read_until},
};
use std::{fs, os::unix::fs::FileExt, path::Path, process::Command};

const CORE: &[&str] = &["--cores", "1"];

/// The command `gatecast log` with these arguments, on this data directory.
fn log(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatecast"));
    command.arg("log").args(arguments).arg("--data").arg(data);
    command
}

/// Runs a command that succeeds; its standard output.
pub fn succeed(data: &Path, arguments: &[&str]) -> String {
    command::succeed(&mut log(data, arguments))
}

/// Runs a command that is refused with this exit code; checks what the message names.
fn refused(data: &Path, arguments: &[&str], expected: i32, named: &[&str]) {
    let (code, out, err) = command::run(&mut log(data, arguments));
    assert!(
        code == Some(expected) && named.iter().all(|named| err.contains(named)),
        "{arguments:?}: {code:?} {out} {err}"
    );
}

fn status(data: &Path) -> serde_json::Value {
    serde_json::from_str(&succeed(data, &["status", "--json"])).expect("JSON")
}

/// A stopped hub's directory with ten events of one gateway; the gateway's id and the positions.
fn stopped(data: &Path) -> (String, Vec<String>) {
    let mut program = Program::start_new_in(data, CORE);
    let gateway = program.gateway().to_owned();
    let positions = program.publish_events(&gateway, 10);
    program.stop();
    (gateway, positions)
}

/// The `resumed` of a gateway that asks the hub to go on behind this position.
fn resumes(program: &Program, position: &str) -> Option<bool> {
    program.resume(position).1["resumed"].as_bool()
}

#[test]
fn status_shows_what_the_log_of_a_stopped_hub_holds() {
    let data = tempfile::tempdir().unwrap();
    let (gateway, positions) = stopped(data.path());
    let shown = status(data.path());
    assert_eq!(shown["lastRun"], serde_json::json!({"sync": "power", "clean": true}));
    assert_eq!((&shown["newEpochBecause"], &shown["events"], &shown["gateways"]), (&().into(), &10.into(), &1.into()));
    let row = &shown["list"][0];
    // Nine payloads of one byte and one of two, and 128 bytes for each event.
    assert_eq!((&row["gatewayId"], &row["bytes"]), (&gateway.as_str().into(), &1_291.into()));
    assert_eq!(
        (row["firstPosition"].as_str(), row["lastPosition"].as_str()),
        (Some(&*positions[0]), Some(&*positions[9]))
    );
    assert!(
        row["oldestSeconds"].as_u64().is_some_and(|age| age <= shown["uptimeSeconds"].as_u64().unwrap()),
        "{shown}"
    );

    let text = succeed(data.path(), &["status", "--gateway", &gateway]);
    for named in ["goes on with this epoch", "closed cleanly", "10, of 1 gateway,", &gateway, &positions[9]] {
        assert!(text.contains(named), "{named}: {text}");
    }
    let unknown = "4ad0a1f6-6c5b-4d0f-8f2e-6f4c3ad9c1b7";
    refused(data.path(), &["status", "--gateway", unknown], 1, &["no events of the gateway", unknown]);
    let verified = succeed(data.path(), &["verify"]);
    assert!(verified.starts_with("Read 10 undamaged events of 1 gateway: no damage found."), "{verified}");
    assert!(
        resumes(&Program::start_in(data.path(), CORE), &positions[3]) == Some(true),
        "the commands changed nothing"
    );
}

#[test]
fn while_the_hub_runs_the_commands_name_its_process_and_its_metrics() {
    let data = tempfile::tempdir().unwrap();
    let program = Program::start_in(data.path(), CORE);
    let (pid, metrics) = (program.pid().as_raw_nonzero().to_string(), format!("http://{}/metrics", program.address));
    for arguments in [&["status"][..], &["verify"], &["trim", "--all", "--yes"], &["new-epoch", "--yes"]] {
        refused(data.path(), arguments, 1, &[&pid, &metrics, "only while the hub is stopped", "gatecast_event_log_"]);
    }
}

#[test]
fn a_trim_needs_a_yes_and_costs_only_gateways_that_ask_for_what_went() {
    let data = tempfile::tempdir().unwrap();
    let (gateway, positions) = stopped(data.path());
    let trim = ["trim", "--gateway", &gateway, "--keep", "4"];
    let dry = succeed(data.path(), &[&trim[..], &["--dry-run"]].concat());
    assert!(dry.contains("6 events of 1 gateway would be removed"), "{dry}");
    refused(data.path(), &trim, 2, &["--yes", "nothing was changed"]);
    assert_eq!(status(data.path())["events"], 10);
    let done = succeed(data.path(), &[&trim[..], &["--yes"]].concat());
    assert!(done.contains("Removed 6 events."), "{done}");
    assert!(succeed(data.path(), &[&trim[..], &["--yes"]].concat()).contains("nothing to remove"));
    let mut program = Program::start_in(data.path(), CORE);
    assert_eq!(resumes(&program, &positions[4]), Some(false));
    let (mut stream, ack) = program.resume(&positions[5]);
    assert_eq!(ack["resumed"], true, "{ack}");
    read_until(&mut stream, br#""payload":7,"#);
    let next = program.publish_events(&gateway, 1);
    assert_eq!(next[0].split('-').next(), positions[0].split('-').next(), "the epoch goes on");
    program.stop();
    succeed(data.path(), &["trim", "--all", "--yes"]);
    assert_eq!(status(data.path())["events"], 0);
}

#[test]
fn damage_is_named_with_the_command_that_removes_it() {
    let data = tempfile::tempdir().unwrap();
    let (gateway, positions) = {
        let mut program = Program::start_new_in(data.path(), CORE);
        let gateway = program.gateway().to_owned();
        let event = format!(r#"{{"type":"t","payload":"{}"}}"#, "damage-me".repeat(10));
        program.call("POST", &format!("/api/v1/gateways/{gateway}/events"), &event);
        let positions = program.publish_events(&gateway, 3);
        program.stop();
        (gateway, positions)
    };
    let path = data.path().join("log.db");
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(18).position(|window| window == b"damage-medamage-me").expect("the payload");
    fs::File::options().write(true).open(&path).unwrap().write_all_at(b"D", at as u64).unwrap();
    let (code, out, err) = command::run(&mut log(data.path(), &["verify"]));
    let epoch = positions[0].split('-').next().unwrap();
    assert!(out.contains(&format!("gateway {gateway}, event {epoch}-1: it does not match its checksum")), "{out}");
    let advice = format!("gatecast log trim --gateway {gateway} --keep 3");
    assert!(code == Some(1) && err.contains(&advice), "{code:?} {err}");
    succeed(data.path(), &["trim", "--gateway", &gateway, "--keep", "3", "--yes"]);
    succeed(data.path(), &["verify"]);
    assert_eq!(resumes(&Program::start_in(data.path(), CORE), &positions[0]), Some(true));
}

#[test]
fn after_a_new_epoch_every_gateway_is_told_to_sync_once() {
    let data = tempfile::tempdir().unwrap();
    let (gateway, positions) = stopped(data.path());
    refused(data.path(), &["new-epoch"], 2, &["--yes", "nothing was changed"]);
    let done = succeed(data.path(), &["new-epoch", "--yes"]);
    assert!(done.contains("has a new epoch"), "{done}");
    assert_eq!(status(data.path())["newEpochBecause"], serde_json::Value::Null);
    let mut program = Program::start_in(data.path(), CORE);
    let (stream, ack) = program.resume(&positions[9]);
    assert_eq!(ack["resumed"], false, "{ack}");
    drop(stream);
    let next = program.publish_events(&gateway, 1);
    assert!(!positions.contains(&next[0]) && resumes(&program, ack["position"].as_str().unwrap()) == Some(true));
}

#[test]
fn a_run_in_memory_leaves_no_position_behind_which_something_is_missing() {
    let data = tempfile::tempdir().unwrap();
    let (gateway, positions) = stopped(data.path());
    let mut program = Program::start_in(data.path(), &["--cores", "1", "--set", "event_log.mode=memory"]);
    assert_eq!(resumes(&program, &positions[9]), Some(false));
    program.publish_events(&gateway, 1);
    program.stop();
    assert_eq!(resumes(&Program::start_in(data.path(), CORE), &positions[9]), Some(false));
}

#[test]
fn a_log_that_is_missing_or_cannot_be_read_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    refused(&nowhere, &["status"], 1, &["there is no event log", "nowhere/log.db", "--data"]);
    assert!(!nowhere.exists(), "it was made");
    let config = dir.path().join("memory.toml");
    fs::write(&config, "[event_log]\nmode = \"memory\"\n").unwrap();
    refused(
        &nowhere,
        &["status", "--config", config.to_str().unwrap()],
        1,
        &["event_log.mode = \"memory\"", "/metrics"],
    );

    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    stopped(&data);
    let set = |pragma: &str| {
        rusqlite::Connection::open(data.join("log.db")).unwrap().execute_batch(pragma).unwrap();
        for arguments in [&["status"][..], &["verify"], &["trim", "--all", "--yes"]] {
            let named = if pragma.contains("user_version") { "newer Gatecast (schema 9" } else { "not an event log" };
            refused(&data, arguments, 1, &[named, "log.db", "Nothing was changed"]);
        }
    };
    set("PRAGMA user_version = 9");
    set("PRAGMA application_id = 7");
}
