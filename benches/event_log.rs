//! Events a second, and CPU for each, of the log of events: 300 bytes, so many in flight, one follow, one port.
//!
//! `cargo bench --bench event_log [seconds]`. A row is one log; `writer`, `reader` and `shard` are microseconds of CPU for each
//! event on the threads of the log and on the one that asks. In `TMPDIR`, so its disk is what is measured. The last rows are the cost of
//! progress: gateways that each report it once a second, at moments of their own or all at once.

#![allow(clippy::expect_used, reason = "a bench reports errors by panicking")]

use gatecast::{
    model::{
        CorrelationId, Event, EventType, GatewayId, Life, Position, Timestamp,
        log::{AppendKey, Draft, FollowKey, LogReply, LogRequest, Progress, ProgressStep},
    },
    store::log::{EventLog, LogPort, LogSync, MemoryLog, MemorySettings, SqliteLog, SqliteLogSettings},
};
use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const PAYLOAD_BYTES: usize = 300;

fn main() {
    let seconds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(4);
    println!("log      gateways  in flight   events/s   events/group   commit µs   writer   reader   shard   all");
    for (gateways, in_flight) in [(1, 64), (1, 1), (1, 1_024), (10_000, 64)] {
        let lives: Vec<_> = (0..gateways).map(|_| Life { gateway: GatewayId::random(), incarnation: 1 }).collect();
        let settings = MemorySettings { epoch: 1, gateway_bytes_max: 64 << 20, port_bytes_max: 1 << 30 };
        run("memory", Box::new(MemoryLog::new(settings)), &lives, in_flight, Duration::from_secs(seconds));
        for sync in [LogSync::Process, LogSync::Power] {
            let dir = tempfile::tempdir().expect("a directory");
            let mut settings = SqliteLogSettings::new(dir.path(), lives.clone());
            settings.sync = sync;
            let log = SqliteLog::open(settings).expect("a log");
            let name = if sync == LogSync::Process { "process" } else { "power" };
            run(name, Box::new(log), &lives, in_flight, Duration::from_secs(seconds));
        }
    }
    println!("progress  gateways  at once   commits/s   writer ms/s");
    for (sync, at_once) in [LogSync::Process, LogSync::Power].into_iter().flat_map(|it| [(it, 1), (it, 1_000)]) {
        run_progress(sync, at_once, seconds);
    }
}

