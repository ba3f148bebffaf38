//! Runs each scenario once, small, with a hub in the tool's process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by panicking")]

use serde_json::Value;
use std::{fs, process::Command};

/// Runs a scenario, checks table and report, and returns its `--json`.
fn run(arguments: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let (json, page) = (folder.path().join("run.json"), folder.path().join("run.html"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments.split(' ')).args(["--quiet", "--cores", "1"]);
    let output = command.arg("--json").arg(&json).arg("--report").arg(&page).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}\n{said}\n{complained}");
    assert!(said.contains("once and in order"), "{said}");
    assert!(fs::read_to_string(page).unwrap().contains("</html>"));
    serde_json::from_slice(&fs::read(json).unwrap()).unwrap()
}

fn figure(outcome: &Value, name: &str) -> f64 {
    let figures = outcome["figures"].as_array().unwrap();
    let found = figures.iter().find(|figure| figure["name"] == name);
    found.unwrap_or_else(|| panic!("no {name:?} in {figures:?}"))["value"].as_f64().unwrap()
}

#[test]
fn connect_opens_every_connection() {
    let outcome = run("connect --gateways 20 --per-gateway 2");
    assert_eq!(figure(&outcome, "all: connections opened") as u64, 40);
    assert!(figure(&outcome, "connections a second") > 0.0);
}

#[test]
fn idle_measures_processor_time() {
    let outcome = run("idle --gateways 5 --seconds 0.5");
    assert!(figure(&outcome, "idle: hub's processor time") >= 0.0);
}

#[test]
fn fanout_waits_for_every_connection() {
    let outcome = run("fanout --connections 1,10 --rounds 5 --size 40000");
    assert_eq!(figure(&outcome, "all: deliveries verified") as u64, 8 * (1 + 10));
    let times = outcome["times"].as_array().unwrap();
    let last = times.iter().find(|times| times["name"] == "K = 10: to the last").unwrap();
    assert_eq!(last["count"], 5);
    assert!(last["max"].as_f64().unwrap() > 1.0);
}

#[test]
fn throughput_keeps_its_rate() {
    let outcome = run("throughput --gateways 10 --per-gateway 2 --rate 100 --seconds 1 --ack");
    let accepted = figure(&outcome, "all: events accepted");
    assert!(accepted > 100.0, "{accepted}");
    assert_eq!(figure(&outcome, "all: deliveries verified") as u64, accepted as u64 * 2);
}

#[test]
fn closed_throughput_sends_batches() {
    let outcome = run("throughput --gateways 10 --closed --publishers 2 --batch 10 --seconds 0.5 --plain");
    assert!(figure(&outcome, "all: events accepted") >= 20.0);
}

#[test]
fn storm_reconnects_with_resumed_sessions() {
    let outcome = run("storm --gateways 20 --rate 50 --seconds 0.3 --resume");
    assert_eq!(figure(&outcome, "all: connections opened") as u64, 20 + 18);
    assert!(figure(&outcome, "storm: resumed") > 99.0, "{outcome}");
}

#[test]
fn slow_connections_are_closed() {
    let outcome = run("slow --gateways 1 --never-read 1 --trickle 1 --rate 100 --seconds 13 --size 100000");
    assert!(figure(&outcome, "slow connections that the hub has ended") >= 1.0);
}

#[test]
fn churn_loses_nothing() {
    let outcome = run("churn --gateways 10 --per-gateway 2 --rate 200 --seconds 1 --cuts 30");
    assert!(figure(&outcome, "all: connections opened") >= 40.0);
}

#[test]
fn mixed_loses_nothing() {
    let outcome = run("mixed --gateways 10 --rate 100 --seconds 1 --cuts 20 --never-read 1 --trickle 1");
    assert!(figure(&outcome, "all: deliveries verified") >= 90.0);
}

#[test]
fn compare_names_the_file_that_it_cannot_read() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(["compare", "none", "none"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("none"));
}
