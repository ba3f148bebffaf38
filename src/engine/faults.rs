//! Test build only: faults of our own, struck when a chosen peer says something.

use std::{
    cell::Cell,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// What happens to the core that hears the peer.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// The connection's code panics.
    Panic,
    /// The code of an HTTP call panics.
    CallPanic,
    /// The core does nothing else for so long.
    Stall(Duration),
    /// The core's own code panics, where no connection answers for it.
    CorePanic,
    /// The code around the engine panics: the loop, or the runtime.
    RuntimePanic,
}

static ARMED: Mutex<Vec<(SocketAddr, Fault)>> = Mutex::new(Vec::new());
/// By which peer, and in which thread.
static STRUCK: Mutex<Vec<(SocketAddr, String)>> = Mutex::new(Vec::new());

thread_local! {
    static RUNTIME_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Arms a fault for the next bytes of a peer.
pub(crate) fn arm(peer: SocketAddr, fault: Fault) {
    lock(&ARMED).push((peer, fault));
}

/// The name of the thread that this peer's fault has struck.
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

/// Strikes in the code of one connection, if a fault of this peer is armed for it.
pub(crate) fn inject(peer: SocketAddr) {
    match disarm(peer, |fault| matches!(fault, Fault::Panic | Fault::Stall(_))) {
        Some(Fault::Panic) => panic!("a fault that was asked for"),
        Some(Fault::Stall(time)) => thread::sleep(time),
        _ => {}
    }
}

/// Strikes in the code of an HTTP call, if a fault of this peer is armed for it.
pub(crate) fn inject_call(peer: SocketAddr) {
    assert!(disarm(peer, |fault| matches!(fault, Fault::CallPanic)).is_none(), "a fault of a call that was asked for");
}

/// Strikes in the code of the core, if a fault of this peer is armed for it.
pub(crate) fn inject_core(peer: SocketAddr) {
    match disarm(peer, |fault| matches!(fault, Fault::CorePanic | Fault::RuntimePanic)) {
        Some(Fault::CorePanic) => panic!("a fault of the core that was asked for"),
        Some(Fault::RuntimePanic) => RUNTIME_PANICS.set(true),
        _ => {}
    }
}

/// Strikes around the engine, if the core has been told to.
pub(crate) fn inject_runtime() {
    assert!(!RUNTIME_PANICS.take(), "a fault of the runtime that was asked for");
}
