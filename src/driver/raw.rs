//! All `unsafe` code of the crate: glommio's watch of the epoll set's descriptor, and `TCP_INFO`.
#![allow(unsafe_code, reason = "glommio takes descriptors only raw, and no safe crate reads TCP_INFO")]

use futures_io::AsyncRead;
use glommio::net::TcpStream;
use std::{
    mem::ManuallyDrop,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

/// Lets the executor park until a descriptor that is not a socket becomes readable.
///
/// glommio has no call for that. But its `TcpStream` arms one poll of the descriptor when it is created, and reads once
/// that poll has completed. The read fails, because the descriptor is not a socket, and that failure means *readable*.
/// Then the stream is forgotten, and a new one arms the next poll. This depends on details of glommio 0.9.0: the
/// version is pinned, and a test fails if they change.
pub(super) struct Watch {
    watched: Rc<OwnedFd>,
    armed: Option<ManuallyDrop<TcpStream>>,
}

impl Watch {
    pub(super) fn new(watched: Rc<OwnedFd>) -> Self {
        Self { watched, armed: None }
    }

    /// Ready once the descriptor is readable. Arms a poll if none is armed.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let watched = self.watched.as_raw_fd();
        // SAFETY: `self` holds the descriptor open. The stream never closes it, because `ManuallyDrop` forgets it, and
        // only after its poll has completed, so that glommio keeps no reference to it.
        let stream = self.armed.get_or_insert_with(|| ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(watched) }));
        match Pin::new(&mut **stream).poll_read(cx, &mut [0; 1]) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => {
                self.armed = None;
                Poll::Ready(())
            }
        }
    }

    /// Whether a poll is armed. It must complete before the executor ends, or glommio leaks it.
    pub(super) fn is_armed(&self) -> bool {
        self.armed.is_some()
    }
}

/// Reads `TCP_INFO` (linux/tcp.h); `None` if the socket is not a TCP socket.
pub(super) fn tcp_info(socket: BorrowedFd<'_>) -> Option<libc::tcp_info> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `info`. An older kernel writes fewer; the others
    // stay zero, which is a valid `tcp_info`.
    unsafe {
        let at = info.as_mut_ptr().cast();
        let failed = libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, at, &mut length) != 0;
        (!failed).then(|| info.assume_init())
    }
}
