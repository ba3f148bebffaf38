//! Claims about how the program ends after a core failed: its exit code, the time it takes, and its log.
//!
//! Only a test build can inject faults, so the program under test is this test binary, started as a child process.

use crate::{
    cli::{Arguments, Command, endpoint},
    engine::faults::Fault,
    server::testing::inject_fault,
};
use clap::Parser;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{self, ChildStdout, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The environment variable for the child process: the fault, `watchdog.abort_after` and the data directory, separated
/// by spaces.
const FAULT: &str = "FAULT_OF_THE_HUB";
const FAULTY_SHARD: &str = "faulty shard: ";
const SECOND: Duration = Duration::from_secs(1);

/// The body of the child process. As an ordinary test it does nothing.
#[test]
fn serve_with_a_fault() {
    let Ok(arguments_of_child) = env::var(FAULT) else { return };
    let [fault, abort_after, data] = arguments_of_child.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
    let fault = if fault == "panic" { Fault::CorePanic } else { Fault::Stall(60 * SECOND) };
    // The expected abort must not write a core file.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
    let abort_after = format!("watchdog.abort_after={abort_after}");
    let arguments = ["gatecast", "serve", "--listen", "127.0.0.1:0", "--tls", "off", "--cores", "2", "--data", data];
    let settings = ["--set", "drain.window=1s", "--set", &abort_after];
    let Command::Serve(serve) = Arguments::parse_from(arguments.into_iter().chain(settings)).command else {
        panic!("the arguments select `serve`")
    };
    let data = Path::new(data).to_owned();
    let injecting = thread::spawn(move || {
        let (peer, shard) = inject_fault(address(&data), fault);
        println!("\n{FAULTY_SHARD}{shard}");
        peer
    });
    let ended = serve.run();
    // After a core died, `run` may return before the other thread has printed its line.
    let _peer = injecting.join().unwrap();
    if let Err(failure) = &ended {
        eprintln!("gatecast: {failure}");
    }
    process::exit(ended.map_or_else(|failure| failure.exit_code().into(), |()| 0));
}

/// Waits until the hub of this data directory listens, and returns its address.
fn address(data: &Path) -> std::net::SocketAddr {
    loop {
        let url = fs::read_to_string(data.join(endpoint::ADDRESS_FILE)).unwrap_or_default();
        if let Some(address) = url.strip_suffix('\n').and_then(|url| url.strip_prefix("http://")) {
            return address.parse().unwrap();
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// How the program ended.
struct Ended {
    /// The shard in which the fault happened.
    shard: String,
    status: ExitStatus,
    /// Time from the fault to the end of the process.
    after: Duration,
    log: String,
}

impl Ended {
    /// Number of lines in the log that contain all of the parts.
    fn lines(&self, parts: &[&str]) -> usize {
        self.log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }
}

/// Runs the program with a fault, and sends it a signal after the fault has happened.
fn run(fault: &str, abort_after: &str, signal: Option<Signal>) -> Ended {
    let data = tempfile::tempdir().unwrap();
    let mut child = process::Command::new(env::current_exe().unwrap())
        .args(["--exact", "cli::serve::tests::serve_with_a_fault", "--nocapture", "--test-threads=1"])
        .env(FAULT, format!("{fault} {abort_after} {}", data.path().display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = child.stderr.take().unwrap();
    let log = thread::spawn(move || {
        let mut log = String::new();
        errors.read_to_string(&mut log).unwrap();
        log
    });
    let shard = read_faulty_shard(child.stdout.take().unwrap());
    let began = Instant::now();
    if let Some(signal) = signal {
        kill_process(Pid::from_child(&child), signal).unwrap();
    }
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > 20 * SECOND {
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(5));
    };
    let ended = Ended { shard, status, after: began.elapsed(), log: log.join().unwrap() };
    println!("{fault}, {signal:?}: {status:?} after {:?}", ended.after);
    ended
}

fn read_faulty_shard(from: ChildStdout) -> String {
    let mut lines = BufReader::new(from).lines().map_while(Result::ok);
    lines
        .find_map(|line| line.strip_prefix(FAULTY_SHARD).map(str::to_owned))
        .expect("the child prints the faulty shard")
}

#[test]
fn a_dead_core_ends_the_program_within_a_second() {
    let ended = run("panic", "30s", None);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
    assert!(ended.after < SECOND, "it took {:?}", ended.after);
    let shard = format!("shard={}", ended.shard);
    assert_eq!(ended.lines(&["ERROR", "core died", &shard]), 1, "{}", ended.log);
    assert_eq!(ended.lines(&[&format!("gatecast: core {} died", ended.shard)]), 1, "{}", ended.log);
}

#[test]
fn a_core_that_stays_stuck_aborts_the_program() {
    let ended = run("stall", "3s", None);
    assert_eq!(ended.status.signal(), Some(Signal::ABORT.as_raw()), "{}", ended.log);
    assert!(ended.after > 2 * SECOND && ended.after < 6 * SECOND, "it took {:?}", ended.after);
    let shard = format!("shard={}", ended.shard);
    assert_eq!(ended.lines(&["ERROR", "shard has stalled", &shard]), 1, "{}", ended.log);
    assert_eq!(ended.lines(&["ERROR", "shard is still stalled: aborting the process", &shard]), 1, "{}", ended.log);
}

#[test]
fn the_first_sigterm_ends_a_program_with_a_stuck_core() {
    let ended = run("stall", "30s", Some(Signal::TERM));
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
    assert!(ended.after < 6 * SECOND + SECOND / 4, "the window is 1 s, and it took {:?}", ended.after);
    assert_eq!(ended.lines(&["ERROR", "cores did not end in time"]), 1, "{}", ended.log);
    let last = format!("gatecast: the hub did not end in time: core {} is stuck", ended.shard);
    assert_eq!(ended.lines(&[&last]), 1, "{}", ended.log);
}
