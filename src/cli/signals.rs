//! Signals: the first SIGTERM or SIGINT drains, a second ends at once, SIGHUP reads the certificate again.

use crate::server::HubHandle;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{io, thread};

/// The exit code of a process that was told twice to end: 128 and the number of SIGINT.
const EXIT_AT_ONCE: i32 = 130;

/// Takes SIGHUP, which must not end a hub that is still starting. SIGTERM and SIGINT go on to end it.
pub fn prepare() -> io::Result<Signals> {
    Signals::new([SIGHUP])
}

/// Listens on a thread of its own for as long as the process lives.
pub fn watch(mut signals: Signals, hub: HubHandle) -> io::Result<()> {
    signals.add_signal(SIGTERM)?;
    signals.add_signal(SIGINT)?;
    let listen = move || {
        let mut draining = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => {
                    tracing::info!("SIGHUP: reading the certificate again");
                    hub.reload();
                }
                _ if draining => std::process::exit(EXIT_AT_ONCE),
                _ => {
                    tracing::info!("draining; a second signal ends at once");
                    draining = true;
                    hub.drain();
                }
            }
        }
    };
    thread::Builder::new().name("gatecast-signal".to_owned()).spawn(listen).map(drop)
}
