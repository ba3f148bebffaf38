//! Claims about starts that are refused: the exit code, and what the message names.

use super::program::Program;
use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Starts a hub that must refuse to start, with this variable set; its exit code and standard error.
fn refused_with(data: &Path, arguments: &[&str], variable: (&str, &str)) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatecast"));
    command.args(["serve", "--data"]).arg(data).args(arguments).env(variable.0, variable.1);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let began = Instant::now();
    let status = loop {
        match child.try_wait().expect("it was started") {
            Some(status) => break status,
            None if began.elapsed() < Duration::from_secs(20) => thread::sleep(Duration::from_millis(20)),
            None => {
                child.kill().expect("it runs");
                panic!("it did not end: {arguments:?}, {variable:?}");
            }
        }
    };
    let mut message = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut message).expect("UTF-8");
    (status.code(), message)
}

fn refused(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    refused_with(data, arguments, ("NOTHING", ""))
}

#[test]
fn a_data_directory_in_use_is_exit_code_1_and_the_message_names_it_and_the_pid() {
    let data = tempfile::tempdir().unwrap();
    let first = Program::start_in(data.path(), &["--cores", "1"]);
    let (code, message) = refused(data.path(), &["--listen", "127.0.0.1:0", "--tls", "off"]);
    let pid = first.pid().as_raw_nonzero();
    let expected = format!("{} is used by another hub (pid {pid})", data.path().display());
    assert!(code == Some(1) && message.contains(&expected), "{code:?}: {message}");
    assert_eq!(first.call("GET", "/ready", "")["status"], "ready", "the first hub runs on");
}

#[test]
fn an_address_in_use_is_exit_code_1_and_the_message_names_it() {
    let first = Program::start(&["--cores", "1"]);
    let data = tempfile::tempdir().unwrap();
    let address = first.address.to_string();
    let (code, message) = refused(data.path(), &["--listen", &address, "--tls", "off", "--cores", "1"]);
    let expected = format!("{address} is in use by another program");
    assert!(code == Some(1) && message.contains(&expected), "{code:?}: {message}");
    drop(first.connect());
}

#[test]
fn a_wrong_argument_or_configuration_is_exit_code_2_and_the_message_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let check = |arguments: &[&str], variable: (&str, &str), named: &[&str]| {
        let (code, message) = refused_with(&data, arguments, variable);
        assert_eq!(code, Some(2), "{arguments:?}, {variable:?}: {message}");
        assert!(named.iter().all(|named| message.contains(named)), "{arguments:?}, {variable:?}: {message}");
        assert!(!data.exists(), "{arguments:?}, {variable:?}: it was refused after the data directory was made");
    };
    let none = ("NOTHING", "");
    check(&["--frob"], none, &["--frob"]);
    check(&["--set", "heartbeat.interval=x"], none, &["heartbeat.interval", "\"x\"", "--set", "10ms to 30s"]);
    check(&["--set", "no.such=1"], none, &["no.such"]);
    check(&["--set", "heartbeat.timeout=10s"], none, &["heartbeat.timeout"]);
    check(&["--tls", "files"], none, &["tls.cert"]);
    check(&["--set", "admin.listen=127.0.0.1:9243", "--set", "listen=127.0.0.1:9243"], none, &["admin.listen"]);
    check(&[], ("GATECAST_PUBLISH_TIMEOUT", "soon"), &["GATECAST_PUBLISH_TIMEOUT", "\"soon\""]);
    let file = dir.path().join("gatecast.toml");
    fs::write(&file, "cores = 1\n\n[drain]\nwindows = \"5s\"\n").unwrap();
    let file = file.to_str().unwrap();
    check(&["--config", file], none, &[file, "windows"]);
    let missing = dir.path().join("missing.toml");
    let missing = missing.to_str().unwrap();
    check(&["--config", missing], none, &[missing]);
}

#[test]
fn a_malformed_admin_token_is_refused_at_the_start_and_kept() {
    for token in
        ["twenty-one-characters\n", "a-good-first-line-of-many\nand-another-one\n", "one with blanks between it\n"]
            .map(str::to_owned)
            .into_iter()
            .chain([String::new(), "x".repeat(513), "schlüssel-aus-zwei-wörtern\n".to_owned()])
    {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("admin-token");
        fs::write(&path, &token).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let (code, message) = refused(data.path(), &["--listen", "127.0.0.1:0", "--tls", "off", "--cores", "1"]);
        let named = [path.to_str().unwrap(), "is not an admin token", "one line of 22 to 512 visible ASCII characters"];
        assert!(code == Some(1) && named.iter().all(|named| message.contains(named)), "{token:?}, {code:?}: {message}");
        assert!(token.trim().is_empty() || !message.contains(token.trim()), "the message shows what may be a secret");
        assert_eq!(fs::read_to_string(&path).unwrap(), token, "it is the operator's to change");
    }
}

/// What a call with this admin token is answered with.
fn status(program: &Program, token: &str) -> String {
    let request = format!("GET /api/v1/gateways HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n");
    program.raw(&request).split(' ').nth(1).expect("a status").to_owned()
}

#[test]
fn a_new_admin_token_is_in_force_after_a_restart_and_the_old_one_is_401() {
    const NEW: &str = "written-by-the-operator-with-forty-three-ch";
    let data = tempfile::tempdir().unwrap();
    let mut program = Program::start_in(data.path(), &["--cores", "1"]);
    let old = program.admin_token().to_owned();
    fs::write(data.path().join("admin-token"), format!("{NEW}\n")).unwrap();
    assert_eq!((status(&program, &old), status(&program, NEW)), ("200".to_owned(), "401".to_owned()));
    program.signal(rustix::process::Signal::TERM);
    assert_eq!(program.wait(), Some(0));
    let program = Program::start_in(data.path(), &["--cores", "1"]);
    assert_eq!((status(&program, &old), status(&program, NEW)), ("401".to_owned(), "200".to_owned()));
}
