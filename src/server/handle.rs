//! What steers a running hub from any thread.

use super::{error::StartError, milestone::Milestone};
use crate::{
    api::Phase,
    driver::{mesh::Address, watchdog},
    engine::{HubState, Incoming},
    store::StoreHandle,
    tls::{self, Certificate},
};
use flume::Sender;
use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// Steers a running hub from another thread.
#[derive(Clone)]
pub struct HubHandle {
    pub(super) state: Arc<HubState>,
    pub(super) admin_token: Arc<str>,
    pub(super) store: StoreHandle,
    pub(super) cores: Arc<[Address]>,
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) milestones: Sender<Milestone>,
}

impl HubHandle {
    /// See [`super::Hub::reload`].
    pub fn reload(&self) {
        let Some(certificate) = &self.certificate else { return };
        if let Some(config) = certificate.reload() {
            self.cores.iter().for_each(|core| core.tell(Incoming::Tls(Arc::clone(&config))));
        }
    }

    /// See [`super::Hub::drain`].
    pub fn drain(&self) {
        if self.state.advance(Phase::Draining) {
            tracing::info!("draining");
            let _ = self.milestones.send(Milestone::DrainBegan(Instant::now()));
            self.cores.iter().for_each(|core| core.tell(Incoming::Drain));
        }
    }

    /// Connections whose code panicked; each has cost that connection only.
    pub fn panics(&self) -> u64 {
        self.state.panics()
    }

    /// How often a shard was found to be stalled.
    pub fn stalls(&self) -> u64 {
        self.state.stalls()
    }

    /// Lets gateways in; a core that then does not turn for `abort_after` ends the process, unless that is zero.
    pub(super) fn open(&self, address_file: &Path, url: &str, abort_after: Duration) -> Result<(), StartError> {
        let thread = |error: std::io::Error| StartError::Thread { why: error.to_string() };
        let shards = u16::try_from(self.cores.len()).unwrap_or(u16::MAX);
        watchdog::start(Arc::clone(&self.state), shards, abort_after).map_err(thread)?;
        if let Some(certificate) = &self.certificate {
            let (state, hub) = (Arc::clone(&self.state), self.clone());
            tls::watch(Arc::clone(certificate), move || state.has_ended(), move || hub.reload()).map_err(thread)?;
        }
        fs::write(address_file, format!("{url}\n"))
            .map_err(|error| StartError::AddressFile { path: address_file.to_owned(), why: error.to_string() })?;
        self.state.advance(Phase::Ready);
        Ok(())
    }
}
