//! Every bound of the program: its value, what happens beyond it, and how the bounds relate.
//!
//! An operator can change those that have a key in [`crate::config`], where they are the defaults. The others are
//! fixed.

use std::time::Duration;

// ---- Before a connection is admitted -------------------------------------------------------------------------------

/// Bytes of a request head, including the request line. Over it: 431, or 414 if the target alone is too long.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the request target, and of each field value in the head. Over it: 414 or 431.
pub const LINE_BYTES_MAX: usize = 8 * 1024;
/// Header fields in one head. Over it: 431.
pub const HEAD_FIELDS_MAX: usize = 64;
/// Time from accept for the TLS handshake and the first request head together. Over it: 408 if HTTP has begun, then
/// closed.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of HTTP answers that wait for one socket. Over it: the connection's next request waits.
pub const ANSWERS_BYTES_MAX: usize = 64 * 1024;
/// Time from a request's head to the end of its body. Over it: 408.
pub const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Time between two requests on an HTTP connection. Over it: closed.
pub const HTTP_IDLE_DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of incomplete handshake records that TLS keeps for one connection. Over it: closed.
pub const TLS_PENDING_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a chunk-size line with its extensions, and bytes of a trailer section. Over it: 400.
pub const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// Bytes of all chunk extensions in one body. Over it: 400.
pub const CHUNK_EXTENSIONS_BYTES_MAX: usize = 16 * 1024;

// ---- Requests ------------------------------------------------------------------------------------------------------

/// Bytes of an event's payload: exactly this many pass, one more is 413 (contract section 2).
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Bytes around the payload in a publish request.
pub const ENVELOPE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the body of a publish request. Over it: 413.
pub const PUBLISH_BODY_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + ENVELOPE_BYTES_MAX;
/// Bytes of the body of a batch. Over it: 413.
pub const BATCH_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Lines in one batch. Over it: 413.
pub const BATCH_LINES_MAX: usize = 10_000;
/// Bytes of a gateway's manifest. Over it: 413.
pub const MANIFEST_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of any other body. Over it: 413.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an event's type. Over it: 400.
pub const EVENT_TYPE_BYTES_MAX: usize = 128;
/// Bytes of a publisher's `userId`. Over it: 400.
pub const USER_ID_BYTES_MAX: usize = 256;
/// Bytes of a gateway's name, display name or organization id, of a revision or of an environment. Over it: 400.
pub const NAME_BYTES_MAX: usize = 128;
/// Lines of a batch that a core reads, publishes or answers before it attends to other connections.
pub const BATCH_SLICE_LINES: usize = 64;
/// The same in bytes. A longer line is still handled in one go.
pub const BATCH_SLICE_BYTES: usize = 256 * 1024;
/// Gateways named in one call of the deployment hook. Over it: 400.
pub const DEPLOY_TARGETS_MAX: usize = 1_000;
/// Bytes of the body of one call of the deployment hook. Over it: 413.
pub const DEPLOY_BODY_BYTES_MAX: usize = 512 * 1024;
/// Bytes of a virtual host in the deployment hook: the longest DNS name as text (RFC 1035 section 2.3.4). Over it: 400.
pub const VHOST_BYTES_MAX: usize = 253;
/// Time for which a publisher can wait until its events are processed. Over it: 400.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// Events of one shard that publishers wait for. Over it: answered at once.
pub const WAIT_EVENTS_MAX: usize = 65_536;
/// Failures listed in the answer to one publish. Over it: not listed; the count is always exact.
pub const FAILURES_LISTED_MAX: usize = 100;
/// Failures listed in the answer to one batch, over all its lines. Over it: not listed; the counts are always exact.
pub const BATCH_FAILURES_LISTED_MAX: usize = BATCH_LINES_MAX;
/// Correlation ids of one gateway's last events that are remembered once a publisher has given one, in 8 bytes each. Over it: the
/// oldest is forgotten.
pub const RECENT_IDS_MAX: usize = 1_024;
/// Failed deliveries of one shard that wait to be logged. Over it: counted in the log as left out.
pub const FAILURES_QUEUED_MAX: usize = 65_536;
/// Rows in one page of a list. Over it: 400.
pub const PAGE_ROWS_MAX: usize = 1_000;
/// Rows in a page if the request gives no `limit`.
pub const PAGE_ROWS_DEFAULT: usize = 100;
/// Rows that are added to a page at once, over all cores: a thousand would hold up the other connections of a core for milliseconds.
pub const STATS_SLICE_ROWS: usize = 128;
/// Live tokens of one gateway: two allow a rotation without downtime. Over it: 409.
pub const TOKENS_PER_GATEWAY_MAX: usize = 2;

// ---- A gateway's connection ----------------------------------------------------------------------------------------

