//! Runs 1,000 worlds, each from its seed. `GATECAST_SIM_SEED=n` runs one and prints its whole trace,
//! `GATECAST_SIM_SEEDS=n` runs more.

use super::{
    oracle::Violation,
    rng::Rng,
    world::{Report, World},
};
use crate::wire::tls::Security;
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

const SEEDS: u64 = 1_000;
/// A thread stops after this many worlds with a broken rule.
const BROKEN_MAX: usize = 10;
const LINES_SHOWN: usize = 60;

/// What must happen at least once in a thousand worlds; otherwise the rules about it were never tested.
const COVERAGE: &[&str] = &[
    "a connection could not resume",
    "a connection has resumed",
    "a follow was interrupted",
    "a gateway comes back",
    "a gateway gets what it has missed",
    "a gateway handles all that waits for it",
    "a gateway hangs up by itself",
    "a lane is full",
    "a read of the log failed",
    "a wait ends with a processed event",
    "a wait ends with an event that is passed over",
    "a wait is over in vain",
    "a window of several events is full",
    "acknowledged",
    "an ack has no position",
    "an event is handled again",
    "an event is passed over",
    "an event waits for its gateway",
    "an invented pong",
    "answer timed out",
    "audited",
    "batch answered",
    "batch in slices",
    "capacity exceeded",
    "closed by force",
    "connection refused with 503",
    "connections",
    "delivery changed",
    "delivery processed",
    "delivery processed and a position",
    "deployment announced",
    "flood",
    "gateway asked",
    "gateway deleted",
    "gateway gone",
    "handoff",
    "handshake timed out",
    "heartbeat timeout",
    "idle connection closed",
    "invalid utf-8",
    "key revoked",
    "line of a batch refused",
    "made room",
    "malformed message",
    "manifest stored",
    "message too big",
    "no descriptor",
    "pending at the publish timeout",
    "ping",
    "pipelined request",
    "processing timeout",
    "protocol error",
    "publish answered",
    "rate limited",
    "request refused with 503",
    "revoked with connections",
    "server shutdown",
    "short write",
    "slow consumer",
    "statistics requested",
    "store failed",
    "store late",
    "the log cannot tell whether events are kept",
    "the log is busy",
    "the log refused events",
    "the store's queue is full",
    "token created",
    "unauthorized",
    "wall clock jumped",
    "write deadline",
];

/// Runs a world; a panic is reported as a violation.
fn run(seed: u64, traced: bool) -> Result<Report, Violation> {
    let report = catch_unwind(AssertUnwindSafe(|| World::of(seed, traced).run()));
    let panicked = |_| Violation { rule: "nothing panics", conn: None, text: "the panic message is above".to_owned() };
    let report = report.map_err(panicked)?;
    report.violation.clone().map_or(Ok(report), Err)
}

/// Runs a broken world again with its trace, and shows the lines about the broken rule's connection.
fn explain(seed: u64, violation: &Violation) -> String {
    let Violation { rule, conn, text } = violation;
    let who = conn.map_or_else(|| "the hub".to_owned(), |conn| format!("connection #{conn}"));
    let trace = catch_unwind(|| World::of(seed, true).run().trace.excerpt(*conn, LINES_SHOWN)).unwrap_or_default();
    format!("seed {seed}, {who}: {rule}\n  {text}\n{trace}")
}

/// The results of one thread's worlds.
#[derive(Default)]
struct Tally {
    broken: Vec<(u64, Violation)>,
    coverage: BTreeMap<&'static str, u64>,
    lateness: BTreeMap<&'static str, Duration>,
}

impl Tally {
    fn add(&mut self, seed: u64, outcome: Result<Report, Violation>) {
        match outcome {
            Err(violation) => self.broken.push((seed, violation)),
            Ok(report) => {
                let counts = [("connections", report.joined), ("events", report.events_seen), ("steps", report.steps)];
                let most = self.coverage.entry("most steps of a world").or_default();
                *most = (*most).max(report.steps);
                for (what, count) in report.coverage.into_iter().chain(counts) {
                    *self.coverage.entry(what).or_default() += count;
                }
                self.keep_latest(report.lateness);
            }
        }
    }

    fn keep_latest(&mut self, lateness: BTreeMap<&'static str, Duration>) {
        for (what, late) in lateness {
            let most = self.lateness.entry(what).or_default();
            *most = (*most).max(late);
        }
    }

    fn merge(mut self, other: Self) -> Self {
        self.broken.extend(other.broken);
        for (what, count) in other.coverage {
            *self.coverage.entry(what).or_default() += count;
        }
        self.keep_latest(other.lateness);
        self
    }
}

