//! The end of a worker: what is queued goes out, closes are spread over the window, and nobody holds it up.

use super::{clock, listener, socket, worker::Worker};
use crate::model::{CloseReason, Instant};
use std::{rc::Rc, sync::atomic::Ordering, time::Duration};

/// After the window, this long for the last closes to be answered.
const PATIENCE: Duration = Duration::from_secs(3);
/// Time for the last FINs to leave the rings.
const GRACE: Duration = Duration::from_millis(50);
const STEP: Duration = Duration::from_millis(10);

/// Closes every connection of this core, then stops the worker.
pub(super) async fn run(worker: Rc<Worker>) {
    let window = worker.shared.drain_window;
    let began = clock::now().instant;
    let mut queue = worker.members();
    // Connection ids are random, and so is their order.
    queue.sort_by_key(|link| link.key.serial.wrapping_mul(0x9e37_79b1));
    let total = queue.len();
    for (place, link) in queue.into_iter().enumerate() {
        let share = window.mul_f64(place as f64 / total as f64);
        sleep_until(began + share).await;
        link.session.borrow_mut().close(worker.refresh_clock(), CloseReason::Shutdown);
        worker.enqueue(&link);
        worker.turn();
    }
    let deadline = began + window + PATIENCE;
    let shared = &worker.shared;
    let busy = || shared.slots.taken() > 0 || worker.asks.borrow().is_waiting();
    wait(deadline, busy).await;
    // Until the last core has its answers: meanwhile this one goes on saying 503 and answering the others.
    shared.settled.fetch_add(1, Ordering::AcqRel);
    wait(deadline, || shared.settled.load(Ordering::Acquire) < usize::from(shared.placement.shards())).await;
    end(&worker).await;
}

/// Until `busy` is over, or the deadline has come.
async fn wait(deadline: Instant, busy: impl Fn() -> bool) {
    while busy() && clock::now().instant < deadline {
        glommio::timer::sleep(STEP).await;
    }
}

/// Ends what is left by force.
async fn end(worker: &Worker) {
    worker.stopping.set(true);
    worker.listening.iter().for_each(listener::stop);
    let links = worker.all();
    let forced = links.iter().filter(|link| link.member.get().is_some()).count();
    if forced > 0 {
        tracing::warn!(shard = %worker.id, connections = forced, "closed by force at the end of the drain");
    }
    for link in links {
        if let Some(stream) = link.stream.borrow().as_ref() {
            socket::shutdown(stream);
        }
    }
    glommio::timer::sleep(GRACE).await;
    worker.stopped.set(true);
}

async fn sleep_until(at: Instant) {
    loop {
        let left = at.since(clock::now().instant);
        if left.is_zero() {
            return;
        }
        glommio::timer::sleep(left.min(STEP)).await;
    }
}
