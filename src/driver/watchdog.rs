//! Notices within a second that a core does not turn any more, from a thread of its own.

use super::shared::Shared;
use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A shard beats every tick of its wheel; without a beat for so long it is stalled.
const STALLED_AFTER: Duration = Duration::from_millis(700);

/// Starts the thread; it ends with the hub.
///
/// # Errors
/// Where the system gives no thread.
pub(crate) fn start(shared: Arc<Shared>) -> std::io::Result<()> {
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch(&shared)).map(drop)
}

fn watch(shared: &Shared) {
    let mut seen: Vec<_> = shared.beats.iter().map(|_| (0, Instant::now(), false)).collect();
    while !shared.ended.load(Ordering::Acquire) {
        thread::sleep(LOOK_INTERVAL);
        for (shard, (beat, (last, since, stalled))) in shared.beats.iter().zip(&mut seen).enumerate() {
            let beat = beat.load(Ordering::Relaxed);
            if beat != *last {
                if *stalled {
                    tracing::warn!(shard, stalled_ms = since.elapsed().as_millis() as u64, "shard turns again");
                }
                (*last, *since, *stalled) = (beat, Instant::now(), false);
            } else if !*stalled && beat > 0 && since.elapsed() > STALLED_AFTER {
                *stalled = true;
                shared.stalls.fetch_add(1, Ordering::Relaxed);
                tracing::error!(shard, "shard has stalled");
            }
        }
    }
}
