//! Claims about how a hub ends: with a dead core, with a stuck core, and how long a drain takes.

use super::{
    RunError,
    testing::{TestHub, inject_fault},
};
use crate::{config::Config, engine::faults::Fault, model::DeliveryMode, model::ShardId};
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

const SECOND: Duration = Duration::from_secs(1);

fn two_cores(drain_window: Duration) -> TestHub {
    TestHub::with(|config| {
        config.cores = Some(2);
        config.drain_window = drain_window;
    })
}

/// Makes one call without a token; `None` if the connection went to a stuck core, which does not answer.
fn try_get(hub: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(hub).expect("the kernel takes it");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Repeats a call until a core that is not stuck answers.
fn get(hub: SocketAddr, path: &str) -> String {
    (0..100).find_map(|_| try_get(hub, path)).expect("a core that is not stuck answers")
}

/// Whether the hub ends the connection within a second, by FIN or reset.
fn is_ended(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(SECOND)).expect("a timeout");
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// A dead core ends the hub: `join` returns at once, and the sockets of the core are closed.
fn check_death(fault: Fault) {
    let mut hub = two_cores(Duration::ZERO);
    let running = hub.take();
    let began = Instant::now();
    let (peer, shard) = inject_fault(running.addr(), fault);
    assert_eq!(running.join(), Err(RunError::CoreDied { shard }));
    let took = began.elapsed();
    println!("a dead core ended the hub after {took:?}");
    assert!(took < SECOND, "it took {took:?}");
    assert!(is_ended(&peer), "the dead core keeps its sockets");
}

#[test]
fn a_panic_in_the_engine_ends_the_hub_at_once() {
    check_death(Fault::CorePanic);
}

#[test]
fn a_panic_in_the_loop_around_the_engine_ends_the_hub_at_once() {
    check_death(Fault::RuntimePanic);
}

#[test]
fn after_a_core_died_the_others_close_their_connections() {
    let mut hub = two_cores(Duration::ZERO);
    let gateway = hub.connect();
    let running = hub.take();
    inject_fault(running.addr(), Fault::CorePanic);
    assert!(matches!(running.join(), Err(RunError::CoreDied { .. })));
    let began = Instant::now();
    assert!((0..10).any(|_| is_ended(&gateway)), "neither the drain nor the dead core closed the connection");
    println!("the gateway was closed {:?} later", began.elapsed());
}

#[test]
fn a_core_that_dies_during_the_drain_is_named_after_the_others_have_ended() {
    let mut hub = two_cores(SECOND);
    // This gateway never answers the close frame, so that the drain takes its full time.
    let _gateway = hub.connect();
    let running = hub.take();
    let began = Instant::now();
    running.drain();
    let (_peer, shard) = inject_fault(running.addr(), Fault::CorePanic);
    assert_eq!(running.join(), Err(RunError::CoreDied { shard }));
    let took = began.elapsed();
    println!("the drain took {took:?}");
    assert!(took < 6 * SECOND, "it took {took:?}");
}

#[test]
fn ready_names_a_stuck_core_until_it_runs_again() {
    let hub = two_cores(Duration::ZERO);
    let address = hub.hub().addr();
    let (_peer, shard) = inject_fault(address, Fault::Stall(4 * SECOND));
    let struck = Instant::now();
    let ready = loop {
        let ready = get(address, "/ready");
        if ready.contains(&format!("core {shard} is stuck")) {
            break ready;
        }
        assert!(struck.elapsed() < 3 * SECOND, "not noticed in time");
        thread::sleep(Duration::from_millis(10));
    };
    println!("not ready {:?} after it got stuck", struck.elapsed());
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("Retry-After: 1\r\n"), "{ready}");
    assert!(get(address, "/health").starts_with("HTTP/1.1 200 "), "the process is alive");
    assert!(hub.hub().handle().stalls() >= 1);
    while !get(address, "/ready").starts_with("HTTP/1.1 200 ") {
        assert!(struck.elapsed() < 10 * SECOND, "/ready did not recover");
        thread::sleep(Duration::from_millis(10));
    }
    println!("ready again {:?} after it got stuck for 4 s", struck.elapsed());
}

#[test]
fn a_stuck_core_does_not_delay_the_end_and_is_named() {
    let mut hub = two_cores(SECOND);
    let running = hub.take();
    let (_peer, shard) = inject_fault(running.addr(), Fault::Stall(20 * SECOND));
    let began = Instant::now();
    running.drain();
    assert_eq!(running.join(), Err(RunError::CoresTimedOut { shards: vec![shard] }));
    let took = began.elapsed();
    println!("a drain of 1 s with a stuck core took {took:?}");
    assert!(took < 6 * SECOND + Duration::from_millis(250), "it took {took:?}");
}

#[test]
fn beginning_a_drain_does_not_wait_for_a_stuck_core() {
    let hub = TestHub::start();
    let (_peer, _) = inject_fault(hub.hub().addr(), Fault::Stall(2 * SECOND));
    let began = Instant::now();
    hub.hub().drain();
    assert!(began.elapsed() < SECOND);
}

#[test]
fn the_keys_of_delivery_reach_the_shards_and_the_sessions() {
    let config = Config {
        delivery_mode: DeliveryMode::Processed,
        delivery_window: 7,
        delivery_processing_timeout: 8 * SECOND,
        delivery_replay_skip: vec!["a.*".to_owned()],
        delivery_poison_connections: 9,
        delivery_poison_after: 10 * SECOND,
        ..Config::default()
    };
    let delivery = super::shard_settings(&config, ShardId(0), &crate::shard::Placement::new(1, 1), 0).delivery;
    assert_eq!(
        (delivery.mode, delivery.window, &*delivery.replay_skip),
        (DeliveryMode::Processed, 7, &["a.*".to_owned()][..])
    );
    assert_eq!((delivery.poison_connections, delivery.poison_after), (9, 10 * SECOND));
    assert_eq!(super::session_settings(&config).processing_timeout, 8 * SECOND);
    let (of_config, of_shard) = (
        super::shard_settings(&Config::default(), ShardId(0), &crate::shard::Placement::new(1, 1), 0).delivery,
        crate::shard::Delivery::default(),
    );
    assert_eq!(format!("{of_config:?}"), format!("{of_shard:?}"), "both have the same defaults");
}
