//! What this machine and process are: asked of the system, not judged.

use super::judge;
use crate::config::Config;
use glommio::{LocalExecutorBuilder, Placement};
use rustix::{
    fs::{Access, access},
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::CapabilitySet,
    time::{ClockId, clock_gettime},
};
use std::{
    panic,
    path::Path,
    sync::Once,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

/// Raises the soft limits of descriptors and locked memory as far as this hub needs and the hard limits let it.
pub fn raise_limits(config: &Config) {
    let shards = config.cores.map_or_else(cores, usize::from);
    let wanted = [
        (Resource::Nofile, judge::descriptors_needed(config.connections_max)),
        (Resource::Memlock, judge::locked_memory_needed(shards, false)),
    ];
    for (resource, needed) in wanted {
        let Rlimit { current, maximum } = getrlimit(resource);
        let reachable = maximum.map_or(needed, |maximum| maximum.min(needed));
        if current.is_some_and(|current| current < reachable) {
            // Where it fails, the check that follows says what is missing.
            let _ = setrlimit(resource, Rlimit { current: Some(reachable), maximum });
        }
    }
}

/// The kernel's release, as `6.1.0-18-amd64`.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The switch that forbids io_uring: `0`, `1` or `2`; `None` where the kernel has no such switch.
pub fn io_uring_disabled() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok().map(|text| text.trim().to_owned())
}

const PROBE_THREAD: &str = "gatecast-probe";

/// Starts the smallest executor there can be; the runtime panics where io_uring is forbidden.
pub fn probe_io_uring() -> Result<(), String> {
    silence_probe_panics();
    let probe = || {
        let builder = LocalExecutorBuilder::new(Placement::Unbound).io_memory(64 << 10).ring_depth(32);
        builder.make().map(|executor| executor.run(async {})).map_err(|error| error.to_string())
    };
    let thread = thread::Builder::new().name(PROBE_THREAD.to_owned()).spawn(probe);
    let result = thread.map_err(|error| error.to_string())?.join();
    result.unwrap_or_else(|_| Err("the kernel does not let this process use it".to_owned()))
}

/// The probe's panic is an answer, not an accident: nothing of it belongs on standard error.
fn silence_probe_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous_hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(PROBE_THREAD) {
                previous_hook(info);
            }
        }));
    });
}

/// The soft limit of locked memory in bytes; `None` is no limit.
pub fn locked_memory() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

/// Whether the kernel charges this process nothing for the memory of its rings.
pub fn is_exempt_from_memlock() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
}

/// The soft limit of open files; `None` is no limit.
pub fn descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// The cores that this process may run on.
pub fn cores() -> usize {
    let set = rustix::thread::sched_getaffinity(None);
    set.map_or_else(|_| thread::available_parallelism().map_or(1, Into::into), |set| set.count() as usize)
}

/// Seconds since 1970 by the wall clock; 0 where it stands before that.
pub fn wall_clock_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether the clock that timers go by can be read and does not go backwards.
pub fn monotonic_clock_works() -> bool {
    let first = clock_gettime(ClockId::Monotonic);
    let second = clock_gettime(ClockId::Monotonic);
    (second.tv_sec, second.tv_nsec) >= (first.tv_sec, first.tv_nsec) && (first.tv_sec, first.tv_nsec) > (0, 0)
}

/// Whether a directory can be written, or made where it is not there.
pub fn writable(dir: &Path) -> Result<(), String> {
    let absolute = std::path::absolute(dir).map_err(|error| error.to_string())?;
    let there = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if !there.is_dir() {
        return Err(format!("{} is not a directory", there.display()));
    }
    access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| format!("{}: {error}", there.display()))
}
