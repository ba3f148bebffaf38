//! The log on a small file system of its own. Without the right to mount one, nothing is tested.

use super::{
    super::{LogSync, OfflineLog},
    fixture::*,
};
use crate::{
    limits::EVENT_LOG_PROBE_INTERVAL,
    model::{
        Position,
        log::{LogReply, NotAppended, Why},
    },
};
use std::{fs, path::Path, process::Command, time::Duration};

/// A file system in memory, over the directory of a fixture.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn mount(dir: &'a Path, options: &str) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir).output();
        mounted.is_ok_and(|done| done.status.success()).then_some(Self(dir))
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").arg("-o").arg(format!("remount,{options}")).arg(self.0).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

const MIB: u64 = 1024 * 1024;

/// Fills the disk; returns the file that does.
fn fill_disk(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("filler");
    let mut bytes = 64 * MIB as usize;
    while bytes >= 1 {
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).append(true).open(&path).unwrap();
        if std::io::Write::write_all(&mut file, &vec![0; bytes]).is_err() {
            bytes /= 2;
        }
    }
    path
}

#[test]
fn a_full_disk_refuses_events_trims_and_heals() {
    let mut fixture = Fixture::new(LogSync::Process);
    let dir = fixture.dir.path().to_owned();
    let Some(mounted) = Mounted::mount(&dir, "size=64m") else { return };
    fixture.settings.reserve_bytes = 16 * MIB;
    fixture.settings.ballast_bytes = 12 * MIB;
    let life = fixture.life();
    let mut log = fixture.open();
    assert_eq!(fs::metadata(fixture.path("log.ballast")).unwrap().len(), 12 * MIB);
    let mut kept = None;
    let refused = loop {
        fixture.advance(Duration::from_millis(250));
        match log.append(vec![draft(life, "t", 100_000)]).pop().unwrap() {
            Ok(position) => kept = Some(position),
            Err(why) => break why,
        }
    };
    assert_eq!(refused, NotAppended::Refused(Why::Full));
    let kept = kept.unwrap();
    assert!(kept.offset > 100, "{kept}");

    // Others take the reserve as well. What is there is read, and is trimmed when its time has come.
    let filler = fill_disk(&dir);
    assert!(log.read_one(life, Position { offset: 0, ..kept }));
    fixture.advance(Duration::from_secs(25 * 3_600));
    let stats = log.stats();
    log.wait_until(|_| {
        fixture.advance(Duration::from_millis(100));
        stats.retained_events() == 0
    });
    log.wait(|reply| matches!(reply, LogReply::Health(health) if health.append == Err(Why::Full)).then_some(()));
    // The file is shortened by what was trimmed, until that is room enough or all of it.
    log.wait_until(|_| {
        fixture.advance(EVENT_LOG_PROBE_INTERVAL);
        stats.health().is_empty() || fs::metadata(fixture.path("log.db")).unwrap().len() < MIB
    });
    fs::remove_file(filler).unwrap();
    log.wait_until(|_| {
        fixture.advance(EVENT_LOG_PROBE_INTERVAL);
        stats.health().is_empty()
    });
    log.wait(|reply| matches!(reply, LogReply::Health(health) if health.append.is_ok()).then_some(()));
    let next = log.fill(life, 1, 10);
    assert_eq!(next, Position { offset: kept.offset + 1, ..kept });
    log.wait_until(|_| {
        fixture.advance(Duration::from_secs(60));
        fixture.path("log.ballast").exists()
    });
    log.close();
    drop(mounted);
}

#[test]
fn a_disk_without_a_reserve_is_full_before_the_commit() {
    let mut fixture = Fixture::new(LogSync::Power);
    let dir = fixture.dir.path().to_owned();
    let Some(mounted) = Mounted::mount(&dir, "size=16m") else { return };
    (fixture.settings.reserve_bytes, fixture.settings.ballast_bytes) = (0, 0);
    let life = fixture.life();
    let mut log = fixture.open();
    let first = log.fill(life, 1, 10);
    let filler = fill_disk(&dir);
    let refused = log.append((0..100).map(|_| draft(life, "t", 1_000)).collect());
    assert_eq!(refused, vec![Err(NotAppended::Refused(Why::Full)); 100], "none is unknown, none has a position");
    assert!(log.read_one(life, Position { offset: 0, ..first }));
    fs::remove_file(filler).unwrap();
    fixture.advance(EVENT_LOG_PROBE_INTERVAL);
    log.wait(|reply| matches!(reply, LogReply::Health(health) if health.append.is_ok()).then_some(()));
    assert_eq!(log.fill(life, 1, 10), Position { offset: 2, ..first });
    log.close();
    drop(mounted);
}

#[test]
fn a_stopped_log_is_trimmed_on_a_full_disk() {
    let mut fixture = Fixture::new(LogSync::Power);
    let dir = fixture.dir.path().to_owned();
    let Some(mounted) = Mounted::mount(&dir, "size=64m") else { return };
    (fixture.settings.reserve_bytes, fixture.settings.ballast_bytes) = (0, 12 * MIB);
    let life = fixture.life();
    let mut log = fixture.open();
    let last = log.fill(life, 200, 100_000);
    log.close();
    fill_disk(&dir);
    assert_eq!(OfflineLog::open_to_trim(&dir).unwrap().trim(None, 3).unwrap(), 197);
    assert!(!fixture.path("log.ballast").exists(), "a full disk has no room for the write-ahead log without it");
    assert!(fs::metadata(fixture.path("log.db")).unwrap().len() < MIB);
    let verified = OfflineLog::open(&dir).unwrap().verify().unwrap();
    assert_eq!((verified.events, verified.damages_total), (3, 0));
    assert_eq!(fixture.open().head(life).last, last.offset);
    drop(mounted);
}

#[test]
fn a_read_only_disk_is_refused_at_the_start_and_heals_in_operation() {
    let mut fixture = Fixture::new(LogSync::Process);
    let dir = fixture.dir.path().to_owned();
    let Some(mounted) = Mounted::mount(&dir, "size=16m") else { return };
    fixture.settings.ballast_bytes = 0;
    fixture.settings.reserve_bytes = 0;
    let life = fixture.life();
    let mut log = fixture.open();
    let first = log.fill(life, 1, 10);
    log.close();
    mounted.remount("ro");
    let error = fixture.try_open().err().unwrap().to_string();
    assert!(error.contains("read-only"), "{error}");
    mounted.remount("rw");
    let mut log = fixture.open();
    assert_eq!(log.fill(life, 1, 10), Position { offset: 2, ..first });
    log.close();
}
