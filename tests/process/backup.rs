//! A backup of the store that is made while the hub runs and changes it, and a restore of it as OPERATIONS describes.

use super::program::Program;
use rustix::process::Signal;
use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

/// Copies the store with `.backup` of the `sqlite3` program; false if this machine does not have that program.
fn backup_by_program(store: &Path, copy: &Path) -> bool {
    let run = Command::new("sqlite3").arg(store).arg(format!(".backup {}", copy.display())).output();
    let Ok(run) = run else { return false };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    true
}

/// Copies the store with `VACUUM INTO`.
fn backup_by_statement(store: &Path, copy: &Path) -> bool {
    let file = rusqlite::Connection::open(store).unwrap();
    file.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).expect("a copy");
    true
}

fn check(backup: fn(&Path, &Path) -> bool) {
    let data = tempfile::tempdir().unwrap();
    let (store, copy) = (data.path().join("gatecast.db"), data.path().join("copy.db"));
    let mut program = Program::start_in(data.path(), &["--cores", "1"]);
    let mut platform = TcpStream::connect(program.address).unwrap();
    let (made, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    // One client makes changes without a pause, before, during and after the copy. Their number is bounded, so that
    // the thread also ends if this test fails.
    let copied = thread::scope(|scope| {
        let changes = scope.spawn(|| {
            for n in 0..5_000 {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                program.register_over(&mut platform, &format!("g{n}"), &format!("key-{n}"));
                made.store(n + 1, Ordering::Relaxed);
            }
        });
        program.wait_until("changes are made", |_| made.load(Ordering::Relaxed) >= 20 || changes.is_finished());
        let before = made.load(Ordering::Relaxed);
        let copied = backup(&store, &copy).then_some(before);
        let after = made.load(Ordering::Relaxed);
        program.wait_until("changes go on", |_| made.load(Ordering::Relaxed) > after || changes.is_finished());
        done.store(true, Ordering::Relaxed);
        copied
    });
    let Some(before) = copied else { return eprintln!("skipped: there is no program `sqlite3`") };
    let mut platform = TcpStream::connect(program.address).unwrap();
    program.register_over(&mut platform, "after-the-copy", "key-after");
    // Killed, so that the files that a restore has to remove are there.
    program.signal(Signal::KILL);
    program.wait();

    fs::rename(&copy, &store).unwrap();
    for file in ["gatecast.db-wal", "gatecast.db-shm"] {
        fs::remove_file(data.path().join(file)).expect("a killed hub leaves it");
    }
    let program = Program::start_in(data.path(), &["--cores", "1"]);
    let names = program.gateway_names();
    assert!((0..before).all(|n| names.contains(&format!("g{n}"))), "of {before} gateways there are {names:?}");
    assert!(!names.contains(&"after-the-copy".to_owned()), "it is not the copy");
    let connected: Vec<_> = (0..before).map(|n| program.connect_with(&format!("key-{n}"))).collect();
    assert_eq!(program.live_connections(), before as u64);
    drop(connected);
    let mut platform = TcpStream::connect(program.address).unwrap();
    program.register_over(&mut platform, "new", "key-new");
    drop(program.connect_with("key-new"));
}

#[test]
fn a_backup_by_sqlite3_of_a_hub_that_is_being_changed_can_be_restored() {
    check(backup_by_program);
}

#[test]
fn a_copy_by_vacuum_of_a_hub_that_is_being_changed_can_be_restored() {
    check(backup_by_statement);
}