/// Begins the progress of gateways, and appends as many events as it has to report. Returns the last positions.
fn prepare_progress(port: &mut dyn LogPort, lives: &[Life], seconds: u64) -> Vec<Position> {
    let (mut out, kind) = (Vec::new(), EventType::parse("t").expect("a type"));
    let draft = |life: &Life| {
        let (gateway, payload, correlation) = (life.gateway, bytes::Bytes::new(), CorrelationId::random());
        let event =
            Event { gateway, kind: kind.clone(), payload, correlation, correlation_given: false, user_id: None };
        Draft { life: *life, event: Arc::new(event), accepted: Timestamp(0) }
    };
    for life in lives {
        port.submit(LogRequest::Progress { life: *life, step: ProgressStep::Begin }, &mut out).expect("never busy");
    }
    let mut lasts: Vec<Position> = Vec::new();
    for round in 0..seconds + 1 {
        let drafts = lives.iter().map(draft).collect();
        port.submit(LogRequest::Append { key: AppendKey(round), drafts, bulk: false }, &mut out).expect("room");
        lasts.clear();
        while lasts.len() < lives.len() {
            port.drain(1 << 20, &mut out);
            for reply in out.drain(..) {
                if let LogReply::Appended { results, .. } = reply {
                    lasts.extend(results.into_iter().map(|result| result.expect("it is kept")));
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
    lasts
}

/// A thousand gateways report their progress once a second, so many of them at once.
fn run_progress(sync: LogSync, at_once: usize, seconds: u64) {
    let lives: Vec<_> = (0..1_000).map(|_| Life { gateway: GatewayId::random(), incarnation: 1 }).collect();
    let dir = tempfile::tempdir().expect("a directory");
    let mut settings = SqliteLogSettings::new(dir.path(), lives.clone());
    settings.sync = sync;
    let mut log = SqliteLog::open(settings).expect("a log");
    let mut port = log.ports(vec![Box::new(|| {})]).remove(0);
    let lasts = prepare_progress(&mut *port, &lives, seconds);
    let mut out = Vec::new();
    // The number of commits is in the mark, behind its magic and the boot.
    let commits = || {
        let mark = fs::read(dir.path().join("log.mark")).expect("a mark");
        u64::from_le_bytes(mark[24..32].try_into().expect("eight bytes"))
    };
    let (began, before, committed) = (Instant::now(), cpu(), commits());
    let pause = Duration::from_secs(1) / (lives.len() / at_once) as u32;
    let mut next = began;
    for second in 1..=seconds {
        for (lives, lasts) in lives.chunks(at_once).zip(lasts.chunks(at_once)) {
            for (life, last) in lives.iter().zip(lasts) {
                let position = Position { offset: second, ..*last };
                let step = ProgressStep::Reach(Progress { position, attempts: 0, attempts_ms: 0 });
                port.submit(LogRequest::Progress { life: *life, step }, &mut out).expect("never busy");
            }
            next += pause;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
    let (elapsed, after) = (began.elapsed().as_secs_f64(), cpu());
    let writer = (after["event-log"] - before["event-log"]) * 1e3 / elapsed;
    let made = commits() - committed;
    let name = if sync == LogSync::Process { "process" } else { "power" };
    println!("{name:<8} {:>9} {at_once:>8} {:>11.0} {writer:>13.2}", lives.len(), made as f64 / elapsed);
    log.stop();
    Box::new(log).join();
}

fn run(name: &str, mut log: Box<dyn EventLog>, lives: &[Life], in_flight: usize, time: Duration) {
    let shard = thread::current();
    let mut port = log.ports(vec![Box::new(move || shard.unpark())]).remove(0);
    let (mut out, mut key, mut next) = (Vec::new(), 0, 0);
    for (key, life) in lives.iter().enumerate().take(1) {
        let follow = LogRequest::Follow { key: FollowKey(key as u64), life: *life, behind: None };
        port.submit(follow, &mut out).expect("room");
    }
    let kind = EventType::parse("api.deployed").expect("a type");
    let payload = bytes::Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let mut draft = || {
        next += 1;
        let life = lives[next * 7_919 % lives.len()];
        let event = Event {
            gateway: life.gateway,
            kind: kind.clone(),
            payload: payload.clone(),
            correlation: CorrelationId::random(),
            correlation_given: false,
            user_id: None,
        };
        Draft { life, event: Arc::new(event), accepted: Timestamp(next as i64) }
    };
    let (mut events, mut free) = (0, in_flight);
    let (began, before) = (Instant::now(), cpu());
    while began.elapsed() < time {
        if free > 0 {
            key += 1;
            let drafts = (0..free).map(|_| draft()).collect();
            port.submit(LogRequest::Append { key: AppendKey(key), drafts, bulk: false }, &mut out).expect("room");
            free = 0;
        }
        port.drain(1 << 20, &mut out);
        if out.is_empty() {
            thread::park();
        }
        for reply in out.drain(..) {
            if let LogReply::Appended { results, .. } = reply {
                assert!(results.iter().all(Result::is_ok), "{results:?}");
                free += results.len();
                events += results.len();
            }
        }
    }
    let (elapsed, after, stats) = (began.elapsed().as_secs_f64(), cpu(), log.stats());
    let spent = |thread: &str| {
        let of = |times: &BTreeMap<String, f64>| times.get(thread).copied().unwrap_or(0.0);
        (of(&after) - of(&before)) * 1e6 / events as f64
    };
    let (writer, reader, shard) = (spent("event-log"), spent("event-log-read"), spent("event_log"));
    let commits = stats.commits().max(1) as f64;
    println!(
        "{name:<8} {:>8} {in_flight:>10} {:>10.0} {:>14.1} {:>11.0} {writer:>8.2} {reader:>8.2} {shard:>7.2} {:>5.2}",
        lives.len(),
        events as f64 / elapsed,
        stats.commit_events() as f64 / commits,
        stats.commit_time().as_micros() as f64 / commits,
        writer + reader + shard,
    );
    log.stop();
    log.join();
}

/// Seconds of CPU of each thread of this process, by its name.
fn cpu() -> BTreeMap<String, f64> {
    let mut times = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").expect("threads").flatten() {
        let Ok(stat) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let nanos: f64 = stat.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
        let name = name.trim().split_at_checked(14).map_or(name.trim(), |(head, _)| head).to_owned();
        let name = if name.starts_with("event_log") { "event_log".to_owned() } else { name };
        *times.entry(name).or_insert(0.0) += nanos / 1e9;
    }
    times
}
