//! The certificate that the hub makes for itself where none is configured.

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

/// The certificate's file in the data directory; a client that trusts exactly this file trusts the hub.
pub(crate) const CERT_FILE: &str = "cert.pem";
/// The private key's file in the data directory.
const KEY_FILE: &str = "key.pem";

/// Makes `cert.pem` and `key.pem` in `dir` unless both are there, belong together and are valid; `dir` exists. Replacing a pair that
/// cannot be used is a WARN: clients that were given the old certificate do not trust the new one.
///
/// # Errors
/// Which file cannot be read or written, or why no certificate can be made. A file that is there and cannot be read is not replaced.
pub(crate) fn self_signed(dir: &Path) -> Result<(PathBuf, PathBuf), TlsError> {
    let paths = (dir.join(CERT_FILE), dir.join(KEY_FILE));
    let pair = look(&paths.0, &paths.1)?;
    if let Pair::Unusable(why) = &pair {
        tracing::warn!(
            why,
            "the hub's own certificate is replaced by a new one: give it to the clients that trust the old one"
        );
    }
    if pair != Pair::Whole {
        let (cert, key) = generate().map_err(|error| TlsError::Generate { why: error.to_string() })?;
        write_whole(&paths.1, &key, 0o600)?;
        write_whole(&paths.0, &cert, 0o644)?;
    }
    Ok(paths)
}

/// What is in the data directory.
#[derive(PartialEq, Eq, Debug)]
enum Pair {
    /// Certificate and key, valid and of each other.
    Whole,
    /// Neither file.
    Absent,
    /// Damaged, expired, not a pair, or one of the two only; with what is wrong.
    Unusable(String),
}

fn look(cert: &Path, key: &Path) -> Result<Pair, TlsError> {
    let unreadable = |path: &Path, error: io::Error| {
        let (path, why) = (path.to_owned(), error.to_string());
        if path == cert { TlsError::UnreadableCertificate { path, why } } else { TlsError::UnreadableKey { path, why } }
    };
    let is_there = |path: &Path| match fs::File::open(path).and_then(|mut file| file.read(&mut [0])) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(unreadable(path, error)),
    };
    // Both are looked at: one that cannot be read is not replaced, whatever the other is.
    let (cert_is_there, key_is_there) = (is_there(cert)?, is_there(key)?);
    if !cert_is_there && !key_is_there {
        return Ok(Pair::Absent);
    }
    Ok(load::check(cert, key).map_or_else(|error| Pair::Unusable(error.to_string()), |()| Pair::Whole))
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

    // A day early, for clients whose clock is behind ours.
    let (year, month, day) = yesterday();
    params.not_before = date_time_ymd(year, month, day);
    // The 28th is there in every year, the 29th of February is not.
    params.not_after = date_time_ymd(year + 10, month, day.min(28));

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn yesterday() -> (i32, u8, u8) {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let date = today.yesterday().unwrap_or(today);
    (i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
}

/// This machine's name, where it is one that a certificate can hold.
fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_ascii_lowercase();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    (!name.is_empty() && name != "localhost" && name.bytes().all(fits)).then_some(name)
}

/// Writes beside it and renames, so that the file is there whole or not at all, and never readable by others meanwhile.
fn write_whole(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let new = path.with_extension("pem.new");
    let write = || {
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
        (fs::read(cert).expect("there is one"), fs::read(key).expect("there is one"))
    }

    #[test]
    fn a_pair_that_is_there_is_kept_and_a_broken_one_is_made_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = pair(dir.path());
        assert_eq!(pair(dir.path()), first);
        fs::write(dir.path().join(CERT_FILE), "nonsense").expect("it can be written");
        assert_ne!(pair(dir.path()), first);
        fs::remove_file(dir.path().join(KEY_FILE)).expect("it is there");
        pair(dir.path());
    }

    #[test]
    fn what_is_found_is_named_and_what_cannot_be_read_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = (dir.path().join(CERT_FILE), dir.path().join(KEY_FILE));
        assert_eq!(look(&cert, &key), Ok(Pair::Absent));
        let (first, _) = pair(dir.path());
        assert_eq!(look(&cert, &key), Ok(Pair::Whole));
        let unusable = || match look(&cert, &key) {
            Ok(Pair::Unusable(why)) => why,
            found => panic!("{found:?}"),
        };
        fs::write(&cert, &first[..first.len() / 2]).expect("it can be written");
        assert!(unusable().contains("cert.pem"));
        fs::remove_file(&cert).expect("it is there");
        assert!(unusable().contains("cert.pem"), "a key alone");
        pair(dir.path());
        fs::remove_file(&key).expect("it is there");
        assert!(unusable().contains("key.pem"), "a certificate alone");

        fs::create_dir(&key).expect("a directory");
        let kept = fs::read(&cert).expect("it is there");
        let error = self_signed(dir.path()).expect_err("the key cannot be read").to_string();
        assert!(error.contains("key.pem cannot be read"), "{error}");
        assert_eq!(fs::read(&cert).expect("it is there"), kept);
    }

    #[test]
    fn only_the_owner_reads_the_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = self_signed(dir.path()).expect("the directory can be written");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(&key), 0o600);
        assert_eq!(mode(&cert) & 0o600, 0o600);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let error = self_signed(Path::new("/proc/self")).expect_err("it cannot be written").to_string();
        assert!(error.starts_with("/proc/self/key.pem cannot be written: "), "{error}");
    }

    /// Hands bytes to and fro until neither side has any.
    fn handshake(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).expect("a Vec takes all");
            server.read_tls(&mut wire.as_slice()).expect("a slice has all");
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).expect("a Vec takes all");
            client.read_tls(&mut wire.as_slice()).expect("a slice has all");
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn a_client_that_trusts_the_file_is_let_in_under_every_local_name() {
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
