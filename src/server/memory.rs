//! The memory that a hub may use for others, checked against the memory that there is.
//!
//! Each bound is a maximum that only trouble reaches: slow connections, bodies that never end, a stuck disk. Under a small
//! limit they shrink together, so that the hub sheds load by its own rules and is not killed by the kernel.

use crate::{
    config::{Config, EventLogMode},
    limits,
};
use std::{fs, path::Path};

/// What the bounds of a hub add up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MemoryPlan {
    /// For events that connections have yet to take, over all shards.
    pub(crate) recent_bytes: usize,
    /// For request bodies of the platform, over all shards.
    pub(crate) platform_bodies_bytes: usize,
    /// For request bodies of gateways, over all shards.
    pub(crate) gateways_bodies_bytes: usize,
    /// For events that the log keeps in memory, over all shards; 0 for a durable log.
    pub(crate) log_bytes: usize,
    /// What does not shrink: the program, its connections, and the queues of the log.
    pub(crate) fixed_bytes: usize,
    /// The bounds are smaller than configured.
    pub(crate) is_reduced: bool,
}

/// The bounds do not fit, even at their smallest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooLittle {
    /// Bytes that the hub needs.
    pub(crate) needed: usize,
    /// Bytes that there are.
    pub(crate) available: usize,
}

const MIB: usize = 1024 * 1024;
/// Memory of a hub without connections: code, stacks, TLS, the caches of the two databases.
const PROGRAM_BYTES: usize = 40 * MIB;
/// Memory of one connection whose socket is full: its session, TLS, and a sealed record that the socket has not taken.
const CONNECTION_BYTES: usize = 24 * 1024;

impl MemoryPlan {
    /// The bounds of this configuration with so much memory.
    ///
    /// # Errors
    /// If they do not fit at their smallest.
    pub(crate) fn of(config: &Config, shards: usize, available: usize) -> Result<Self, TooLittle> {
        let shards = shards.max(1);
        let (queues, log_bytes) = match config.event_log_mode {
            EventLogMode::Durable => (limits::EVENT_LOG_REQUESTS_BYTES_MAX + limits::EVENT_LOG_LIVE_BYTES_MAX, 0),
            EventLogMode::Memory => (0, config.event_log_bytes_max),
        };
        let fixed_bytes = PROGRAM_BYTES
            .saturating_add(config.connections_max.saturating_mul(CONNECTION_BYTES))
            .saturating_add(queues.saturating_mul(shards));
        // An eighth is left to the kernel, which charges the buffers of sockets to the same limit, and to fragmentation.
        let free = (available / 8 * 7).saturating_sub(fixed_bytes);
        let wanted =
            [config.recent_bytes_max, limits::PLATFORM_BODIES_BYTES_MAX, limits::GATEWAYS_BODIES_BYTES_MAX, log_bytes];
        let least = [
            limits::SHARD_RECENT_BYTES_MIN * shards,
            limits::BATCH_BODY_BYTES_MAX * shards,
            limits::MANIFEST_BYTES_MAX * shards,
            log_bytes.min(MIB * shards),
        ];
        let sum = |parts: [usize; 4]| parts.into_iter().fold(0, usize::saturating_add);
        if sum(least) > free {
            return Err(TooLittle { needed: (fixed_bytes + sum(least)).saturating_mul(8) / 7 + 1, available });
        }
        let is_reduced = sum(wanted) > free;
        // What is above the least shrinks, each part in proportion.
        let above: [usize; 4] = std::array::from_fn(|n| wanted[n].saturating_sub(least[n]));
        let room = (free - sum(least)) as f64 / sum(above).max(1) as f64;
        let part =
            |n: usize| if is_reduced { least[n] + (above[n] as f64 * room) as usize } else { wanted[n].max(least[n]) };
        Ok(Self {
            recent_bytes: part(0),
            platform_bodies_bytes: part(1),
            gateways_bodies_bytes: part(2),
            log_bytes: part(3),
            fixed_bytes,
            is_reduced,
        })
    }

    /// Bytes that the hub uses at most.
    pub(crate) fn total(&self) -> usize {
        self.fixed_bytes + self.recent_bytes + self.platform_bodies_bytes + self.gateways_bodies_bytes + self.log_bytes
    }
}

/// The memory that this process may use: that of the machine, or the limit of its cgroup if that is lower.
pub(crate) fn available() -> usize {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| machine_bytes(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(limit_files).filter_map(|path| limit_in(&read(&path)?));
    limits.chain(machine).min().unwrap_or(usize::MAX)
}

fn machine_bytes(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// The files that may hold the limit of the process's cgroup and of those around it: version 2, and version 1 of the
/// controller `memory`. A container often shows its own cgroup as the root.
fn limit_files(line: &str) -> Vec<std::path::PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let path = Path::new(root).join(path.trim_start_matches('/'));
    path.ancestors().take_while(|dir| dir.starts_with(root)).map(|dir| dir.join(file)).collect()
}

/// The limit in such a file; `None` for no limit, which version 1 writes as a number close to 2^63.
fn limit_in(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(mode: EventLogMode, shards: usize, mib: usize) -> Result<MemoryPlan, TooLittle> {
        MemoryPlan::of(&Config { event_log_mode: mode, ..Config::default() }, shards, mib * MIB)
    }

    #[test]
    fn with_enough_memory_the_bounds_are_as_configured() {
        let plan = plan(EventLogMode::Durable, 2, 4_096).unwrap();
        assert_eq!((plan.recent_bytes, plan.log_bytes, plan.is_reduced), (limits::RECENT_BYTES_MAX, 0, false));
        assert_eq!(plan.platform_bodies_bytes, limits::PLATFORM_BODIES_BYTES_MAX);
    }

    #[test]
    fn with_little_memory_the_bounds_shrink_and_fit() {
        for (mode, shards, mib) in [
            (EventLogMode::Durable, 1, 256),
            (EventLogMode::Memory, 1, 256),
            (EventLogMode::Memory, 2, 1_024),
            (EventLogMode::Durable, 4, 512),
        ] {
            let plan = plan(mode, shards, mib).unwrap();
            assert!(plan.is_reduced && plan.total() <= mib * MIB / 8 * 7, "{plan:?}");
            assert!(plan.recent_bytes >= limits::SHARD_RECENT_BYTES_MIN * shards, "{plan:?}");
        }
    }

    #[test]
    fn a_hub_that_cannot_fit_is_told_what_it_needs() {
        let TooLittle { needed, available } = plan(EventLogMode::Durable, 8, 256).unwrap_err();
        assert_eq!(available, 256 * MIB);
        assert!(plan(EventLogMode::Durable, 8, needed / MIB + 1).is_ok(), "{needed}");
    }

    #[test]
    fn limits_of_both_versions_of_cgroups_are_found() {
        let files = |line| limit_files(line).into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            files("0::/system.slice/hub.service"),
            [
                "/sys/fs/cgroup/system.slice/hub.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            files("4:cpu,memory:/a"),
            ["/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        assert!(files("4:cpu:/a").is_empty());
        assert_eq!(
            [limit_in("max\n"), limit_in("268435456\n"), limit_in("9223372036854771712")],
            [None, Some(256 * MIB), None]
        );
        assert_eq!(machine_bytes("MemTotal:       24684056 kB\n"), Some(24_684_056 * 1024));
        assert!(available() > 64 * MIB);
    }
}
