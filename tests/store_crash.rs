//! Kills a process in the middle of its writes, again and again. Every acknowledged change must be in the store, and no
//! change in part.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use gatecast::{
    model::{Change, DeliveryMode, GatewayId, GatewayRecord, KeyHash, Life, StoreOp, StoreOutcome, Timestamp, TokenId},
    store::{Sqlite, Store, StoreThread},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

const CHILD: &str = "GATECAST_TEST_STORE";
const KILLS: u64 = 20;

#[derive(Clone, Default, PartialEq, Debug)]
struct Model(BTreeMap<GatewayId, Gateway>);

#[derive(Clone, Default, PartialEq, Debug)]
struct Gateway {
    tokens: BTreeSet<TokenId>,
    manifest_bytes: Option<usize>,
    /// The gateway's display name is the word for it, so that a change in part is found.
    delivery: Option<DeliveryMode>,
}

impl Model {
    /// Applies one line of the child's output: a verb and its ids.
    fn apply(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let gateway = GatewayId::parse(words[1]).unwrap();
        let token = || TokenId::parse(words[2]).unwrap();
        match words[0] {
            "gateway" => {
                let delivery = DeliveryMode::parse(words[2]);
                self.0.insert(gateway, Gateway { delivery, ..Gateway::default() });
            }
            "change" => self.0.get_mut(&gateway).unwrap().delivery = DeliveryMode::parse(words[2]),
            "delete" => drop(self.0.remove(&gateway)),
            "token" => drop(self.0.get_mut(&gateway).unwrap().tokens.insert(token())),
            "revoke" => drop(self.0.get_mut(&gateway).unwrap().tokens.remove(&token())),
            "manifest" => self.0.get_mut(&gateway).unwrap().manifest_bytes = Some(words[2].parse().unwrap()),
            verb => panic!("{verb}"),
        }
    }

    fn of(store: &mut Sqlite) -> Model {
        let mut model = Model::default();
        for change in store.snapshot().unwrap() {
            match change {
                Change::GatewayCreated { life: Life { gateway: id, .. }, delivery } => {
                    let StoreOutcome::Gateway(record, manifest) = store.execute(StoreOp::Gateway(id)).0 else {
                        panic!("{id}")
                    };
                    assert_eq!((record.delivery, record.display_name), (delivery, Some(word(delivery).to_owned())));
                    let manifest_bytes = manifest.map(|text| text.len());
                    model.0.insert(id, Gateway { tokens: BTreeSet::new(), manifest_bytes, delivery });
                }
                Change::TokenCreated { gateway, token, hash } => {
                    assert_eq!(hash, KeyHash::of(token.0.as_bytes()));
                    model.0.get_mut(&gateway).expect("every token has a gateway").tokens.insert(token);
                }
                other => panic!("{other:?}"),
            }
        }
        model
    }
}

fn word(delivery: Option<DeliveryMode>) -> &'static str {
    delivery.map_or("default", DeliveryMode::as_str)
}

/// xorshift64: the same numbers from the same seed.
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// Not a test by itself: the process that is killed. It prints each job before it submits it, and again once it is
/// acknowledged.
#[test]
fn child() {
    let Some(path) = env::var_os(CHILD) else { return };
    let mut store = Sqlite::open(Path::new(&path)).unwrap();
    let mut model = Model::of(&mut store);
    let thread = StoreThread::start(Box::new(store), |_, settled| settled.send()).unwrap();
    let mut rng = Rng(u64::from(std::process::id()) | 1 << 40);
    let mut out = std::io::stdout().lock();
    loop {
        let (line, op) = next_job(&model, &mut rng);
        writeln!(out, "BEGIN {line}").and_then(|()| out.flush()).unwrap();
        let (reply, outcome) = mpsc::channel();
        assert!(thread.submit(op, Box::new(move |outcome| reply.send(outcome).unwrap())).is_ok());
        match outcome.recv().unwrap() {
            StoreOutcome::Done | StoreOutcome::Gateway(..) | StoreOutcome::Token(_) => model.apply(&line),
            StoreOutcome::Conflict(_) => continue,
            other => panic!("{other:?}"),
        }
        writeln!(out, "DONE {line}").and_then(|()| out.flush()).unwrap();
    }
}

