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
    changed: [Option<SystemTime>; 2],
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
        Ok(Some(Self { cert, key, ticketer, current: Mutex::new(Loaded { config, changed }) }))
    }

    /// What new connections get.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock().config)
    }

    /// Reads the files again; `None`, and an ERROR in the log, where they are no good: the old one stays in force.
    pub(crate) fn reload(&self) -> Option<Arc<ServerConfig>> {
        // The times first: a file that changes while it is read is read again.
        let changed = changed(&self.cert, &self.key);
        match load::server_config(&self.cert, &self.key, Arc::clone(&self.ticketer)) {
            Ok(config) => {
                tracing::info!(certificate = %self.cert.display(), "certificate loaded");
                *self.lock() = Loaded { config: Arc::clone(&config), changed };
                Some(config)
            }
            Err(error) => {
                // Not again until the files change once more.
                self.lock().changed = changed;
                tracing::error!("{error}; the old certificate stays in force");
                None
            }
        }
    }

    fn is_changed(&self) -> bool {
        changed(&self.cert, &self.key) != self.lock().changed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Loaded> {
        self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Starts a thread that looks at the certificate's files every two seconds and calls `on_change` when one of them was
/// written. The thread ends once `ended` says so.
///
/// # Errors
/// Where the system gives no thread.
pub(crate) fn watch(
    certificate: Arc<Certificate>,
    ended: impl Fn() -> bool + Send + 'static,
    on_change: impl Fn() + Send + 'static,
) -> std::io::Result<()> {
    let watch = move || {
        while !ended() {
            thread::sleep(LOOK_INTERVAL);
            if certificate.is_changed() {
                on_change();
            }
        }
    };
    thread::Builder::new().name("certificate".to_owned()).spawn(watch).map(drop)
}

fn changed(cert: &PathBuf, key: &PathBuf) -> [Option<SystemTime>; 2] {
    [cert, key].map(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
}
