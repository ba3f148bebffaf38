//! 32 publishers and 50 gateways whose connections come and go: each connection receives a gapless run of the accepted
//! events, in the order in which they were accepted.

use crate::{
    harness::{Registered, TestHub},
    peer::{CLOSE, Event, Peer, Seen},
    request::Answer,
    socket::{PATIENCE, Wire},
};
use gatecast::model::Position;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

const PUBLISHERS: usize = 32;
const EVENTS_EACH: usize = 1_000;
const GATEWAYS: usize = 50;
const CONNECTIONS_EACH: usize = 3;
/// Events in one batch. Every tenth time they are published one by one.
const BATCH: usize = 10;

/// The events that one connection received, from its ack to its end.
struct Life {
    gateway: usize,
    /// The position in its ack, if there was one.
    from: Option<Position>,
    seen: Vec<String>,
    /// Whether it was connected until the last event was published, and read all of them.
    to_the_end: bool,
}

/// The answers to one publisher: gateway, position and correlation id of each event in order.
type Told = Vec<(usize, Position, String)>;

#[test]
fn every_connection_receives_a_gapless_run_of_the_accepted_events() {
    for shards in [1, 4] {
        eprintln!("with {shards} shard(s)");
        let hub = TestHub::with(shards, |config| config.rate_per_minute = 0);
        let gateways: Vec<_> = (0..GATEWAYS).map(|_| hub.register()).collect();
        let over = AtomicBool::new(false);
        let (told, lives) = thread::scope(|scope| {
            let (hub, gateways, over) = (&hub, &gateways, &over);
            let small = || thread::Builder::new().stack_size(512 * 1024);
            let connections: Vec<_> = (0..GATEWAYS * CONNECTIONS_EACH)
                .map(|n| small().spawn_scoped(scope, move || come_and_go(hub, gateways, n, over)).unwrap())
                .collect();
            let publishers: Vec<_> = (0..PUBLISHERS)
                .map(|n| small().spawn_scoped(scope, move || publish(hub, gateways, n)).unwrap())
                .collect();
            let told: Vec<Told> = publishers.into_iter().map(|p| p.join().unwrap()).collect();
            over.store(true, Ordering::SeqCst);
            let lives: Vec<Life> = connections.into_iter().flat_map(|c| c.join().unwrap()).collect();
            (told, lives)
        });
        judge(&told, &lives);
    }
}

