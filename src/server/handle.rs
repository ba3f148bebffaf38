//! A handle that controls a running hub from any thread.

use super::{error::StartError, event_log::EventLogHandle, milestone::Milestone};
use crate::{
    api::Phase,
    driver::{mesh::Address, watchdog},
    engine::{HubState, Incoming},
    store::StoreHandle,
    tls::{self, Certificate},
};
use flume::Sender;
use rustls::ServerConfig;
use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// Controls a running hub from any thread.
#[derive(Clone)]
pub struct HubHandle {
    pub(super) state: Arc<HubState>,
    pub(super) admin_token: Arc<str>,
    pub(super) store: StoreHandle,
    pub(super) log: EventLogHandle,
    pub(super) cores: Arc<[Address]>,
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) milestones: Sender<Milestone>,
}

impl HubHandle {
    /// See [`super::Hub::reload`].
    pub fn reload(&self) {
        // Without TLS there is nothing to reload, and SIGHUP does nothing.
        self.use_certificate(self.certificate.as_ref().and_then(|certificate| certificate.reload()));
    }

    /// Gives the cores this certificate, for new connections.
    fn use_certificate(&self, certificate: Option<Arc<ServerConfig>>) {
        if let Some(config) = certificate {
            self.cores.iter().for_each(|core| core.tell(Incoming::Tls(Arc::clone(&config))));
        }
    }

    /// See [`super::Hub::drain`].
    pub fn drain(&self) {
        if self.state.advance(Phase::Draining) {
            tracing::info!("draining");
            // Sent before the cores are told: whoever joins the hub must have the deadline before the first core ends.
            let _ = self.milestones.send(Milestone::DrainBegan(Instant::now()));
            self.cores.iter().for_each(|core| core.tell(Incoming::Drain));
        }
    }

    /// Number of panics in the code of a connection. Each ended only that connection.
    pub fn panics(&self) -> u64 {
        self.state.panics()
    }

    /// Number of times that a shard was found stuck.
    pub fn stalls(&self) -> u64 {
        self.state.stalls()
    }

    /// Starts the watchdog and the certificate's watcher, writes the address file and marks the hub ready. A core that
    /// is stuck for `abort_after` then aborts the process, unless that is zero.
    pub(super) fn open(&self, address_file: &Path, url: &str, abort_after: Duration) -> Result<(), StartError> {
        let thread = |error: std::io::Error| StartError::Thread { why: error.to_string() };
        let shards = u16::try_from(self.cores.len()).unwrap_or(u16::MAX);
        watchdog::start(Arc::clone(&self.state), shards, abort_after).map_err(thread)?;
        if let Some(certificate) = &self.certificate {
            let (state, hub, certificate) = (Arc::clone(&self.state), self.clone(), Arc::clone(certificate));
            tls::watch(move || state.has_ended(), move || hub.use_certificate(certificate.reload_if_changed()))
                .map_err(thread)?;
        }
        // Written only when everything else has succeeded: a client command that finds this file calls the hub.
        fs::write(address_file, format!("{url}\n"))
            .map_err(|error| StartError::AddressFile { path: address_file.to_owned(), why: error.to_string() })?;
        self.state.advance(Phase::Ready);
        Ok(())
    }
}
