//! The certificate in force, and how a new one takes its place without a connection being dropped.

use super::HubHandle;
use crate::{
    config::{Config, Tls},
    driver::tls_config,
    store::certificate,
};
use rustls::{ServerConfig, server::ProducesTickets};
use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime},
};

/// Where it comes from, and what was last made of it.
pub(super) struct Certificate {
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
    pub(super) fn of(config: &Config) -> Result<Option<Self>, String> {
        let (cert, key) = match &config.tls {
            Tls::Off => {
                tracing::warn!(
                    "TLS is off: tokens and events are readable on the network unless a proxy in front terminates TLS"
                );
                return Ok(None);
            }
            Tls::Files { cert, key } => (cert.clone(), key.clone()),
            Tls::SelfSigned => certificate::self_signed(&config.data)?,
        };
        if super::is_self_signed(config) {
            tracing::warn!(certificate = %cert.display(), "no certificate is configured: using a self-signed one");
        }
        let ticketer = tls_config::ticketer()?;
        let changed = changed(&cert, &key);
        let config = tls_config::load(&cert, &key, Arc::clone(&ticketer))?;
        Ok(Some(Self { cert, key, ticketer, current: Mutex::new(Loaded { config, changed }) }))
    }

    /// What new connections get.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock().config)
    }

    /// Reads the files again; `None`, and an ERROR in the log, where they are no good: the old one stays in force.
    pub(super) fn reload(&self) -> Option<Arc<ServerConfig>> {
        // The times first: a file that changes while it is read is read again.
        let changed = changed(&self.cert, &self.key);
        match tls_config::load(&self.cert, &self.key, Arc::clone(&self.ticketer)) {
            Ok(config) => {
                tracing::info!(certificate = %self.cert.display(), "certificate loaded");
                *self.lock() = Loaded { config: Arc::clone(&config), changed };
                Some(config)
            }
            Err(sentence) => {
                // Not again until the files change once more.
                self.lock().changed = changed;
                tracing::error!("{sentence}; the old certificate stays in force");
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

/// Looks after the files from a thread of its own, which ends with the hub.
pub(super) fn watch(hub: HubHandle) -> std::io::Result<()> {
    let watch = move || {
        while !hub.state.has_ended() {
            thread::sleep(LOOK_INTERVAL);
            if hub.certificate.as_ref().is_some_and(|certificate| certificate.is_changed()) {
                hub.reload();
            }
        }
    };
    thread::Builder::new().name("certificate".to_owned()).spawn(watch).map(drop)
}

fn changed(cert: &PathBuf, key: &PathBuf) -> [Option<SystemTime>; 2] {
    [cert, key].map(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
}
