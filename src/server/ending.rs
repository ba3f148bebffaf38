//! Waits for a running hub to end: it returns at once if a core dies, and by a deadline once a drain has begun.

use super::{HubHandle, RunError, executors::Executors, milestone::Milestone};
use crate::{api::Phase, model::ShardId};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Time after the drain window by which all cores must have ended and the store must be closed.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// The part of [`END_TIMEOUT`] that is reserved for closing the store. A core that is not stuck ends 3 s after the
/// window at the latest.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);

/// Waits until all cores have ended and the store is closed.
///
/// # Errors
/// A core ended before the drain: returned at once. The other cores are told to drain but not waited for. Cores or the
/// store had not ended at the deadline. A core that dies during the drain is returned once the others have ended.
pub(super) fn join(executors: Executors, hub: &HubHandle) -> Result<(), RunError> {
    let Executors { threads, milestones } = executors;
    let mut running: BTreeMap<_, _> = threads.into_iter().collect();
    let mut deadline = None;
    let mut died = None;
    while !running.is_empty() {
        let cores_deadline = deadline.map(|deadline: Instant| deadline - STORE_TIMEOUT);
        match Milestone::next(&milestones, cores_deadline) {
            Some(Milestone::DrainBegan(at)) => {
                deadline = at.checked_add(hub.state.drain_window().saturating_add(END_TIMEOUT));
            }
            Some(Milestone::CoreEnded(shard, outcome)) => {
                let thread = running.remove(&shard);
                // Otherwise the watchdog would take a core that has ended for a stuck one and abort the process.
                hub.state.stop_beating(shard);
                let draining = hub.state.phase() == Phase::Draining;
                match (outcome, thread) {
                    // The milestone is the last thing that the thread sends, so that this join does not block.
                    (Ok(()), Some(thread)) if draining => drop(thread.join()),
                    (outcome, _) => {
                        log_core_death(shard, outcome);
                        // Only the first is returned; the log has the others.
                        died.get_or_insert(RunError::CoreDied { shard });
                    }
                }
                // The gateways of this shard have no owner any more and new ones would wait for it, so the hub cannot
                // go on. Returning at once lets the process exit and be restarted. A drain ends soon anyway and is left
                // to finish.
                if let Some(died) = died.take_if(|_| !draining) {
                    hub.drain();
                    hub.store.stop();
                    hub.log.stop();
                    hub.state.end();
                    return Err(died);
                }
            }
            None => {
                // The threads of stuck cores cannot be stopped from outside. They are left running, not joined.
                let shards: Vec<_> = running.into_keys().collect();
                tracing::error!(?shards, "cores did not end in time");
                hub.log.join(deadline);
                hub.store.join(deadline);
                hub.state.end();
                return Err(RunError::CoresTimedOut { shards });
            }
        }
    }
    // Only after the cores: until they end, they can still submit jobs and wait for the answers.
    let closed = hub.log.join(deadline) & hub.store.join(deadline);
    hub.state.end();
    match died {
        Some(died) => Err(died),
        None if !closed => Err(RunError::StoreTimedOut),
        None => Ok(()),
    }
}

fn log_core_death(shard: ShardId, outcome: Result<(), String>) {
    let why = outcome.err().unwrap_or_else(|| "it ended without being told to".to_owned());
    tracing::error!(%shard, why, "core died");
}
