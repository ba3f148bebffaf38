//! The start of the program: conditions of its environment that must not stop it.

use super::program::Program;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

fn serve(data: &Path, stdout: Stdio, stderr: Stdio) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatecast"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--tls", "off", "--data"]).arg(data);
    command.stdout(stdout).stderr(stderr).spawn().expect("the program starts")
}

fn first_line(from: impl std::io::Read, has: &str) -> String {
    BufReader::new(from)
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains(has))
        .expect("the program prints such a line")
}

/// Whether the process has a handler for SIGHUP, which is the lowest bit of the mask.
fn handles_sighup(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("the program runs");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a line").trim().to_owned();
    u64::from_str_radix(&caught, 16).expect("a mask") & 1 == 1
}

#[test]
fn a_full_standard_output_does_not_stop_the_hub() {
    let data = tempfile::tempdir().unwrap();
    let full = File::options().write(true).open("/dev/full").expect("/dev/full exists");
    let mut child = serve(data.path(), full.into(), Stdio::piped());
    let line = first_line(child.stderr.take().expect("piped"), "cannot write to standard output");
    let address = line.split("http://").nth(1).expect("an address").trim_end_matches('"');
    TcpStream::connect(address).expect("the hub accepts connections");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("the program runs");
    assert_eq!(child.wait().expect("it was started").code(), Some(0));
}

#[test]
fn sighup_during_the_start_does_not_end_the_hub() {
    let data = tempfile::tempdir().unwrap();
    let mut before = Program::start_in(data.path(), &[]);
    before.signal(Signal::TERM);
    before.wait();

    // The store waits for this lock, which keeps the hub from finishing its start.
    let file = rusqlite::Connection::open(data.path().join("gatecast.db")).unwrap();
    file.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut child = serve(data.path(), Stdio::piped(), Stdio::null());
    let began = Instant::now();
    while !handles_sighup(&child) {
        assert!(began.elapsed() < Duration::from_secs(2), "it has no handler for SIGHUP while it starts");
        thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::HUP).expect("the program runs");
    file.execute_batch("ROLLBACK").unwrap();
    first_line(child.stdout.take().expect("piped"), "listening");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("the program runs");
    assert_eq!(child.wait().expect("it was started").code(), Some(0));
}

#[test]
fn a_short_admin_token_is_logged_as_a_warning() {
    let check = |token: Option<&str>, expected: bool| {
        let data = tempfile::tempdir().unwrap();
        if let Some(token) = token {
            fs::write(data.path().join("admin-token"), token).unwrap();
            fs::set_permissions(data.path().join("admin-token"), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let program = Program::start_in(data.path(), &["--cores", "1"]);
        program.log_line("TLS is off");
        let log = program.log();
        let warned = log.lines().any(|line| line.contains("WARN") && line.contains("admin token is shorter"));
        assert_eq!(warned, expected, "{token:?}: {log}");
        assert!(token.is_none_or(|token| !log.contains(token)), "the token is not in the log");
    };
    check(Some(&"s".repeat(22)), true);
    check(Some(&"s".repeat(42)), true);
    check(Some(&"s".repeat(43)), false);
    check(None, false);
}

#[test]
fn tls_off_is_a_warning_at_every_start() {
    let data = tempfile::tempdir().unwrap();
    for start in 1..=3 {
        let mut program = Program::start_in(data.path(), &["--cores", "1", "--tls", "off"]);
        program.signal(Signal::TERM);
        assert_eq!(program.wait(), Some(0));
        let log = program.log();
        let warnings = log.lines().filter(|line| line.contains(" WARN ") && line.contains("TLS is off")).count();
        assert_eq!(warnings, start, "{log}");
    }
}

/// Starts a hub from a shell that has set a limit of descriptors.
fn serve_with_limit(limit: &str, data: &Path, connections: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_gatecast")]);
    command.args(["serve", "--listen", "127.0.0.1:0", "--tls", "off", "--cores", "1"]);
    command.args(["--max-connections", connections, "--data"]).arg(data);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell")
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_at_the_start_and_a_low_hard_limit_is_refused() {
    for (connections, needed) in [("1000", "2124"), ("2000", "3224")] {
        let data = tempfile::tempdir().unwrap();
        let mut child = serve_with_limit("-S -n 256", data.path(), connections);
        first_line(child.stdout.take().expect("piped"), "listening");
        let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("it runs");
        let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a line");
        assert_eq!(soft.split_whitespace().next(), Some(needed), "{limits}");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
        assert_eq!(child.wait().expect("it was started").code(), Some(0));

        let mut child = serve_with_limit("-n 256", data.path(), connections);
        let line = first_line(child.stderr.take().expect("piped"), "open files");
        assert!(line.contains(needed) && line.contains("256"), "{line}");
        assert_eq!(child.wait().expect("it was started").code(), Some(1));
    }
}

#[test]
fn the_address_file_is_there_while_a_hub_runs_and_removed_by_an_orderly_end() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("address");
    let mut program = Program::start_in(data.path(), &["--cores", "1"]);
    assert!(fs::read_to_string(&file).unwrap().contains(&program.address.to_string()));
    program.signal(Signal::TERM);
    assert_eq!(program.wait(), Some(0));
    assert!(!file.exists());
}
