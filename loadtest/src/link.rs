//! One nonblocking TCP connection to the hub, with or without TLS.

use rustls::{ClientConfig, ClientConnection, HandshakeKind, pki_types::ServerName};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

/// How a connection is opened.
pub struct ConnectOptions<'a> {
    /// The hub's address.
    pub to: SocketAddr,
    /// The local address to bind; `None` leaves the choice to the system.
    pub from: Option<Ipv4Addr>,
    /// The TLS configuration; `None` for plain text.
    pub tls: Option<&'a Arc<ClientConfig>>,
    /// The name in the hub's certificate.
    pub name: &'a ServerName<'static>,
    /// Whether to use a small receive buffer, so that a connection that does not read blocks the hub soon.
    pub narrow: bool,
}

/// One connection.
pub struct Link {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    out: Vec<u8>,
}

/// Receive buffer of a narrow connection, in bytes.
const NARROW_BYTES: usize = 16 * 1024;

impl Link {
    /// Begins to connect. Bytes written before the connection is established are buffered.
    ///
    /// # Errors
    /// A system call failed.
    pub fn open(options: &ConnectOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(options.to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // Before `connect`: the window scale is fixed in the SYN, so a later change would be too late.
        if options.narrow {
            socket.set_recv_buffer_size(NARROW_BYTES)?;
        }
        if let Some(from) = options.from {
            socket.bind(&SocketAddr::from((from, 0)).into())?;
        }
        match socket.connect(&options.to.into()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        let tls = options.tls.map(|config| tls(config, options.name)).transpose()?;
        Ok(Self { stream: socket.into(), tls, out: Vec::new() })
    }

    /// Reads from the socket until it is empty or `most` bytes were read, and appends the plaintext to `plain`. Returns
    /// `false` at the end of the stream.
    ///
    /// # Errors
    /// The connection failed.
    pub fn read(&mut self, scratch: &mut [u8], plain: &mut Vec<u8>, most: usize) -> io::Result<bool> {
        let mut taken = 0;
        while taken < most {
            let room = scratch.len().min(most - taken);
            let read = match self.stream.read(&mut scratch[..room]) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            taken += read;
            match &mut self.tls {
                None => plain.extend_from_slice(&scratch[..read]),
                Some(tls) => open_records(tls, &scratch[..read], plain)?,
            }
            // A short read has emptied the socket: this saves the call that would say EAGAIN. Epoll is edge-triggered
            // and reports whatever comes later.
            if read < room {
                break;
            }
        }
        // Reading may have made TLS records to send, such as the client's part of the handshake.
        self.flush()?;
        Ok(true)
    }

    /// Sends bytes, and buffers what the socket does not take.
    ///
    /// # Errors
    /// The connection failed.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.out.extend_from_slice(bytes),
            Some(tls) => tls.writer().write_all(bytes)?,
        }
        self.flush()
    }

    /// Sends buffered bytes.
    ///
    /// # Errors
    /// The connection failed.
    pub fn flush(&mut self) -> io::Result<()> {
        let done = match &mut self.tls {
            None => self.flush_plain(),
            Some(tls) => flush_tls(tls, &mut self.stream),
        };
        match done {
            // ENOTCONN: the nonblocking `connect` has not finished. Epoll reports when it has.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => Ok(()),
            done => done,
        }
    }

    /// Whether the TLS session was resumed.
    pub fn is_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.handshake_kind() == Some(HandshakeKind::Resumed))
    }

    /// Ends the sending side: `close_notify`, then FIN.
    pub fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // Best effort: the connection ends even if the alert cannot be sent.
            let _ = flush_tls(tls, &mut self.stream);
        }
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn flush_plain(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            let written = self.stream.write(&self.out)?;
            self.out.drain(..written);
        }
        // Thousands of connections send little after their upgrade request, so its buffer is given back.
        self.out.shrink_to(0);
        Ok(())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn tls(config: &Arc<ClientConfig>, name: &ServerName<'static>) -> io::Result<Box<ClientConnection>> {
    let mut tls = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
    // Without a limit, because `write` must never refuse bytes: the callers have no buffer of their own.
    tls.set_buffer_limit(None);
    Ok(Box::new(tls))
}

fn flush_tls(tls: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(stream)?;
    }
    Ok(())
}

fn open_records(tls: &mut ClientConnection, mut records: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
    // In rounds, because `read_tls` takes only what fits into its buffer.
    while !records.is_empty() {
        tls.read_tls(&mut records)?;
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        let waiting = state.plaintext_bytes_to_read();
        if waiting > 0 {
            let start = plain.len();
            plain.resize(start + waiting, 0);
            tls.reader().read_exact(&mut plain[start..])?;
        }
    }
    Ok(())
}
