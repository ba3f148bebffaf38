//! Both ends of TLS in a world; the key is fixed and signatures have one length, so that a seed replays.

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::NoServerSessionStorage,
};
use std::sync::{Arc, OnceLock};

struct Ends {
    server: Arc<ServerConfig>,
    clients: [Arc<ClientConfig>; 2],
}

/// What the hub speaks.
pub(super) fn server() -> Arc<ServerConfig> {
    Arc::clone(&ends().server)
}

/// What a peer speaks; an old one knows TLS 1.2 only.
pub(super) fn client(old: bool) -> Arc<ClientConfig> {
    Arc::clone(&ends().clients[usize::from(old)])
}

fn ends() -> &'static Ends {
    static ENDS: OnceLock<Ends> = OnceLock::new();
    ENDS.get_or_init(|| {
        let (certificate, key) = certificate();
        let provider = || Arc::new(ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring speaks both")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("they go together");
        server.ticketer = ring::Ticketer::new().expect("a key for tickets");
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a certificate");
        let client = |versions: &[&'static rustls::SupportedProtocolVersion]| {
            let mut config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(versions)
                .expect("ring speaks both")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            // A session that one world left behind would shorten the handshakes of the next.
            config.resumption = Resumption::disabled();
            Arc::new(config)
        };
        let clients = [client(&[&rustls::version::TLS13]), client(&[&rustls::version::TLS12])];
        Ends { server: Arc::new(server), clients }
    })
}

fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    // An Ed25519 key in PKCS #8 (RFC 8410 section 7).
    let mut der = vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    der.extend([0x5a; 32]);
    let der = PrivatePkcs8KeyDer::from(der);
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.der().clone(), PrivateKeyDer::from(der))
}