fn run_all(seeds: u64) -> Tally {
    let next = AtomicU64::new(0);
    let worker = || {
        let mut tally = Tally::default();
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                seed if seed < seeds && tally.broken.len() < BROKEN_MAX => tally.add(seed, run(seed, false)),
                _ => return tally,
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut tally = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let tallies = threads.into_iter().map(|thread| thread.join().expect("a worker catches panics"));
        tallies.fold(Tally::default(), Tally::merge)
    });
    tally.broken.sort_by_key(|(seed, _)| *seed);
    tally
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn a_thousand_seeds_hold_the_invariants() {
    if let Some(seed) = number("GATECAST_SIM_SEED") {
        let report = World::of(seed, true).run();
        println!("{}", report.trace.excerpt(None, usize::MAX));
        assert!(report.violation.is_none(), "seed {seed}: {:#?}", report.violation);
        return;
    }
    let seeds = number("GATECAST_SIM_SEEDS").unwrap_or(SEEDS);
    let tally = run_all(seeds);
    println!("{seeds} seeds: {:#?}\nlateness {:#?}", tally.coverage, tally.lateness);
    if let Some((seed, violation)) = tally.broken.first() {
        let mut rules = BTreeMap::<_, Vec<u64>>::new();
        tally.broken.iter().for_each(|(seed, violation)| rules.entry(violation.rule).or_default().push(*seed));
        let (count, trace) = (tally.broken.len(), explain(*seed, violation));
        panic!(
            "{count} of {seeds} seeds break a rule: {rules:?}\n{trace}\nGATECAST_SIM_SEED={seed} prints the whole trace"
        );
    }
    if seeds >= SEEDS {
        let missing: Vec<_> = COVERAGE.iter().filter(|what| !tally.coverage.contains_key(*what)).collect();
        assert!(missing.is_empty(), "in no world happened: {missing:?}");
    }
}

#[test]
fn a_seed_is_the_same_world_every_time() {
    for seed in 0..60 {
        let traces = [(); 2].map(|()| World::of(seed, true).run().trace.excerpt(None, usize::MAX));
        assert!(!traces[0].is_empty());
        let differ = traces[0].lines().zip(traces[1].lines()).find(|(one, other)| one != other);
        assert!(traces[0] == traces[1], "two runs of seed {seed} differ: {differ:#?}");
    }
}

/// Records of a handshake whose header promises something else than comes, and arbitrary bytes: each is an error or waits.
#[test]
fn malformed_tls_records_are_errors_and_never_panic() {
    let open = |mut bytes: Vec<u8>| {
        let mut security = Security::tls(super::tls::server()).unwrap();
        let (mut plain, mut wire) = (Vec::new(), Vec::new());
        let opened = security.open(&mut bytes, &mut plain, &mut wire);
        assert!(plain.is_empty());
        (opened.is_err(), wire)
    };
    // rustls has an alert for the first, and none for a handshake message that promises too many bytes.
    assert!(matches!(open(b"GET / HTTP/1.1\r\n\r\n".to_vec()), (true, wire) if wire.starts_with(&[21])));
    for malformed in [b"\x16\x03\x01\x00\x05hello".as_slice(), b"\x16\x03\x01\x00\x04\x68\x01\x00\x00"] {
        assert!(open(malformed.to_vec()).0, "{malformed:?}");
    }
    let mut rng = Rng::new(7);
    for _ in 0..20_000 {
        // A record header of a handshake, or nearly, and a few messages in it.
        let length = rng.below(40) as u8;
        let mut bytes = vec![rng.pick(&[20, 21, 22, 23]), 3, rng.below(4) as u8, 0, length];
        bytes.extend((0..length).map(|_| if rng.chance(500) { rng.below(4) as u8 } else { rng.below(256) as u8 }));
        open(bytes);
    }
}

#[test]
fn bytes_after_a_tls_error_are_ignored() {
    let mut security = Security::tls(super::tls::server()).unwrap();
    let (mut plain, mut wire) = (Vec::new(), Vec::new());
    assert!(security.open(&mut [0x5a; 200], &mut plain, &mut wire).is_err());
    assert!(!wire.is_empty(), "the peer gets an alert");
    wire.clear();
    for _ in 0..3 {
        assert!(security.open(&mut [0x5a; 200], &mut plain, &mut wire).is_ok());
    }
    assert!(wire.is_empty() && plain.is_empty(), "after the alert nothing is sent or decrypted");
}
