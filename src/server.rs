//! Starts one worker per core and stops them all.

use crate::config::Config;
use std::{fmt, net::SocketAddr};

/// Why a hub did not start: one sentence that names what is wrong and what to do.
#[derive(Debug)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// A running hub.
pub struct Hub {
    addr: SocketAddr,
    admin_addr: SocketAddr,
    admin_token: String,
}

impl Hub {
    /// Starts a hub; when this returns it takes connections.
    ///
    /// # Errors
    /// What stands in the way, with the remedy.
    pub fn start(_config: Config) -> Result<Hub, StartError> {
        Err(StartError("not there yet".to_owned()))
    }

    /// Where gateways connect, with the port that was taken.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the platform's calls go; the same as [`Hub::addr`] unless configured apart.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// The admin token in force.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// Reads the certificate files again (what SIGHUP does).
    pub fn reload(&self) {}

    /// Begins the drain: what SIGTERM does. Returns at once.
    pub fn drain(&self) {}

    /// What a thread of its own, such as that of the signals, needs to steer the hub.
    pub fn handle(&self) -> HubHandle {
        HubHandle {}
    }

    /// Waits until the hub has ended, by [`Hub::drain`] or because a worker failed.
    ///
    /// # Errors
    /// What failed.
    pub fn join(self) -> Result<(), StartError> {
        Ok(())
    }
}

/// Steers a running hub from another thread.
#[derive(Clone)]
pub struct HubHandle {}

impl HubHandle {
    /// See [`Hub::reload`].
    pub fn reload(&self) {}

    /// See [`Hub::drain`].
    pub fn drain(&self) {}
}
