//! Starts hubs in this process and makes the platform's calls to them.

use crate::{
    peer::Peer,
    request::{Answer, Request},
    socket::{PATIENCE, PROMPT, Wire, fresh_address, open},
};
use gatecast::{Config, Hub};
use rustix::process::{Resource, getrlimit, setrlimit};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use serde_json::{Value, json};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicU32, atomic::Ordering, mpsc},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The one allowed origin in the configuration of these hubs.
pub const ORIGIN: &str = "https://console.example";

/// A running hub, with its address, configuration and admin token.
pub struct TestHub {
    hub: Mutex<Option<Hub>>,
    /// The address to which gateways connect.
    pub addr: SocketAddr,
    /// The address for the platform's calls: `addr` unless `admin_listen` is configured.
    pub platform_addr: SocketAddr,
    /// The configuration with which it was started.
    pub config: Config,
    admin_token: String,
    tls: Option<Arc<ClientConfig>>,
    data: Arc<TempDir>,
}

/// A registered gateway with one key.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its id.
    pub id: String,
    /// The key with which it connects.
    pub key: String,
    /// The id of that key.
    pub token_id: String,
}

/// The hub with this number of shards that tests share if they do not need one of their own.
pub fn shared(shards: u16) -> &'static TestHub {
    static SHARED: [OnceLock<TestHub>; 2] = [const { OnceLock::new() }; 2];
    SHARED[usize::from(shards > 1)].get_or_init(|| TestHub::start(shards))
}

/// Runs a check on the shared hub with one shard and on that with four.
pub fn on_one_and_four(claim: impl Fn(&TestHub)) {
    for shards in [1, 4] {
        eprintln!("with {shards} shard(s)");
        claim(shared(shards));
    }
}

/// Runs a check on two hubs of its own, with one shard and with four.
pub fn on_own_one_and_four(change: impl Fn(&mut Config), claim: impl Fn(&TestHub)) {
    for shards in [1, 4] {
        eprintln!("with {shards} shard(s)");
        claim(&TestHub::with(shards, &change));
    }
}

impl TestHub {
    /// A hub with the default configuration.
    pub fn start(shards: u16) -> Self {
        Self::with(shards, |_| {})
    }

