//! Test build only: a TLS server on a free port that takes the place of a hub in tests of the client commands.

use super::endpoint::Endpoint;
use crate::tls::self_signed;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

/// A TLS server that calls the same function for every connection, each on its own thread.
pub struct TlsHub {
    pub endpoint: Endpoint,
}

impl TlsHub {
    pub fn start(serve: impl Fn(StreamOwned<ServerConnection, TcpStream>) + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = self_signed(dir.path()).expect("it can be made");
        let cert = CertificateDer::from_pem_file(cert).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.clone()], key);
        let config = Arc::new(config.expect("they belong together"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("https://{}", listener.local_addr().expect("it is bound"));
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (serve, config) = (serve.clone(), config.clone());
                let tls = ServerConnection::new(config).expect("it is configured");
                thread::spawn(move || serve(StreamOwned::new(tls, stream)));
            }
        });
        Self { endpoint: Endpoint { base, trusted: Some(vec![cert]) } }
    }
}

/// Reads the head of one request, answers with these bytes and returns the head.
pub fn answer_http(mut stream: impl Read + Write, answer: &str) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        request.push(byte[0]);
    }
    // A client that does not trust the certificate has closed the connection by now; its test checks the client's
    // error.
    let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
    String::from_utf8_lossy(&request).into_owned()
}
