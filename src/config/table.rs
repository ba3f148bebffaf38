//! Every key: its name, what it takes, where the value goes and what it is for.

use super::{
    draft::{LOG_FORMATS, TLS_MODES},
    kind::Kind,
};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// One thing that can be set.
pub(super) struct Key {
    /// Its dotted name: section and key.
    pub name: &'static str,
    /// What it takes and where it goes.
    pub kind: Kind,
    /// Another name for it in files and flags.
    pub alias: Option<&'static str>,
    /// An environment variable of the platform that came before, and the unit that its bare number means.
    pub legacy: Option<(&'static str, &'static str)>,
    /// What it is for; one line each in the example.
    pub help: &'static [&'static str],
}

impl Key {
    const fn new(name: &'static str, kind: Kind, help: &'static [&'static str]) -> Self {
        Self { name, kind, alias: None, legacy: None, help }
    }

    const fn legacy(mut self, variable: &'static str, unit: &'static str) -> Self {
        self.legacy = Some((variable, unit));
        self
    }

    const fn alias(mut self, name: &'static str) -> Self {
        self.alias = Some(name);
        self
    }

    /// The environment variable that sets it.
    pub(super) fn variable(&self) -> String {
        variable(self.name)
    }

    /// The key that this environment variable sets.
    pub(super) fn find_variable(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.variable() == name || key.alias.is_some_and(|alias| variable(alias) == name))
    }

    /// The key of that name.
    pub(super) fn find(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name || key.alias == Some(name))
    }

    /// The key whose name looks most like it, if any does.
    pub(super) fn nearest(name: &str) -> Option<&'static str> {
        let last = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
        let similarity = |key: &Key| {
            strsim::jaro_winkler(name, key.name)
                .max(strsim::jaro_winkler(name, last(key.name)))
                .max(name.rsplit_once('.').map_or(0.0, |(_, end)| strsim::jaro_winkler(end, last(key.name)) - 0.05))
        };
        let best = KEYS.iter().map(|key| (similarity(key), key.name)).max_by(|a, b| a.0.total_cmp(&b.0));
        best.filter(|(similarity, _)| *similarity > 0.8).map(|(_, name)| name)
    }
}

