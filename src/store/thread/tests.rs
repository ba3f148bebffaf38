//! Tests of the thread with scripted stores.

use super::*;
use crate::{
    model::{GatewayId, GatewayRecord, Life},
    store::Trouble,
};
use std::{
    collections::VecDeque,
    sync::mpsc,
    time::{Duration, Instant},
};

/// A store that takes one step of its script for each job, and answers `Done` after the last.
struct Script {
    steps: VecDeque<Step>,
    /// The results of `settle` after the last step, and the channel that each waits for.
    settled: VecDeque<(mpsc::Receiver<()>, Settling)>,
    closed: mpsc::Sender<&'static str>,
}

type Settling = Result<Option<Change>, Trouble>;

enum Step {
    Answer(StoreOutcome, Option<Change>),
    Wait(mpsc::Receiver<()>),
    Panic,
}

impl Store for Script {
    fn execute(&mut self, _op: StoreOp) -> (StoreOutcome, Option<Change>) {
        match self.steps.pop_front() {
            None => (StoreOutcome::Done, None),
            Some(Step::Answer(outcome, change)) => (outcome, change),
            Some(Step::Wait(until)) => {
                let _ = until.recv();
                (StoreOutcome::Done, None)
            }
            Some(Step::Panic) => panic!("injected"),
        }
    }

    fn snapshot(&mut self) -> Result<Vec<Change>, StoreError> {
        Ok(Vec::new())
    }

    fn settle(&mut self) -> Result<Option<Change>, Trouble> {
        if !self.steps.is_empty() {
            return Ok(None);
        }
        let Some((gate, settling)) = self.settled.pop_front() else { return Ok(None) };
        let _ = gate.recv();
        settling
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.closed.send("closed");
    }
}

struct Bench {
    store: StoreHandle,
    announced_changes: mpsc::Receiver<(Change, Settled)>,
    closed: mpsc::Receiver<&'static str>,
}

fn start(steps: Vec<Step>) -> Bench {
    start_settling(steps, vec![])
}

