//! The self-signed certificate that the hub creates if none is configured.

use super::{TlsError, load};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType, date_time_ymd,
};
use std::{
    fs,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The certificate's file in the data directory. A client needs only this file to trust the hub.
pub(crate) const CERT_FILE: &str = "cert.pem";
/// The private key's file in the data directory.
const KEY_FILE: &str = "key.pem";

/// Creates `cert.pem` and `key.pem` in `dir` unless both exist, belong together and are valid. `dir` must exist. Logs a
/// WARN if it replaces an unusable pair, because clients that trust the old certificate do not trust the new one.
///
/// # Errors
/// If a file cannot be read or written, or no certificate can be created. A file that exists but cannot be read is
/// never replaced.
pub(crate) fn self_signed(dir: &Path) -> Result<(PathBuf, PathBuf), TlsError> {
    let paths = (dir.join(CERT_FILE), dir.join(KEY_FILE));
    let pair = inspect(&paths.0, &paths.1)?;
    if let Pair::Unusable(why) = &pair {
        tracing::warn!(
            why,
            "the hub's own certificate is replaced by a new one: give it to the clients that trust the old one"
        );
    }
    if pair != Pair::Usable {
        let (cert, key) = generate().map_err(|error| TlsError::Generate { why: error.to_string() })?;
        // The key first: after a crash in between, the pair does not match and the next start replaces both.
        write_atomically(&paths.1, &key, 0o600)?;
        write_atomically(&paths.0, &cert, 0o644)?;
    }
    Ok(paths)
}

/// The certificate and key in the data directory.
#[derive(PartialEq, Eq, Debug)]
enum Pair {
    /// Both exist, belong together and are valid.
    Usable,
    /// Neither file exists.
    Absent,
    /// One is missing or damaged, the certificate has expired, or they do not belong together. Holds the error.
    Unusable(String),
}

fn inspect(cert: &Path, key: &Path) -> Result<Pair, TlsError> {
    let unreadable = |path: &Path, error: io::Error| {
        let (path, why) = (path.to_owned(), error.to_string());
        if path == cert { TlsError::UnreadableCertificate { path, why } } else { TlsError::UnreadableKey { path, why } }
    };
    // Opening is not enough: a directory can be opened, and fails only when it is read.
    let exists = |path: &Path| match fs::File::open(path).and_then(|mut file| file.read(&mut [0])) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(unreadable(path, error)),
    };
    // Both are checked before either is judged: a file that cannot be read stops the start, even if the other is
    // missing.
    let (cert_exists, key_exists) = (exists(cert)?, exists(key)?);
    if !cert_exists && !key_exists {
        return Ok(Pair::Absent);
    }
    Ok(load::check(cert, key).map_or_else(|error| Pair::Unusable(error.to_string()), |()| Pair::Usable))
}

fn generate() -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    params.subject_alt_names.extend(local.map(SanType::IpAddress));
    params.subject_alt_names.extend(host_name().and_then(|name| Some(SanType::DnsName(name.try_into().ok()?))));
    params.distinguished_name.push(DnType::CommonName, "gatecast");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;

    // Valid from yesterday, so that a client whose clock is behind ours accepts it.
    let (year, month, day) = yesterday();
    params.not_before = date_time_ymd(year, month, day);
    // At most the 28th, because the 29th of February does not exist in every year.
    params.not_after = date_time_ymd(year + 10, month, day.min(28));

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn yesterday() -> (i32, u8, u8) {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let date = today.yesterday().unwrap_or(today);
    (i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
}

/// This machine's host name, if it is a DNS name that a certificate can hold.
fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_ascii_lowercase();
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    (!name.is_empty() && name != "localhost" && name.bytes().all(is_allowed)).then_some(name)
}

