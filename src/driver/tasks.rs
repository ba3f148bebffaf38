//! The standing tasks of a worker: each waits on one thing, takes a batch of it, and has a turn.

use super::{
    clock, drain,
    mesh::{Answered, Control, Request},
    wheel::TICK,
    worker::Worker,
};
use crate::{api::Answer, model::Instant, shard::RequestKey};
use flume::Receiver;
use std::{rc::Rc, time::Duration};

/// Requests of other cores.
pub(super) async fn requests(worker: Rc<Worker>, inbox: Receiver<Request>) {
    while let Ok(first) = inbox.recv_async().await {
        let now = worker.refresh_clock();
        for request in std::iter::once(first).chain(inbox.try_iter().take(INBOX_BATCH)) {
            match request {
                Request::Command { from, key, command } => {
                    let request = worker.remote.borrow_mut().insert((from, key)) as RequestKey;
                    worker.shard.borrow_mut().handle_command(now, request, command);
                }
                Request::Handoff(handoff) => worker.handle_handoff(*handoff),
            }
        }
        worker.turn();
    }
}

/// Answers to this core's questions.
pub(super) async fn replies(worker: Rc<Worker>, inbox: Receiver<Answered>) {
    while let Ok(first) = inbox.recv_async().await {
        worker.refresh_clock();
        for answered in std::iter::once(first).chain(inbox.try_iter().take(INBOX_BATCH)) {
            match answered {
                Answered::Shard(key, reply) => worker.handle_answer(key, Answer::Shard(reply)),
                Answered::Store(key, outcome) => worker.handle_answer(key, Answer::Store(outcome)),
            }
        }
        worker.turn();
    }
}

/// What the store and the server say.
pub(super) async fn control(worker: Rc<Worker>, inbox: Receiver<Control>) {
    while let Ok(control) = inbox.recv_async().await {
        worker.refresh_clock();
        match control {
            Control::Change(change, settled) => {
                worker.directory.borrow_mut().apply(change);
                worker.shard.borrow_mut().handle_change(change);
                drop(settled);
            }
            Control::Tls(config) => *worker.tls.borrow_mut() = Some(config),
            Control::Drain if !worker.draining.replace(true) => {
                glommio::spawn_local(drain::run(Rc::clone(&worker))).detach();
            }
            Control::Drain => {}
        }
        worker.turn();
    }
}

/// Goes on with a long agenda, a batch at a time.
pub(super) async fn agenda(worker: Rc<Worker>, more: Receiver<()>) {
    while more.recv_async().await.is_ok() {
        // The one way on this runtime that lets I/O in between.
        glommio::timer::sleep(Duration::from_micros(1)).await;
        worker.refresh_clock();
        worker.turn();
    }
}

/// Time passes.
pub(super) async fn ticks(worker: Rc<Worker>) {
    let mut next = clock::now().instant;
    while !worker.stopped.get() {
        worker.tick();
        next = (next + Duration::from_micros(TICK)).max(Instant(clock::now().instant.0.saturating_sub(TICK)));
        glommio::timer::sleep(next.since(clock::now().instant).max(Duration::from_millis(1))).await;
    }
}

const INBOX_BATCH: usize = 256;
