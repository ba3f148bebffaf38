//! The calls on connected sockets; none of them waits.

use super::raw;
use crate::engine::{PeerState, Received, Sent};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, SocketFlags},
};
use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

/// The next connection of a listener, with the address of its peer; `None` where none waits.
pub(super) fn accept(listener: &OwnedFd) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
    loop {
        match rustix::net::acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok((socket, Some(peer))) => match SocketAddr::try_from(peer) {
                Ok(peer) => return Ok(Some((socket, peer))),
                Err(_) => drop(socket),
            },
            // A peer that is gone already has no address, and an aborted one no connection.
            Ok((_, None)) | Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

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

pub(super) fn send(socket: &OwnedFd, bytes: &[u8]) -> Sent {
    loop {
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
    // It fails where the peer is gone already, which is as good.
    let _ = rustix::net::shutdown(socket, Shutdown::Write);
}

/// Has the socket torn down when it is closed: the kernel throws away what it holds, and the peer gets a reset.
pub(super) fn abort_on_close(socket: &OwnedFd) {
    // It fails where the peer is gone already, which is as good.
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// A peer's kernel that has acknowledged something within this is there, in milliseconds.
const ALIVE_MS: u32 = 5_000;

/// Whether no descriptor is left, of the process or of the machine.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// What the kernel knows about the peer.
pub(super) fn peer(socket: &OwnedFd) -> PeerState {
    match raw::tcp_info(socket.as_fd()) {
        Some(info) => PeerState {
            alive: info.tcpi_unacked == 0 || info.tcpi_last_ack_recv < ALIVE_MS,
            acknowledged_bytes: info.tcpi_bytes_acked,
        },
        None => PeerState { alive: false, acknowledged_bytes: 0 },
    }
}
