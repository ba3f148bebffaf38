//! Compares what was found on the machine with what a hub needs. Pure functions, so that tests cover each result.

use super::Check;
use crate::{
    config::{Config, Tls},
    server::memory::{MemoryPlan, TooLittle},
    tls,
};
use std::path::Path;

/// The first version with `epoll_pwait2`, with which a core waits for its sockets.
const KERNEL_MIN: (u32, u32) = (5, 11);
/// Locked memory that the runtime demands before it creates an executor, and about what the smallest rings use.
const LOCKED_BYTES_PER_SHARD: u64 = 512 * 1024;
/// Descriptors for listeners, rings, the store, HTTP calls and connections during the handshake.
const DESCRIPTORS_RESERVED: u64 = 1_024;
/// 1 January 2024 in seconds since 1970. A clock that shows an earlier time was never set.
const WALL_CLOCK_MIN: u64 = 1_704_067_200;

pub fn kernel(release: &str) -> Check {
    let (major, minor) = KERNEL_MIN;
    let remedy = || format!("install Linux {major}.{minor} or later");
    match version(release) {
        Some(found) if found >= KERNEL_MIN => Check::ok("kernel", release),
        Some(_) => Check::fail("kernel", release, remedy()),
        None => Check::fail("kernel", format!("unknown version {release:?}"), remedy()),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    // Distributions append their own text to the release, such as `5.15.0-28-cloud-amd64`.
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub fn io_uring(disabled: Option<&str>, probe: Result<(), String>) -> Check {
    let name = "io_uring";
    match (probe, disabled) {
        // The probe counts more than the switch: with 1, a group or a capability may still be allowed to use io_uring.
        (Ok(()), _) => Check::ok(name, "allowed"),
        (Err(_), Some(value @ ("1" | "2"))) => {
            Check::fail(name, format!("kernel.io_uring_disabled is {value}"), "run `sysctl kernel.io_uring_disabled=0`")
        }
        (Err(why), _) if why.contains("MemLockLimit") => {
            Check::fail(name, "the limit of locked memory is too low", "raise it, as the check of locked memory says")
        }
        (Err(why), _) => Check::fail(
            name,
            why,
            "allow io_uring_setup, io_uring_enter and io_uring_register; in a container, use a seccomp profile that allows \
             them (Docker: --security-opt seccomp=PROFILE.json, or unconfined)",
        ),
    }
}

/// Bytes of locked memory that `shards` shards need. The kernel charges an exempt process nothing, but the runtime
/// still compares the limit with what one executor needs.
pub fn locked_memory_needed(shards: usize, exempt: bool) -> u64 {
    LOCKED_BYTES_PER_SHARD * if exempt { 1 } else { shards.max(1) as u64 }
}

pub fn locked_memory(limit: Option<u64>, shards: usize, exempt: bool) -> Check {
    let name = "locked memory";
    let needed = locked_memory_needed(shards, exempt);
    match limit {
        None => Check::ok(name, "no limit"),
        Some(limit) if limit >= needed => Check::ok(name, format!("{} KiB", limit / 1024)),
        Some(limit) => Check::fail(
            name,
            format!("{} KiB, needed: {} KiB (shards: {shards})", limit / 1024, needed / 1024),
            format!(
                "raise it: `ulimit -l {0}`, LimitMEMLOCK={0}K for systemd, or --ulimit memlock={needed} for Docker{1}",
                needed / 1024,
                // With one shard there is nothing left to reduce.
                if needed > LOCKED_BYTES_PER_SHARD { "; or use fewer cores" } else { "" },
            ),
        ),
    }
}

/// Descriptors that a hub needs: one for each connection, a tenth more for connections that are being opened or moved
/// between cores, and a fixed number for the rest of the program.
pub fn descriptors_needed(connections_max: usize) -> u64 {
    let connections = connections_max as u64;
    connections.saturating_add(connections / 10).saturating_add(DESCRIPTORS_RESERVED)
}

pub fn descriptors(limit: Option<u64>, connections_max: usize) -> Check {
    let name = "open files";
    let needed = descriptors_needed(connections_max);
    match limit {
        None => Check::ok(name, "no limit"),
        Some(limit) if limit >= needed => Check::ok(name, format!("{limit} for {connections_max} connections")),
        Some(limit) => Check::fail(
            name,
            format!("{limit}, needed: {needed} (connections: {connections_max})"),
            format!(
                "raise it: `ulimit -n {needed}`, LimitNOFILE={needed} for systemd, or --ulimit nofile={needed} for Docker; \
                 or lower limits.max_connections (needed: one for each connection, a tenth more, and {DESCRIPTORS_RESERVED})"
            ),
        ),
    }
}

pub fn memory(available: usize, config: &Config, shards: usize) -> Check {
    let name = "memory";
    let mib = |bytes: usize| bytes / (1024 * 1024);
    match MemoryPlan::of(config, shards, available) {
        Ok(plan) if plan.is_reduced => Check::ok(
            name,
            format!(
                "{} MiB; the bounds are smaller than configured, to fit: events {} MiB, bodies {} MiB{}",
                mib(available),
                mib(plan.recent_bytes),
                mib(plan.platform_bodies_bytes + plan.gateways_bodies_bytes),
                if plan.log_bytes > 0 { format!(", event log {} MiB", mib(plan.log_bytes)) } else { String::new() }
            ),
        ),
        Ok(plan) => Check::ok(name, format!("{} MiB, needed at most: {} MiB", mib(available), mib(plan.total()))),
        Err(TooLittle { needed, available }) => Check::fail(
            name,
            format!("{} MiB, needed: {} MiB (shards: {shards})", mib(available), mib(needed) + 1),
            "allow this process more memory, use fewer cores, or lower limits.max_connections",
        ),
    }
}

pub fn cores(available: usize, shards: usize) -> Check {
    // Not a failure: more shards than cores is slower, but useful in tests.
    let sharing = if shards > available { ", some on the same core" } else { "" };
    Check::ok("cores", format!("{available} (shards: {shards}{sharing})"))
}

pub fn clock(wall_seconds: u64, monotonic: bool) -> Check {
    let name = "clock";
    if !monotonic {
        return Check::fail(name, "the monotonic clock does not advance", "select another clock source of the kernel");
    }
    if wall_seconds < WALL_CLOCK_MIN {
        return Check::fail(
            name,
            "it shows a time before 2024",
            "set the clock: certificates and timestamps depend on it",
        );
    }
    Check::ok(name, "set and running")
}

pub fn data(dir: &Path, writable: Result<(), String>) -> Check {
    let name = "data directory";
    match writable {
        Ok(()) => Check::ok(name, dir.display().to_string()),
        Err(why) => Check::fail(name, why, "allow this user to write there, or choose another directory with --data"),
    }
}

pub fn certificate(configured: &Tls) -> Check {
    let name = "certificate";
    let remedy =
        "set `tls.cert` and `tls.key` to PEM files that this user can read, with a valid certificate and its key";
    match configured {
        Tls::Off => Check::ok(name, "none, because TLS is off"),
        Tls::SelfSigned => Check::ok(name, "self-signed, in the data directory"),
        // Loaded as the hub would, so that a key that does not belong to the certificate is found before the start.
        Tls::Files { cert, key } => match tls::check(cert, key) {
            Ok(()) => Check::ok(name, cert.display().to_string()),
            Err(error) => Check::fail(name, error.to_string(), remedy),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::self_signed;

    fn fails(check: &Check, remedy: &str) {
        let text = check.to_string();
        assert!(text.starts_with("FAIL  ") && text.contains(remedy), "{text}");
    }

    #[test]
    fn kernels_from_5_11_on_are_accepted() {
        let check = |release: &str, expected: bool| assert_eq!(kernel(release).ok, expected, "{release}");
        check("5.11.0", true);
        check("5.15.0-28-cloud-amd64", true);
        check("6.18-rc1", true);
        check("10.0.1", true);
        check("5.10.209", false);
        check("4.19.0", false);
        check("", false);
        check("unknown", false);
        check("99999999999.1", false);
    }

    #[test]
    fn the_remedy_depends_on_what_forbids_io_uring() {
        assert!(io_uring(Some("0"), Ok(())).ok);
        assert!(io_uring(Some("1"), Ok(())).ok, "a group or a capability may be exempt");
        fails(&io_uring(Some("2"), Err("no".to_owned())), "sysctl kernel.io_uring_disabled=0");
        fails(&io_uring(Some("0"), Err("Operation not permitted".to_owned())), "seccomp");
        fails(&io_uring(None, Err("MemLockLimit(65536/524288)".to_owned())), "as the check of locked memory says");
    }

    #[test]
    fn each_shard_needs_locked_memory() {
        let check = |limit, shards, exempt, expected: bool| {
            assert_eq!(locked_memory(limit, shards, exempt).ok, expected, "{limit:?} {shards} {exempt}");
        };
        check(None, 64, false, true);
        check(Some(8 << 20), 16, false, true);
        check(Some(8 << 20), 17, false, false);
        check(Some(512 << 10), 64, true, true);
        check(Some((512 << 10) - 1), 1, true, false);
        fails(&locked_memory(Some(64 << 10), 2, false), "`ulimit -l 1024`, LimitMEMLOCK=1024K");
    }

    #[test]
    fn descriptors_cover_connections_open_and_being_opened() {
        let check = |limit, connections, expected: bool| {
            assert_eq!(descriptors(limit, connections).ok, expected, "{limit:?} {connections}");
        };
        check(None, usize::MAX, true);
        check(Some(2_124), 1_000, true);
        check(Some(2_123), 1_000, false);
        check(Some(u64::MAX - 1), usize::MAX, false);
        fails(&descriptors(Some(1_024), 1_000), "`ulimit -n 2124`");
    }

    #[test]
    fn a_clock_that_was_never_set_fails() {
        assert!(clock(WALL_CLOCK_MIN, true).ok);
        fails(&clock(0, true), "set the clock");
        fails(&clock(WALL_CLOCK_MIN, false), "clock source");
    }

    #[test]
    fn an_unusable_certificate_or_key_is_named() {
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        let (cert, key) = self_signed(first.path()).expect("it can be made");
        let (_, other_key) = self_signed(second.path()).expect("it can be made");
        let files = |cert: &Path, key: &Path| certificate(&Tls::Files { cert: cert.into(), key: key.into() });
        assert!(files(&cert, &key).ok);
        fails(&files(Path::new("/nowhere/cert.pem"), &key), "/nowhere/cert.pem");
        fails(&files(&cert, Path::new("/nowhere/key.pem")), "/nowhere/key.pem");
        fails(&files(&key, &key), "holds no certificate");
        fails(&files(&cert, &other_key), "a valid certificate and its key");

        let mut params = rcgen::CertificateParams::new(vec!["hub".to_owned()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let pair = rcgen::KeyPair::from_pem(&std::fs::read_to_string(&key).expect("it is there")).expect("a key");
        std::fs::write(&cert, params.self_signed(&pair).expect("it can be made").pem()).expect("it can be written");
        fails(&files(&cert, &key), "has expired at 2021-01-01");
        self_signed(first.path()).expect("it can be made");
        assert!(files(&cert, &key).ok, "the self-signed certificate is created again");
    }

    #[test]
    fn the_checks_run_on_this_machine() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = crate::Config { data: dir.path().join("new"), ..crate::Config::default() };
        let checks = super::super::check(&config);
        assert!(checks.iter().any(|check| check.name == "data directory" && check.ok), "{checks:?}");
    }
}
