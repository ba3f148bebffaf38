//! One core with gateways connected in memory: the hub's own engine without sockets, channels or a clock.

mod memory;

use gatecast::{
    api::{CONNECT_PATH, Phase},
    engine::{Engine, EngineSettings, HubSettings, HubState, Ready, Rest},
    limits,
    model::{Change, GatewayId, KeyHash, Life, ShardId, TokenId},
    session::{self, Heartbeat},
    shard::{self, Delivery, Encoding, Placement},
    transport::{Transport, WebSocket},
};
use memory::{MemoryIo, SocketId};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, ServerName},
    server::{NoServerSessionStorage, UnbufferedServerConnection},
};
use std::{
    io::{Read, Write},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

const ADMIN_TOKEN: &str = "an-admin-token-of-the-usual-length-0123456789";
const KEY: &str = "k";

/// A core, a gateway with its connections, and a platform that publishes to it.
pub struct Fleet {
    engine: Engine<MemoryIo>,
    io: MemoryIo,
    gateway: GatewayId,
    publisher: Client,
}

/// The platform's end of its connection.
struct Client {
    socket: SocketId,
    tls: Option<ClientConnection>,
    plain: Vec<u8>,
}

/// The TLS configurations of both ends.
pub struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// What was written to the gateway's connections.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Number of writes to their sockets.
    pub writes: usize,
    /// Number of bytes in these writes.
    pub bytes: usize,
}

impl Tls {
    /// A self-signed certificate, and a client that trusts it; everything else is configured as in the hub.
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring supports these versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("the key belongs to the certificate");
        server.ticketer = ring::Ticketer::new().expect("the system has random bytes");
        server.send_tls13_tickets = 1;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a certificate");
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports these versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { server: Arc::new(server), client: Arc::new(client) }
    }

    /// Both ends of one connection, with rustls only.
    pub fn pair(&self) -> (UnbufferedServerConnection, ClientConnection) {
        (UnbufferedServerConnection::new(Arc::clone(&self.server)).expect("a server"), self.client())
    }

    fn client(&self) -> ClientConnection {
        let name = ServerName::try_from("localhost").expect("a name");
        ClientConnection::new(Arc::clone(&self.client), name).expect("a client")
    }
}

impl Fleet {
    /// One gateway with this number of connections, all of which have their ack, and a platform after its handshake.
    pub fn new(connections: usize, tls: Option<&Tls>) -> Self {
        let gateway = GatewayId::random();
        let mut io = MemoryIo::new();
        let hub = Arc::new(HubState::new(hub_settings()));
        hub.advance(Phase::Ready);
        let settings = EngineSettings {
            id: ShardId(0),
            hub,
            shard: shard_settings(),
            directory: directory(gateway),
            tls: tls.map(|tls| Arc::clone(&tls.server)),
        };
        let engine = Engine::new(io.clock(), settings);
        let socket = io.connect();
        let publisher = Client { socket, tls: tls.map(Tls::client), plain: Vec::with_capacity(1 << 16) };
        let mut fleet = Self { engine, io, gateway, publisher };
        for _ in 0..connections {
            let socket = fleet.io.connect();
            let mut client = Client { socket, tls: tls.map(Tls::client), plain: Vec::new() };
            fleet.exchange(&mut client, &upgrade_request(), b"connection.ack");
            fleet.io.keep_nothing_of(socket);
        }
        let request = fleet.request("GET", "/ready", "");
        let mut publisher = std::mem::replace(&mut fleet.publisher, Client { socket, tls: None, plain: Vec::new() });
        fleet.exchange(&mut publisher, &request, b"ready");
        publisher.plain.clear();
        fleet.publisher = publisher;
        fleet.take_moved();
        fleet
    }

