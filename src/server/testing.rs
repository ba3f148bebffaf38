//! Test build only: a hub in the test's process, and a gateway that connects to it over a plain socket.

use super::Hub;
use crate::{
    Config,
    api::CONNECT_PATH,
    config::Tls,
    engine::faults::{self, Fault},
    model::ShardId,
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// An empty masked pong, which counts as a sign of life.
pub(crate) const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// A hub without TLS, with one gateway whose key is `k`.
pub(crate) struct TestHub {
    hub: Option<Hub>,
    gateway: String,
    _data: tempfile::TempDir,
}

impl TestHub {
    /// Starts a hub with one core.
    pub(crate) fn start() -> Self {
        Self::with(|_| ())
    }

    /// Starts a hub with one core and a drain window of zero, after `change` has adjusted its configuration.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let mut config = Config {
            listen: "127.0.0.1:0".parse().expect("an address"),
            data: data.path().join("hub"),
            cores: Some(1),
            tls: Tls::Off,
            rate_per_minute: 0,
            drain_window: Duration::ZERO,
            ..Config::default()
        };
        change(&mut config);
        let hub = Hub::start(config).expect("a hub");
        let mut this = Self { hub: Some(hub), gateway: String::new(), _data: data };
        let created = this.call("POST", "/api/v1/gateways", r#"{"name":"g"}"#);
        this.gateway = created.split("\"id\":\"").nth(1).expect("an id")[..36].to_owned();
        let hash: String = crate::model::KeyHash::of(b"k").0.iter().map(|byte| format!("{byte:02x}")).collect();
        this.call("POST", &format!("/api/v1/gateways/{}/tokens", this.gateway), &format!(r#"{{"sha256":"{hash}"}}"#));
        this
    }

    pub(crate) fn hub(&self) -> &Hub {
        self.hub.as_ref().expect("the hub was not taken")
    }

    /// Takes the hub out, for a test that drains and joins it itself.
    pub(crate) fn take(&mut self) -> Hub {
        self.hub.take().expect("it is taken once")
    }

    /// Makes one call with the admin token and returns the whole answer, head included.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.hub().addr()).expect("a connection");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.hub().admin_token(),
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// Connects the gateway and reads its ack.
    pub(crate) fn connect(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.hub().addr()).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let request = format!(
            "GET {CONNECT_PATH} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\napi-key: k\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        read_until(&mut stream, b"connection.ack");
        stream
    }

    pub(crate) fn publish(&self) -> String {
        self.call("POST", &format!("/api/v1/gateways/{}/events", self.gateway), r#"{"type":"t","payload":1}"#)
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.take() {
            hub.drain();
            hub.join().expect("an orderly end");
        }
    }
}

/// Connects to a hub, sends the beginning of a request that triggers the fault, and waits until the fault has happened.
/// Returns the socket and the shard in which it happened.
pub(crate) fn inject_fault(hub: SocketAddr, fault: Fault) -> (TcpStream, ShardId) {
    let mut peer = TcpStream::connect(hub).expect("a connection");
    let address = peer.local_addr().expect("an address");
    faults::arm(address, fault);
    peer.write_all(b"GET /health HTTP/1.1\r\n").expect("sent");
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < Duration::from_secs(10), "no core read the request within 10 s");
        if let Some(thread) = faults::struck(address) {
            let shard = thread.strip_prefix("shard-").and_then(|shard| shard.parse().ok());
            return (peer, ShardId(shard.expect("the name of a core's thread ends with its shard")));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Reads until `what` has arrived and returns all bytes up to then.
pub(crate) fn read_until(stream: &mut TcpStream, what: &[u8]) -> Vec<u8> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.windows(what.len()).any(|window| window == what) {
        match stream.read(&mut buffer) {
            Ok(0) => panic!("the connection ended before {:?}: {seen:?}", String::from_utf8_lossy(what)),
            Ok(bytes) => seen.extend_from_slice(&buffer[..bytes]),
            Err(error) => panic!("{error} before {:?}", String::from_utf8_lossy(what)),
        }
    }
    seen
}
