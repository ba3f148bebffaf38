//! Claims about signals: SIGHUP reads the certificate again, and the drain after SIGTERM waits for no peer for ever.

use super::{
    certificate::write_certificate,
    program::{Program, read_until},
};
use rustix::process::Signal;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Opens a TLS connection that trusts only this certificate; an error if the hub shows another.
fn open(program: &Program, cert: &[u8]) -> std::io::Result<Secured> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(cert).expect("PEM")).expect("a certificate");
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(program.address).expect("a connection");
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a timeout");
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(tls, socket))
}

fn read_tls_until(stream: &mut Secured, what: &[u8]) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.windows(what.len()).any(|window| window == what) {
        let bytes = stream.read(&mut buffer).expect("it is open");
        assert!(bytes > 0, "it ended before {:?}", String::from_utf8_lossy(what));
        seen.extend_from_slice(&buffer[..bytes]);
    }
}

/// A masked ping with one byte, and its pong.
const PING: [u8; 7] = [0x89, 0x81, 0, 0, 0, 0, b'p'];
const PONG: [u8; 3] = [0x8a, 1, b'p'];

#[test]
fn sighup_reads_the_certificate_again_at_once_and_connections_live_on() {
    let data = tempfile::tempdir().unwrap();
    let mut before = Program::start_in(data.path(), &["--cores", "1"]);
    before.register_over(&mut TcpStream::connect(before.address).unwrap(), "g", "k");
    before.signal(Signal::TERM);
    assert_eq!(before.wait(), Some(0));

    write_certificate(data.path());
    let path = |name: &str| data.path().join(name).to_str().unwrap().to_owned();
    let (cert, key) = (path("c.pem"), path("k.pem"));
    let program = Program::start_in(data.path(), &["--tls", "files", "--tls-cert", &cert, "--tls-key", &key]);
    let first = fs::read(&cert).unwrap();
    let mut gateway = open(&program, &first).expect("the first certificate");
    gateway.write_all(Program::connect_request("k").as_bytes()).expect("sent");
    read_tls_until(&mut gateway, b"connection.ack");

    // Three in a row: by the check every two seconds alone they would take longer than they may.
    let began = Instant::now();
    for _ in 0..3 {
        write_certificate(data.path());
        let next = fs::read(&cert).unwrap();
        program.signal(Signal::HUP);
        program.wait_until("new connections get the new certificate", |program| open(program, &next).is_ok());
    }
    assert!(began.elapsed() < Duration::from_secs(4), "three reloads took {:?}", began.elapsed());
    assert!(open(&program, &first).is_err(), "the old certificate is still in use");
    program.log_line("SIGHUP: reloading the certificate");
    gateway.write_all(&PING).expect("it is open");
    read_tls_until(&mut gateway, &PONG);
    assert!(!program.log().contains("gateway disconnected"), "{}", program.log());
}

/// Reads up to the close frame of a drain, then closes the socket.
fn leave_when_closed(mut gateway: TcpStream) {
    let close = [&1001_u16.to_be_bytes()[..], b"server shutdown"].concat();
    let (mut seen, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while !seen.ends_with(&close) {
        let bytes = gateway.read(&mut buffer).expect("it is open");
        assert!(bytes > 0, "it ended without a close frame");
        seen.drain(..seen.len().saturating_sub(close.len()));
        seen.extend_from_slice(&buffer[..bytes]);
    }
}

#[test]
fn a_gateway_that_does_not_close_in_the_drain_is_closed_by_force_with_a_warning_and_exit_code_0() {
    let arguments = ["--cores", "1", "--set", "drain.window=0s", "--set", "event_log.mode=memory"];
    let mut program = Program::start(&[&arguments[..], &["--set", "publish.timeout=100ms"]].concat());
    let mut gateways: Vec<_> = (0..3).map(|_| program.connect()).collect();
    let mut platform = TcpStream::connect(program.address).unwrap();
    // More than the kernel's buffers hold, so that the close frame waits behind events that nobody reads.
    let text = "x".repeat(1_000_000);
    let body = format!(r#"{{"type":"t","payload":"{text}"}}"#);
    let path = format!("/api/v1/gateways/{}/events", program.gateway());
    let reader = gateways.pop().expect("there are three");
    thread::scope(|scope| {
        let reading = scope.spawn(move || leave_when_closed(reader));
        for _ in 0..16 {
            let head =
                format!("POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\n", program.admin_token());
            platform.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
            read_until(&mut platform, b"HTTP/1.1 200 ");
        }
        program.signal(Signal::TERM);
        assert_eq!(program.wait(), Some(0));
        reading.join().expect("one that reads gets its close frame");
    });
    let log = program.log();
    let line = log.lines().find(|line| line.contains("closed by force at the end of the drain"));
    assert!(line.is_some_and(|line| line.contains("WARN") && line.contains("connections=2")), "{log}");
}
