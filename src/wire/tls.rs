//! TLS over bytes (RFC 8446, RFC 5246): rustls without buffers of its own, so that an idle connection holds none.

use rustls::{
    ServerConfig,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};
use std::sync::Arc;

use super::sealed::Sealed;
use crate::limits;

/// A TLS failure, of the peer or of our side; the text is for the log.
#[derive(Debug)]
pub struct TlsError(pub String);

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self(error.to_string())
    }
}

/// The layer between the socket and the plain bytes.
pub enum Security {
    /// No TLS: a proxy before the hub terminates it.
    Plain,
    /// One TLS connection.
    Tls(Box<Tls>),
}

/// One TLS connection, and the bytes of an incomplete record.
pub struct Tls {
    connection: UnbufferedServerConnection,
    partial: Vec<u8>,
    handshaking: bool,
    peer_closed: bool,
    /// TLS has failed and the peer was sent an alert. Bytes that it still sends are ignored.
    failed: bool,
}

impl Security {
    /// A connection that awaits its `ClientHello`.
    ///
    /// # Errors
    /// If rustls refuses the configuration.
    pub fn tls(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        let connection = UnbufferedServerConnection::new(config)?;
        let tls = Tls { connection, partial: Vec::new(), handshaking: true, peer_closed: false, failed: false };
        Ok(Self::Tls(Box::new(tls)))
    }

    /// Whether it is TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether plain bytes can be sent.
    pub fn established(&self) -> bool {
        match self {
            Self::Plain => true,
            Self::Tls(tls) => !tls.handshaking,
        }
    }

    /// Whether the peer has ended its stream by a `close_notify`.
    pub fn peer_closed(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.peer_closed)
    }

    /// Bytes of an incomplete record.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Tls(tls) => tls.partial.len(),
        }
    }

    /// Decrypts bytes from the socket; appends plain bytes to `plain`, and handshake records and alerts to `wire`.
    ///
    /// # Errors
    /// An invalid record or handshake, reported once. `wire` then has an alert for the peer, and later bytes are
    /// ignored.
    pub fn open(&mut self, received: &mut [u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<(), TlsError> {
        match self {
            Self::Plain => {
                plain.extend_from_slice(received);
                Ok(())
            }
            Self::Tls(tls) if tls.failed => Ok(()),
            Self::Tls(tls) => {
                let opened = tls.open(received, plain, wire);
                tls.failed = opened.is_err();
                opened
            }
        }
    }

    /// Encrypts `plain` and appends the records to `wire`. To be called only once [`Security::established`].
    ///
    /// # Errors
    /// If the connection cannot encrypt.
    pub fn seal(&mut self, plain: &[u8], wire: &mut Sealed) -> Result<(), TlsError> {
        match self {
            Self::Plain => {
                wire.extend_from_slice(plain);
                Ok(())
            }
            Self::Tls(tls) => tls.write(wire, plain.len(), |traffic, room| traffic.encrypt(plain, room)),
        }
    }

    /// Appends `close_notify`; nothing if there is no TLS, the handshake is unfinished, or TLS has failed.
    pub fn close(&mut self, wire: &mut Sealed) {
        if let Self::Tls(tls) = self
            && !tls.handshaking
            && !tls.failed
        {
            // If it cannot be encrypted, the connection is closed without it.
            let _ = tls.write(wire, 0, |traffic, room| traffic.queue_close_notify(room));
        }
    }
}

/// Room for the header, the tag and the inner type of each record (RFC 8446 section 5.2, RFC 5246 section 6.2.3).
const RECORD_OVERHEAD_MAX: usize = 64;
const RECORD_PLAIN_MAX: usize = 16 * 1024;

type Traffic<'c> = rustls::unbuffered::WriteTraffic<'c, rustls::server::ServerConnectionData>;

impl Tls {
    fn open(&mut self, received: &mut [u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<(), TlsError> {
        // Whole records, the usual case, are decrypted in the caller's buffer and never copied.
        if self.partial.is_empty() {
            let used = self.process(received, plain, wire)?;
            self.partial.extend_from_slice(&received[used..]);
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(received);
            let used = self.process(&mut joined, plain, wire)?;
            joined.drain(..used);
            if !joined.is_empty() {
                self.partial = joined;
            }
        }
        // rustls consumes a handshake message only once it is complete, so a peer could send one without an end.
        if self.partial.len() > limits::TLS_PENDING_BYTES_MAX {
            return Err(TlsError(format!("incomplete TLS records exceed {} bytes", limits::TLS_PENDING_BYTES_MAX)));
        }
        Ok(())
    }

    /// Processes the complete records of `input`; returns how many bytes were consumed.
    fn process(&mut self, input: &mut [u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<usize, TlsError> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(&mut input[used..]);
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    // The peer should learn why (RFC 8446 section 6.2), and a client's log then names the cause.
                    used += discard;
                    self.alert(&mut input[used..], wire);
                    return Err(error.into());
                }
            };
            let mut blocked = false;
            match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => encode(wire, |room| data.encode(room))?,
                // Not waited for: these bytes are in `wire` already, which is sent in order.
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                ConnectionState::WriteTraffic(_) => {
                    self.handshaking = false;
                    blocked = true;
                }
                ConnectionState::BlockedHandshake | ConnectionState::Closed => blocked = true,
                // This includes early data, which is never accepted: `max_early_data_size` is 0.
                _ => return Err(TlsError("unexpected TLS state".to_owned())),
            }
            // Only now: rustls lets `discard` be applied once the state is handled, and each record adds to it.
            used += discard;
            if blocked {
                return Ok(used);
            }
        }
    }

    /// After an error in `input`, appends the alert that rustls has prepared to `wire`.
    fn alert(&mut self, input: &mut [u8], wire: &mut Vec<u8>) {
        // The same bytes again: rustls keeps offsets into a message that it has begun, and panics with fewer bytes.
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process_tls_records(input).state {
            let _ = encode(wire, |room| data.encode(room));
        }
    }

    /// Lets `put` write application data, after the records that TLS has to send first, such as a key update.
    fn write(
        &mut self,
        wire: &mut Sealed,
        plain_bytes: usize,
        mut put: impl FnMut(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), TlsError> {
        loop {
            match self.connection.process_tls_records(&mut []).state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let records = plain_bytes / RECORD_PLAIN_MAX + 1;
                    return wire
                        .append(plain_bytes + records * RECORD_OVERHEAD_MAX, |room| put(&mut traffic, room))
                        .map_err(|error| TlsError(error.to_string()));
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let mut records = Vec::new();
                    encode(&mut records, |room| data.encode(room))?;
                    wire.extend_from_slice(&records);
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                // `close_notify` ends one direction only: the peer can still receive.
                ConnectionState::PeerClosed => self.peer_closed = true,
                _ => return Err(TlsError("TLS cannot send application data in this state".to_owned())),
            }
        }
    }
}

/// Appends the bytes that `put` writes, with as much room as it needs.
fn encode(wire: &mut Vec<u8>, mut put: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) -> Result<(), TlsError> {
    let start = wire.len();
    // A first guess. Only the flight with the certificate chain is usually larger, and rustls then says by how much.
    let mut room = 4 * 1024;
    loop {
        wire.resize(start + room, 0);
        match put(&mut wire[start..]) {
            Ok(written) => {
                wire.truncate(start + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(error)) => room = error.required_size,
            Err(error @ EncodeError::AlreadyEncoded) => {
                wire.truncate(start);
                return Err(TlsError(error.to_string()));
            }
        }
    }
}
