//! The certificate in force, and how a new one takes its place without a connection being dropped.

use super::{TlsError, load, self_signed::self_signed};
use crate::config::{Config, Tls};
use rustls::{ServerConfig, server::ProducesTickets};
use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime},
};

/// Where it comes from, and what was last made of it.
pub(crate) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    ticketer: Arc<dyn ProducesTickets>,
    current: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    /// When the files were written that were last read, whether they were any good or not.
    changed: [Option<SystemTime>; 2],
    /// Why those could not be loaded, where they could not.
    failed: Option<String>,
}

const LOOK_INTERVAL: Duration = Duration::from_secs(2);

impl Certificate {
    /// Reads the configured one, or makes one; `None` where TLS is off.
    pub(crate) fn of(config: &Config) -> Result<Option<Self>, TlsError> {
        let (cert, key) = match &config.tls {
            Tls::Off => {
                tracing::warn!(
                    "TLS is off: tokens and events are readable on the network unless a proxy in front terminates TLS"
                );
                return Ok(None);
            }
            Tls::Files { cert, key } => (cert.clone(), key.clone()),
            Tls::SelfSigned => self_signed(&config.data)?,
        };
        if matches!(config.tls, Tls::SelfSigned) {
            tracing::warn!(certificate = %cert.display(), "no certificate is configured: using a self-signed one");
        }
        let ticketer = load::ticketer()?;
        let changed = changed(&cert, &key);
        let config = load::server_config(&cert, &key, Arc::clone(&ticketer))?;
        Ok(Some(Self { cert, key, ticketer, current: Mutex::new(Loaded { config, changed, failed: None }) }))
    }

    /// What new connections get.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock().config)
    }

    /// Reads the files again; `None`, and an ERROR in the log, where they are no good: the old one stays in force.
    pub(crate) fn reload(&self) -> Option<Arc<ServerConfig>> {
        self.load(None)
    }

    /// Reads the files again where they have changed, or where they could not be loaded the last time: what stood in the way may
    /// have passed, as a descriptor that was missing, and need not have been in the files. The same failure is logged once.
    pub(crate) fn look(&self) -> Option<Arc<ServerConfig>> {
        let (is_changed, failed) = {
            let loaded = self.lock();
            (changed(&self.cert, &self.key) != loaded.changed, loaded.failed.clone())
        };
        match (is_changed, failed) {
            (true, _) => self.reload(),
            (false, Some(known)) => self.load(Some(&known)),
            (false, None) => None,
        }
    }

    /// Reads the files; a failure that is `known` has been logged.
    fn load(&self, known: Option<&str>) -> Option<Arc<ServerConfig>> {
        // The times first: a file that changes while it is read is read again.
        let changed = changed(&self.cert, &self.key);
        match load::server_config(&self.cert, &self.key, Arc::clone(&self.ticketer)) {
            Ok(config) => {
                tracing::info!(certificate = %self.cert.display(), "certificate loaded");
                *self.lock() = Loaded { config: Arc::clone(&config), changed, failed: None };
                Some(config)
            }
            Err(error) => {
                let why = error.to_string();
                if known != Some(&why) {
                    tracing::error!(
                        "{why}; the old certificate stays in force, and the files are read again until they can be used"
                    );
                }
                let mut loaded = self.lock();
                (loaded.changed, loaded.failed) = (changed, Some(why));
                None
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Loaded> {
        self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Starts a thread that calls `look` every two seconds, for [`Certificate::look`]. The thread ends once `ended` says so.
///
/// # Errors
/// Where the system gives no thread.
pub(crate) fn watch(
    ended: impl Fn() -> bool + Send + 'static,
    look: impl Fn() + Send + 'static,
) -> std::io::Result<()> {
    let watch = move || {
        while !ended() {
            thread::sleep(LOOK_INTERVAL);
            look();
        }
    };
    thread::Builder::new().name("certificate".to_owned()).spawn(watch).map(drop)
}

fn changed(cert: &PathBuf, key: &PathBuf) -> [Option<SystemTime>; 2] {
    [cert, key].map(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(paths: &(PathBuf, PathBuf)) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(&paths.0, made.cert.pem()).unwrap();
        fs::write(&paths.1, made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn a_reload_that_failed_is_tried_again_although_the_files_do_not_change() {
        let dir = tempfile::tempdir().unwrap();
        let paths = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        write(&paths);
        let (cert, key) = paths.clone();
        let config = Config { tls: Tls::Files { cert, key }, ..Config::default() };
        let certificate = Certificate::of(&config).unwrap().unwrap();
        let first = certificate.current();
        assert!(certificate.look().is_none(), "nothing has changed");

        fs::write(&paths.1, "no key").unwrap();
        let at = fs::metadata(&paths.1).unwrap().modified().unwrap();
        assert!(certificate.look().is_none());
        assert!(Arc::ptr_eq(&certificate.current(), &first), "the old one stays in force");

        write(&paths);
        fs::File::options().write(true).open(&paths.1).unwrap().set_modified(at).unwrap();
        let cert_at = changed(&paths.0, &paths.1)[0];
        certificate.lock().changed[0] = cert_at;
        assert!(certificate.look().is_some(), "tried again");
        assert!(certificate.look().is_none(), "and not again once it has succeeded");
    }
}
