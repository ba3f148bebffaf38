//! A program that is stopped as a whole and goes on, as a laptop or a container does: its cores are not blamed for it.

use super::program::Program;
use rustix::process::Signal;
use std::{thread, time::Duration};

#[test]
fn a_program_that_was_stopped_goes_on_and_its_cores_are_not_called_stuck() {
    // Two pauses are longer than it takes to abort, if time were what is counted.
    let mut program = Program::start(&["--cores", "2", "--set", "watchdog.abort_after=2s", "--set", "drain.window=0s"]);
    let gateway = program.connect();
    for _ in 0..2 {
        program.signal(Signal::STOP);
        thread::sleep(Duration::from_secs(3));
        program.signal(Signal::CONT);
        assert_eq!(program.call("GET", "/ready", "")["status"], "ready");
        // The looks of a second and a half, in which a core that was blamed would be named.
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
