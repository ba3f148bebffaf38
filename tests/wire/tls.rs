//! TLS (contract section 1, acceptance list P): both versions, resumption on any core, and a new certificate.

use crate::{
    harness::{TestHub, eventually, on_one_and_four, on_own_one_and_four, trusting, trusting_with},
    peer::Peer,
    request::{Answer, Request},
    socket::{PATIENCE, PROMPT, Wire, fresh_address, open},
};
use gatecast::config::Tls;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, version};
use std::{fs, path::Path, sync::Arc, thread, time::Instant};
use tempfile::TempDir;

/// Makes a call with this client configuration; returns the answer's status and TLS's version and kind of handshake.
fn call(hub: &TestHub, client: &Arc<ClientConfig>) -> (u16, ProtocolVersion, HandshakeKind) {
    let mut wire = Wire::new(open(hub.addr, fresh_address(), |_| {}), Some(client));
    wire.send(&Request::new("GET", "/health").bytes());
    let status = Answer::read(&mut wire).expect("an answer").status;
    (status, wire.tls().protocol_version().unwrap(), wire.tls().handshake_kind().unwrap())
}

#[test]
fn both_tls_versions_work_and_the_newer_is_preferred() {
    on_one_and_four(|hub| {
        let cert = hub.data().join("cert.pem");
        let table: [(&[_], _); 3] = [
            (&[&version::TLS12], ProtocolVersion::TLSv1_2),
            (&[&version::TLS13], ProtocolVersion::TLSv1_3),
            (&[&version::TLS12, &version::TLS13], ProtocolVersion::TLSv1_3),
        ];
        for (versions, spoken) in table {
            let client = trusting_with(&cert, versions);
            let (status, seen, _) = call(hub, &client);
            assert_eq!((status, seen), (200, spoken));
            let (gateway, _) = hub.connect_new();
            let socket = open(hub.addr, fresh_address(), |_| {});
            let mut peer =
                Peer::connect(Wire::new(socket, Some(&client)), &gateway.key).unwrap_or_else(|a| panic!("{a:?}"));
            hub.publish(&gateway.id, "t", "{}");
            assert_eq!(peer.event().kind, "t", "{spoken:?}");
            peer.leave();
        }
    });
}

/// A ClientHello (RFC 5246 section 7.4.1.2) with this version, and without the extension `supported_versions`.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let suites = [0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x13, 0xc0, 0x09];
    let extensions = [
        &[0, 10, 0, 4, 0, 2, 0, 23][..],  // supported_groups: secp256r1
        &[0, 11, 0, 2, 1, 0],             // ec_point_formats: uncompressed
        &[0, 13, 0, 6, 0, 4, 4, 3, 8, 4], // signature_algorithms
        &[0, 23, 0, 0],                   // extended_master_secret
    ]
    .concat();
    let mut body = version.to_vec();
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    body.extend_from_slice(&[0, suites.len() as u8]);
    body.extend_from_slice(&suites);
    body.extend_from_slice(&[1, 0, 0, extensions.len() as u8]);
    body.extend_from_slice(&extensions);
    let message = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    [&[0x16, 3, 1, 0, message.len() as u8][..], &message].concat()
}

#[test]
fn tls_1_1_and_older_are_refused_with_an_alert() {
    const HANDSHAKE: u8 = 22;
    /// Alert, fatal, `protocol_version` (RFC 5246 section 7.2).
    const REFUSAL: [u8; 7] = [21, 3, 3, 0, 2, 2, 70];
    on_one_and_four(|hub| {
        for (name, version) in [("TLS 1.1", [3, 2]), ("TLS 1.0", [3, 1]), ("SSL 3.0", [3, 0])] {
            let mut wire = Wire::new(open(hub.addr, fresh_address(), |_| {}), None);
            wire.send(&client_hello(version));
            assert!(wire.read_to_end(Instant::now() + PATIENCE).is_some(), "{name}: still open");
            assert_eq!(wire.received()[..], REFUSAL, "{name}");
        }
        let mut wire = Wire::new(open(hub.addr, fresh_address(), |_| {}), None);
        wire.send(&client_hello([3, 3]));
        assert!(wire.fill(Instant::now() + PATIENCE));
        assert_eq!(wire.received()[0], HANDSHAKE, "the same ClientHello with the version of TLS 1.2 is answered");
    });
}

#[test]
fn a_session_is_resumed_on_every_core() {
    on_one_and_four(|hub| {
        for versions in [&[&version::TLS12][..], &[&version::TLS13]] {
            let client = trusting_with(&hub.data().join("cert.pem"), versions);
            assert_ne!(call(hub, &client).2, HandshakeKind::Resumed, "the first has nothing to resume");
            for n in 0..16 {
                assert_eq!(call(hub, &client).2, HandshakeKind::Resumed, "{versions:?}, call {n}");
            }
        }
    });
}

