//! Every bound in the program, what happens when it is reached, and how the bounds relate.
//!
//! What an operator may change is in [`crate::config`], with these as defaults; the rest is fixed.

use std::time::Duration;

// ---- A peer that has not been let in yet -----------------------------------------------------------------------------

/// Request head, request line included. Over it: 431, or 414 when the target alone is too long.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// One line of the head.
pub const LINE_BYTES_MAX: usize = 8 * 1024;
/// Header fields in one head. Over it: 431.
pub const HEAD_FIELDS_MAX: usize = 64;
/// TLS handshake and first request head together, from accept. Over it: 408 where HTTP is spoken, then closed.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Answers that wait for one socket. Over it: the next request of the connection waits.
pub const ANSWERS_BYTES_MAX: usize = 64 * 1024;
/// A request's body, from its head. Over it: 408.
pub const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// An HTTP connection between two requests. Over it: closed.
pub const HTTP_IDLE_DEADLINE: Duration = Duration::from_secs(60);
/// TLS records of a handshake that wait to be complete. Over it: closed.
pub const TLS_PENDING_BYTES_MAX: usize = 64 * 1024;
/// One chunk-size line with its extensions, and one trailer section. Over it: 400.
pub const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// Chunk extensions of one body. Over it: 400.
pub const CHUNK_EXTENSIONS_BYTES_MAX: usize = 16 * 1024;

// ---- Requests --------------------------------------------------------------------------------------------------------

/// An event's payload: exactly this passes, one byte more is 413 (contract section 2).
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// What may stand around the payload in a publish request.
pub const ENVELOPE_BYTES_MAX: usize = 16 * 1024;
/// The body of a publish.
pub const PUBLISH_BODY_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + ENVELOPE_BYTES_MAX;
/// The body of a batch. Over it: 413.
pub const BATCH_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Lines in one batch. Over it: 413.
pub const BATCH_LINES_MAX: usize = 10_000;
/// A gateway's manifest. Over it: 413.
pub const MANIFEST_BYTES_MAX: usize = 1024 * 1024;
/// Any other body. Over it: 413.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// An event's type.
pub const EVENT_TYPE_BYTES_MAX: usize = 128;
/// A publisher's `userId`.
pub const USER_ID_BYTES_MAX: usize = 256;
/// A gateway's name, display name or organization id.
pub const NAME_BYTES_MAX: usize = 128;
/// Lines of a batch that are read, published or answered before others have their turn.
pub const BATCH_SLICE_LINES: usize = 64;
/// The same in bytes; one line always fits.
pub const BATCH_SLICE_BYTES: usize = 256 * 1024;
/// Gateways named in one call of the deployment hook. Over it: 400.
pub const DEPLOY_TARGETS_MAX: usize = 1_000;
/// The body of a call of the deployment hook. Over it: 413.
pub const DEPLOY_BODY_BYTES_MAX: usize = 512 * 1024;
/// A virtual host in the deployment hook: a DNS name in text form (RFC 1035 section 2.3.4). Over it: 400.
pub const VHOST_BYTES_MAX: usize = 253;
/// Failures listed in one publish answer; the count is always exact.
pub const FAILURES_LISTED_MAX: usize = 100;
/// Failures listed in one batch answer, over all of its lines; the counts are always exact.
pub const BATCH_FAILURES_LISTED_MAX: usize = BATCH_LINES_MAX;
/// Correlation ids of one gateway's last events that are remembered once a publisher has given one, in 8 bytes each. Over it: the
/// oldest is forgotten.
pub const RECENT_IDS_MAX: usize = 1_024;
/// Failed deliveries of one shard that wait to be logged. Over it: counted, and the count is logged.
pub const FAILURES_QUEUED_MAX: usize = 65_536;
/// Rows in one page of a list.
pub const PAGE_ROWS_MAX: usize = 1_000;
/// Rows in a page where none is asked for.
pub const PAGE_ROWS_DEFAULT: usize = 100;
/// Live tokens of one gateway: two make a rotation without downtime. A third is 409.
pub const TOKENS_PER_GATEWAY_MAX: usize = 2;

// ---- A gateway's connection ------------------------------------------------------------------------------------------