/// Bytes of one message from a gateway. Over it: close 1009.
pub const INBOUND_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Fragments of one message from a gateway, including empty ones. Over it: close 1009.
pub const INBOUND_FRAGMENTS_MAX: u32 = 1_024;
/// Control frames from a gateway in a second, averaged over ten seconds. Over it: close 1008.
pub const INBOUND_CONTROL_PER_SECOND_MAX: u32 = 100;
/// Messages from a gateway in a second. Over it: the hub pauses reading, so that they wait in the kernel.
pub const INBOUND_MESSAGES_PER_SECOND_MAX: u32 = 2_000;
/// Bytes of a text in a gateway's acknowledgement. Over it: truncated.
pub const ACK_TEXT_BYTES_MAX: usize = 256;
/// Bytes of a refused origin that the log shows. Over it: truncated.
pub const ORIGIN_SHOWN_BYTES_MAX: usize = 128;
/// Bytes read from a gateway at once. Few messages are longer, and a larger read would hold thousands of small ones.
pub const INBOUND_READ_BYTES: usize = 16 * 1024;
/// Time for which the event log keeps an event, counted while the hub runs. Over it: trimmed.
pub const EVENT_LOG_RETENTION: Duration = Duration::from_secs(24 * 3_600);
/// The same for events whose payload carries a secret.
pub const EVENT_LOG_SECRET_RETENTION: Duration = Duration::from_secs(3_600);
/// Bytes of the disk that the event log leaves free, so that tokens can still be stored. Below it: events are refused with 503.
pub const EVENT_LOG_RESERVE_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of events that the event log keeps of one gateway. Over it: its oldest are trimmed.
pub const EVENT_LOG_GATEWAY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The same of all gateways. Over it: the gateway with the most loses its oldest.
pub const EVENT_LOG_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Memory of events that connections have yet to take, over all shards. Over it: the oldest leave it, and who needs them gets
/// them from the log.
pub const RECENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The least share of one shard in that memory: some of the largest events.
pub const SHARD_RECENT_BYTES_MIN: usize = 4 * PAYLOAD_BYTES_MAX;
/// The share of one gateway in that memory of its shard. The largest batch fits, so that publishing one costs a gateway that
/// reads no way to the log.
pub const GATEWAY_RECENT_BYTES_MAX: usize = 2 * BATCH_BODY_BYTES_MAX;
/// Bytes of payloads that are read from the log at once for a connection that catches up, if few do. One event is always read.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// The same if many do.
pub const CHUNK_BYTES_MIN: usize = 16 * 1024;
/// Bytes of the chunks that one shard has asked the log for at the same time. Over it: the next one waits for an answer.
pub const READS_BYTES_MAX: usize = 1024 * 1024;
/// Events that are read from the log at once for one connection.
pub const CHUNK_RECORDS_MAX: usize = 256;
/// Bytes of a chunk's memory for which it has one event at most: the least that an encoded event takes.
pub const CHUNK_RECORD_BYTES: usize = 256;
/// Time within which the log must say where a new connection begins. Over it: the ack has no position.
pub const FOLLOW_PATIENCE: Duration = Duration::from_secs(1);
/// The same for a connection that asks to resume. Over it: 503.
pub const RESUME_PATIENCE: Duration = Duration::from_secs(4);
/// Events of one request to the log. Over it: a further request.
pub const APPEND_EVENTS_MAX: usize = 1_024;
/// The same in bytes of payloads. Over it: a further request.
pub const APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Unsent bytes in the kernel at which a socket stops taking more (`TCP_NOTSENT_LOWAT`). With one buffer and one TLS
/// record on top, a ping waits behind 128 KiB at most.
pub const UNSENT_BYTES_MARK: u32 = 32 * 1024;
/// Time in which a socket takes no bytes and the peer acknowledges none, while bytes wait. Over it: close 1013.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Time from the close frame for a revoked token or a deleted gateway until the socket is closed, whatever the peer
/// does.
pub const REVOKED_PATIENCE: Duration = Duration::from_millis(500);
/// Bytes read and discarded after our FIN. A socket that is closed with unread bytes sends a reset, which can destroy
/// the answer before a peer that is still sending its body has read it. Over it: closed.
pub const DISCARDED_BYTES_MAX: usize = BATCH_BODY_BYTES_MAX + 64 * 1024;
/// Time for which a gateway may keep exceeding [`INBOUND_MESSAGES_PER_SECOND_MAX`]. Over it: close 1008.
pub const FLOOD_PATIENCE: Duration = Duration::from_secs(10);
/// Time from our close frame until the socket is closed, whatever the peer does.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// Time within which a new connection gets its ack, which is its first frame (contract section 1).
pub const ACK_DEADLINE: Duration = Duration::from_secs(5);
/// Time between two pings on a connection (contract section 1).
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(20);
/// Time without a byte from a gateway. Over it: closed at once.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of payload in one frame of an event. A ping can be sent at each frame boundary (RFC 6455 section 5.4).
pub const FRAGMENT_BYTES: usize = 32 * 1024;
/// Events that may be written to a connection and not processed, in the delivery `processed`. Over it: the next waits.
pub const DELIVERY_WINDOW: u32 = 1;
/// The largest window that can be configured: a gateway answers a ping for each event in it.
pub const DELIVERY_WINDOW_MAX: u32 = 1_024;
/// Time for which a gateway may process one event. Over it: close 1011.
pub const DELIVERY_PROCESSING_TIMEOUT: Duration = Duration::from_secs(60);
/// Types that are not delivered once a gateway was away: it reads their state from the platform when it connects.
pub const DELIVERY_REPLAY_SKIP: &[&str] = &["apikey.*", "subscription.*", "subscriptionPlan.*"];
/// Connections that end with an event in their gateway's hands. Over it, and after [`DELIVERY_POISON_AFTER`]: the event is skipped.
pub const DELIVERY_POISON_CONNECTIONS: u32 = 5;
/// Time between the first and the last of these ends.
pub const DELIVERY_POISON_AFTER: Duration = Duration::from_secs(600);
/// Time from the first event that was processed until the log is told how far its gateway is, together with all that are processed
/// in it. After a crash of the hub they are delivered again.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Plaintext bytes of one write, which one TLS record can hold (RFC 8446 section 5.1).
pub const WRITE_BATCH_BYTES: usize = 16 * 1024;

