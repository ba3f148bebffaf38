//! What a hop between two cores costs: two executors set up as the hub's, and bounded channels between them.
//!
//! `cargo bench --bench mesh`. `there and back, idle`: both executors sleep in between, so each hop wakes one. `busy`: both have
//! something else to do all the time, in turns of 20 µs, so nobody is woken and a hop waits for a turn to end.
//! `64 on their way` is the time a message takes of a stream that never stops. With one processor alone, the two share it.

#![allow(clippy::expect_used, reason = "a bench says what is wrong by panicking")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flume::{Receiver, Sender};
use gatecast::shard::{Command, Reply, RequestKey};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use std::{
    cell::Cell,
    hint,
    rc::Rc,
    time::{Duration, Instant},
};

type Request = (RequestKey, Command);
type Answered = (RequestKey, Reply);

const WINDOW: usize = 64;
const TURN: Duration = Duration::from_micros(20);

/// Two executors: one asks, one answers.
struct Mesh {
    orders: Option<Sender<(u64, u64)>>,
    times: Receiver<Duration>,
    executors: Vec<ExecutorJoinHandle<()>>,
}

impl Mesh {
    fn new(busy: bool) -> Self {
        let (requests, requests_in) = flume::bounded::<Request>(WINDOW);
        let (replies, replies_in) = flume::bounded::<Answered>(WINDOW);
        let (orders, orders_in) = flume::bounded(1);
        let (times_out, times) = flume::bounded(1);
        let answering = executor(0, busy, move || answer(requests_in, replies));
        let asking = executor(1, busy, move || async move {
            while let Ok((messages, window)) = orders_in.recv_async().await {
                let time = ask(&requests, &replies_in, messages, window).await;
                times_out.send_async(time).await.expect("the bench waits for it");
            }
        });
        Self { orders: Some(orders), times, executors: vec![asking, answering] }
    }

    /// The time that so many messages took, with so many on their way at once.
    fn run(&self, messages: u64, window: usize) -> Duration {
        let orders = self.orders.as_ref().expect("it has not ended");
        orders.send((messages, window as u64)).expect("the asking side lives");
        self.times.recv().expect("the asking side lives")
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.orders = None;
        for executor in self.executors.drain(..) {
            executor.join().expect("an orderly end");
        }
    }
}

async fn answer(requests: Receiver<Request>, replies: Sender<Answered>) {
    while let Ok(first) = requests.recv_async().await {
        for (key, _) in std::iter::once(first).chain(requests.try_iter()) {
            replies.try_send((key, Reply::Attempt(Ok(())))).expect("the window bounds what is on its way");
        }
    }
}

async fn ask(requests: &Sender<Request>, replies: &Receiver<Answered>, messages: u64, window: u64) -> Duration {
    let (mut sent, mut received) = (0, 0);
    let began = Instant::now();
    while received < messages {
        while sent < messages && sent - received < window {
            requests.try_send((sent, Command::Totals(None))).expect("the window bounds what is on its way");
            sent += 1;
        }
        let first = replies.recv_async().await.expect("the answering side lives");
        for (key, _) in std::iter::once(first).chain(replies.try_iter()) {
            assert_eq!(key, received, "in order, none missing");
            received += 1;
        }
    }
    began.elapsed()
}

/// An executor as the hub's (`src/server/executors.rs`), heartbeats included; the future ends it.
fn executor<F: Future<Output = ()> + 'static>(
    cpu: usize,
    busy: bool,
    run: impl FnOnce() -> F + Send + 'static,
) -> ExecutorJoinHandle<()> {
    let set = rustix::thread::sched_getaffinity(None).expect("a set");
    let cpus: Vec<_> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    LocalExecutorBuilder::new(Placement::Fixed(cpus[cpu % cpus.len()]))
        .io_memory(64 << 10)
        .ring_depth(128)
        .preempt_timer(Duration::from_secs(1))
        .spawn(move || async move {
            let stop = Rc::new(Cell::new(false));
            for period in [50, 70] {
                spawn_until(&stop, move || glommio::timer::sleep(Duration::from_millis(period)));
            }
            if busy {
                spawn_until(&stop, || {
                    let began = Instant::now();
                    while began.elapsed() < TURN {
                        hint::spin_loop();
                    }
                    // The one way on this runtime that lets I/O of others in.
                    glommio::timer::sleep(Duration::from_micros(1))
                });
            }
            run().await;
            stop.set(true);
            glommio::timer::sleep(Duration::from_millis(100)).await;
        })
        .expect("an executor")
}

fn spawn_until<F: Future>(stop: &Rc<Cell<bool>>, step: impl Fn() -> F + 'static) {
    let stop = Rc::clone(stop);
    glommio::spawn_local(async move {
        while !stop.get() {
            step().await;
        }
    })
    .detach();
}

fn hop(c: &mut Criterion) {
    let mut group = c.benchmark_group("mesh");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3)).sample_size(20);
    for (name, busy) in [("idle", false), ("busy", true)] {
        let mesh = Mesh::new(busy);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("there and back, {name}"), |b| b.iter_custom(|messages| mesh.run(messages, 1)));
        group.bench_function(format!("{WINDOW} on their way, {name}"), |b| {
            b.iter_custom(|messages| mesh.run(messages, WINDOW));
        });
    }
    group.finish();
}

criterion_group!(benches, hop);
criterion_main!(benches);
