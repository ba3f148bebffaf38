//! Whether what was found will do, and the remedy where it will not; pure, so that every verdict is tested.

use super::Check;
use crate::{config::Tls, tls};
use std::path::Path;

/// Linux 5.11 has `epoll_pwait2`, by which a core waits for its sockets.
const KERNEL_MIN: (u32, u32) = (5, 11);
/// What the runtime insists on for one executor, and about what its rings cost at their smallest.
const LOCKED_BYTES_PER_SHARD: u64 = 512 * 1024;
/// Listeners, rings, the store, HTTP calls and connections that are still shaking hands.
const DESCRIPTORS_RESERVED: u64 = 1_024;
/// 1 January 2024: a clock before it was never set.
const WALL_CLOCK_MIN: u64 = 1_704_067_200;

pub fn kernel(release: &str) -> Check {
    let (major, minor) = KERNEL_MIN;
    let remedy = || format!("a hub needs Linux {major}.{minor} or later");
    match version(release) {
        Some(found) if found >= KERNEL_MIN => Check::ok("kernel", release),
        Some(_) => Check::fail("kernel", release, remedy()),
        None => Check::fail("kernel", format!("{release:?} is not understood"), remedy()),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub fn io_uring(disabled: Option<&str>, probe: Result<(), String>) -> Check {
    let name = "io_uring";
    match (probe, disabled) {
        (Ok(()), _) => Check::ok(name, "allowed"),
        (Err(_), Some(value @ ("1" | "2"))) => {
            Check::fail(name, format!("kernel.io_uring_disabled is {value}"), "run `sysctl kernel.io_uring_disabled=0`")
        }
        (Err(why), _) if why.contains("MemLockLimit") => {
            Check::fail(name, "too little memory may be locked", "raise that limit, as the check of it says")
        }
        (Err(why), _) => Check::fail(
            name,
            why,
            "allow io_uring_setup, io_uring_enter and io_uring_register; in a container use a seccomp profile that does \
             (Docker: --security-opt seccomp=PROFILE.json, or unconfined)",
        ),
    }
}

/// Locked memory that so many shards need; a process that is not charged needs only what the runtime insists on.
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
            format!("{} KiB where {} KiB are needed (shards: {shards})", limit / 1024, needed / 1024),
            format!(
                "raise it: `ulimit -l {0}`, LimitMEMLOCK={0}K for systemd, or --ulimit memlock={needed} for Docker{1}",
                needed / 1024,
                if needed > LOCKED_BYTES_PER_SHARD { "; or use fewer cores" } else { "" },
            ),
        ),
    }
}

/// Descriptors that a hub needs: a connection holds one, a tenth of them move between cores or knock at the same time, and
/// the rest of the program needs its own.
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
            format!("{limit} for {connections_max} connections that need {needed}"),
            format!(
                "raise it: `ulimit -n {needed}`, LimitNOFILE={needed} for systemd, or --ulimit nofile={needed} for Docker; \
                 or lower limits.max_connections (one for each connection, a tenth more for those that knock, and {DESCRIPTORS_RESERVED} beside them)"
            ),
        ),
    }
}

pub fn cores(available: usize, shards: usize) -> Check {
    let sharing = if shards > available { ", which share them" } else { "" };
    Check::ok("cores", format!("{available} (shards: {shards}{sharing})"))
}

pub fn clock(wall_seconds: u64, monotonic: bool) -> Check {
    let name = "clock";
    if !monotonic {
        return Check::fail(name, "the monotonic clock does not run", "use another clock source of the kernel");
    }
    if wall_seconds < WALL_CLOCK_MIN {
        return Check::fail(name, "it stands before 2024", "set the clock: certificates and timestamps depend on it");
    }
    Check::ok(name, "set and running")
}

pub fn data(dir: &Path, writable: Result<(), String>) -> Check {
    let name = "data directory";
    match writable {
        Ok(()) => Check::ok(name, dir.display().to_string()),
        Err(why) => Check::fail(name, why, "let this user write there, or name another with --data"),
    }
}

pub fn certificate(configured: &Tls) -> Check {
    let name = "certificate";
    let remedy = "set tls.cert and tls.key to PEM files that this user can read, that are valid and belong together";
    match configured {
        Tls::Off => Check::ok(name, "none: TLS is off"),
        Tls::SelfSigned => Check::ok(name, "the hub's own, in its data directory"),
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
    fn kernels_from_5_11_on_will_do() {
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
    fn a_forbidden_io_uring_says_who_forbids_it() {
        assert!(io_uring(Some("0"), Ok(())).ok);
        assert!(io_uring(Some("1"), Ok(())).ok, "a group or a capability may be excepted");
        fails(&io_uring(Some("2"), Err("no".to_owned())), "sysctl kernel.io_uring_disabled=0");
        fails(&io_uring(Some("0"), Err("Operation not permitted".to_owned())), "seccomp");
        fails(&io_uring(None, Err("MemLockLimit(65536/524288)".to_owned())), "raise that limit");
    }

    #[test]
    fn every_shard_needs_its_locked_memory() {
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
    fn descriptors_cover_the_connections_and_those_that_knock() {
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
    fn a_clock_that_was_never_set_is_found() {
        assert!(clock(WALL_CLOCK_MIN, true).ok);
        fails(&clock(0, true), "set the clock");
        fails(&clock(WALL_CLOCK_MIN, false), "clock source");
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_named() {
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        let (cert, key) = self_signed(first.path()).expect("it can be made");
        let (_, other_key) = self_signed(second.path()).expect("it can be made");
        let files = |cert: &Path, key: &Path| certificate(&Tls::Files { cert: cert.into(), key: key.into() });
        assert!(files(&cert, &key).ok);
        fails(&files(Path::new("/nowhere/cert.pem"), &key), "/nowhere/cert.pem");
        fails(&files(&cert, Path::new("/nowhere/key.pem")), "/nowhere/key.pem");
        fails(&files(&key, &key), "holds no certificate");
        fails(&files(&cert, &other_key), "belong together");

        let mut params = rcgen::CertificateParams::new(vec!["hub".to_owned()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let pair = rcgen::KeyPair::from_pem(&std::fs::read_to_string(&key).expect("it is there")).expect("a key");
        std::fs::write(&cert, params.self_signed(&pair).expect("it can be made").pem()).expect("it can be written");
        fails(&files(&cert, &key), "has expired at 2021-01-01");
        self_signed(first.path()).expect("it can be made");
        assert!(files(&cert, &key).ok, "the hub's own is made again");
    }

    #[test]
    fn this_machine_can_be_asked() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = crate::Config { data: dir.path().join("new"), ..crate::Config::default() };
        let checks = super::super::check(&config);
        assert!(checks.iter().any(|check| check.name == "data directory" && check.ok), "{checks:?}");
    }
}
