//! The table of keys: name, type and bounds of the value, its field in the draft, and its description.

use super::{
    draft::{EVENT_LOG_MODES, EVENT_LOG_SYNCS, LOG_FORMATS, TLS_MODES},
    kind::Kind,
};
use crate::{
    limits,
    model::{DeliveryMode, EventType},
};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// One key of the configuration.
pub(super) struct Key {
    /// The dotted name: section and key.
    pub name: &'static str,
    /// The type and bounds of the value, and its field in the draft.
    pub kind: Kind,
    /// A second name of the key.
    pub alias: Option<&'static str>,
    /// An environment variable of the older platform, and the unit of a number without one.
    pub legacy: Option<(&'static str, &'static str)>,
    /// The description, as lines of the example file.
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

    /// The name of the environment variable that sets this key.
    pub(super) fn variable(&self) -> String {
        variable(self.name)
    }

    /// Finds the key that this environment variable sets.
    pub(super) fn find_variable(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.variable() == name || key.alias.is_some_and(|alias| variable(alias) == name))
    }

    /// Finds the key with this name.
    pub(super) fn find(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name || key.alias == Some(name))
    }

    /// Finds the key with the most similar name, if one is similar enough to suggest.
    pub(super) fn nearest(name: &str) -> Option<&'static str> {
        let last = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
        // A key is often remembered without its section, or looked for in the wrong one. So its last part is compared
        // too, with a small penalty when the section differs, which lets the right section win a tie.
        let similarity = |key: &Key| {
            strsim::jaro_winkler(name, key.name)
                .max(strsim::jaro_winkler(name, last(key.name)))
                .max(name.rsplit_once('.').map_or(0.0, |(_, end)| strsim::jaro_winkler(end, last(key.name)) - 0.05))
        };
        let best = KEYS.iter().map(|key| (similarity(key), key.name)).max_by(|a, b| a.0.total_cmp(&b.0));
        // Below this a suggestion misleads more often than it helps.
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

