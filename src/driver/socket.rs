//! System calls on connected sockets. None of them blocks.

use super::raw;
use crate::engine::{PeerState, Received, Sent};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, SocketFlags},
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

/// Accepts the next connection of a listener, with its peer's address; `None` if no connection waits.
pub(super) fn accept(listener: &OwnedFd) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
    loop {
        match rustix::net::acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok((socket, Some(peer))) => match SocketAddr::try_from(peer) {
                Ok(peer) => return Ok(Some((socket, canonical(peer)))),
                Err(_) => drop(socket),
            },
            // The peer closed the connection before it was accepted, or a signal came: try again.
            Ok((_, None)) | Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The address that limits, logs and statistics use. The kernel shows a peer that connects over IPv4 to an IPv6 listener as
/// `::ffff:192.0.2.1`.
fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, peer.port())),
        // Keeps the scope, which a link-local address needs.
        IpAddr::V6(_) => peer,
    }
}

/// Reads once, without blocking.
pub(super) fn receive(socket: &OwnedFd, room: &mut [u8]) -> Received {
    loop {
        match rustix::net::recv(socket, &mut *room, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Received::End,
            Ok((bytes, _)) => return Received::Bytes(bytes),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Received::Blocked,
            Err(_) => return Received::Broken,
        }
    }
}

/// Writes once, without blocking.
pub(super) fn send(socket: &OwnedFd, bytes: &[u8]) -> Sent {
    loop {
        // NOSIGNAL: a peer that has closed must not end the process with SIGPIPE.
        match rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => return Sent::Took(sent),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Sent::Took(0),
            Err(_) => return Sent::Broken,
        }
    }
}

/// Sends a FIN.
pub(super) fn shutdown_write(socket: &OwnedFd) {
    // Fails only if the connection has ended already.
    let _ = rustix::net::shutdown(socket, Shutdown::Write);
}

/// Makes the close of the socket abort the connection: the kernel discards unsent bytes and sends a reset.
pub(super) fn abort_on_close(socket: &OwnedFd) {
    // Fails only if the connection has ended already. A linger time of zero is how Linux is asked for a reset.
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// A peer whose kernel acknowledged something within this time, in milliseconds, counts as alive.
const ALIVE_MS: u32 = 5_000;

/// Whether the process (EMFILE) or the machine (ENFILE) has no free descriptor.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Reads the kernel's state of the connection to the peer.
pub(super) fn peer(socket: &OwnedFd) -> PeerState {
    match raw::tcp_info(socket.as_fd()) {
        Some(info) => PeerState {
            alive: info.tcpi_unacked == 0 || info.tcpi_last_ack_recv < ALIVE_MS,
            acknowledged_bytes: info.tcpi_bytes_acked,
        },
        None => PeerState { alive: false, acknowledged_bytes: 0 },
    }
}
