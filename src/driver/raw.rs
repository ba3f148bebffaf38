//! All the `unsafe` of the crate: a descriptor that glommio is to watch, and what the kernel knows about a TCP connection.
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

/// Lets the executor that runs this sleep until a descriptor that is no socket becomes readable.
///
/// glommio has no call for that. A stream of its own arms one poll of its descriptor when it is made, and reads only once
/// that has completed; the read of what is no socket then fails, which means *ready*. The stream is forgotten and made anew to
/// arm again. It depends on details of glommio 0.9, which a test holds fast.
pub(super) struct Watch {
    watched: Rc<OwnedFd>,
    armed: Option<ManuallyDrop<TcpStream>>,
}

impl Watch {
    pub(super) fn new(watched: Rc<OwnedFd>) -> Self {
        Self { watched, armed: None }
    }

    /// Ready once the descriptor is readable; arms a poll where there is none.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let watched = self.watched.as_raw_fd();
        // SAFETY: the descriptor is open for as long as `self`, which holds it. The stream never closes it: it is only ever
        // forgotten, by `ManuallyDrop`, and only after its poll has completed, so glommio keeps nothing of it.
        let stream = self.armed.get_or_insert_with(|| ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(watched) }));
        match Pin::new(&mut **stream).poll_read(cx, &mut [0; 1]) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => {
                self.armed = None;
                Poll::Ready(())
            }
        }
    }

    /// Whether a poll is out, which has to complete before the executor ends.
    pub(super) fn is_armed(&self) -> bool {
        self.armed.is_some()
    }
}

/// What the kernel knows about a TCP connection (`TCP_INFO`, linux/tcp.h); `None` for what is no TCP socket.
pub(super) fn tcp_info(socket: BorrowedFd<'_>) -> Option<libc::tcp_info> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`, which is that large; all zeroes are a valid
    // `tcp_info`, so what it leaves out is initialized, too.
    unsafe {
        let at = info.as_mut_ptr().cast();
        let failed = libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, at, &mut length) != 0;
        (!failed).then(|| info.assume_init())
    }
}
