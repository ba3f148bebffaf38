//! The runtime below a real hub: panics, stalls, messages between cores under load.

use super::{
    epoll_set::EpollSet,
    mesh::{self, Address, Inbox},
    raw::Watch,
};
use crate::{
    engine::{
        Incoming, Lane, Request,
        faults::{self, Fault},
    },
    model::ShardId,
    server::testing::{PONG, TestHub, read_until},
    shard::{Command, Origin, Reply},
};
use glommio::{LocalExecutorBuilder, Placement};
use std::{
    fs,
    future::poll_fn,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_panic_costs_its_connection_and_no_other() {
    let hub = TestHub::start();
    let (mut faulty, mut other) = (hub.connect(), hub.connect());
    faults::arm(faulty.local_addr().expect("an address"), Fault::Panic);
    faulty.write_all(&PONG).expect("sent");
    let close = read_until(&mut faulty, b"internal error");
    assert!(close.windows(2).any(|window| window == 1011_u16.to_be_bytes()), "{close:?}");
    let outcome = hub.publish();
    assert!(outcome.contains(r#""delivered":1"#), "{outcome}");
    read_until(&mut other, br#""payload":1"#);
    assert_eq!(hub.hub().handle().panics(), 1);
    let metrics = hub.call("GET", "/metrics", "");
    assert!(metrics.contains("gatecast_panics_total 1\n"), "{metrics}");
    drop(faulty);
    drop(hub.connect());
}

#[test]
fn a_panic_in_a_call_is_answered_500_and_ends_its_connection() {
    let hub = TestHub::start();
    let gateway = hub.connect();
    for round in 1..=20 {
        let mut platform = TcpStream::connect(hub.hub().addr()).expect("it listens");
        faults::arm(platform.local_addr().expect("an address"), Fault::CallPanic);
        // What is pipelined behind it is not answered by code that cannot be trusted.
        platform.write_all(&b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2)).expect("sent");
        let mut answer = String::new();
        platform.read_to_string(&mut answer).expect("the connection ends");
        assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("Connection: close"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert_eq!(hub.hub().handle().panics(), round);
    }
    assert!(hub.publish().contains(r#""delivered":1"#));
    let began = Instant::now();
    while sockets(hub.hub().addr()) > 1 {
        assert!(began.elapsed() < Duration::from_secs(5), "{} sockets are left", sockets(hub.hub().addr()));
        thread::sleep(Duration::from_millis(10));
    }
    drop(gateway);
}

/// Accepted sockets of the hub that some process still holds, as the kernel counts them.
fn sockets(hub: SocketAddr) -> usize {
    const LISTENS_OR_IS_OVER: [&str; 3] = ["0A", "06", "07"];
    let local = format!(":{:04X}", hub.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("it is there");
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| {
        row.len() > 9 && row[1].ends_with(&local) && row[9] != "0" && !LISTENS_OR_IS_OVER.contains(&row[3])
    })
    .count()
}

#[test]
fn a_stalled_shard_is_counted_while_it_is_stalled() {
    let hub = TestHub::start();
    let mut gateway = hub.connect();
    let stall = Duration::from_millis(2_500);
    faults::arm(gateway.local_addr().expect("an address"), Fault::Stall(stall));
    assert_eq!(hub.hub().handle().stalls(), 0);
    let began = Instant::now();
    gateway.write_all(&PONG).expect("sent");
    while hub.hub().handle().stalls() == 0 {
        assert!(began.elapsed() < stall, "not counted during the stall");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(hub.publish().contains(r#""delivered":1"#), "the shard is running again");
    let metrics = hub.call("GET", "/metrics", "");
    assert!(metrics.contains("gatecast_stalls_total 1\n"), "{metrics}");
}

#[test]
fn a_port_is_free_again_once_the_hub_has_ended() {
    let hub = TestHub::start();
    let address = hub.hub().addr();
    drop(hub);
    assert!(TcpStream::connect(address).is_err(), "nobody listens");
    drop(std::net::TcpListener::bind(address).expect("the port is free"));
}

/// Sends a million messages there and back between two executors set up like the hub's, with a busy thread on their
/// processors. A wake-up that a parked executor missed would delay its lane until the next heartbeat. So no message may
/// take longer than 200 ms plus three times the lateness of a plain thread that sleeps beside them, which shows how
/// late the machine itself was.
#[test]
fn a_million_messages_cross_between_cores_under_a_hog_without_a_stall() {
    const MESSAGES: u64 = 1_000_000;
    const WINDOW: u64 = 64;
    let stop = Arc::new(AtomicBool::new(false));
    let hog = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let mut spins = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                // Bursts, so that the executors park and wake in between.
                for _ in 0..200_000 {
                    spins = std::hint::black_box(spins + 1);
                }
                thread::sleep(Duration::from_micros(300));
            }
        })
    };
    let control = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let mut latest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                thread::sleep(Duration::from_millis(1));
                latest = latest.max(began.elapsed());
            }
            latest.as_millis() as u64
        })
    };
    let (addresses, inboxes) = mesh::build(2).expect("descriptors");
    let [asking, echoing] = <[Address; 2]>::try_from(addresses).ok().expect("two cores");
    let [asking_in, echoing_in] = <[Inbox; 2]>::try_from(inboxes).ok().expect("two cores");
    let worst = Arc::new(AtomicU64::new(0));
    let echo = executor(0, move || async move {
        let mut core = Core::new(echoing_in);
        let mut echoed = 0;
        while echoed < MESSAGES {
            match core.next(Lane::Requests).await {
                Incoming::Request(Request::Command(origin, _)) => {
                    assert!(asking.reply(origin.key, Reply::Attempt(Ok(()))), "the window bounds what is on its way");
                }
                _ => panic!("only commands are sent"),
            }
            echoed += 1;
        }
    });
    let asker = {
        let worst = Arc::clone(&worst);
        executor(1, move || async move {
            let mut core = Core::new(asking_in);
            let (mut sent, mut received) = (0, 0);
            while received < MESSAGES {
                while sent < MESSAGES && sent - received < WINDOW {
                    let origin = Origin { shard: ShardId(0), key: sent };
                    let request = Request::Command(origin, Command::Totals(None));
                    assert!(echoing.request(request).is_ok(), "the window bounds what is on its way");
                    sent += 1;
                }
                let asked = Instant::now();
                let Incoming::Reply(key, _) = core.next(Lane::Replies).await else { panic!("only replies are sent") };
                let waited = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
                worst.fetch_max(waited, Ordering::Relaxed);
                assert_eq!(key, received, "in order, none missing");
                received += 1;
            }
        })
    };
    asker.join().expect("all came");
    echo.join().expect("an orderly end");
    stop.store(true, Ordering::Relaxed);
    hog.join().expect("the hog ends");
    let (worst, late) = (worst.load(Ordering::Relaxed), control.join().expect("the control ends"));
    assert!(worst < 200 + 3 * late, "one took {worst} ms, and a plain thread was {late} ms late at most");
}

/// The parts of a core with which its loop waits.
struct Core {
    inbox: Inbox,
    set: EpollSet,
    watch: Watch,
}

impl Core {
    fn new(inbox: Inbox) -> Self {
        let set = EpollSet::new(Arc::clone(&inbox.bell), Arc::default()).expect("descriptors");
        let watch = Watch::new(set.descriptor());
        Self { inbox, set, watch }
    }

    /// Takes the next message of a lane; waits parked in the runtime, as the loop does.
    async fn next(&mut self, lane: Lane) -> mesh::Message {
        loop {
            if let Some(message) = self.inbox.take(lane) {
                return message;
            }
            if self.set.bell().try_sleep() {
                poll_fn(|cx| self.watch.poll_ready(cx)).await;
                self.set.bell().awake();
            }
            self.set.harvest(Duration::ZERO, |_| {});
        }
    }
}

/// [`Watch`] depends on two details of glommio: a new stream arms a poll, and reading a descriptor that is not a socket
/// fails.
#[test]
fn a_watch_sleeps_until_its_descriptor_is_readable_and_leaves_nothing_behind() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("a list").count();
    executor(0, move || async move {
        let (_, mut inboxes) = mesh::build(1).expect("descriptors");
        let inbox = inboxes.pop().expect("one core");
        let bell = Arc::clone(&inbox.bell);
        let mut core = Core::new(inbox);
        let before = descriptors();
        for _ in 0..10_000 {
            let mut pending = 0;
            poll_fn(|cx| {
                let ready = core.watch.poll_ready(cx);
                if ready.is_pending() {
                    pending += 1;
                    bell.wake();
                }
                ready
            })
            .await;
            assert!(pending > 0, "it was not ready before it was woken");
            assert_eq!(core.set.harvest(Duration::ZERO, |_| {}), 1);
            assert!(!core.watch.is_armed());
        }
        // Other tests of this process open some meanwhile; one left by each of the 10,000 rounds is many more.
        assert!(descriptors() <= before + 1_000, "descriptors are left behind");
    })
    .join()
    .expect("an orderly end");
}

/// An executor set up like the hub's, heartbeats included. It ends with the future.
fn executor<F: Future<Output = ()> + 'static>(
    cpu: usize,
    run: impl FnOnce() -> F + Send + 'static,
) -> glommio::ExecutorJoinHandle<()> {
    let cpus = rustix::thread::sched_getaffinity(None).expect("a set");
    let cpus: Vec<_> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| cpus.is_set(*cpu)).collect();
    LocalExecutorBuilder::new(Placement::Fixed(cpus[cpu % cpus.len()]))
        .io_memory(64 << 10)
        .ring_depth(128)
        .preempt_timer(Duration::from_secs(1))
        .spawn(move || async move {
            let stop = std::rc::Rc::new(std::cell::Cell::new(false));
            for period in [100, 140] {
                let stop = std::rc::Rc::clone(&stop);
                glommio::spawn_local(async move {
                    while !stop.get() {
                        glommio::timer::sleep(Duration::from_millis(period)).await;
                    }
                })
                .detach();
            }
            run().await;
            stop.set(true);
            glommio::timer::sleep(Duration::from_millis(100)).await;
        })
        .expect("an executor")
}