/// All keys in the order of the example file. Keys of one section must stand together.
pub(super) static KEYS: &[Key] = &[
    Key::new(
        "listen",
        Kind::Address(|draft| &mut draft.config.listen),
        &["Address that gateways connect to, and the platform too unless admin.listen is set. Port 0 takes a free port."],
    ),
    Key::new(
        "data",
        Kind::Path(|draft| &mut draft.config.data),
        &["Directory of the store, the admin token and the self-signed certificate."],
    ),
    Key::new(
        "cores",
        Kind::Count(0, 1_024, |draft| &mut draft.cores),
        &["Number of shards, each on its own core; 0 uses all cores that the process may run on."],
    ),
    Key::new(
        "origins",
        Kind::List(
            is_origin,
            "origins, each http:// or https:// with a host, perhaps a port, and no path, as \"https://console.example.com\"",
            |draft| &mut draft.config.origins,
        ),
        &[
            "Origins from which a browser may connect, besides the hub's own (the request's Host). Gateways send no Origin, or that of the hub.",
            "In an environment variable or a flag, separate them with commas.",
        ],
    ),
    Key::new(
        "admin.listen",
        Kind::OptionalAddress(|draft| &mut draft.config.admin_listen),
        &["Separate address for the platform's calls; \"\" serves them at the address that gateways connect to."],
    ),
    Key::new(
        "tls.mode",
        Kind::Choice(TLS_MODES, |draft| &mut draft.tls_mode),
        &[
            "\"auto\" uses the files below if they are set, otherwise a certificate that the hub creates in its data directory.",
            "\"files\" and \"self-signed\" select one of these. \"off\" is for a hub behind a proxy that terminates TLS.",
        ],
    )
    .alias("tls"),
    Key::new(
        "tls.cert",
        Kind::OptionalPath(|draft| &mut draft.tls_cert),
        &["PEM file with the certificate chain, leaf first. Reloaded on SIGHUP and when it changes."],
    ),
    Key::new("tls.key", Kind::OptionalPath(|draft| &mut draft.tls_key), &["PEM file with the private key."]),
    Key::new(
        "limits.max_connections",
        Kind::Count(1, 10_000_000, |draft| &mut draft.connections_max),
        &["Most gateway connections at the same time; further ones are refused with 503."],
    )
    .legacy("WEBSOCKET_WS_MAX_CONNECTIONS", ""),
    Key::new(
        "limits.max_connections_per_gateway",
        Kind::Count(0, 10_000_000, |draft| &mut draft.connections_per_gateway_max),
        &["Most connections of one gateway; 0 sets no limit besides max_connections."],
    ),
    Key::new(
        "limits.rate_per_minute",
        Kind::Count(0, 1_000_000, |draft| &mut draft.rate_per_minute),
        &["Most connection attempts of one address in a minute; further ones are refused with 429. 0 disables the limit."],
    )
    .legacy("WEBSOCKET_WS_RATE_LIMIT_PER_MINUTE", ""),
    Key::new(
        "limits.handshake_deadline",
        Kind::Duration(ms(10), ms(300_000), |draft| &mut draft.config.handshake_deadline),
        &["Time for the TLS handshake and the first request head together."],
    ),
    Key::new(
        "limits.recent_bytes",
        Kind::Bytes(MIB, 64 * 1_024 * MIB, |draft| &mut draft.recent_bytes_max),
        &[
            "Memory for events that connections have yet to take, over all shards. Connections share it. Beyond it the oldest",
            "events leave it, and a connection that still needs them gets them from the event log.",
        ],
    ),
    Key::new(
        "limits.write_deadline",
        Kind::Duration(ms(10), HOUR, |draft| &mut draft.config.write_deadline),
        &["A connection is closed with 1013 if bytes wait and it has taken and acknowledged none for this long."],
    ),
    Key::new(
        "limits.inbound_message_bytes",
        Kind::Bytes(KIB, 64 * MIB, |draft| &mut draft.inbound_message_bytes_max),
        &["Largest message that a gateway may send; a larger one closes the connection with 1009."],
    ),
    Key::new(
        "heartbeat.interval",
        Kind::Duration(ms(10), ms(30_000), |draft| &mut draft.config.heartbeat_interval),
        &["Time between two pings on a connection. Gateways disconnect after 35s without a ping, so 30s is the maximum."],
    ),
    Key::new(
        "heartbeat.timeout",
        Kind::Duration(ms(20), DAY, |draft| &mut draft.config.heartbeat_timeout),
        &["A connection is closed if nothing arrives from the gateway for this long. It must be longer than the interval."],
    )
    .legacy("WEBSOCKET_WS_CONNECTION_TIMEOUT", "s"),
    Key::new(
        "heartbeat.busy_grace",
        Kind::Duration(ms(0), HOUR, |draft| &mut draft.config.heartbeat_busy_grace),
        &["Time added to the timeout while the gateway's kernel still acknowledges the bytes that the hub sends."],
    ),
    Key::new(
        "publish.timeout",
        Kind::Duration(ms(10), ms(60_000), |draft| &mut draft.config.publish_timeout),
        &["A publisher is answered within this time; deliveries that are still undecided are counted as pending."],
    ),
    Key::new(
        "delivery.mode",
        Kind::Choice(DeliveryMode::WORDS, |draft| &mut draft.delivery_mode),
        &[
            "When an event counts as delivered to a gateway that has no mode of its own: \"written\" once a socket has taken it,",
            "\"processed\" once the gateway has answered a ping behind it. A gateway that comes back then gets what it has not processed.",
        ],
    ),
    Key::new(
        "delivery.window",
        Kind::Count(1, limits::DELIVERY_WINDOW_MAX as u64, |draft| &mut draft.delivery_window),
        &["Most events that are written to a connection and not yet processed, with the mode \"processed\"."],
    ),
    Key::new(
        "delivery.processing_timeout",
        Kind::Duration(ms(1_000), HOUR, |draft| &mut draft.config.delivery_processing_timeout),
        &["A connection is closed with 1011 if the gateway processes one event for longer, with the mode \"processed\"."],
    ),
    Key::new(
        "delivery.replay_skip",
        Kind::List(
            is_type_or_prefix,
            "event types such as \"api.deployed\", or prefixes of types that end in * such as \"apikey.*\"",
            |draft| &mut draft.config.delivery_replay_skip,
        ),
        &[
            "Types of events that a gateway does not get if it was away when they were published, with the mode \"processed\": it reads",
            "their state from the platform when it connects. An empty list skips none.",
        ],
    ),
    Key::new(
        "delivery.poison_connections",
        Kind::Count(1, 1_000, |draft| &mut draft.delivery_poison_connections),
        &["An event is skipped after this many connections have ended while the gateway had it and had not processed it."],
    ),
    Key::new(
        "delivery.poison_after",
        Kind::Duration(ms(0), DAY, |draft| &mut draft.config.delivery_poison_after),
        &["Shortest time between the first and the last of these ends before the event is skipped."],
    ),
    Key::new(
        "event_log.mode",
        Kind::Choice(EVENT_LOG_MODES, |draft| &mut draft.event_log_mode),
        &[
            "Where events are kept for gateways that reconnect and ask for what they missed: \"durable\" in the file log.db of",
            "the data directory, \"memory\" only for the life of the process.",
        ],
    ),
    Key::new(
        "event_log.sync",
        Kind::Choice(EVENT_LOG_SYNCS, |draft| &mut draft.event_log_sync),
        &[
            "What an event in the durable log survives once its publish is answered: \"power\" a loss of power, because the file",
            "is synced before the answer; \"process\" the end of the process, however it ends.",
        ],
    ),
    Key::new(
        "event_log.retention",
        Kind::Duration(ms(60_000), DAY.saturating_mul(366), |draft| &mut draft.config.event_log_retention),
        &["How long an event is kept, counted only while the hub runs."],
    ),
    Key::new(
        "event_log.secret_retention",
        Kind::Duration(ms(60_000), DAY.saturating_mul(366), |draft| &mut draft.config.event_log_secret_retention),
        &["How long an event whose payload carries a secret is kept (types apikey.* and subscription.*)."],
    ),
    Key::new(
        "event_log.gateway_bytes",
        Kind::Bytes(MIB, 1_024 * 1_024 * MIB, |draft| &mut draft.event_log_gateway_bytes_max),
        &["Most bytes of events that are kept of one gateway; beyond it its oldest go."],
    ),
    Key::new(
        "event_log.total_bytes",
        Kind::Bytes(16 * MIB, 1_024 * 1_024 * MIB, |draft| &mut draft.event_log_bytes_max),
        &["Most bytes of events that are kept of all gateways; beyond it the gateway that has the most loses its oldest."],
    ),
    Key::new(
        "event_log.reserve_bytes",
        Kind::Bytes(0, 1_024 * 1_024 * MIB, |draft| &mut draft.event_log_reserve_bytes),
        &["Free bytes of the disk below which the durable log refuses events, so that the store can still write."],
    ),
    Key::new(
        "drain.window",
        Kind::Duration(ms(0), HOUR, |draft| &mut draft.config.drain_window),
        &["Time over which a shutdown spreads its closes, so that the gateways do not all reconnect at once."],
    ),
    Key::new(
        "watchdog.abort_after",
        Kind::Duration(ms(0), DAY, |draft| &mut draft.config.watchdog_abort_after),
        &[
            "The process is aborted if a core is stuck for this long, so that the service manager can restart it: at least 2s,",
            "or 0s to disable it. Time in which the whole process was stopped does not count.",
        ],
    ),
    Key::new(
        "log.format",
        Kind::Choice(LOG_FORMATS, |draft| &mut draft.log_format),
        &["Format of the log on standard error: \"text\", or \"json\" with one object per line."],
    ),
    Key::new(
        "log.filter",
        Kind::Text(is_filter, "a level or directives such as \"info\" or \"info,gatecast::shard=debug\"", |draft| {
            &mut draft.config.log_filter
        }),
        &["Which lines are logged: a level, or directives by module such as \"info,gatecast::shard=debug\"."],
    ),
];

/// Whether the text has the form of an origin (RFC 6454 section 6.2): scheme, host and optional port, without a path.
fn is_origin(text: &str) -> bool {
    // A trailing slash is refused too: browsers send none, so that such an entry would never match.
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
    })
}

/// Whether the text is the type of an event, or the begin of one with a `*` behind it.
fn is_type_or_prefix(text: &str) -> bool {
    // A lone `*` is refused with the empty begin: it would skip everything.
    EventType::parse(text.strip_suffix('*').unwrap_or(text)).is_some()
}

fn is_filter(text: &str) -> bool {
    // `EnvFilter` takes an empty text and then logs errors only, which nobody means by it.
    !text.trim().is_empty() && EnvFilter::try_new(text).is_ok()
}
