//! The certificate of a running program: a failed reload is retried, and a replaced certificate is logged.

use super::program::Program;
use rustix::process::{Resource, Rlimit, Signal, prlimit};
use std::{fs, path::Path};

/// Writes a new self-signed certificate for `localhost` to `c.pem` and its key to `k.pem`.
pub fn write_certificate(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(dir.join("k.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(dir.join("c.pem"), made.cert.pem()).unwrap();
}

#[test]
fn a_reload_that_failed_for_lack_of_descriptors_is_retried() {
    let data = tempfile::tempdir().unwrap();
    write_certificate(data.path());
    let file = |name: &str| data.path().join(name).to_str().unwrap().to_owned();
    let (cert, key) = (file("c.pem"), file("k.pem"));
    let program =
        Program::start_in(data.path(), &["--tls", "files", "--tls-cert", &cert, "--tls-key", &key, "--cores", "1"]);
    let limit = |current| {
        let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
        prlimit(Some(program.pid()), Resource::Nofile, Rlimit { current: Some(current), maximum })
            .expect("the limit is set")
    };
    // The program is stopped meanwhile, so that it never sees a new key with the old certificate.
    program.signal(Signal::STOP);
    let before = limit(0).current.expect("there is a limit");
    write_certificate(data.path());
    program.signal(Signal::CONT);
    program.log_line("stays in use");
    limit(before);
    program.log_line("certificate loaded");
    assert_eq!(program.log().matches("stays in use").count(), 1, "{}", program.log());
}

#[test]
fn a_damaged_self_signed_certificate_is_replaced_with_a_warning() {
    let data = tempfile::tempdir().unwrap();
    let cert = data.path().join("cert.pem");
    let start = || Program::start_in(data.path(), &["--tls", "self-signed", "--cores", "1"]);
    let stop = |mut program: Program| {
        program.signal(Signal::TERM);
        assert_eq!(program.wait(), Some(0));
    };
    stop(start());
    let first = fs::read(&cert).unwrap();
    stop(start());
    assert_eq!(fs::read(&cert).unwrap(), first, "a usable certificate is kept");

    fs::write(&cert, &first[..first.len() / 2]).unwrap();
    let program = start();
    assert_ne!(fs::read(&cert).unwrap(), first);
    let line = program.log_line("is replaced");
    assert!(line.contains("WARN") && line.contains("cert.pem"), "{line}");
    assert_eq!(program.log().matches("is replaced").count(), 1, "only the damaged certificate is reported");
}
