//! TLS configuration of both ends. The key is fixed and is Ed25519: ECDSA signatures vary in length, so handshakes
//! would have different sizes in two runs of one seed.

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::NoServerSessionStorage,
};
use std::sync::{Arc, OnceLock};

struct Configs {
    server: Arc<ServerConfig>,
    clients: [Arc<ClientConfig>; 2],
}

/// The hub's configuration.
pub(super) fn server() -> Arc<ServerConfig> {
    Arc::clone(&configs().server)
}

/// A peer's configuration: TLS 1.3, or TLS 1.2 if it is old.
pub(super) fn client(old: bool) -> Arc<ClientConfig> {
    Arc::clone(&configs().clients[usize::from(old)])
}

fn configs() -> &'static Configs {
    static CONFIGS: OnceLock<Configs> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let (certificate, key) = certificate();
        let provider = || Arc::new(ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring supports these versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("the key belongs to the certificate");
        server.ticketer = ring::Ticketer::new().expect("the system has random bytes");
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("the certificate is valid");
        let client = |versions: &[&'static rustls::SupportedProtocolVersion]| {
            let mut config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(versions)
                .expect("ring supports these versions")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            // The configuration is shared by all worlds of the process: a ticket from one world would shorten the
            // handshakes of the next, and a seed would no longer replay.
            config.resumption = Resumption::disabled();
            Arc::new(config)
        };
        let clients = [client(&[&rustls::version::TLS13]), client(&[&rustls::version::TLS12])];
        Configs { server: Arc::new(server), clients }
    })
}

fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    // An Ed25519 key in PKCS #8 (RFC 8410 section 7).
    let mut der = vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    der.extend([0x5a; 32]);
    let der = PrivatePkcs8KeyDer::from(der);
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).expect("the DER is valid");
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("localhost is a valid name");
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    let certificate = params.self_signed(&key).expect("the parameters are valid");
    (certificate.der().clone(), PrivateKeyDer::from(der))
}
