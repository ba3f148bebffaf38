//! One TCP connection to the hub, with or without TLS: sending, reading, and how it ended.

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use socket2::{Domain, SockFilter, SockRef, Socket, Type};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// Time after which a test fails if an expected event has not happened, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Time for events that the contract wants within a second, doubled for a busy machine.
pub const PROMPT: Duration = Duration::from_secs(2);

/// An address in 127.0.0.0/8 that no other connection of this process has come from.
pub fn fresh_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::from(0x7f01_0000 + n % 0x00fd_0000)
}

/// How the hub ended the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// In order: FIN, or TLS's close_notify.
    Eof,
    /// With a reset, or with a TLS alert.
    Reset,
}

/// A connection with a non-blocking socket. Methods that wait take a deadline.
pub struct Wire {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    unsent: BytesMut,
    received: BytesMut,
    end: Option<End>,
    deaf: bool,
}

/// Opens a non-blocking TCP connection from `from` to `to`; `prepare` gets the socket before it connects.
pub fn open(to: SocketAddr, from: Ipv4Addr, prepare: impl FnOnce(&Socket)) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    prepare(&socket);
    socket.connect_timeout(&to.into(), PATIENCE).unwrap_or_else(|e| panic!("cannot connect to {to} from {from}: {e}"));
    socket.set_tcp_nodelay(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

impl Wire {
    /// Wraps a connected socket. Sending and reading do the TLS handshake first.
    pub fn new(socket: TcpStream, tls: Option<&Arc<ClientConfig>>) -> Self {
        let tls = tls.map(|config| {
            let name = ServerName::try_from("localhost").unwrap();
            let mut tls = ClientConnection::new(Arc::clone(config), name).unwrap();
            tls.set_buffer_limit(None);
            Box::new(tls)
        });
        Self { socket, tls, unsent: BytesMut::new(), received: BytesMut::new(), end: None, deaf: false }
    }

    /// Bytes that were read and not taken yet.
    pub fn received(&mut self) -> &mut BytesMut {
        &mut self.received
    }

    /// How it ended, once all bytes before the end are read.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// The state of TLS.
    pub fn tls(&self) -> &ClientConnection {
        self.tls.as_ref().expect("this connection has TLS")
    }

    /// Whether the hub's close_notify has come.
    pub fn is_closed_by_tls(&mut self) -> bool {
        let tls = self.tls.as_mut().expect("this connection has TLS");
        tls.process_new_packets().is_ok_and(|state| state.peer_has_closed())
    }

    /// The local address.
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Queues bytes; [`Wire::advance`] or [`Wire::send`] send them.
    pub fn queue(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(bytes).unwrap(),
            None => self.unsent.extend_from_slice(bytes),
        }
    }

    /// Sends all of the bytes; returns whether the hub took them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.queue(bytes);
        self.flush()
    }

    /// Sends a record with one bit of its ciphertext flipped.
    pub fn send_damaged(&mut self, bytes: &[u8]) {
        assert!(self.flush(), "bytes queued before are sent");
        let tls = self.tls.as_mut().expect("this connection has TLS");
        tls.writer().write_all(bytes).unwrap();
        let mut record = Vec::new();
        tls.write_tls(&mut record).unwrap();
        let middle = record.len() / 2;
        record[middle] ^= 1;
        (&self.socket).write_all(&record).unwrap();
    }

    /// Sends the queued bytes; returns whether the hub took them.
    pub fn flush(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.pump_out();
            if self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
                self.pump_in();
                self.pump_out();
            }
            if self.deaf || self.end.is_some() {
                return false;
            }
            if !self.has_unsent() && self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking()) {
                return true;
            }
            if !self.wait(deadline) {
                return false;
            }
        }
    }

    /// Reads until bytes have come; returns false at the end of the connection or at the deadline.
    pub fn fill(&mut self, deadline: Instant) -> bool {
        let before = self.received.len();
        loop {
            self.advance();
            if self.received.len() > before {
                return true;
            }
            if self.end.is_some() || !self.wait(deadline) {
                return false;
            }
        }
    }

    /// Reads to the end of the connection; `None` if it is still open at the deadline.
    pub fn read_to_end(&mut self, deadline: Instant) -> Option<End> {
        while self.fill(deadline) {}
        self.end
    }

    /// Sends and reads as much as possible without waiting.
    pub fn advance(&mut self) {
        self.pump_out();
        self.pump_in();
        self.pump_out();
    }

    /// The readiness to wait for before [`Wire::advance`] can continue.
    pub fn interest(&self) -> PollFd<'_> {
        let write = if self.has_unsent() && !self.deaf { PollFlags::OUT } else { PollFlags::empty() };
        PollFd::new(&self.socket, PollFlags::IN | write)
    }

    /// Sends a FIN without close_notify, unless the connection has ended already.
    pub fn half_close(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Sends close_notify, then a FIN, as TLS requires.
    pub fn close_notify(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        self.flush();
        self.half_close();
    }

    /// Sends bytes, close_notify and FIN in one segment: the kernel is told to hold them until the FIN.
    pub fn send_last(&mut self, bytes: &[u8]) {
        assert!(self.flush(), "bytes queued before are sent");
        self.queue(bytes);
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        SockRef::from(&self.socket).set_tcp_cork(true).unwrap();
        self.pump_out();
        assert!(!self.has_unsent(), "a kernel takes a few bytes");
        self.half_close();
    }

    /// Simulates a cut cable: from now on the kernel drops all arriving packets and acknowledges none (a socket filter
    /// that accepts no byte, socket(7) `SO_ATTACH_FILTER`).
    pub fn vanish(&self) {
        const RETURN: u16 = 0x06;
        SockRef::from(&self.socket).attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)]).unwrap();
    }

    /// Resets the connection.
    pub fn reset(self) {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn has_unsent(&self) -> bool {
        match &self.tls {
            Some(tls) => tls.wants_write(),
            None => !self.unsent.is_empty(),
        }
    }

    fn wait(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        !left.is_zero() && wait_for(&mut [self.interest()], left)
    }

    fn pump_out(&mut self) {
        while self.has_unsent() && !self.deaf {
            let wrote = match &mut self.tls {
                Some(tls) => tls.write_tls(&mut &self.socket).map(|_| ()),
                None => (&self.socket).write(&self.unsent).map(|n| drop(self.unsent.split_to(n))),
            };
            match wrote {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // Bytes that the hub sent before it ended can still be read.
                Err(e) if e.kind() != io::ErrorKind::Interrupted => self.deaf = true,
                _ => {}
            }
        }
    }

    fn pump_in(&mut self) {
        let mut chunk = [0; 16 * 1024];
        while self.end.is_none() {
            let read = match &mut self.tls {
                Some(tls) => tls.read_tls(&mut &self.socket),
                None => (&self.socket).read(&mut chunk),
            };
            match read {
                Ok(0) => self.end = Some(End::Eof),
                Ok(n) if self.tls.is_none() => self.received.extend_from_slice(&chunk[..n]),
                Ok(_) => self.open_records(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.end = Some(End::Reset),
            }
        }
    }

    fn open_records(&mut self) {
        let tls = self.tls.as_mut().expect("this connection has TLS");
        let Ok(state) = tls.process_new_packets() else {
            self.end = Some(End::Reset);
            return;
        };
        let start = self.received.len();
        self.received.resize(start + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut self.received[start..]).unwrap();
    }
}

/// Waits until one of these is ready; returns whether one is in that time.
pub fn wait_for(interests: &mut [PollFd<'_>], at_most: Duration) -> bool {
    let timeout = Timespec::try_from(at_most).unwrap();
    match poll(interests, Some(&timeout)) {
        Ok(ready) => ready > 0,
        Err(rustix::io::Errno::INTR) => true,
        Err(e) => panic!("poll: {e}"),
    }
}