/// Writes a new file with this mode and renames it to `path`, so that `path` is never incomplete and a key is never
/// readable by others.
fn write_atomically(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let new = path.with_extension("pem.new");
    let write = || {
        // A crash may have left this file, and `create_new` fails if it exists. Reusing it instead would keep its old
        // mode.
        let _ = fs::remove_file(&new);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|error| TlsError::Unwritable { path: path.to_owned(), why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    };
    use std::{os::unix::fs::PermissionsExt, sync::Arc};

    fn pair(dir: &Path) -> (Vec<u8>, Vec<u8>) {
        let (cert, key) = self_signed(dir).expect("the directory can be written");
        (fs::read(cert).expect("it exists"), fs::read(key).expect("it exists"))
    }

    #[test]
    fn a_usable_pair_is_kept_and_a_damaged_one_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = pair(dir.path());
        assert_eq!(pair(dir.path()), first);
        fs::write(dir.path().join(CERT_FILE), "nonsense").expect("it can be written");
        assert_ne!(pair(dir.path()), first);
        fs::remove_file(dir.path().join(KEY_FILE)).expect("it exists");
        pair(dir.path());
    }

    #[test]
    fn an_error_names_its_file_and_an_unreadable_file_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = (dir.path().join(CERT_FILE), dir.path().join(KEY_FILE));
        assert_eq!(inspect(&cert, &key), Ok(Pair::Absent));
        let (first, _) = pair(dir.path());
        assert_eq!(inspect(&cert, &key), Ok(Pair::Usable));
        let unusable = || match inspect(&cert, &key) {
            Ok(Pair::Unusable(why)) => why,
            found => panic!("{found:?}"),
        };
        fs::write(&cert, &first[..first.len() / 2]).expect("it can be written");
        assert!(unusable().contains("cert.pem"));
        fs::remove_file(&cert).expect("it exists");
        assert!(unusable().contains("cert.pem"), "only the key exists");
        pair(dir.path());
        fs::remove_file(&key).expect("it exists");
        assert!(unusable().contains("key.pem"), "only the certificate exists");

        fs::create_dir(&key).expect("a directory");
        let kept = fs::read(&cert).expect("it exists");
        let error = self_signed(dir.path()).expect_err("the key cannot be read").to_string();
        assert!(error.contains("key.pem cannot be read"), "{error}");
        assert_eq!(fs::read(&cert).expect("it exists"), kept);
    }

    #[test]
    fn only_the_owner_can_read_the_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = self_signed(dir.path()).expect("the directory can be written");
        let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
        assert_eq!(mode(&key), 0o600);
        assert_eq!(mode(&cert) & 0o600, 0o600);
    }

    #[test]
    fn the_error_for_a_read_only_directory_names_the_file() {
        let error = self_signed(Path::new("/proc/self")).expect_err("it cannot be written").to_string();
        assert!(error.starts_with("/proc/self/key.pem cannot be written: "), "{error}");
    }

    /// Passes bytes between both sides until the handshake is complete.
    fn handshake(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).expect("a Vec accepts all bytes");
            server.read_tls(&mut wire.as_slice()).expect("a slice can be read");
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).expect("a Vec accepts all bytes");
            client.read_tls(&mut wire.as_slice()).expect("a slice can be read");
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn a_client_that_trusts_the_file_connects_under_every_local_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = self_signed(dir.path()).expect("the directory can be written");
        let cert = CertificateDer::from_pem_file(cert).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(cert.clone()).expect("it can be a root");
        let client = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
        let server = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert], key);
        let server = Arc::new(server.expect("they belong together"));
        let check = |name: &str, expected: bool| {
            let name_owned = name.to_owned().try_into().expect("a server name");
            let mut client = ClientConnection::new(client.clone(), name_owned).expect("it is configured");
            let mut server = ServerConnection::new(server.clone()).expect("it is configured");
            assert_eq!(handshake(&mut client, &mut server).is_ok(), expected, "{name}");
        };
        check("localhost", true);
        check("127.0.0.1", true);
        check("::1", true);
        check("example.com", false);
        check("127.0.0.2", false);
        if let Some(name) = host_name() {
            check(&name, true);
        }
    }
}
