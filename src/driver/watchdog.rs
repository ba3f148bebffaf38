//! Notices within a second that a core does not turn any more, from a thread of its own.

use crate::{engine::HubState, model::ShardId};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A core's loop turns several times a second even when it is idle; one that has not turned for so long is stalled.
const STALLED_AFTER: Duration = Duration::from_millis(700);

/// Starts the thread; it ends with the hub.
///
/// # Errors
/// Where the system gives no thread.
pub(crate) fn start(hub: Arc<HubState>, shards: u16) -> std::io::Result<()> {
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch(&hub, shards)).map(drop)
}

fn watch(hub: &HubState, shards: u16) {
    let mut seen: Vec<_> = (0..shards).map(|shard| (ShardId(shard), 0, Instant::now(), false)).collect();
    while !hub.has_ended() {
        thread::sleep(LOOK_INTERVAL);
        for (shard, last, since, stalled) in &mut seen {
            let passes = hub.passes(*shard);
            if passes != *last {
                if *stalled {
                    tracing::warn!(%shard, stalled_ms = since.elapsed().as_millis() as u64, "shard turns again");
                }
                (*last, *since, *stalled) = (passes, Instant::now(), false);
            } else if !*stalled && passes > 0 && since.elapsed() > STALLED_AFTER {
                *stalled = true;
                hub.count_stall();
                tracing::error!(%shard, "shard has stalled");
            }
        }
    }
}
