//! The calls on a socket that glommio does not offer, and all the `unsafe` of the crate.
#![allow(unsafe_code, reason = "glommio gives and takes descriptors only raw")]

use glommio::net::{TcpListener, TcpStream};
use rustix::{
    io::Errno,
    net::{SendFlags, Shutdown},
};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd},
};

/// Binds a connected socket to the executor that runs this.
pub(super) fn stream(socket: OwnedFd) -> TcpStream {
    // SAFETY: `into_raw_fd` gives up the only owner, and the stream becomes the only one.
    unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) }
}

/// Binds a listening socket to the executor that runs this.
pub(super) fn listener(socket: OwnedFd) -> TcpListener {
    // SAFETY: as above.
    unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) }
}

/// The stream's descriptor, for as long as the stream is borrowed.
fn fd(stream: &TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream owns the descriptor and keeps it open; the borrow keeps the stream.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

/// Writes what the socket takes at once; `None` where it takes nothing now.
pub(super) fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<Option<usize>> {
    loop {
        match rustix::net::send(fd(stream), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => return Ok(Some(sent)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A second descriptor of the same socket, so that another executor can take it over.
pub(super) fn duplicate(stream: &TcpStream) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd(stream), 0)?)
}

/// Sends a FIN.
pub(super) fn shutdown_write(stream: &TcpStream) {
    // It fails where the peer is gone already, which is as good.
    let _ = rustix::net::shutdown(fd(stream), Shutdown::Write);
}

/// Ends both directions: dropping the stream alone does not, while glommio still polls it.
pub(super) fn shutdown(stream: &TcpStream) {
    let _ = rustix::net::shutdown(fd(stream), Shutdown::Both);
}

/// Whether the peer's kernel has acknowledged everything that was sent to it (`TCP_INFO`, `tcpi_unacked` and
/// `tcpi_retransmits`, linux/tcp.h).
pub(super) fn is_acknowledged(stream: &TcpStream) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`, which is that large; all zeroes are a valid
    // `tcp_info`, so what it leaves out is initialized, too.
    let info = unsafe {
        let at = info.as_mut_ptr().cast();
        if libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, at, &mut length) != 0 {
            return false;
        }
        info.assume_init()
    };
    info.tcpi_unacked == 0 && info.tcpi_retransmits == 0
}