fn start_settling(steps: Vec<Step>, settled: Vec<(mpsc::Receiver<()>, Settling)>) -> Bench {
    let (closing, closed) = mpsc::channel();
    let (tell, announced_changes) = mpsc::channel();
    let script = Script { steps: steps.into(), settled: settled.into(), closed: closing };
    let announce = move |change, settled| tell.send((change, settled)).unwrap();
    Bench { store: StoreThread::start(Box::new(script), announce).unwrap(), announced_changes, closed }
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Bench {
    fn submit(&self) -> mpsc::Receiver<StoreOutcome> {
        let (reply, outcome) = mpsc::channel();
        let submitted = self.store.submit(op(), Box::new(move |outcome| reply.send(outcome).unwrap()));
        assert!(submitted.is_ok());
        outcome
    }
}

fn op() -> StoreOp {
    StoreOp::Gateway(GatewayId::random())
}

fn created() -> Change {
    Change::GatewayCreated { life: Life { gateway: GatewayId::random(), incarnation: 1 }, delivery: None }
}

fn until(what: impl Fn() -> bool) {
    let begin = Instant::now();
    while !what() {
        assert!(begin.elapsed() < PATIENCE);
        thread::yield_now();
    }
}

#[test]
fn a_change_is_announced_before_its_caller_is_answered() {
    let change = created();
    let bench = start(vec![Step::Answer(StoreOutcome::Done, Some(change))]);
    let outcome = bench.submit();
    let (announced, settled) = bench.announced_changes.recv_timeout(PATIENCE).unwrap();
    assert_eq!((announced, &settled.outcome), (change, &StoreOutcome::Done));
    assert_eq!(outcome.try_recv(), Err(mpsc::TryRecvError::Empty));
    settled.send();
    assert_eq!(outcome.recv_timeout(PATIENCE), Ok(StoreOutcome::Done));
}

#[test]
fn a_job_without_a_change_is_answered_at_once() {
    let bench = start(vec![Step::Answer(StoreOutcome::NotFound("gateway"), None)]);
    assert_eq!(bench.submit().recv_timeout(PATIENCE), Ok(StoreOutcome::NotFound("gateway")));
    assert!(bench.announced_changes.try_recv().is_err());
}

#[test]
fn a_caller_is_answered_even_if_the_announcer_drops_the_outcome() {
    let bench = start(vec![Step::Answer(StoreOutcome::Done, Some(created()))]);
    let outcome = bench.submit();
    drop(bench.announced_changes.recv_timeout(PATIENCE).unwrap());
    assert_eq!(outcome.recv_timeout(PATIENCE), Ok(StoreOutcome::Done));
}

#[test]
fn panics_are_answered_and_the_thread_goes_on() {
    let bench = start(vec![Step::Panic, Step::Answer(StoreOutcome::Done, Some(created()))]);
    assert!(matches!(bench.submit().recv_timeout(PATIENCE), Ok(StoreOutcome::Unavailable(_, Kept::Unknown))));

    let Bench { store, announced_changes, closed } = bench;
    drop(announced_changes);
    let (reply, outcome) = mpsc::channel();
    assert!(store.submit(op(), Box::new(move |outcome| reply.send(outcome).unwrap())).is_ok());
    assert_eq!(outcome.recv_timeout(PATIENCE), Ok(StoreOutcome::Done), "the announcer panicked");

    assert!(store.submit(op(), Box::new(|_| panic!("injected"))).is_ok());
    store.join(None);
    assert_eq!(closed.try_recv(), Ok("closed"));
}

#[test]
fn a_full_queue_returns_the_reply_and_does_not_block() {
    let (go, gate) = mpsc::channel();
    let bench = start(vec![Step::Wait(gate)]);
    let first = bench.submit();
    until(|| bench.store.0.jobs.is_empty());
    let waiting: Vec<_> = (0..STORE_QUEUE_MAX).map(|_| bench.submit()).collect();
    let (reply, outcome) = mpsc::channel();
    let refused = bench.store.submit(op(), Box::new(move |outcome| reply.send(outcome).unwrap()));
    refused.err().unwrap()(StoreOutcome::NotFound("token"));
    assert_eq!(outcome.try_recv(), Ok(StoreOutcome::NotFound("token")));

    go.send(()).unwrap();
    for outcome in std::iter::once(first).chain(waiting) {
        assert_eq!(outcome.recv_timeout(PATIENCE), Ok(StoreOutcome::Done));
    }
}

#[test]
fn stopping_runs_the_queued_jobs_and_closes_the_store() {
    let (go, gate) = mpsc::channel();
    let bench = start(vec![Step::Wait(gate)]);
    let waiting: Vec<_> = (0..10).map(|_| bench.submit()).collect();
    bench.store.stop();
    assert!(bench.store.submit(op(), Box::new(|_| ())).is_err());
    go.send(()).unwrap();
    bench.store.clone().join(None);
    assert_eq!(bench.closed.try_recv(), Ok("closed"));
    for outcome in waiting {
        assert_eq!(outcome.try_recv(), Ok(StoreOutcome::Done));
    }
    bench.store.stop();
    bench.store.join(None);
}

#[test]
fn join_returns_at_its_deadline_while_the_announcer_blocks() {
    let script = Script {
        steps: VecDeque::from([Step::Answer(StoreOutcome::Done, Some(created()))]),
        settled: VecDeque::new(),
        closed: mpsc::channel().0,
    };
    let (go, gate) = mpsc::channel::<()>();
    let store = StoreThread::start(Box::new(script), move |_, _| {
        let _ = gate.recv();
    });
    let store = store.unwrap();
    assert!(store.submit(op(), Box::new(|_| ())).is_ok());
    until(|| store.0.jobs.is_empty());
    let began = Instant::now();
    assert!(!store.join(Some(began + Duration::from_millis(50))), "it is not closed");
    assert!(began.elapsed() < PATIENCE);
    drop(go);
    assert!(store.join(Some(Instant::now() + PATIENCE)), "it is closed once the announcer returns");
}

#[test]
fn the_thread_ends_with_the_last_handle() {
    let Bench { store, closed, .. } = start(vec![]);
    drop(store.clone());
    assert!(closed.try_recv().is_err());
    drop(store);
    assert_eq!(closed.recv_timeout(PATIENCE), Ok("closed"));
}

#[test]
fn the_store_is_degraded_until_it_has_settled() {
    let trouble = || StoreOutcome::Unavailable("full".to_owned(), Kept::No);
    let confirmed = created();
    let (gates, settled): (Vec<_>, Vec<_>) = [Err(Trouble::Full), Ok(Some(confirmed)), Ok(None)]
        .map(|settling| {
            let (go, gate) = mpsc::channel();
            (go, (gate, settling))
        })
        .into_iter()
        .unzip();
    let bench = start_settling(vec![Step::Answer(trouble(), None)], settled);
    assert!(!bench.store.is_degraded());
    assert_eq!(bench.submit().recv_timeout(PATIENCE), Ok(trouble()));
    assert!(bench.store.is_degraded(), "a job has failed");
    gates[0].send(()).unwrap();
    gates[1].send(()).unwrap();
    let (announced, settled) = bench.announced_changes.recv_timeout(PATIENCE).unwrap();
    assert_eq!((announced, &settled.outcome), (confirmed, &StoreOutcome::Done));
    assert!(bench.store.is_degraded(), "it has not settled yet");
    gates[2].send(()).unwrap();
    until(|| !bench.store.is_degraded());
}

#[test]
fn jobs_run_in_order() {
    let names = ["a", "b", "c"];
    let record = |name: &str| GatewayRecord {
        id: GatewayId::random(),
        name: name.to_owned(),
        display_name: None,
        organization_id: None,
        delivery: None,
        created_at: crate::model::Timestamp(0),
    };
    let steps = names.map(|name| Step::Answer(StoreOutcome::Gateway(record(name), None), None));
    let bench = start(steps.into());
    let outcomes = names.map(|_| bench.submit());
    for (name, outcome) in names.iter().zip(outcomes) {
        let Ok(StoreOutcome::Gateway(record, None)) = outcome.recv_timeout(PATIENCE) else { panic!("{name}") };
        assert_eq!(&record.name, name);
    }
}
