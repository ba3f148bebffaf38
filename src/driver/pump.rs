//! The task of one connection: sleeps until the socket is ready or somebody nudges it, and feeds the session.

use super::{link::Link, worker::Worker};
use crate::limits;
use futures_io::{AsyncRead, AsyncWrite};
use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

/// What woke the pump.
enum Ready {
    /// So many bytes are in the core's read buffer.
    Received(usize),
    /// The peer sends no more.
    End,
    /// The socket is broken.
    Broken,
    /// The socket took so many bytes of the backlog.
    Sent(usize),
    /// The socket has gone.
    Over,
}

/// Runs the connection to its end.
pub(super) async fn run(worker: Rc<Worker>, link: Rc<Link>) {
    let mut read = 0;
    loop {
        let ready = poll_fn(|cx| poll(&worker, &link, cx)).await;
        link.unpark();
        let now = worker.refresh_clock();
        match ready {
            // Nothing runs between the read and this, so the shared buffer still holds these bytes.
            Ready::Received(bytes) => {
                read += bytes;
                worker.guard(&link, |worker| worker.receive(&link, bytes));
            }
            Ready::End => link.session.borrow_mut().handle_end(now),
            Ready::Broken => link.session.borrow_mut().handle_broken(),
            Ready::Sent(bytes) => link.session.borrow_mut().handle_backlog_sent(now, bytes),
            Ready::Over => break,
        }
        worker.enqueue(&link);
        worker.turn();
        if read >= limits::INBOUND_READ_BYTES {
            read = 0;
            // The one way on this runtime that lets I/O of others in.
            glommio::timer::sleep(Duration::from_micros(1)).await;
        }
    }
    // The turn may have been over before this connection's place in it: what it still asks for holds its reason.
    worker.guard(&link, |worker| worker.carry_out_session(&link));
    worker.forget(&link);
}

fn poll(worker: &Worker, link: &Link, cx: &mut Context<'_>) -> Poll<Ready> {
    let mut stream = link.stream.borrow_mut();
    let Some(stream) = stream.as_mut() else { return Poll::Ready(Ready::Over) };
    let session = link.session.borrow();
    if session.is_over() {
        return Poll::Ready(Ready::Over);
    }
    let reading = session.wants_read();
    if reading {
        let mut buffer = worker.received.borrow_mut();
        let room = if session.is_streaming() { limits::INBOUND_READ_BYTES } else { limits::READ_BATCH_BYTES };
        match Pin::new(&mut *stream).poll_read(cx, &mut buffer[..room]) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Ready::End),
            Poll::Ready(Err(_)) => return Poll::Ready(Ready::Broken),
            Poll::Ready(Ok(bytes)) => return Poll::Ready(Ready::Received(bytes)),
            Poll::Pending => {}
        }
    }
    let writing = !session.backlog().is_empty();
    if writing {
        match Pin::new(&mut *stream).poll_write(cx, session.backlog()) {
            Poll::Ready(Ok(bytes)) => return Poll::Ready(Ready::Sent(bytes)),
            Poll::Ready(Err(_)) => return Poll::Ready(Ready::Broken),
            Poll::Pending => {}
        }
    }
    drop(session);
    link.park(cx.waker(), reading, writing);
    Poll::Pending
}
