//! Test build only: faults of our own, struck when a chosen peer says something.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What happens to the core that hears the peer.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// Its code panics.
    Panic,
    /// It does nothing else for so long.
    Stall(Duration),
}

static ARMED: Mutex<Vec<(SocketAddr, Fault)>> = Mutex::new(Vec::new());

/// Arms a fault for the next bytes of a peer.
pub(crate) fn arm(peer: SocketAddr, fault: Fault) {
    ARMED.lock().unwrap_or_else(PoisonError::into_inner).push((peer, fault));
}

/// Strikes, if this peer's fault is armed.
pub(crate) fn strike(peer: SocketAddr) {
    let armed = {
        let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        armed.iter().position(|(known, _)| *known == peer).map(|at| armed.swap_remove(at).1)
    };
    match armed {
        Some(Fault::Panic) => panic!("a fault that was asked for"),
        Some(Fault::Stall(time)) => std::thread::sleep(time),
        None => {}
    }
}
