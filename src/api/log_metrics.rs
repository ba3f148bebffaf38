//! The metrics of the log of events.

use crate::model::{COMMIT_LATENCY_BUCKETS_US, LogStats, Trimmed};
use std::fmt::Write;

const TRIMMED: [(Trimmed, &str); 4] = [
    (Trimmed::Age, "age"),
    (Trimmed::GatewayBytes, "gateway bytes"),
    (Trimmed::TotalBytes, "total bytes"),
    (Trimmed::Secret, "secret"),
];

/// Appends them in Prometheus' text format.
pub(super) fn write(text: &mut String, log: &LogStats) {
    let gauges = [
        ("healthy", "Whether the event log can append and read.", f64::from(u8::from(log.health().is_empty()))),
        ("queue_age_seconds", "How long the oldest request has waited.", log.queue_age().as_secs_f64()),
        ("retained_events", "Events that can be read.", log.retained_events() as f64),
        ("retained_bytes", "Bytes of those events, as its bounds count them.", log.retained_bytes() as f64),
        ("file_bytes", "Bytes of the file.", log.file_bytes() as f64),
        ("wal_bytes", "Bytes of the write-ahead log of the file.", log.wal_bytes() as f64),
        ("free_bytes", "Free bytes of the disk.", log.free_bytes() as f64),
    ];
    // Writing to a string cannot fail.
    for (name, help, value) in gauges {
        let name = format!("gatecast_event_log_{name}");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    let counters = [
        ("events_total", "Events that were committed.", log.commit_events()),
        ("new_epochs_total", "New epochs, because events may have been lost.", log.new_epochs()),
        ("damaged_rows_total", "Events that did not match their checksum when they were read.", log.damaged_rows()),
    ];
    for (name, help, value) in counters {
        let name = format!("gatecast_event_log_{name}");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
    }
    let name = "gatecast_event_log_trimmed_total";
    let _ = writeln!(text, "# HELP {name} Events that were removed, by the reason.\n# TYPE {name} counter");
    for (why, label) in TRIMMED {
        let _ = writeln!(text, "{name}{{reason=\"{label}\"}} {}", log.trimmed(why));
    }
    write_commits(text, log);
}

/// Appends the histogram of commits: its sum and count are those of the buckets, read at once.
fn write_commits(text: &mut String, log: &LogStats) {
    let name = "gatecast_event_log_commit_seconds";
    let _ = writeln!(text, "# HELP {name} Time of the commits of groups of events.\n# TYPE {name} histogram");
    let (mut count, buckets) = (0, log.commit_latency());
    for (bucket, end) in buckets.iter().zip(COMMIT_LATENCY_BUCKETS_US) {
        count += bucket;
        let _ = writeln!(text, "{name}_bucket{{le=\"{}\"}} {count}", end as f64 / 1_000_000.0);
    }
    count += buckets.last().copied().unwrap_or(0);
    let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}");
    let _ = writeln!(text, "{name}_sum {}\n{name}_count {count}", log.commit_time().as_secs_f64());
}
