//! Signals: the first SIGTERM or SIGINT drains the hub, a second ends the process at once, SIGHUP reloads the
//! certificate.

use crate::server::HubHandle;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{io, thread};

/// The exit code after a second signal: 128 + 2, as a shell reports for SIGINT.
const EXIT_AT_ONCE: i32 = 130;

/// Installs a handler for SIGHUP, which must not end a hub that is still starting. SIGTERM and SIGINT keep
/// their default action until [`watch`], so that a start that hangs can be stopped.
pub fn prepare() -> io::Result<Signals> {
    Signals::new([SIGHUP])
}

/// Handles signals on a separate thread until the process ends.
pub fn watch(mut signals: Signals, hub: HubHandle) -> io::Result<()> {
    signals.add_signal(SIGTERM)?;
    signals.add_signal(SIGINT)?;
    let listen = move || {
        let mut draining = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => {
                    tracing::info!("SIGHUP: reloading the certificate");
                    hub.reload();
                }
                // `exit` runs no drain: an operator who signals twice does not want to wait for it.
                _ if draining => std::process::exit(EXIT_AT_ONCE),
                _ => {
                    tracing::info!("signal received: draining; a second signal ends the process at once");
                    draining = true;
                    hub.drain();
                }
            }
        }
    };
    thread::Builder::new().name("gatecast-signal".to_owned()).spawn(listen).map(drop)
}