// ---- The hub -------------------------------------------------------------------------------------------------------

/// Shards for each processor. Over it: the hub does not start.
pub const SHARDS_PER_CPU_MAX: usize = 16;
/// Gateway connections, over all shards. Over it: 503.
pub const CONNECTIONS_MAX: usize = 1_000;
/// Connection attempts of one address in [`RATE_WINDOW`]. Over it: 429.
pub const RATE_PER_MINUTE: u32 = 10;
/// Length of the rate limit's sliding window.
pub const RATE_WINDOW: Duration = Duration::from_secs(60);
/// Addresses that the rate limit remembers, over all shards. Over it: the address that was idle the longest is
/// forgotten.
pub const RATE_ADDRESSES_MAX: usize = 262_144;
/// Sockets in a handshake or used for HTTP calls, that is, all but gateways' connections. Over it: closed at accept.
pub const TRANSIENT_SOCKETS_MAX: usize = 8_192;
/// Bytes of request bodies that are being received from the platform, over all cores. Each core has an equal share, but
/// at least the size of the largest body. Over it: 503.
pub const PLATFORM_BODIES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The same for bodies from gateways. A core receives one body at a time for each gateway: a newer one replaces it.
pub const GATEWAYS_BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Changes of the store that wait in a core's inbox. Over it: 503 for a call that would cause another change, on every
/// core. With those that wait in the store's queue there are at most twice as many.
pub const CONTROL_BACKLOG_MAX: usize = 1_024;
/// Time within which a publisher gets its answer. Over it: undecided deliveries are counted as pending.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests from other shards that wait in one shard's inbox. Over it: 503.
pub const INBOX_MAX: usize = 4_096;
/// Requests of one shard to others that are not answered yet. Over it: 503.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 16_384;
/// Jobs that wait in the store's queue. Over it: 503.
pub const STORE_QUEUE_MAX: usize = 1_024;
/// Time that a job waits for the store's file if another process has locked it. Over it: 503.
pub const STORE_LOCK_WAIT: Duration = Duration::from_millis(250);
/// The same while the hub starts. Over it: the hub does not start.
pub const STORE_OPEN_LOCK_WAIT: Duration = Duration::from_secs(3);
/// Interval at which a store that cannot write is tried again if no job does so.
pub const STORE_PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of an admin token. A shorter one is too weak: it could be guessed over the network or from its plain
/// hash. Outside of the range: the hub does not start.
pub const ADMIN_TOKEN_BYTES: std::ops::RangeInclusive<usize> = 22..=512;
/// Time over which a drain spreads its closes.
pub const DRAIN_WINDOW: Duration = Duration::from_secs(5);
/// Time for which a core may be stuck. Over it: the process is aborted.
pub const ABORT_AFTER: Duration = Duration::from_secs(30);
/// The shortest [`ABORT_AFTER`] that can be configured.
pub const ABORT_AFTER_MIN: Duration = Duration::from_secs(2);
/// Lines of one kind at WARN or ERROR in a second, over all cores. Over it: left out, and counted in the next line of that kind.
pub const LOG_LINES_PER_SECOND: u8 = 10;
/// Addresses for which a core remembers when it last logged a line. Over it: all are forgotten, so that some get a line early.
pub const LOG_ADDRESSES_MAX: usize = 1_024;
/// Log lines that wait for the thread that writes them. Over it: dropped.
pub const LOG_LINES_QUEUED_MAX: usize = 16_384;
/// Bytes read from one socket before a core attends to other connections.
pub const READ_BATCH_BYTES: usize = 64 * 1024;

