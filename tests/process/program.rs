//! The program under test: started on a free port without TLS, and observed through `/proc`.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A running `gatecast serve` with one gateway, whose key is `k`.
pub struct Program {
    pub address: SocketAddr,
    child: Child,
    admin_token: String,
    gateway: String,
    log: PathBuf,
    _data: Option<tempfile::TempDir>,
}

/// SHA-256 of `k`.
const KEY_HASH: &str = "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a";

impl Program {
    pub fn start(arguments: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut program = Self::start_new_in(data.path(), arguments);
        program._data = Some(data);
        program
    }

    /// Starts it in an empty directory, and registers the gateway.
    pub fn start_new_in(data: &Path, arguments: &[&str]) -> Self {
        let mut program = Self::start_in(data, arguments);
        let created = program.call("POST", "/api/v1/gateways", r#"{"name":"g"}"#);
        program.gateway = created["id"].as_str().expect("an id").to_owned();
        let tokens = format!("/api/v1/gateways/{}/tokens", program.gateway);
        program.call("POST", &tokens, &format!(r#"{{"sha256":"{KEY_HASH}"}}"#));
        program
    }

    pub fn start_in(data: &Path, arguments: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", data, arguments)
    }

    /// Starts it on this listen address.
    pub fn start_at(listen: &str, data: &Path, arguments: &[&str]) -> Self {
        let log = data.join("log");
        let errors = File::options().create(true).append(true).open(&log).expect("a file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_gatecast"))
            .args(["serve", "--listen", listen, "--rate-limit-per-minute", "0", "--data"])
            .arg(data)
            .args(arguments)
            .args(if arguments.contains(&"--tls") { &[][..] } else { &["--tls", "off"] })
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let address = line.split("://").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}")).parse().expect("an address");
        let admin_token = fs::read_to_string(data.join("admin-token")).expect("a token").trim().to_owned();
        Self { address, child, admin_token, gateway: String::new(), log, _data: None }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The id of the gateway that [`Program::start`] registers.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// The admin token.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the program runs");
    }

    /// The log written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the program was started")
    }

