//! Listening sockets, one for each core on the same address, and the task that accepts.

use super::{clock, socket, worker::Worker};
use crate::{
    limits,
    session::{Role, Session},
    wire::tls::Security,
};
use glommio::net::TcpListener;
use rustix::net::Shutdown;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::OwnedFd,
    rc::Rc,
    time::Duration,
};

/// Connections that the kernel holds for us; it cuts this to its own bound (`net.core.somaxconn`).
const BACKLOG: i32 = 4_096;
/// Accepts before others have their turn.
const BATCH: usize = 16;
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Binds one socket for each of `shards` workers; port 0 takes a free one, the same for all.
pub(crate) fn bind(address: SocketAddr, shards: u16) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    let first = listen(address)?;
    let bound = StdListener::from(first.try_clone()?).local_addr()?;
    let mut sockets = vec![OwnedFd::from(first)];
    for _ in 1..shards {
        sockets.push(listen(bound)?.into());
    }
    Ok((bound, sockets))
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // `[::]` serves IPv4, too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Whether somebody else listens on the address: `SO_REUSEPORT` would silently share it with another hub of this user.
pub(crate) fn is_taken(address: SocketAddr) -> bool {
    if address.port() == 0 {
        return false;
    }
    let probe = || -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(1)
    };
    probe().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Stops listening: a pending accept ends, and the accepting task with it.
pub(super) fn stop(listening: &OwnedFd) {
    let _ = rustix::net::shutdown(listening, Shutdown::Both);
}

/// Accepts until the worker stops. The accept is never cancelled: glommio would lose a connection with it.
pub(super) async fn accept(worker: Rc<Worker>, listener: TcpListener, role: Role) {
    let mut backoff = BACKOFF;
    let mut batch = 0;
    while !worker.stopping.get() {
        match listener.accept().await {
            Ok(stream) => {
                backoff = BACKOFF;
                let Ok(peer) = stream.peer_addr() else { continue };
                // A peer that is gone already does not care about delays.
                let _ = stream.set_nodelay(true);
                if worker.transients() >= limits::TRANSIENT_SOCKETS_MAX / usize::from(worker.shared.placement.shards())
                {
                    socket::shutdown(&stream);
                    continue;
                }
                let now = clock::now();
                let security = match worker.tls.borrow().clone() {
                    None => Security::Plain,
                    Some(config) => match Security::tls(config) {
                        Ok(security) => security,
                        Err(error) => {
                            tracing::error!(error = error.0, "TLS cannot begin");
                            continue;
                        }
                    },
                };
                let session = Session::new(now, worker.shared.session.clone(), security, peer, role);
                worker.adopt(session, stream, now);
                batch += 1;
                if batch >= BATCH {
                    batch = 0;
                    glommio::timer::sleep(Duration::from_micros(1)).await;
                }
            }
            Err(_) if worker.stopping.get() => break,
            Err(error) => {
                // Out of descriptors, most likely: those who are connected are served, and others wait in the kernel.
                if backoff == BACKOFF || backoff == BACKOFF_MAX {
                    tracing::error!(error = %error, "cannot accept connections");
                }
                glommio::timer::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}
