//! `gatecast listen --resume`: it goes on after the last event that it has printed.

use super::{background::Background, program::Program};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// A `gatecast listen` in this directory.
fn listen(program: &Program, dir: &Path, arguments: &[&str]) -> Background {
    Background::start(
        Command::new(env!("CARGO_BIN_EXE_gatecast"))
            .args(["listen", "--token", "k", "--server", &format!("http://{}", program.address)])
            .args(arguments)
            .current_dir(dir)
            .stderr(Stdio::piped()),
    )
}

/// The next event's payload.
fn payload(listener: &mut Background) -> String {
    let line = listener.line();
    line.trim_end().rsplit(' ').next().expect("a payload").to_owned()
}

/// Publishes an event; returns its position.
fn publish(program: &Program, gateway: &str, payload: u32) -> String {
    let body = format!(r#"{{"type":"t","payload":{payload}}}"#);
    let answer = program.call("POST", &format!("/api/v1/gateways/{gateway}/events"), &body);
    answer["position"].as_str().expect("a position").to_owned()
}

#[test]
fn a_listener_that_was_killed_gets_what_it_missed() {
    let (program, dir) = (Program::start(&["--cores", "1"]), tempfile::tempdir().unwrap());
    let gateway = program.gateway();
    let file = dir.path().join("gatecast.position");
    let mut first = listen(&program, dir.path(), &["--resume"]);
    assert!(first.line().contains("connection.ack"));
    program.wait_until("the file is there", |_| file.exists());
    let begin = fs::read_to_string(&file).unwrap();
    assert!(begin.starts_with(&format!("{gateway} ")) && begin.ends_with("-0\n"), "{begin}");
    publish(&program, gateway, 1);
    assert_eq!(payload(&mut first), "1");
    program.wait_until("its position is kept", |_| fs::read_to_string(&file).unwrap().ends_with("-1\n"));
    drop(first);

    publish(&program, gateway, 2);
    let last = publish(&program, gateway, 3);
    let mut second = listen(&program, dir.path(), &["--resume", "--count", "2"]);
    assert!(second.line().contains("\"resumed\":true"));
    assert_eq!([payload(&mut second), payload(&mut second)], ["2", "3"]);
    let (code, said) = second.end();
    assert!(code == Some(0) && said.contains("resumed after ") && !said.contains("missed"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{gateway} {last}\n"));
}

#[test]
fn a_listener_goes_on_when_the_hub_was_restarted() {
    let (data, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut program = Program::start_in(data.path(), &["--cores", "1", "--set", "drain.window=0s"]);
    program.register_over(&mut std::net::TcpStream::connect(program.address).unwrap(), "g", "k");
    let gateway = program.call("GET", "/api/v1/gateways", "")["list"][0]["id"].as_str().unwrap().to_owned();
    let mut listener = listen(&program, dir.path(), &["--resume", "place", "--count", "2"]);
    assert!(listener.line().contains("connection.ack"));
    publish(&program, &gateway, 1);
    assert_eq!(payload(&mut listener), "1");
    let address = program.address.to_string();
    program.signal(rustix::process::Signal::KILL);
    program.wait();
    let again = Program::start_at(&address, data.path(), &["--cores", "1"]);
    publish(&again, &gateway, 2);
    assert!(listener.line().contains("\"resumed\":true"));
    assert_eq!(payload(&mut listener), "2");
    let (code, said) = listener.end();
    assert!(code == Some(0) && said.contains("reconnecting") && said.contains("resumed after "), "{said}");
}

#[test]
fn a_listener_whose_position_is_unknown_says_that_events_were_missed() {
    let (program, dir) = (Program::start(&["--cores", "1"]), tempfile::tempdir().unwrap());
    let file = dir.path().join("p");
    fs::write(&file, format!("{} 0000000000000007-9\n", program.gateway())).unwrap();
    let mut listener = listen(&program, dir.path(), &["--resume", "p", "--count", "1"]);
    assert!(listener.line().contains("\"resumed\":false"));
    let position = publish(&program, program.gateway(), 1);
    assert_eq!(payload(&mut listener), "1");
    let (code, said) = listener.end();
    assert!(code == Some(0) && said.contains("events were missed: resync"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{} {position}\n", program.gateway()));
}

#[test]
fn a_malformed_position_file_is_refused_and_kept() {
    let (program, dir) = (Program::start(&["--cores", "1"]), tempfile::tempdir().unwrap());
    let file = dir.path().join("p");
    for text in ["", "nonsense\n", &format!("{} 7\n", program.gateway())] {
        fs::write(&file, text).unwrap();
        let (code, said) = listen(&program, dir.path(), &["--resume", "p"]).end();
        assert!(
            code == Some(2) && said.contains("invalid position in p") && said.contains("delete the file"),
            "{said}"
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}
