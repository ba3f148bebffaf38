//! Backups of the store and of the event log that are made while the hub runs and changes them, and restores as OPERATIONS describes.

use super::{event_log::succeed, program::Program};
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

fn check_log(backup: fn(&Path, &Path) -> bool) {
    let data = tempfile::tempdir().unwrap();
    let file = |name: &str| data.path().join(name);
    let mut program = Program::start_new_in(data.path(), &["--cores", "1"]);
    let gateway = program.gateway().to_owned();
    let mut positions = program.publish_events(&gateway, 5);
    for name in ["gatecast", "log"] {
        if !backup(&file(&format!("{name}.db")), &file(&format!("{name}.copy"))) {
            return eprintln!("skipped: there is no program `sqlite3`");
        }
    }
    positions.extend(program.publish_events(&gateway, 5));
    program.signal(Signal::KILL);
    program.wait();
    for name in ["gatecast", "log"] {
        fs::rename(file(&format!("{name}.copy")), file(&format!("{name}.db"))).unwrap();
        for suffix in ["wal", "shm"] {
            fs::remove_file(file(&format!("{name}.db-{suffix}"))).expect("a killed hub leaves it");
        }
    }
    // Those that are in the copy, too: nobody can tell them from those that only had the same numbers.
    let mut program = Program::start_in(data.path(), &["--cores", "1"]);
    for position in &positions {
        assert_eq!(program.resume(position).1["resumed"], false, "{position}");
    }
    program.log_line("the event log has a new epoch");
    let next = program.publish_events(&gateway, 10);
    assert!(next.iter().all(|position| !positions.contains(position)), "a position names two events: {next:?}");
    assert_eq!(program.resume(&next[0]).1["resumed"], true);
    program.stop();
    succeed(data.path(), &["verify"]);
}

#[test]
fn a_log_that_is_put_back_from_a_backup_by_sqlite3_begins_a_new_epoch() {
    check_log(backup_by_program);
}

#[test]
fn a_log_that_is_put_back_from_a_copy_by_vacuum_begins_a_new_epoch() {
    check_log(backup_by_statement);
}

/// Puts back a store alone, of a time before its gateway was deleted if it was. Nobody runs `gatecast log new-epoch`.
fn check_store(deletes_it: bool, restart: bool) {
    let data = tempfile::tempdir().unwrap();
    let (store, copy) = (data.path().join("gatecast.db"), data.path().join("copy.db"));
    let mut program = Program::start_new_in(data.path(), &["--cores", "1"]);
    let gateway = program.gateway().to_owned();
    let mut positions = program.publish_events(&gateway, 5);
    assert!(backup_by_statement(&store, &copy));
    if restart {
        program.stop();
        program = Program::start_in(data.path(), &["--cores", "1"]);
    }
    if deletes_it {
        program.raw(&format!(
            "DELETE /api/v1/gateways/{gateway} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\n\r\n",
            program.admin_token()
        ));
        assert!(program.gateway_names().is_empty(), "it was not deleted");
    }
    program.stop();
    // Onto the file, so that it stays the same one, as `cp` does.
    fs::copy(&copy, &store).unwrap();
    let mut program = Program::start_in(data.path(), &["--cores", "1"]);
    assert_eq!(program.resume(&positions[2]).1["resumed"], !deletes_it);
    if deletes_it {
        let line = program.log_line("the event log has a new epoch");
        assert!(line.contains("the store was put back from a backup"), "{line}");
    }
    let next = program.publish_events(&gateway, 10);
    assert!(next.iter().all(|position| !positions.contains(position)), "a position names two events: {next:?}");
    positions.extend(next);
    program.stop();
    // That was told once.
    let program = Program::start_in(data.path(), &["--cores", "1"]);
    assert_eq!(program.resume(positions.last().unwrap()).1["resumed"], true);
}

/// The store knows the gateway again that was deleted after the backup, but the log does not: without a new epoch it would begin again with
/// the same positions.
#[test]
fn a_store_that_is_put_back_begins_a_new_epoch_if_a_gateway_was_deleted_since() {
    check_store(true, false);
    check_store(true, true);
}

#[test]
fn a_store_that_is_put_back_costs_no_epoch_if_no_gateway_was_deleted_since() {
    check_store(false, true);
}