fn next_job(model: &Model, rng: &mut Rng) -> (String, StoreOp) {
    let any = |n: usize, rng: &mut Rng| usize::try_from(rng.below(n as u64)).unwrap();
    let delivery = [None, Some(DeliveryMode::Written), Some(DeliveryMode::Processed)][any(3, rng)];
    let (word, display_name) = (word(delivery), Some(word(delivery).to_owned()));
    if model.0.len() < 5 || (model.0.len() < 30 && rng.below(4) == 0) {
        let (id, now) = (GatewayId::random(), Timestamp(1));
        let name = id.to_string();
        let record = GatewayRecord { id, name, display_name, organization_id: None, delivery, created_at: now };
        return (format!("gateway {id} {word}"), StoreOp::CreateGateway(record));
    }
    let (&gateway, Gateway { tokens, .. }) = model.0.iter().nth(any(model.0.len(), rng)).unwrap();
    match (rng.below(10), tokens.iter().next()) {
        (0, _) => (format!("delete {gateway}"), StoreOp::DeleteGateway(gateway)),
        (1 | 2, _) => {
            let length = 1 + any(20_000, rng);
            let op = StoreOp::PutManifest { gateway, manifest: "m".repeat(length), received_at: Timestamp(1) };
            (format!("manifest {gateway} {length}"), op)
        }
        (8 | 9, _) => {
            let op = StoreOp::ChangeGateway { gateway, display_name: Some(display_name), delivery: Some(delivery) };
            (format!("change {gateway} {word}"), op)
        }
        (3 | 4, Some(&token)) => (format!("revoke {gateway} {token}"), StoreOp::RevokeToken { gateway, token }),
        _ => {
            let token = TokenId::random();
            let hash = KeyHash::of(token.0.as_bytes());
            let op = StoreOp::CreateToken { gateway, token, hash, created_at: Timestamp(1) };
            (format!("token {gateway} {token}"), op)
        }
    }
}

#[test]
fn acknowledged_writes_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let (mut model, mut acknowledged) = (Model::default(), 0);
    for round in 0..KILLS {
        let (lines, unacknowledged) = run_and_kill(&path, &mut Rng(0x5eed_0000 + round));
        acknowledged += lines.len();
        lines.iter().for_each(|line| model.apply(line));

        let begin = Instant::now();
        let mut store = Sqlite::open(&path).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(2), "it opened in {:?}", begin.elapsed());
        let found = Model::of(&mut store);
        let mut with_unacknowledged = model.clone();
        unacknowledged.iter().for_each(|line| with_unacknowledged.apply(line));
        assert!(
            found == model || found == with_unacknowledged,
            "round {round}: {found:?} is neither {model:?} nor {unacknowledged:?}"
        );
        model = found;
    }
    assert!(acknowledged > 200, "{acknowledged}");
}

/// Returns the acknowledged jobs, and the last job if it was not acknowledged, which may have been carried out or not.
fn run_and_kill(path: &PathBuf, rng: &mut Rng) -> (Vec<String>, Option<String>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let kill_after = 1 + rng.below(120);
    let spins = rng.below(200_000);
    let (mut done, mut unacknowledged, mut lines) = (Vec::new(), None, 0);
    let mut line = String::new();
    while out.read_line(&mut line).unwrap() > 0 {
        // A line without a newline was cut off by the kill.
        if let Some(text) = line.strip_suffix('\n') {
            if let Some(text) = text.strip_prefix("DONE ") {
                done.push(text.to_owned());
                unacknowledged = None;
            } else if let Some((_, text)) = text.split_once("BEGIN ") {
                unacknowledged = Some(text.to_owned());
            }
        }
        lines += 1;
        if lines == kill_after {
            (0..spins).for_each(|_| std::hint::spin_loop());
            child.kill().unwrap();
        }
        line.clear();
    }
    assert!(!child.wait().unwrap().success());
    (done, unacknowledged)
}