    /// The bytes of a publish request, encrypted for the publisher's socket; its payload has `payload_bytes` bytes.
    pub fn event(&mut self, payload_bytes: usize) -> Vec<u8> {
        let body = format!(r#"{{"type":"api.deployed","payload":"{}"}}"#, "x".repeat(payload_bytes - 2));
        let request = self.request("POST", &format!("/api/v1/gateways/{}/events", self.gateway), &body);
        self.publisher.seal(&request)
    }

    /// Delivers the publisher's bytes, and runs the core until it is idle.
    pub fn publish(&mut self, bytes: &[u8]) {
        self.io.receive_from_peer(self.publisher.socket, bytes);
        self.run();
    }

    /// What was written to the gateway's connections since the last call.
    pub fn take_moved(&mut self) -> Moved {
        let (writes, bytes) = self.io.take_moved();
        Moved { writes, bytes }
    }

    /// Reads the publisher's answers, and returns the sum of their `delivered`.
    pub fn answers(&mut self) -> usize {
        let bytes = self.io.take_sent(self.publisher.socket);
        self.publisher.open(&bytes);
        let text = String::from_utf8_lossy(&self.publisher.plain).into_owned();
        self.publisher.plain.clear();
        let counts = text.split("\"delivered\":").skip(1);
        counts.filter_map(|rest| rest.split([',', '}']).next()?.parse::<usize>().ok()).sum()
    }

    /// Advances the clock to the next ping of every connection, and returns what was written.
    pub fn ping(&mut self) -> Moved {
        self.io.pass_time(limits::HEARTBEAT_INTERVAL);
        self.run();
        self.take_moved()
    }

    /// Runs passes until the core is idle.
    fn run(&mut self) {
        loop {
            while let Some((key, ready)) = self.io.next_ready() {
                self.engine.handle_ready(key, ready);
            }
            if self.io.has_connections() {
                self.engine.handle_acceptable();
            }
            match self.engine.pass(&mut self.io) {
                Rest::More => {}
                Rest::Until(_) if self.io.is_quiet() => return,
                Rest::Until(_) => {}
                Rest::Ended => panic!("the core has ended without a drain"),
            }
        }
    }

    /// Makes the handshake and sends a request, until `expected` is in the answer.
    fn exchange(&mut self, client: &mut Client, request: &[u8], expected: &[u8]) {
        let mut request = Some(request);
        for _ in 0..ROUND_TRIPS {
            let ready = client.tls.as_ref().is_none_or(|tls| !tls.is_handshaking());
            let plain = if ready { request.take().unwrap_or_default() } else { &[] };
            let bytes = client.seal(plain);
            self.io.receive_from_peer(client.socket, &bytes);
            self.run();
            let answer = self.io.take_sent(client.socket);
            client.open(&answer);
            if client.plain.windows(expected.len()).any(|window| window == expected) {
                return;
            }
        }
        panic!("no answer after {ROUND_TRIPS} round trips: {}", String::from_utf8_lossy(&client.plain));
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: hub.example:9243\r\nUser-Agent: platform/1.0\r\nAccept: */*\r\n\
             Content-Type: application/json\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// More round trips than a TLS 1.3 handshake and a request need.
const ROUND_TRIPS: usize = 6;

impl Client {
    /// Encrypts plain bytes; pending handshake bytes come first.
    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return plain.to_vec() };
        tls.writer().write_all(plain).expect("memory accepts every byte");
        let mut bytes = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut bytes).expect("memory accepts every byte");
        }
        bytes
    }

    fn open(&mut self, mut bytes: &[u8]) {
        let Some(tls) = &mut self.tls else { return self.plain.extend_from_slice(bytes) };
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes).expect("memory accepts every byte");
            tls.process_new_packets().expect("the client trusts the server");
            // `read_to_end` ends with `WouldBlock` once all plaintext is out; that is not an error here.
            let _ = tls.reader().read_to_end(&mut self.plain);
        }
    }
}

fn upgrade_request() -> Vec<u8> {
    format!(
        "GET {CONNECT_PATH} HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\napi-key: {KEY}\r\n\r\n"
    )
    .into_bytes()
}

fn directory(gateway: GatewayId) -> Vec<Change> {
    let hash = KeyHash::of(KEY.as_bytes());
    let life = Life { gateway, incarnation: 1 };
    vec![
        Change::GatewayCreated { life, delivery: None },
        Change::TokenCreated { gateway, token: TokenId::random(), hash },
    ]
}

fn shard_settings() -> shard::Settings {
    shard::Settings {
        id: ShardId(0),
        placement: Placement::new(1, 1),
        recent_bytes_max: limits::RECENT_BYTES_MAX,
        gateway_recent_bytes_max: limits::GATEWAY_RECENT_BYTES_MAX,
        connections_per_gateway_max: 0,
        publish_timeout: limits::PUBLISH_TIMEOUT,
        rate_per_window: 0,
        rate_window: limits::RATE_WINDOW,
        rate_addresses_max: limits::RATE_ADDRESSES_MAX,
        delivery: Delivery::default(),
        encoding: Encoding { encode: WebSocket::encode, boundary: WebSocket::boundary },
    }
}

fn hub_settings() -> HubSettings {
    HubSettings {
        session: session::Settings {
            origins: Vec::new(),
            handshake_deadline: Duration::from_secs(1 << 30),
            // No client here answers pings, so the timeout must be out of reach.
            heartbeat: Heartbeat {
                interval: limits::HEARTBEAT_INTERVAL,
                timeout: Duration::from_secs(1 << 30),
                busy_grace: Duration::ZERO,
            },
            write_deadline: limits::WRITE_DEADLINE,
            processing_timeout: limits::DELIVERY_PROCESSING_TIMEOUT,
            inbound_message_bytes_max: limits::INBOUND_MESSAGE_BYTES_MAX,
        },
        placement: Placement::new(1, 42),
        connections_max: usize::MAX,
        admin_token: KeyHash::of(ADMIN_TOKEN.as_bytes()),
        answer_timeout: limits::PUBLISH_TIMEOUT,
        drain_window: Duration::ZERO,
        degraded: Arc::new(AtomicBool::new(false)),
        log: Arc::default(),
        bodies_bytes: (limits::PLATFORM_BODIES_BYTES_MAX, limits::GATEWAYS_BODIES_BYTES_MAX),
    }
}

/// Readiness of a socket that has bytes to read.
const READABLE: Ready = Ready { readable: true, writable: false, ended: false, broken: false };