    /// Waits until the program has ended; returns its exit code, or `None` if a signal killed it.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("the program was started").code()
    }

    /// The path of a file of this process in `/proc`.
    pub fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }

    pub fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).expect("the program runs").count()
    }

    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("the program runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    }

    /// Processor time used so far.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).expect("the program runs");
        let fields: Vec<_> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
        Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
    }

    fn request(&self, method: &str, path: &str, body: &str) -> String {
        let (token, length) = (&self.admin_token, body.len());
        format!(
            "{method} {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    }

    pub fn call(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        let answer = self.exchange(&mut stream, &self.request(method, path, body)).expect("an answer");
        serde_json::from_str(answer.split_once("\r\n\r\n").expect("a head").1).expect("JSON")
    }

    /// Sends one request and returns the complete answer, or `None` if the connection ends first.
    fn exchange(&self, stream: &mut TcpStream, request: &str) -> Option<String> {
        stream.write_all(request.as_bytes()).ok()?;
        let mut seen = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            let bytes = stream.read(&mut buffer).ok().filter(|bytes| *bytes > 0)?;
            seen.extend_from_slice(&buffer[..bytes]);
            let text = String::from_utf8_lossy(&seen);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.map_or(0, |length| length.parse().expect("a length")) {
                return Some(text.into_owned());
            }
        }
    }

    /// Sends a request as it is on a connection of its own, and returns the whole answer.
    pub fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        self.exchange(&mut stream, request).expect("an answer")
    }

    pub fn publish_over(&self, stream: &mut TcpStream, payload: u64) -> String {
        let path = format!("/api/v1/gateways/{}/events", self.gateway);
        let request = self.request("POST", &path, &format!(r#"{{"type":"t","payload":{payload}}}"#));
        self.exchange(stream, &request).expect("an answer")
    }

    /// Publishes `events` events to the gateway in one call; returns the lines of the answer.
    pub fn publish_batch(&self, events: usize) -> Vec<serde_json::Value> {
        let line = format!("{{\"type\":\"t\",\"payload\":1,\"gatewayId\":\"{}\"}}\n", self.gateway);
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        let request = self.request("POST", "/api/v1/events", &line.repeat(events));
        let answer = self.exchange(&mut stream, &request).expect("an answer");
        let lines = answer.split_once("\r\n\r\n").expect("a head").1.lines();
        lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The sum of a metric's samples.
    pub fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        let answer = self.exchange(&mut stream, &self.request("GET", "/metrics", "")).expect("an answer");
        let samples = answer.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        samples.map(|line| line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number")).sum()
    }

    /// Registers a gateway; `None` unless the hub acknowledged it.
    pub fn create_over(&self, stream: &mut TcpStream, name: &str) -> Option<()> {
        let request = self.request("POST", "/api/v1/gateways", &format!(r#"{{"name":"{name}"}}"#));
        self.exchange(stream, &request).filter(|answer| answer.starts_with("HTTP/1.1 201 ")).map(drop)
    }

    /// Registers a gateway with a key.
    pub fn register_over(&self, stream: &mut TcpStream, name: &str, key: &str) {
        use sha2::Digest;
        let created =
            self.exchange(stream, &self.request("POST", "/api/v1/gateways", &format!(r#"{{"name":"{name}"}}"#)));
        let created = created.expect("an answer");
        let id = created.split("\"id\":\"").nth(1).map(|rest| &rest[..36]).expect("an id");
        let hash: String = sha2::Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        let tokens = format!("/api/v1/gateways/{id}/tokens");
        let answer = self.exchange(stream, &self.request("POST", &tokens, &format!(r#"{{"sha256":"{hash}"}}"#)));
        assert!(answer.expect("an answer").starts_with("HTTP/1.1 201 "));
    }

    pub fn gateway_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let page = self.call("GET", &format!("/api/v1/gateways?limit=1000&offset={}", names.len()), "");
            let rows = page["list"].as_array().expect("a list");
            if rows.is_empty() {
                return names;
            }
            names.extend(rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned()));
        }
    }

    pub fn live_connections(&self) -> u64 {
        self.call("GET", "/api/internal/v1/stats?limit=1", "")["gatewayConnections"]["totalActive"]
            .as_u64()
            .expect("a number")
    }

    /// Connects the gateway and reads its ack.
    pub fn connect(&self) -> TcpStream {
        self.connect_with("k")
    }

    /// Connects the gateway that has this key and reads its ack.
    pub fn connect_with(&self, key: &str) -> TcpStream {
        let mut stream = self.send_upgrade(key);
        read_until(&mut stream, b"connection.ack");
        stream
    }

    /// Sends the upgrade request and leaves the answer unread.
    pub fn send_upgrade(&self, key: &str) -> TcpStream {
        self.send_upgrade_to(self.address, key)
    }

    /// Connects the gateway with a position behind which it wants to go on, and returns its ack.
    pub fn resume(&self, position: &str) -> (TcpStream, serde_json::Value) {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let request = Self::connect_request("k").replace("\r\n\r\n", &format!("\r\nlast-position: {position}\r\n\r\n"));
        stream.write_all(request.as_bytes()).expect("sent");
        // A byte at a time, so that nothing behind the ack is taken.
        let (mut seen, mut byte) = (Vec::new(), [0]);
        while !(seen.ends_with(b"}") && seen.windows(14).any(|window| window == b"connection.ack")) {
            stream.read_exact(&mut byte).expect("an ack");
            seen.push(byte[0]);
        }
        let begin = seen.iter().position(|byte| *byte == b'{').expect("JSON");
        (stream, serde_json::from_slice(&seen[begin..]).expect("JSON"))
    }

    /// Publishes events with the payloads 1, 2, … and returns their positions.
    pub fn publish_events(&mut self, gateway: &str, count: u64) -> Vec<String> {
        gateway.clone_into(&mut self.gateway);
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        let answers = (1..=count).map(|payload| self.publish_over(&mut stream, payload));
        let body = |answer: String| answer.split_once("\r\n\r\n").expect("a head").1.to_owned();
        let position =
            |body: String| serde_json::from_str::<serde_json::Value>(&body).expect("JSON")["position"].clone();
        answers.map(|answer| position(body(answer)).as_str().expect("a position").to_owned()).collect()
    }

    /// Ends it as an operator does.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait(), Some(0), "{}", self.log());
    }

    /// Sends the upgrade request to this address of the hub.
    pub fn send_upgrade_to(&self, address: SocketAddr, key: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.write_all(Self::connect_request(key).as_bytes()).expect("sent");
        stream
    }

    /// The upgrade request of a gateway with this key.
    pub fn connect_request(key: &str) -> String {
        format!(
            "GET /api/internal/v1/ws/gateways/connect HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\napi-key: {key}\r\n\r\n"
        )
    }

    /// Waits for a line of the log that contains `what`, and returns the first one.
    pub fn log_line(&self, what: &str) -> String {
        let line = |log: String| log.lines().find(|line| line.contains(what)).map(str::to_owned);
        self.wait_until(what, |program| line(program.log()).is_some());
        line(self.log()).expect("the line was found above")
    }

    pub fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !condition(self) {
            assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Errors are ignored: the program has ended already if the test waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn read_until(stream: &mut TcpStream, what: &[u8]) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.windows(what.len()).any(|window| window == what) {
        match stream.read(&mut buffer) {
            Ok(bytes) if bytes > 0 => seen.extend_from_slice(&buffer[..bytes]),
            end => panic!("the connection ended ({end:?}) before {:?}", String::from_utf8_lossy(what)),
        }
    }
}

pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut seen = Vec::new();
    stream.read_to_end(&mut seen).expect("an orderly end");
    seen
}

/// Sends a text message as a gateway does, masked with zeros.
pub fn send_text(stream: &mut TcpStream, text: &str) {
    let length = u16::try_from(text.len()).expect("a short text");
    let mut frame = vec![0x81];
    match u8::try_from(length).ok().filter(|short| *short < 126) {
        Some(short) => frame.push(0x80 | short),
        None => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    stream.write_all(&frame).expect("sent");
}