#[test]
fn bytes_that_are_not_tls_end_the_connection_at_once() {
    on_one_and_four(|hub| {
        for bytes in [
            &b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            &[0xff; 64],
            &[0x16, 0x03, 0x01, 0xff, 0xff, 0x01],
            b"\x16\x03\x01\0\x05hello",
        ] {
            let mut wire = Wire::new(open(hub.addr, fresh_address(), |_| {}), None);
            let start = Instant::now();
            wire.send(bytes);
            assert!(wire.read_to_end(Instant::now() + PATIENCE).is_some(), "{bytes:?}: still open");
            assert!(start.elapsed() < PROMPT, "{bytes:?}: closed after {:?}", start.elapsed());
            assert!(!wire.received().starts_with(b"HTTP/"), "plain HTTP is not answered");
        }
        let metrics = hub.call("GET", "/metrics", "").text();
        assert!(metrics.contains("gatecast_panics_total 0\n"), "the code of a connection panicked");
    });
}

#[test]
fn a_flipped_bit_ends_the_connection_and_delivers_nothing() {
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        let mut wire = hub.wire();
        wire.send(&Request::new("GET", "/health").bytes());
        assert_eq!(Answer::read(&mut wire).unwrap().status, 200);
        let body = r#"{"type":"damaged","payload":{}}"#;
        let publish = hub.platform_request("POST", &format!("/api/v1/gateways/{}/events", gateway.id), body);
        wire.send_damaged(&publish.bytes());
        assert!(wire.read_to_end(Instant::now() + PATIENCE).is_some(), "still open");
        hub.publish(&gateway.id, "marker", "{}");
        assert_eq!(peer.event().kind, "marker");
    });
}

/// A new self-signed certificate for `localhost` in these files.
fn write_certificate(cert: &Path, key: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(key, made.signing_key.serialize_pem()).unwrap();
    fs::write(cert, made.cert.pem()).unwrap();
}

#[test]
fn a_new_certificate_is_used_and_drops_no_connection() {
    let files = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (cert, key) = (files.path().join("c.pem"), files.path().join("k.pem"));
    for shards in [1, 4] {
        write_certificate(&cert, &key);
        let hub = TestHub::with(shards, |config| config.tls = Tls::Files { cert: cert.clone(), key: key.clone() });
        let (gateway, mut peer) = hub.connect_new();
        let old_pem = fs::read(&cert).unwrap();
        write_certificate(&cert, &key);
        hub.reload();
        let accepted = || {
            let mut wire = Wire::new(open(hub.addr, fresh_address(), |_| {}), Some(&trusting(&cert)));
            wire.send(&Request::new("GET", "/health").bytes()) && Answer::read(&mut wire).is_some()
        };
        eventually("the new certificate is used", accepted);
        assert!((0..8).all(|_| accepted()), "on every core");

        fs::write(&cert, b"no certificate").unwrap();
        hub.reload();
        peer.is_alive();
        fs::write(&cert, &old_pem).unwrap();
        hub.reload();
        peer.is_alive();
        write_certificate(&cert, &key);
        hub.reload();
        eventually("a valid certificate after two invalid ones is used", accepted);
        // The harness trusts the first certificate, so this call uses the newest.
        let mut wire = Wire::new(open(hub.addr, fresh_address(), |_| {}), Some(&trusting(&cert)));
        let body = r#"{"type":"t","payload":{}}"#;
        wire.send(&hub.platform_request("POST", &format!("/api/v1/gateways/{}/events", gateway.id), body).bytes());
        assert_eq!(Answer::read(&mut wire).unwrap().json()["delivered"], 1);
        assert_eq!(peer.event().kind, "t");
    }
}

#[test]
fn an_unusable_certificate_leaves_the_old_one_in_use() {
    let files = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (cert, key) = (files.path().join("c.pem"), files.path().join("k.pem"));
    write_certificate(&cert, &key);
    let hub = TestHub::with(4, |config| config.tls = Tls::Files { cert: cert.clone(), key: key.clone() });
    let client = Arc::clone(hub.tls().unwrap());
    let other = files.path().join("other.pem");
    write_certificate(&other, &files.path().join("other-key.pem"));
    let mut expired = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let pair = rcgen::KeyPair::from_pem(&fs::read_to_string(&key).unwrap()).unwrap();
    let expired = expired.self_signed(&pair).unwrap().pem().into_bytes();
    for bad in [b"junk".to_vec(), Vec::new(), fs::read(&other).unwrap(), expired] {
        fs::write(&cert, bad).unwrap();
        hub.reload();
        for _ in 0..8 {
            assert_eq!(call(&hub, &client).0, 200);
        }
    }
}

#[test]
fn without_tls_the_hub_behaves_the_same() {
    on_own_one_and_four(
        |config| config.tls = Tls::Off,
        |hub| {
            let (gateway, mut peer) = hub.connect_new();
            let payload = format!("\"{}\"", "x".repeat(300_000));
            // More than the buffers of two kernels, so it is delivered only while it is read.
            thread::scope(|scope| {
                let published = scope.spawn(|| hub.publish(&gateway.id, "t", &payload));
                assert_eq!(peer.event().payload.get(), payload);
                assert_eq!(published.join().unwrap()["delivered"], 1);
            });
            peer.is_alive();
            peer.leave();
        },
    );
}