fn variable(name: &str) -> String {
    format!("GATECAST_{}", name.replace('.', "_").to_ascii_uppercase())
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// In the order of the example file: keys of one section stand together.
pub(super) static KEYS: &[Key] = &[
    Key::new(
        "listen",
        Kind::Address(|draft| &mut draft.config.listen),
        &["Where gateways connect, and the platform too unless admin.listen is set. Port 0 takes a free one."],
    ),
    Key::new(
        "data",
        Kind::Path(|draft| &mut draft.config.data),
        &["The directory of the store, the admin token and a certificate that the hub made itself."],
    ),
    Key::new(
        "cores",
        Kind::Count(0, 1_024, |draft| &mut draft.cores),
        &["Shards, each on a core of its own; 0 takes all cores that the process may run on."],
    ),
    Key::new(
        "origins",
        Kind::List(is_origin, "origins, as \"https://console.example.com\"", |draft| &mut draft.config.origins),
        &[
            "Origins that a browser may connect from. Gateways send no Origin and are not concerned.",
            "In an environment variable: separated by commas.",
        ],
    ),
    Key::new(
        "admin.listen",
        Kind::OptionalAddress(|draft| &mut draft.config.admin_listen),
        &["An address of its own for the platform's calls; \"\" serves them where gateways connect."],
    ),
    Key::new(
        "tls.mode",
        Kind::Choice(TLS_MODES, |draft| &mut draft.tls_mode),
        &[
            "\"auto\": the files below where they are set, else a certificate that the hub makes in its data directory.",
            "\"self-signed\" or \"files\" ask for one of the two. \"off\" is for a hub behind a proxy that terminates TLS.",
        ],
    )
    .alias("tls"),
    Key::new(
        "tls.cert",
        Kind::OptionalPath(|draft| &mut draft.tls_cert),
        &["PEM file with the certificate chain, leaf first. Read again on SIGHUP and when it changes."],
    ),
    Key::new("tls.key", Kind::OptionalPath(|draft| &mut draft.tls_key), &["PEM file with the private key."]),
    Key::new(
        "limits.max_connections",
        Kind::Count(1, 10_000_000, |draft| &mut draft.connections_max),
        &["Connections that gateways may hold; over it they are refused with 503."],
    )
    .legacy("WEBSOCKET_WS_MAX_CONNECTIONS", ""),
    Key::new(
        "limits.max_connections_per_gateway",
        Kind::Count(0, 10_000_000, |draft| &mut draft.connections_per_gateway_max),
        &["Connections of one gateway; 0 sets no bound beside the one above."],
    ),
    Key::new(
        "limits.rate_per_minute",
        Kind::Count(0, 1_000_000, |draft| &mut draft.rate_per_minute),
        &["Connection attempts of one address in a minute; over it they are refused with 429. 0 switches it off."],
    )
    .legacy("WEBSOCKET_WS_RATE_LIMIT_PER_MINUTE", ""),
    Key::new(
        "limits.handshake_deadline",
        Kind::Duration(ms(10), ms(300_000), |draft| &mut draft.config.handshake_deadline),
        &["TLS handshake and first request head together."],
    ),
    Key::new(
        "limits.outbox_bytes",
        Kind::Bytes(16 * KIB, 1_024 * MIB, |draft| &mut draft.outbox_bytes_max),
        &[
            "Bytes that wait for one slow connection above the event in flight; over it: closed with 1013.",
            "Slow is a socket that has taken nothing for a second, or has been over this for five.",
        ],
    ),
    Key::new(
        "limits.write_deadline",
        Kind::Duration(ms(10), HOUR, |draft| &mut draft.config.write_deadline),
        &["A connection that has taken and acknowledged nothing for this long while bytes wait is closed with 1013."],
    ),
    Key::new(
        "limits.inbound_message_bytes",
        Kind::Bytes(KIB, 64 * MIB, |draft| &mut draft.inbound_message_bytes_max),
        &["The largest message that a gateway may send; over it: closed with 1009."],
    ),
    Key::new(
        "heartbeat.interval",
        Kind::Duration(ms(10), ms(30_000), |draft| &mut draft.config.heartbeat_interval),
        &["How often each connection is pinged. Gateways hang up after 35s without a ping, so 30s is the most."],
    ),
    Key::new(
        "heartbeat.timeout",
        Kind::Duration(ms(20), DAY, |draft| &mut draft.config.heartbeat_timeout),
        &["A connection that gave no sign of life for so long is closed. Longer than the interval."],
    )
    .legacy("WEBSOCKET_WS_CONNECTION_TIMEOUT", "s"),
    Key::new(
        "heartbeat.busy_grace",
        Kind::Duration(ms(0), HOUR, |draft| &mut draft.config.heartbeat_busy_grace),
        &["How much longer a gateway may be silent while its kernel still acknowledges our bytes."],
    ),
    Key::new(
        "publish.timeout",
        Kind::Duration(ms(10), ms(60_000), |draft| &mut draft.config.publish_timeout),
        &["A publisher has its answer within this; what is undecided then is counted as pending."],
    ),
    Key::new(
        "drain.window",
        Kind::Duration(ms(0), HOUR, |draft| &mut draft.config.drain_window),
        &["Over how long a shutdown spreads its closes, so that a fleet does not come back in one wave."],
    ),
    Key::new(
        "watchdog.abort_after",
        Kind::Duration(ms(0), DAY, |draft| &mut draft.config.watchdog_abort_after),
        &[
            "The process is aborted when a core has not turned for this long, so that it is started again. 0s switches it off,",
            "and the least otherwise is 2s. Time in which the whole process was stopped does not count.",
        ],
    ),
    Key::new(
        "log.format",
        Kind::Choice(LOG_FORMATS, |draft| &mut draft.log_format),
        &["\"text\" for people or \"json\", one object a line; on standard error."],
    ),
    Key::new(
        "log.filter",
        Kind::Text(is_filter, "a level or tracing directives, as \"info\" or \"info,gatecast::shard=debug\"", |draft| {
            &mut draft.config.log_filter
        }),
        &["Which lines are logged: a level, or directives by module, as \"info,gatecast::shard=debug\"."],
    ),
];

/// RFC 6454 section 6.2: scheme, host, perhaps a port, and no more.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
    })
}

fn is_filter(text: &str) -> bool {
    !text.trim().is_empty() && EnvFilter::try_new(text).is_ok()
}
