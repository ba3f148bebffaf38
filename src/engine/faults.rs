//! Test build only: injects faults into the hub's own code when a chosen peer sends something.

use std::{
    cell::Cell,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// The fault of the core that reads from the peer.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// The connection's code panics.
    Panic,
    /// The code of an HTTP call panics.
    CallPanic,
    /// The core sleeps for this long.
    Stall(Duration),
    /// The core's own code panics, outside of [`super::guard`].
    CorePanic,
    /// The code around the engine panics: the loop or the runtime.
    RuntimePanic,
}

static ARMED: Mutex<Vec<(SocketAddr, Fault)>> = Mutex::new(Vec::new());
/// The faults that happened: the peer and the name of the thread.
static STRUCK: Mutex<Vec<(SocketAddr, String)>> = Mutex::new(Vec::new());

thread_local! {
    static RUNTIME_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Arms a fault for the next bytes from a peer.
pub(crate) fn arm(peer: SocketAddr, fault: Fault) {
    // The system gives a port again: what happened to an earlier peer with this address is not this one's.
    lock(&STRUCK).retain(|(known, _)| *known != peer);
    lock(&ARMED).push((peer, fault));
}

/// The name of the thread in which this peer's fault happened.
pub(crate) fn struck(peer: SocketAddr) -> Option<String> {
    lock(&STRUCK).iter().find(|(known, _)| *known == peer).map(|(_, thread)| thread.clone())
}

fn disarm(peer: SocketAddr, mine: fn(Fault) -> bool) -> Option<Fault> {
    let mut armed = lock(&ARMED);
    let at = armed.iter().position(|(known, fault)| *known == peer && mine(*fault))?;
    lock(&STRUCK).push((peer, thread::current().name().unwrap_or_default().to_owned()));
    Some(armed.swap_remove(at).1)
}

fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Injects an armed fault of this peer into the code of its connection.
pub(crate) fn inject(peer: SocketAddr) {
    match disarm(peer, |fault| matches!(fault, Fault::Panic | Fault::Stall(_))) {
        Some(Fault::Panic) => panic!("an injected fault of a connection"),
        Some(Fault::Stall(time)) => thread::sleep(time),
        _ => {}
    }
}

/// Injects an armed fault of this peer into the code of an HTTP call.
pub(crate) fn inject_call(peer: SocketAddr) {
    assert!(disarm(peer, |fault| matches!(fault, Fault::CallPanic)).is_none(), "an injected fault of a call");
}

/// Injects an armed fault of this peer into the code of the core.
pub(crate) fn inject_core(peer: SocketAddr) {
    match disarm(peer, |fault| matches!(fault, Fault::CorePanic | Fault::RuntimePanic)) {
        Some(Fault::CorePanic) => panic!("an injected fault of the core"),
        Some(Fault::RuntimePanic) => RUNTIME_PANICS.set(true),
        _ => {}
    }
}

/// Injects a fault into the code around the engine, if this core's thread has one armed.
pub(crate) fn inject_runtime() {
    assert!(!RUNTIME_PANICS.take(), "an injected fault of the runtime");
}
