//! The end of a running hub: at once where a core has died, and by one deadline for everything where it drains.

use super::{HubHandle, RunError, executors::Executors, milestone::Milestone};
use crate::{api::Phase, model::ShardId};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long after the drain window everything has ended, the store included.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// The part of it that is the store's alone. Cores give up 3 s after the window by themselves, unless they are stuck.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);

/// Waits until all cores have ended and the store is closed.
///
/// # Errors
/// At once where a core ends that nobody told to: the others are told to drain, and are not waited for. At the deadline where
/// cores or the store have not ended.
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
                hub.state.stop_beating(shard);
                let draining = hub.state.phase() == Phase::Draining;
                match (outcome, thread) {
                    // It has sent this as its last, so that joining it takes no time.
                    (Ok(()), Some(thread)) if draining => drop(thread.join()),
                    (outcome, _) => {
                        log_core_death(shard, outcome);
                        died.get_or_insert(RunError::CoreDied { shard });
                    }
                }
                if let Some(died) = died.take_if(|_| !draining) {
                    hub.drain();
                    hub.store.stop();
                    hub.state.end();
                    return Err(died);
                }
            }
            None => {
                let shards: Vec<_> = running.into_keys().collect();
                tracing::error!(?shards, "cores did not end in time");
                hub.store.join(deadline);
                hub.state.end();
                return Err(RunError::CoresTimedOut { shards });
            }
        }
    }
    let closed = hub.store.join(deadline);
    hub.state.end();
    match died {
        Some(died) => Err(died),
        None if !closed => Err(RunError::StoreTimedOut),
        None => Ok(()),
    }
}

fn log_core_death(shard: ShardId, outcome: Result<(), String>) {
    let why = outcome.err().unwrap_or_else(|| "it ended although nobody had told it to".to_owned());
    tracing::error!(%shard, why, "core died");
}
