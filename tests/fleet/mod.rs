//! A shard with gateways that are connected to it in memory: all of the hub's own work, and no socket.
//!
//! What the driver does for a connection is done here in the same order, so that what is measured is what a hub does.

use gatecast::{
    limits,
    model::{
        Change, ConnectionId, CorrelationId, Event, EventType, GatewayId, Instant, Life, Now, ShardId, Timestamp,
        TokenId,
    },
    session::{self, Admitted, CONNECT_PATH, Effect, Heartbeat, Role, Scratch, Session, Source},
    shard::{self, Command, ConnectionKey, Encoding, Join, Reply, Shard},
    transport::{Transport, WebSocket},
    wire::tls::Security,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, ServerName},
    server::{NoServerSessionStorage, UnbufferedServerConnection},
};
use std::{sync::Arc, time::Duration};

/// A shard, its connections, and what a core has beside them.
pub struct Fleet {
    shard: Shard,
    members: Vec<Member>,
    gateway: GatewayId,
    scratch: Scratch,
    now: Now,
    requests: u64,
}

struct Member {
    session: Session,
    key: ConnectionKey,
}

/// Both ends' configuration of TLS.
pub struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// What a step moved.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Writes to a socket that there would have been.
    pub writes: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Tls {
    /// A certificate of one's own, and a client that trusts it; otherwise as the hub does it.
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring knows them")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("they go together");
        server.ticketer = ring::Ticketer::new().expect("random bytes");
        server.send_tls13_tickets = 1;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a certificate");
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { server: Arc::new(server), client: Arc::new(client) }
    }

    /// Both ends of one connection, by rustls alone.
    pub fn pair(&self) -> (UnbufferedServerConnection, ClientConnection) {
        (UnbufferedServerConnection::new(Arc::clone(&self.server)).expect("a server"), self.client())
    }

    fn client(&self) -> ClientConnection {
        let name = ServerName::try_from("localhost").expect("a name");
        ClientConnection::new(Arc::clone(&self.client), name).expect("a client")
    }
}

impl Fleet {
    /// One gateway with so many connections, all past their ack.
    pub fn new(connections: usize, tls: Option<&Tls>) -> Self {
        let (gateway, mut shard) = (GatewayId::random(), Shard::new(shard_settings()));
        shard.handle_change(Change::GatewayCreated(Life { gateway, incarnation: 1 }));
        let mut fleet = Self {
            shard,
            members: Vec::with_capacity(connections),
            gateway,
            scratch: Scratch::default(),
            now: Now { instant: Instant(1), wall: Timestamp(1_700_000_000_000) },
            requests: 0,
        };
        let settings = Arc::new(session_settings());
        for _ in 0..connections {
            fleet.connect(Arc::clone(&settings), tls);
        }
        fleet
    }

    /// An event for the fleet's gateway with a payload of so many bytes.
    pub fn event(&self, payload_bytes: usize) -> Event {
        Event {
            gateway: self.gateway,
            kind: EventType::parse("api.deployed").expect("it follows the rule"),
            payload: format!("\"{}\"", "x".repeat(payload_bytes - 2)).into(),
            correlation: CorrelationId::random(),
            user_id: None,
        }
    }

    /// Gives the shard an event, which goes into every outbox.
    pub fn publish(&mut self, event: Event) {
        self.requests += 1;
        self.shard.handle_command(self.now, self.requests, Command::Publish(event));
    }

    /// Takes, seals and confirms for every connection that has something to write, as the driver does.
    pub fn deliver(&mut self) -> Moved {
        let mut moved = Moved::default();
        while let Some(key) = self.shard.poll_dirty() {
            let session = &mut self.members[key.index as usize].session;
            write_all(session, key, &mut self.shard, self.now, &mut self.scratch, &mut moved);
        }
        moved
    }

