//! Opens the log of events as it is configured, and closes it by a deadline.

use super::error::StartError;
use crate::{
    config::{Config, EventLogMode, EventLogSync},
    driver::mesh::Address,
    model::{Change, LogStats},
    store::{
        Generation,
        log::{
            EventLog, LogPort, LogSync, MemoryLog, MemorySettings, SqliteLog, SqliteLogSettings, Waker, forget_mark,
        },
    },
};
use std::{
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

/// The hub's log of events.
#[derive(Clone)]
pub(super) struct EventLogHandle {
    /// `None` once it is closed.
    log: Arc<Mutex<Option<Box<dyn EventLog>>>>,
    stats: Arc<LogStats>,
}

/// Opens the log for these cores. `directory` has the gateways that exist in a store of this generation; `epoch` is a random number, and a log in
/// memory holds at most `memory_bytes`.
///
/// # Errors
/// If its file cannot be used.
pub(super) fn open(
    config: &Config,
    (directory, generation): (&[Change], Generation),
    cores: &[Address],
    (epoch, memory_bytes): (u64, usize),
) -> Result<(EventLogHandle, Vec<Box<dyn LogPort>>), StartError> {
    let mut log: Box<dyn EventLog> = match config.event_log_mode {
        EventLogMode::Durable => Box::new(SqliteLog::open(sqlite(config, directory, generation))?),
        EventLogMode::Memory => {
            // A durable log of an earlier run will not have the events of this one, so a position of it must not be one behind
            // which nothing is missing.
            forget_mark(&config.data)?;
            Box::new(MemoryLog::new(MemorySettings {
                // Events are lost with the process, so every start is a new epoch: positions of an earlier one must not look
                // comparable.
                epoch,
                gateway_bytes_max: config.event_log_gateway_bytes_max.min(memory_bytes / cores.len()),
                port_bytes_max: memory_bytes / cores.len(),
            }))
        }
    };
    let ports = log.ports(cores.iter().map(|core| Box::new(core.log_waker()) as Waker).collect());
    let stats = log.stats();
    Ok((EventLogHandle { log: Arc::new(Mutex::new(Some(log))), stats }, ports))
}

fn sqlite(config: &Config, directory: &[Change], generation: Generation) -> SqliteLogSettings {
    let life = |change: &Change| if let Change::GatewayCreated { life, .. } = change { Some(*life) } else { None };
    let mut settings = SqliteLogSettings::new(&config.data, directory.iter().filter_map(life).collect());
    settings.store_generation = Some(generation);
    settings.sync = match config.event_log_sync {
        EventLogSync::Power => LogSync::Power,
        EventLogSync::Process => LogSync::Process,
    };
    settings.retention_age = config.event_log_retention;
    settings.secret_age = config.event_log_secret_retention;
    settings.gateway_bytes_max = config.event_log_gateway_bytes_max as u64;
    settings.total_bytes_max = config.event_log_bytes_max as u64;
    settings.reserve_bytes = config.event_log_reserve_bytes as u64;
    settings
}

impl EventLogHandle {
    /// Its counters.
    pub(super) fn stats(&self) -> Arc<LogStats> {
        Arc::clone(&self.stats)
    }

    /// Takes no more events.
    pub(super) fn stop(&self) {
        if let Some(log) = self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).as_ref() {
            log.stop();
        }
    }

    /// Stops the log and waits until it is closed, until `deadline` at the latest. Returns whether it is closed.
    pub(super) fn join(&self, deadline: Option<Instant>) -> bool {
        let log = self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let Some(log) = log else { return true };
        log.stop();
        let (done, is_done) = flume::bounded::<()>(1);
        // A disk that hangs must not hold up the end of the process.
        let joining = thread::Builder::new().name("event-log-join".to_owned()).spawn(move || {
            log.join();
            let _ = done.send(());
        });
        if joining.is_err() {
            return false;
        }
        match deadline {
            Some(deadline) => is_done.recv_deadline(deadline).is_ok(),
            None => is_done.recv().is_ok(),
        }
    }
}
