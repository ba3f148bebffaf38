//! Measures the processor time and memory of the hub and of the load generator.

use crate::clock::{Nanos, SECOND};
use rustix::time::{ClockId, clock_gettime};
use std::fs;

/// Where the hub runs, and so how it is measured.
#[derive(Clone, Copy, Debug)]
pub enum Meter {
    /// The hub is in this process: the processor time of all other threads is its own; its memory cannot be separated.
    Here,
    /// The hub is another process on this machine.
    Process(u32),
    /// The hub cannot be measured: it is on another machine, or its process id is unknown.
    Nothing,
}

/// Resources used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time of the hub, if it can be measured.
    pub hub_cpu: Option<Nanos>,
    /// Resident memory of the hub's process in bytes, if it can be measured.
    pub hub_memory: Option<u64>,
    /// Processor time of the generator's thread.
    pub own_cpu: Nanos,
}

impl Meter {
    /// Measures now. To be called by the generator's thread, whose processor time is `own_cpu`.
    pub fn read(self) -> Usage {
        let own_cpu = time_of(ClockId::ThreadCPUTime);
        match self {
            Self::Here => {
                // Includes the threads that create gateways or request statistics; both do little.
                let hub_cpu = Some(time_of(ClockId::ProcessCPUTime).saturating_sub(own_cpu));
                Usage { hub_cpu, hub_memory: memory("self"), own_cpu }
            }
            Self::Process(pid) => Usage { hub_cpu: process_cpu(pid), hub_memory: memory(&pid.to_string()), own_cpu },
            Self::Nothing => Usage { own_cpu, ..Usage::default() },
        }
    }

    /// Whether the measured memory is the hub's alone.
    pub fn sees_memory(self) -> bool {
        matches!(self, Self::Process(_))
    }
}

fn time_of(clock: ClockId) -> Nanos {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * SECOND + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn memory(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// The processor time of a process in nanoseconds, summed over its living threads; a hub keeps its threads.
fn process_cpu(pid: u32) -> Option<Nanos> {
    // `schedstat` counts nanoseconds; the times in `/proc/PID/stat` are in ticks of 10 ms.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let of_thread = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<Nanos>().ok()
    };
    let times: Vec<_> = threads.flatten().filter_map(of_thread).collect();
    (!times.is_empty()).then(|| times.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_process_is_measured_and_a_remote_hub_is_not() {
        let seen = Meter::Process(std::process::id()).read();
        assert!(seen.hub_memory.unwrap() > 1024 * 1024);
        assert!(seen.hub_cpu.is_some());
        assert!(Meter::Nothing.read().hub_cpu.is_none());
    }
}