    /// Takes the shard's answers; how many deliveries they tell of.
    pub fn answers(&mut self) -> usize {
        let mut delivered = 0;
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                shard::Effect::Reply(_, Reply::Published(outcome)) => delivered += outcome.delivered as usize,
                other => panic!("not an answer to a publish: {other:?}"),
            }
        }
        self.shard.handle_timeout(self.now);
        delivered
    }

    /// Lets each connection's next ping come due, and sends it.
    pub fn ping(&mut self) -> Moved {
        let mut moved = Moved::default();
        self.now.instant = self.now.instant + limits::HEARTBEAT_INTERVAL;
        for Member { session, key } in &mut self.members {
            session.handle_timeout(self.now);
            write_all(session, *key, &mut self.shard, self.now, &mut self.scratch, &mut moved);
        }
        moved
    }

    /// TLS or nothing, HTTP, the upgrade, the verdict, 101 and ack.
    fn connect(&mut self, settings: Arc<session::Settings>, tls: Option<&Tls>) {
        let security = tls.map_or(Security::Plain, |tls| Security::tls(Arc::clone(&tls.server)).expect("TLS"));
        let mut client = tls.map(Tls::client);
        let address = "127.0.0.1:1".parse().expect("an address");
        let mut session = Session::new(self.now, settings, security, address, Role::Gateways);
        let mut plain = upgrade_request();
        for _ in 0..ROUND_TRIPS {
            let mut bytes = match &mut client {
                None => std::mem::take(&mut plain),
                Some(client) => from_client(client, &mut plain),
            };
            if !bytes.is_empty() {
                session.handle_received(self.now, &mut bytes, &mut self.scratch);
            }
            if let Some(Effect::Admit(_)) = session.poll_effect() {
                return self.admit(session);
            }
            let answer = session.backlog().to_vec();
            session.handle_backlog_sent(self.now, answer.len());
            if let Some(client) = &mut client {
                client.read_tls(&mut answer.as_slice()).expect("memory");
                client.process_new_packets().expect("the client trusts the server");
            }
        }
        panic!("no connection after {ROUND_TRIPS} round trips");
    }

    fn admit(&mut self, mut session: Session) {
        let connection = ConnectionId::random();
        let join = Join { gateway: self.gateway, id: connection, token: TokenId::random(), address: session.peer() };
        let (key, position) = self.shard.handle_join(self.now, join).expect("it may join");
        let admitted = Admitted { gateway: self.gateway, connection, position };
        session.handle_admitted(self.now, admitted, &mut self.scratch);
        let mut ack = Moved::default();
        write_all(&mut session, key, &mut self.shard, self.now, &mut self.scratch, &mut ack);
        assert!(ack.writes > 0 && session.is_streaming());
        assert_eq!(key.index as usize, self.members.len(), "places are given in order");
        self.members.push(Member { session, key });
    }
}

/// More than a TLS 1.3 handshake and a request need.
const ROUND_TRIPS: usize = 6;

/// Writes to a socket that takes all of it.
fn write_all(
    session: &mut Session,
    key: ConnectionKey,
    shard: &mut Shard,
    now: Now,
    scratch: &mut Scratch,
    moved: &mut Moved,
) {
    loop {
        let backlog = session.backlog().len();
        let bytes = if backlog > 0 {
            session.handle_backlog_sent(now, backlog);
            backlog
        } else if session.poll_transmit(now, &mut Events { shard, key, now }, scratch) {
            let bytes = scratch.wire.len();
            session.handle_sent(now, bytes, scratch);
            bytes
        } else {
            return;
        };
        moved.writes += 1;
        moved.bytes += bytes;
    }
}

/// A connection's events, in the shard's outbox.
struct Events<'a> {
    shard: &'a mut Shard,
    key: ConnectionKey,
    now: Now,
}

impl Source for Events<'_> {
    fn take(&mut self, budget: usize, stop: bool, out: &mut Vec<u8>) {
        self.shard.take(self.key, budget, stop, out);
    }

    fn at_boundary(&self) -> bool {
        self.shard.at_boundary(self.key)
    }

    fn is_drained(&self) -> bool {
        self.shard.is_drained(self.key)
    }

    fn handle_written(&mut self) {
        self.shard.handle_written(self.now, self.key);
    }

    fn handle_blocked(&mut self) {
        self.shard.handle_blocked(self.now, self.key);
    }
}

/// What the client sends next; its request as soon as TLS lets it.
fn from_client(client: &mut ClientConnection, plain: &mut Vec<u8>) -> Vec<u8> {
    use std::io::Write;
    if !client.is_handshaking() {
        client.writer().write_all(&std::mem::take(plain)).expect("memory");
    }
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("memory");
    }
    bytes
}

fn upgrade_request() -> Vec<u8> {
    format!(
        "GET {CONNECT_PATH} HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\napi-key: k\r\n\r\n"
    )
    .into_bytes()
}

fn shard_settings() -> shard::Settings {
    shard::Settings {
        id: ShardId(0),
        epoch: 1,
        outbox_bytes_max: limits::OUTBOX_BYTES_MAX,
        connections_per_gateway_max: 0,
        publish_timeout: limits::PUBLISH_TIMEOUT,
        rate_per_window: 0,
        rate_window: limits::RATE_WINDOW,
        rate_addresses_max: limits::RATE_ADDRESSES_MAX,
        encoding: Encoding { encode: WebSocket::encode, boundary: WebSocket::boundary },
    }
}

fn session_settings() -> session::Settings {
    session::Settings {
        origins: Vec::new(),
        handshake_deadline: limits::HANDSHAKE_DEADLINE,
        // Nobody answers the pings, and nobody is closed for it.
        heartbeat: Heartbeat {
            interval: limits::HEARTBEAT_INTERVAL,
            timeout: Duration::from_secs(1 << 30),
            busy_grace: Duration::ZERO,
        },
        write_deadline: limits::WRITE_DEADLINE,
        inbound_message_bytes_max: limits::INBOUND_MESSAGE_BYTES_MAX,
    }
}