/// Publishes to one gateway after another, mostly in batches.
fn publish(hub: &TestHub, gateways: &[Registered], publisher: usize) -> Told {
    let mut wire = hub.wire();
    let mut told = Told::new();
    for call in 0..EVENTS_EACH / BATCH {
        let targets: Vec<usize> = (0..BATCH).map(|n| (publisher * 7 + call * BATCH + n) % GATEWAYS).collect();
        let body = |gateway: &str, n: usize| {
            format!(r#"{{"gatewayId":"{gateway}","type":"storm","payload":[{publisher},{call},{n}]}}"#)
        };
        let lines = targets.iter().enumerate().map(|(n, target)| body(&gateways[*target].id, n));
        let answers: Vec<Value> = if call % 10 == 0 {
            let one = |(n, line): (usize, String)| {
                ask(hub, &mut wire, &format!("/api/v1/gateways/{}/events", gateways[targets[n]].id), &line).json()
            };
            lines.enumerate().map(one).collect()
        } else {
            let answer = ask(hub, &mut wire, "/api/v1/events", &lines.collect::<Vec<_>>().join("\n"));
            answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        assert_eq!(answers.len(), BATCH);
        told.extend(targets.iter().zip(&answers).map(|(target, answer)| (*target, position(answer), counted(answer))));
    }
    told
}

fn ask(hub: &TestHub, wire: &mut Wire, path: &str, body: &str) -> Answer {
    wire.send(&hub.platform_request("POST", path, body).bytes());
    let answer = Answer::read(wire).expect("an answer to a publish");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

fn position(answer: &Value) -> Position {
    let text = answer["position"].as_str().unwrap_or_else(|| panic!("{answer}"));
    Position::parse(text).unwrap_or_else(|| panic!("{text:?}"))
}

/// Checks that each connection counts as delivered, failed or pending; returns the event's correlation id.
fn counted(answer: &Value) -> String {
    let count = |name: &str| answer[name].as_u64().unwrap_or(0);
    assert!(count("connections") <= CONNECTIONS_EACH as u64 + 3, "more connections than possible: {answer}");
    let decided = count("delivered") + count("failed") + count("pending");
    assert_eq!(decided, count("connections").max(1), "{answer}");
    answer["correlationId"].as_str().unwrap().to_owned()
}

/// One instance of a gateway: connects, receives some events, leaves and connects again. The last connection stays.
fn come_and_go(hub: &TestHub, gateways: &[Registered], place: usize, over: &AtomicBool) -> Vec<Life> {
    let gateway = place / CONNECTIONS_EACH;
    let stays = place.is_multiple_of(CONNECTIONS_EACH);
    let mut lives = Vec::new();
    let mut life_events = 20 + place % 60;
    loop {
        let peer = hub.connect(&gateways[gateway].key);
        let last = over.load(Ordering::SeqCst);
        let (life, ended) = live(peer, gateway, if stays { usize::MAX } else { life_events }, over);
        lives.push(life);
        if ended || last {
            return lives;
        }
        life_events = 10 + life_events * 7 % 90;
    }
}

/// Reads a number of events and closes, or reads until the publishers are done; then reads the remaining events.
fn live(mut peer: Peer, gateway: usize, events: usize, over: &AtomicBool) -> (Life, bool) {
    let from = peer.ack["position"].as_str().map(|text| Position::parse(text).expect("a position in the hub's form"));
    let mut life = Life { gateway, from, seen: Vec::new(), to_the_end: false };
    let mut was_over = false;
    while life.seen.len() < events {
        // Read before the wait, so that a wait without events means that none is on its way.
        let over_before = over.load(Ordering::SeqCst);
        match peer.message_within(std::time::Duration::from_millis(500)) {
            Some(text) => life.note(&text),
            None if over_before => {
                was_over = true;
                break;
            }
            None => {}
        }
    }
    life.to_the_end = was_over;
    peer.frame(CLOSE, &1000u16.to_be_bytes());
    loop {
        match peer.next(Instant::now() + PATIENCE) {
            Seen::Text(text) => life.note(&text),
            Seen::Ping(_) | Seen::Pong(_) => {}
            Seen::Close(code, _) => assert_eq!(code, Some(1000)),
            Seen::End(_) => return (life, was_over),
            Seen::Nothing => panic!("the hub did not answer a close frame"),
        }
    }
}

impl Life {
    fn note(&mut self, text: &str) {
        let event: Event = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"));
        self.seen.push(event.correlation_id);
    }
}

/// Compares the accepted events of each gateway, in order, with the answers and with the received events.
fn judge(told: &[Told], lives: &[Life]) {
    let mut accepted: Vec<Vec<(Position, &str)>> = vec![Vec::new(); GATEWAYS];
    for told in told {
        let mut last: HashMap<usize, Position> = HashMap::new();
        for (gateway, position, correlation) in told {
            let before = last.insert(*gateway, *position);
            assert!(before.is_none_or(|before| before < *position), "a later publish has an earlier position");
            accepted[*gateway].push((*position, correlation));
        }
    }
    for order in &mut accepted {
        order.sort_unstable();
        assert!(order.windows(2).all(|pair| pair[0].0 < pair[1].0), "two events have one position");
    }
    assert_eq!(accepted.iter().map(Vec::len).sum::<usize>(), PUBLISHERS * EVENTS_EACH);
    for life in lives {
        let order = &accepted[life.gateway];
        let first = life.seen.first().map(|first| order.iter().position(|(_, c)| c == first).expect("it was accepted"));
        let after_ack = life.from.map(|from| order.partition_point(|(position, _)| *position <= from));
        let start = first.or(after_ack).unwrap_or(order.len());
        assert!(after_ack.is_none_or(|after| after == start), "events are missing between the ack and the first");
        let run = &order[start..start + life.seen.len()];
        assert!(run.iter().map(|(_, c)| *c).eq(life.seen.iter().map(String::as_str)), "not a gapless run");
        assert!(!life.to_the_end || start + life.seen.len() == order.len(), "the last events are missing");
    }
    let most = lives.iter().map(|life| life.seen.len()).max();
    assert!(
        lives.len() >= GATEWAYS * CONNECTIONS_EACH && most >= Some(100),
        "too few connections or events for a meaningful test"
    );
}
