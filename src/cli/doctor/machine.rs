//! Reads the state of this machine and process from the system. It compares nothing: [`judge`] does.

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

/// Raises the soft limits of descriptors and locked memory to what this hub needs, as far as the hard limits allow.
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
            // An error is ignored: the check that follows reports a limit that is still too low.
            let _ = setrlimit(resource, Rlimit { current: Some(reachable), maximum });
        }
    }
}

/// The kernel's release, such as `6.1.0-18-amd64`.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The value of `kernel.io_uring_disabled`: `0`, `1` or `2`; `None` if the kernel (before 6.6) does not have it.
pub fn io_uring_disabled() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok().map(|text| text.trim().to_owned())
}

const PROBE_THREAD: &str = "gatecast-probe";

/// Creates the smallest possible executor and runs it once.
pub fn probe_io_uring() -> Result<(), String> {
    silence_probe_panics();
    // On a separate thread, because the runtime panics if io_uring is forbidden.
    let probe = || {
        let builder = LocalExecutorBuilder::new(Placement::Unbound).io_memory(64 << 10).ring_depth(32);
        builder.make().map(|executor| executor.run(async {})).map_err(|error| error.to_string())
    };
    let thread = thread::Builder::new().name(PROBE_THREAD.to_owned()).spawn(probe);
    let result = thread.map_err(|error| error.to_string())?.join();
    result.unwrap_or_else(|_| Err("the kernel does not allow this process to use it".to_owned()))
}

/// Keeps a panic of the probe off standard error: it is reported as a failed check. Panics of other threads are printed
/// as before.
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

/// The soft limit of locked memory in bytes; `None` means no limit.
pub fn locked_memory() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

/// Whether the limit of locked memory does not apply to this process, because it has CAP_IPC_LOCK.
pub fn is_exempt_from_memlock() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
}

/// The soft limit of open files; `None` means no limit.
pub fn descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Number of cores that this process may run on.
pub fn cores() -> usize {
    // Not the number of installed cores: a container or `taskset` may allow fewer.
    let set = rustix::thread::sched_getaffinity(None);
    set.map_or_else(|_| thread::available_parallelism().map_or(1, Into::into), |set| set.count() as usize)
}

/// Seconds since 1970 by the wall clock; 0 if it shows an earlier time.
pub fn wall_clock_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether the clock that timers use can be read and does not go backwards.
pub fn monotonic_clock_works() -> bool {
    let first = clock_gettime(ClockId::Monotonic);
    let second = clock_gettime(ClockId::Monotonic);
    (second.tv_sec, second.tv_nsec) >= (first.tv_sec, first.tv_nsec) && (first.tv_sec, first.tv_nsec) > (0, 0)
}

/// Whether a directory can be written to, or created if it does not exist. It does not create it: `doctor` changes
/// nothing.
pub fn writable(dir: &Path) -> Result<(), String> {
    let absolute = std::path::absolute(dir).map_err(|error| error.to_string())?;
    // The hub creates missing directories, so the nearest existing ancestor is the one that has to be writable.
    let there = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if !there.is_dir() {
        return Err(format!("{} is not a directory", there.display()));
    }
    access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| format!("{}: {error}", there.display()))
}