/// One inbound message. Over it: close 1009.
pub const INBOUND_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Fragments of one inbound message, empty ones included. Over it: close 1009.
pub const INBOUND_FRAGMENTS_MAX: u32 = 1_024;
/// Control frames that a gateway may send in one second, on average over ten. Over it: close 1008.
pub const INBOUND_CONTROL_PER_SECOND_MAX: u32 = 100;
/// Messages that a gateway may send in one second. Over it: its reading pauses, and they wait in its kernel.
pub const INBOUND_MESSAGES_PER_SECOND_MAX: u32 = 2_000;
/// A text of a gateway's acknowledgement. Over it: cut.
pub const ACK_TEXT_BYTES_MAX: usize = 256;
/// An origin that may not connect, as the log shows it. Over it: cut.
pub const ORIGIN_SHOWN_BYTES_MAX: usize = 128;
/// Bytes read from a gateway at once: few of its messages are longer, and thousands would fit into more.
pub const INBOUND_READ_BYTES: usize = 16 * 1024;
/// Bytes that wait for one socket above the event in flight. Over it: close 1013.
pub const OUTBOX_BYTES_MAX: usize = 1024 * 1024;
/// The same for a socket that takes bytes, or was offered none yet: a whole batch fits, so that it closes nobody who reads.
pub const MOVING_OUTBOX_BYTES_MAX: usize = OUTBOX_BYTES_MAX + 2 * BATCH_BODY_BYTES_MAX;
/// A socket that has taken nothing for this long has to keep within [`OUTBOX_BYTES_MAX`].
pub const OUTBOX_PATIENCE: Duration = Duration::from_secs(1);
/// More than [`OUTBOX_BYTES_MAX`] may wait for this long for a socket that takes bytes: a batch of the largest size to hundreds of
/// connections is written within it. Over it: close 1013.
pub const OVER_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that a kernel keeps of ours and has not sent: at this mark a socket takes no more. With one buffer and one record above
/// it, a ping is never behind more than 128 KiB.
pub const UNSENT_BYTES_MARK: u32 = 32 * 1024;
/// A socket that has taken nothing for so long while bytes wait. Over it: close 1013.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// From the close frame of a revoked key or a deleted gateway until the socket is torn down whatever the peer does.
pub const REVOKED_PATIENCE: Duration = Duration::from_millis(500);
/// Raw bytes that are read and thrown away behind our FIN, so that a reset does not destroy the answer of a peer that is still
/// sending its body. Over it: closed.
pub const DISCARDED_BYTES_MAX: usize = BATCH_BODY_BYTES_MAX + 64 * 1024;
/// A gateway whose reading had to be paused again and again for this long. Over it: close 1008.
pub const FLOOD_PATIENCE: Duration = Duration::from_secs(10);
/// From our close frame until the socket is closed whatever the peer does.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// The ack is the first frame, and it is there within this (contract section 1).
pub const ACK_DEADLINE: Duration = Duration::from_secs(5);
/// Pings go out this often (contract section 1).
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(20);
/// A connection that gave no sign of life for so long is closed at that moment.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(30);
/// Events are cut into frames of this payload, so that a ping finds a frame boundary within it.
pub const FRAGMENT_BYTES: usize = 32 * 1024;
/// Plain bytes that are taken for one write; one TLS record holds it (RFC 8446 section 5.1).
pub const WRITE_BATCH_BYTES: usize = 16 * 1024;

// ---- The hub ---------------------------------------------------------------------------------------------------------

/// Shards for each processor: more would only take turns. Over it: the hub does not start.
pub const SHARDS_PER_CPU_MAX: usize = 16;
/// Connections that gateways may hold. Over it: 503.
pub const CONNECTIONS_MAX: usize = 1_000;
/// Connection attempts of one address in [`RATE_WINDOW`]. Over it: 429.
pub const RATE_PER_MINUTE: u32 = 10;
/// The sliding window of the rate limit.
pub const RATE_WINDOW: Duration = Duration::from_secs(60);
/// Addresses remembered by the rate limit, over all shards. Over it the one longest idle is forgotten.
pub const RATE_ADDRESSES_MAX: usize = 262_144;
/// Sockets that are not gateways' connections: handshakes and HTTP. Over it: closed at accept.
pub const TRANSIENT_SOCKETS_MAX: usize = 8_192;
/// Bytes of bodies that the platform may have under way, over all cores; a core has its share, and never less than the largest body.
/// Over it: 503.
pub const PLATFORM_BODIES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The same for all gateways. Of one gateway a core takes one body at a time that is not whole: the newest.
pub const GATEWAYS_BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Changes that a core has been told of and has not heard. Over it: 503 for whoever asks for another, on every core; with those that
/// wait in the store's queue there are no more than twice as many.
pub const CONTROL_BACKLOG_MAX: usize = 1_024;
/// A publisher waits no longer for its answer.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests that wait in one shard's inbox. Over it: 503.
pub const INBOX_MAX: usize = 4_096;
/// Requests of one shard to others that are not answered yet. Over it: 503.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 16_384;
/// Jobs that wait for the store. Over it: 503.
pub const STORE_QUEUE_MAX: usize = 1_024;
/// How long a job waits for a store file that somebody else has locked. Over it: 503.
pub const STORE_LOCK_WAIT: Duration = Duration::from_millis(250);
/// The same at the start of the hub. Over it: the hub does not start.
pub const STORE_OPEN_LOCK_WAIT: Duration = Duration::from_secs(3);
/// How often a store in trouble is tried again while no job does so.
pub const STORE_PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// An admin token: shorter is too weak for a plain hash and for the network, longer is not a token.
pub const ADMIN_TOKEN_BYTES: std::ops::RangeInclusive<usize> = 22..=512;
/// Over how long a drain spreads its closes.
pub const DRAIN_WINDOW: Duration = Duration::from_secs(5);
/// A core that does not turn for this long. Over it: the process is aborted.
pub const ABORT_AFTER: Duration = Duration::from_secs(30);
/// The least that may be configured for it.
pub const ABORT_AFTER_MIN: Duration = Duration::from_secs(2);
/// Bytes read from one socket before others have their turn.
pub const READ_BATCH_BYTES: usize = 64 * 1024;

const _: () = assert!(HEARTBEAT_TIMEOUT.as_millis() > HEARTBEAT_INTERVAL.as_millis());
const _: () = assert!(LINE_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(PUBLISH_BODY_BYTES_MAX < BATCH_BODY_BYTES_MAX);
const _: () = assert!(BODY_BYTES_MAX < MANIFEST_BYTES_MAX);
const _: () = assert!(DEPLOY_TARGETS_MAX * (VHOST_BYTES_MAX + 128) < DEPLOY_BODY_BYTES_MAX);
const _: () = assert!(FRAGMENT_BYTES < 65_536, "a fragment's length fits the 16-bit form of RFC 6455 section 5.2");
const _: () = assert!(WRITE_BATCH_BYTES <= 16_384, "one TLS record holds one batch");
const _: () = assert!(ACK_DEADLINE.as_millis() < HEARTBEAT_INTERVAL.as_millis());
