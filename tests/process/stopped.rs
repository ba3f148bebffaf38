//! A process that is stopped and continued, as when a laptop sleeps or a container is paused: no core may count as
//! stuck.

use super::program::Program;
use rustix::process::Signal;
use std::{thread, time::Duration};

#[test]
fn a_stopped_process_continues_and_no_core_counts_as_stuck() {
    // Each pause is longer than `abort_after`, so that a watchdog that measured time would abort the process.
    let mut program = Program::start(&["--cores", "2", "--set", "watchdog.abort_after=2s", "--set", "drain.window=0s"]);
    let gateway = program.connect();
    for _ in 0..2 {
        program.signal(Signal::STOP);
        thread::sleep(Duration::from_secs(3));
        program.signal(Signal::CONT);
        assert_eq!(program.call("GET", "/ready", "")["status"], "ready");
        // Long enough for the watchdog to report a core that it takes for stuck.
        thread::sleep(Duration::from_millis(1_500));
        assert_eq!(program.call("GET", "/ready", "")["status"], "ready");
    }
    assert_eq!(program.live_connections(), 1);
    drop(gateway);
    program.signal(Signal::TERM);
    assert_eq!(program.wait(), Some(0));
    let log = program.log();
    assert!(log.contains("draining") && !log.contains("stalled"), "{log}");
}

#[test]
fn a_wait_that_signals_interrupt_again_and_again_is_not_prolonged() {
    let mut program = Program::start(&["--cores", "1", "--set", "drain.window=0s"]);
    let gateway = program.connect();
    // SIGCONT interrupts `epoll_pwait2`. If the core then waited for as long again, it would begin no pass meanwhile.
    for _ in 0..70 {
        program.signal(Signal::STOP);
        program.signal(Signal::CONT);
        thread::sleep(Duration::from_millis(50));
    }
    drop(gateway);
    program.signal(Signal::TERM);
    assert_eq!(program.wait(), Some(0));
    let log = program.log();
    assert!(log.contains("draining") && !log.contains("stalled"), "{log}");
}
