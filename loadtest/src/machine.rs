//! The machine that runs the load test: its description and its descriptor limit.

use rustix::{
    process::{Resource, getrlimit, setrlimit},
    system::uname,
};
use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, SystemTime},
};

/// Descriptors that this process needs beside those of the connections.
const SPARE: usize = 256;
/// Descriptors that a hub needs beside those of its connections.
const HUB_SPARE: usize = 1_024;

/// Raises the soft descriptor limit to the hard one, and checks that it suffices. A hub in this process needs as many
/// descriptors again.
///
/// # Errors
/// The hard limit is too low.
pub fn allow_descriptors(connections: usize, hub_is_here: bool) -> Result<(), String> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    setrlimit(Resource::Nofile, limit).map_err(|error| format!("cannot raise the descriptor limit: {error}"))?;
    let needed = (connections * if hub_is_here { 2 } else { 1 } + SPARE) as u64;
    if allowed < needed {
        return Err(format!(
            "too few descriptors: {needed} are needed, {allowed} are allowed; raise the hard limit (ulimit -Hn)"
        ));
    }
    Ok(())
}

/// The connection limit for a hub that is started for `connections` connections: twice as many, as far as descriptors
/// allow.
pub fn room_for(connections: usize) -> usize {
    let allowed =
        getrlimit(Resource::Nofile).maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    room(connections, allowed)
}

/// A hub needs a tenth more descriptors than connections, and [`HUB_SPARE`] in addition.
fn room(connections: usize, descriptors: usize) -> usize {
    let possible = descriptors.saturating_sub(HUB_SPARE) / 11 * 10;
    // Twice as many, because in a storm the hub may still hold old connections while the new ones arrive.
    (connections * 2 + 64).min(possible).max(connections + 1)
}

/// Seconds since 1970-01-01 UTC.
pub fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since: Duration| since.as_secs())
}

/// Processor, cores, memory, kernel, and version and build of this tool.
pub fn describe() -> BTreeMap<String, String> {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let entries = [
        ("processor", field("/proc/cpuinfo", "model name")),
        ("cores", cores.to_string()),
        ("memory", field("/proc/meminfo", "MemTotal")),
        ("kernel", uname().release().to_string_lossy().into_owned()),
        ("loadtest", env!("CARGO_PKG_VERSION").to_owned()),
        ("build", if cfg!(debug_assertions) { "debug: do not trust the times" } else { "release" }.to_owned()),
    ];
    entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_gets_twice_the_connections_as_far_as_descriptors_allow() {
        let check = |connections, descriptors, expected| assert_eq!(room(connections, descriptors), expected);
        check(1_000, 1_000_000, 2_064);
        check(10_000, 20_000, 17_250);
        check(10_000, 1_000, 10_001);
    }
}