    /// A hub with the default configuration as changed by `change`.
    pub fn with(shards: u16, change: impl FnOnce(&mut Config)) -> Self {
        let data = data_dir();
        let mut config = Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data: data.path().to_owned(),
            cores: Some(shards),
            drain_window: Duration::from_millis(200),
            origins: vec![ORIGIN.to_owned()],
            log_filter: "off".to_owned(),
            ..Config::default()
        };
        change(&mut config);
        Self::on(config, Arc::new(data))
    }

    /// A hub with the same configuration and data, after this one has ended.
    pub fn restart(&self) -> Self {
        Self::on(self.config.clone(), Arc::clone(&self.data))
    }

    fn on(config: Config, data: Arc<TempDir>) -> Self {
        raise_descriptor_limit();
        let hub = Hub::start(config.clone()).unwrap_or_else(|e| panic!("the hub does not start: {e}"));
        let tls = (config.tls != gatecast::config::Tls::Off).then(|| {
            let cert = match &config.tls {
                gatecast::config::Tls::Files { cert, .. } => cert.clone(),
                _ => data.path().join("cert.pem"),
            };
            trusting(&cert)
        });
        let (addr, platform_addr, admin_token) = (hub.addr(), hub.admin_addr(), hub.admin_token().to_owned());
        Self { hub: Mutex::new(Some(hub)), addr, platform_addr, config, admin_token, tls, data }
    }

    /// The hub's data directory.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// The admin token.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// Reads the certificate again.
    pub fn reload(&self) {
        self.hub.lock().unwrap().as_ref().expect("the hub was not joined").reload();
    }

    /// Begins the drain.
    pub fn drain(&self) {
        self.hub.lock().unwrap().as_ref().expect("the hub was not joined").drain();
    }

    /// Waits until the hub has ended, after [`TestHub::drain`].
    pub fn join(&self) {
        let hub = self.hub.lock().unwrap().take().expect("a hub is joined once");
        let (done, end) = mpsc::channel();
        thread::spawn(move || done.send(hub.join()));
        end.recv_timeout(PATIENCE).expect("a drained hub ends").expect("a drained hub ends without an error");
    }

    /// A connection from an address of its own.
    pub fn wire(&self) -> Wire {
        self.wire_from(fresh_address())
    }

    /// A connection from this address.
    pub fn wire_from(&self, from: Ipv4Addr) -> Wire {
        Wire::new(open(self.addr, from, |_| {}), self.tls.as_ref())
    }

    /// A client configuration that trusts this hub; `None` if the hub has no TLS.
    pub fn tls(&self) -> Option<&Arc<ClientConfig>> {
        self.tls.as_ref()
    }

    /// Sends one request on a connection of its own and reads the answer.
    pub fn ask(&self, request: &Request) -> Answer {
        self.ask_from(fresh_address(), request)
    }

    /// The same, from this address.
    pub fn ask_from(&self, from: Ipv4Addr, request: &Request) -> Answer {
        ask_over(self.wire_from(from), request)
    }

    /// Sends one request to the platform's address.
    pub fn ask_platform_side(&self, request: &Request) -> Answer {
        ask_over(Wire::new(open(self.platform_addr, fresh_address(), |_| {}), self.tls.as_ref()), request)
    }

    /// Makes a call of the platform, with its token, on a connection of its own.
    pub fn call(&self, method: &str, target: &str, body: &str) -> Answer {
        self.ask_platform_side(&self.platform_request(method, target, body))
    }

    /// The request that [`TestHub::call`] sends.
    pub fn platform_request(&self, method: &str, target: &str, body: &str) -> Request {
        let request = Request::new(method, target).bearer(&self.admin_token);
        if body.is_empty() { request } else { request.body(body) }
    }

    /// Registers a gateway and creates a key for it.
    pub fn register(&self) -> Registered {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("gateway-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let answer = self.call("POST", "/api/v1/gateways", &json!({ "name": name }).to_string());
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let (token_id, key) = self.make_key(&id);
        Registered { id, key, token_id }
    }

    /// Creates another key for a gateway; returns its id and the key.
    pub fn make_key(&self, gateway: &str) -> (String, String) {
        let answer = self.call("POST", &format!("/api/v1/gateways/{gateway}/tokens"), "{}");
        assert_eq!(answer.status, 201, "{answer:?}");
        let token = answer.json();
        (token["id"].as_str().unwrap().to_owned(), token["token"].as_str().unwrap().to_owned())
    }

    /// Connects as a gateway with this key and reads the ack.
    pub fn connect(&self, key: &str) -> Peer {
        self.try_connect(key).unwrap_or_else(|answer| panic!("not admitted: {answer:?}"))
    }

    /// Connects as a gateway with this key, or returns the refusal.
    pub fn try_connect(&self, key: &str) -> Result<Peer, Answer> {
        Peer::connect(self.wire(), key)
    }

    /// Connects as soon as a slot is free, within [`PROMPT`].
    pub fn connect_soon(&self, key: &str) -> Peer {
        let start = Instant::now();
        loop {
            match self.try_connect(key) {
                Ok(peer) => return peer,
                Err(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
            }
            assert!(start.elapsed() < PROMPT, "no free slot after {:?}", start.elapsed());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Connects a new gateway.
    pub fn connect_new(&self) -> (Registered, Peer) {
        let gateway = self.register();
        let peer = self.connect(&gateway.key);
        (gateway, peer)
    }

    /// Publishes one event; returns the answer, which must be 200.
    pub fn publish(&self, gateway: &str, kind: &str, payload: &str) -> Value {
        let answer = self.try_publish(gateway, &format!(r#"{{"type":"{kind}","payload":{payload}}}"#));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Publishes this body.
    pub fn try_publish(&self, gateway: &str, body: &str) -> Answer {
        self.call("POST", &format!("/api/v1/gateways/{gateway}/events"), body)
    }

    /// The statistics, with this query.
    pub fn stats(&self, query: &str) -> Value {
        let answer = self.call("GET", &format!("/api/internal/v1/stats{query}"), "");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// The rows of one gateway's live connections.
    pub fn rows(&self, gateway: &str) -> Vec<Value> {
        let stats = self.stats(&format!("?gatewayId={gateway}"));
        stats["gatewayConnections"]["connections"].as_array().unwrap().clone()
    }

    /// Waits until a gateway has `count` live connections; returns how long it took.
    pub fn await_rows(&self, gateway: &str, count: usize) -> Duration {
        let start = Instant::now();
        eventually(&format!("{gateway} has {count} connections"), || self.rows(gateway).len() == count);
        start.elapsed()
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        let left = self.hub.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).is_some();
        if left && !thread::panicking() {
            self.drain();
            self.join();
        }
    }
}

fn ask_over(mut wire: Wire, request: &Request) -> Answer {
    wire.send(&request.bytes());
    Answer::read(&mut wire).expect("an answer")
}

/// Raises the limit of descriptors: a fleet and its hub need two for each connection.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("a process may raise its soft limit to the hard one");
}

/// Polls until the condition holds.
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A client that trusts the certificate in this file and nothing else.
pub fn trusting(cert: &Path) -> Arc<ClientConfig> {
    trusting_with(cert, rustls::ALL_VERSIONS)
}

/// The same, with these TLS versions only.
pub fn trusting_with(cert: &Path, versions: &[&'static rustls::SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cert).expect("the hub has written its certificate")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A data directory below the build's directory. Those of earlier runs are removed.
fn data_dir() -> TempDir {
    static SWEPT: OnceLock<()> = OnceLock::new();
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    SWEPT.get_or_init(|| {
        for entry in fs::read_dir(base).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix("hub-").and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    });
    TempDir::with_prefix_in(format!("hub-{}-", process::id()), base).unwrap()
}