// ---- The log of events ---------------------------------------------------------------------------------------------

/// Reads of one shard for the API that the log has not answered. Over it: 503.
pub const EVENT_READS_MAX: usize = 8;
/// Bytes of payloads in one answer of the API with events of a gateway. One event always fits. Over it: on the next page.
pub const EVENTS_PAGE_BYTES_MAX: usize = PAYLOAD_BYTES_MAX;
/// Requests of one shard that the log has not answered yet: appends and follows, and as many reads. Over it: busy.
pub const EVENT_LOG_REQUESTS_MAX: usize = 4_096;
/// Bytes of those requests, and of the room for their answers. A single request always fits. Over it: busy.
pub const EVENT_LOG_REQUESTS_BYTES_MAX: usize = 4 * BATCH_BODY_BYTES_MAX;
/// Time for which the oldest of those requests waits. Over it: busy.
pub const EVENT_LOG_OLDEST_MAX: Duration = Duration::from_secs(1);
/// Bytes of live events that a shard has not taken. Over it: the gateways concerned are interrupted, and followed again from the
/// file.
pub const EVENT_LOG_LIVE_BYTES_MAX: usize = 2 * BATCH_BODY_BYTES_MAX;
/// Events in one commit of the log.
pub const EVENT_LOG_GROUP_EVENTS_MAX: usize = 1_024;
/// Bytes in one commit of the log. A single event always fits.
pub const EVENT_LOG_GROUP_BYTES_MAX: usize = 1024 * 1024;
/// Events of one request in one turn: other requests come before the next slice. Also the events of one trim, and of one step of
/// a follow that begins in the past.
pub const EVENT_LOG_SLICE_EVENTS_MAX: usize = 256;
/// The same in bytes. A single event always fits.
pub const EVENT_LOG_SLICE_BYTES_MAX: usize = 256 * 1024;
/// Time for which the log's thread waits if another process has locked the file. Over it: events are refused.
pub const EVENT_LOG_LOCK_WAIT: Duration = Duration::from_millis(200);
/// Interval at which a log that cannot append is tried again if no request does so.
pub const EVENT_LOG_PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two tries of a log that cannot append. Events between them are refused at once.
pub const EVENT_LOG_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes of the write-ahead log after which it is moved into the file.
pub const EVENT_LOG_CHECKPOINT_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes of the write-ahead log. Over it, or once half of this was written while it is moved into the file: events wait until it has
/// begun anew. So it may be longer for a while.
pub const EVENT_LOG_WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

// Otherwise an idle but healthy connection could be closed before a ping asks the gateway to answer.
const _: () = assert!(HEARTBEAT_TIMEOUT.as_millis() > HEARTBEAT_INTERVAL.as_millis());
const _: () = assert!(LINE_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(PUBLISH_BODY_BYTES_MAX < BATCH_BODY_BYTES_MAX);
const _: () = assert!(BODY_BYTES_MAX < MANIFEST_BYTES_MAX);
// 128 bytes are what JSON needs around one target, its gateway's id included: the largest list of targets fits the
// body.
const _: () = assert!(DEPLOY_TARGETS_MAX * (VHOST_BYTES_MAX + 128) < DEPLOY_BODY_BYTES_MAX);
const _: () = assert!(FRAGMENT_BYTES < 65_536, "a fragment's length fits the 16-bit form of RFC 6455 section 5.2");
const _: () = assert!(WRITE_BATCH_BYTES <= 16_384, "one TLS record holds one batch");
const _: () = assert!(ACK_DEADLINE.as_millis() < HEARTBEAT_INTERVAL.as_millis());
const _: () = assert!(EVENT_LOG_REQUESTS_BYTES_MAX > BATCH_BODY_BYTES_MAX + EVENT_LOG_GROUP_BYTES_MAX);
const _: () = assert!(EVENT_LOG_LIVE_BYTES_MAX > EVENT_LOG_GROUP_BYTES_MAX + PAYLOAD_BYTES_MAX);
const _: () = assert!(EVENT_LOG_SLICE_EVENTS_MAX <= EVENT_LOG_GROUP_EVENTS_MAX);
const _: () = assert!(EVENT_LOG_SLICE_BYTES_MAX <= EVENT_LOG_GROUP_BYTES_MAX);
const _: () =
    assert!(EVENT_READS_MAX * EVENTS_PAGE_BYTES_MAX < EVENT_LOG_REQUESTS_BYTES_MAX / 2, "room for those that catch up");
const _: () = assert!(EVENT_LOG_CHECKPOINT_BYTES < EVENT_LOG_WAL_BYTES_MAX);
