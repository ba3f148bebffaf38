//! The gateway's side of one connection, on blocking sockets. It shares no code with the hub, so that it behaves like
//! any other WebSocket client.

use super::{Failure, client::tls_config, endpoint::Endpoint};
use crate::model::Position;
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use std::{
    fmt,
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};
use tungstenite::{
    ClientRequestBuilder, Error, HandshakeError, Message, WebSocket,
    client::client_with_config,
    http::{Response, Uri},
    protocol::{CloseFrame, WebSocketConfig},
};

/// The path of the endpoint to which gateways connect.
pub const CONNECT_PATH: &str = "/api/internal/v1/ws/gateways/connect";
/// Asks for the delivery `written` on this connection, whatever that of its gateway is. A user who looks at a gateway's events must
/// not confirm them for the gateway: what this client has answered, the gateway would not get any more.
const CONNECT_QUERY: &str = "?delivery=written";
/// Time for each of TCP connect, TLS handshake and upgrade.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Time without a byte from the hub after which the connection counts as lost. The hub pings every 20 s by default.
const SILENCE_MAX: Duration = Duration::from_secs(35);

/// Why a connection could not be opened, or how it ended.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// The hub answered the upgrade with a status other than 101.
    Refused {
        /// The status.
        status: u16,
        /// The description in the answer's body.
        why: String,
        /// The answer's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The hub could not be reached, or the connection ended without a close frame.
    Lost(String),
    /// The hub closed the connection.
    Closed {
        /// The close frame's code; 1005 if it had none (RFC 6455 section 7.1.5).
        code: u16,
        /// The close frame's reason.
        reason: String,
    },
    /// The URL or the token is invalid: another attempt would fail in the same way.
    Usage(String),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, why, .. } => write!(f, "the hub refused the connection: {status} {why}"),
            Self::Lost(why) => write!(f, "connection failed: {why}"),
            Self::Closed { code, reason } if reason.is_empty() => write!(f, "closed by the hub: {code}"),
            Self::Closed { code, reason } => write!(f, "closed by the hub: {code} {reason}"),
            Self::Usage(why) => f.write_str(why),
        }
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Usage(why) => Self::Usage(why),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// TCP with or without TLS.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// An open connection. Pings are answered only while [`Link::receive`] runs.
pub struct Link {
    socket: WebSocket<Box<dyn Stream>>,
    /// A second handle of the socket inside `socket`, because a boxed stream has no way to set a timeout.
    tcp: TcpStream,
}

impl Link {
    /// Connects with a gateway's token.
    ///
    /// # Errors
    /// Why the connection could not be opened.
    pub fn connect(endpoint: &Endpoint, token: &str) -> Result<Self, LinkError> {
        Self::connect_after(endpoint, token, None)
    }

    /// Connects with a gateway's token, and asks for the events after a position. The ack says whether they come.
    ///
    /// # Errors
    /// As for [`Link::connect`].
    pub fn connect_after(endpoint: &Endpoint, token: &str, position: Option<Position>) -> Result<Self, LinkError> {
        let (secure, rest) = match endpoint.base.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => {
                return Err(LinkError::Usage(format!(
                    "invalid hub URL {}: expected https:// or http://",
                    endpoint.base
                )));
            }
        };
        let scheme = if secure { "wss" } else { "ws" };
        let uri: Uri = format!("{scheme}://{rest}{CONNECT_PATH}{CONNECT_QUERY}")
            .parse()
            .map_err(|error| LinkError::Usage(format!("invalid hub URL {}: {error}", endpoint.base)))?;
        // `http::Uri` keeps the brackets of an IPv6 address, which neither the resolver nor rustls accepts.
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let tcp = connect_tcp(&host, uri.port_u16().unwrap_or(if secure { 443 } else { 80 }))?;
        let tcp_handle = tcp.try_clone().map_err(lost)?;
        let stream: Box<dyn Stream> = if secure { Box::new(connect_tls(endpoint, &host, tcp)?) } else { Box::new(tcp) };
        let socket = upgrade(uri, token, position, stream)?;
        // The short timeout of the handshake would end a connection between two pings.
        tcp_handle.set_read_timeout(Some(SILENCE_MAX)).map_err(lost)?;
        Ok(Self { socket, tcp: tcp_handle })
    }

    /// Blocks until the next text message arrives or the connection ends.
    ///
    /// # Errors
    /// How the connection ended. It cannot be used any more.
    pub fn receive(&mut self) -> Result<String, LinkError> {
        loop {
            match self.socket.read().map_err(read_error)? {
                Message::Text(text) => return Ok(text.as_str().to_owned()),
                Message::Close(frame) => {
                    // tungstenite sends the answering close frame with the next read. Reading on until the hub closes
                    // the socket makes sure that it has been sent.
                    while self.socket.read().is_ok() {}
                    return Err(closed(frame));
                }
                _ => {}
            }
        }
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// As for [`Link::receive`].
    pub fn send(&mut self, text: String) -> Result<(), LinkError> {
        self.socket.send(Message::text(text)).map_err(read_error)
    }

    /// Sends a close frame and waits for the hub's (RFC 6455 section 7.1.2), for 10 s at most between two reads.
    pub fn close(mut self) {
        let _ = self.tcp.set_read_timeout(Some(CONNECT_DEADLINE));
        if self.socket.close(None).is_ok() {
            while self.socket.read().is_ok() {}
        }
    }
}

fn lost(error: impl fmt::Display) -> LinkError {
    LinkError::Lost(error.to_string())
}

fn closed(frame: Option<CloseFrame>) -> LinkError {
    let (code, reason) = frame.map_or((1005, String::new()), |it| (it.code.into(), it.reason.as_str().to_owned()));
    LinkError::Closed { code, reason }
}

fn read_error(error: Error) -> LinkError {
    match error {
        // A read timeout of a blocking socket is EAGAIN on Linux, which Rust calls `WouldBlock`.
        Error::Io(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            LinkError::Lost(format!("nothing arrived for {} s", SILENCE_MAX.as_secs()))
        }
        error => lost(error),
    }
}

fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, LinkError> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| lost(format!("{host}:{port}: {error}")))?;
    let mut last = lost(format!("{host} has no address"));
    // A name may have an address of a family that this machine cannot reach, so all are tried; the last error is
    // reported.
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_DEADLINE) {
            Ok(tcp) => {
                tcp.set_nodelay(true).map_err(lost)?;
                tcp.set_read_timeout(Some(CONNECT_DEADLINE)).map_err(lost)?;
                tcp.set_write_timeout(Some(CONNECT_DEADLINE)).map_err(lost)?;
                return Ok(tcp);
            }
            Err(error) => last = lost(format!("{address}: {error}")),
        }
    }
    Err(last)
}

fn connect_tls(
    endpoint: &Endpoint,
    host: &str,
    tcp: TcpStream,
) -> Result<StreamOwned<ClientConnection, TcpStream>, LinkError> {
    let usage = |error: &dyn fmt::Display| LinkError::Usage(error.to_string());
    let config = tls_config(endpoint.trusted.as_deref()).map_err(|error| usage(&error))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| usage(&error))?;
    let tls = ClientConnection::new(config, name).map_err(|error| usage(&error))?;
    let mut stream = StreamOwned::new(tls, tcp);
    // The handshake is completed here, so that its errors are not reported as errors of the upgrade.
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|error| {
            let untrusted = error.to_string().contains("certificate");
            let hint = if untrusted { "; name the certificate to trust with --ca FILE" } else { "" };
            lost(format!("TLS: {error}{hint}"))
        })?;
    }
    Ok(stream)
}

fn upgrade(
    uri: Uri,
    token: &str,
    position: Option<Position>,
    stream: Box<dyn Stream>,
) -> Result<WebSocket<Box<dyn Stream>>, LinkError> {
    let mut request = ClientRequestBuilder::new(uri).with_header("api-key", token);
    if let Some(position) = position {
        request = request.with_header("last-position", position.to_string());
    }
    // A payload has at most 1 MiB. Four times that leaves room for the envelope, whatever the hub adds to it.
    let config = WebSocketConfig::default().max_message_size(Some(4 << 20)).max_frame_size(Some(4 << 20));
    match client_with_config(request, stream, Some(config)) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Failure(Error::Http(response))) => Err(refused(&response)),
        Err(HandshakeError::Failure(Error::HttpFormat(_))) => {
            Err(LinkError::Usage("invalid token: expected characters that an HTTP header can hold".to_owned()))
        }
        Err(HandshakeError::Failure(error)) => Err(read_error(error)),
        Err(HandshakeError::Interrupted(_)) => {
            Err(LinkError::Lost(format!("no answer within {} s", CONNECT_DEADLINE.as_secs())))
        }
    }
}

fn refused(response: &Response<Option<Vec<u8>>>) -> LinkError {
    let body = response.body().as_deref().unwrap_or_default();
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let why = ["description", "message"].iter().find_map(|member| body[member].as_str().filter(|it| !it.is_empty()));
    let seconds = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    LinkError::Refused {
        status: response.status().as_u16(),
        why: why.or(response.status().canonical_reason()).unwrap_or_default().to_owned(),
        retry_after: seconds.map(Duration::from_secs),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{TlsHub, answer_http},
        *,
    };
    use std::{net::TcpListener, thread};

    /// Accepts one connection, reads its request, answers with these bytes and returns the request.
    fn answering(bytes: &'static str) -> (Endpoint, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("it is bound"));
        let serve = move || {
            let (stream, _) = listener.accept().expect("somebody comes");
            answer_http(stream, bytes)
        };
        (Endpoint { base, trusted: None }, thread::spawn(serve))
    }

    #[test]
    fn a_refusal_has_status_description_and_retry_after() {
        let (endpoint, server) = answering(
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 43\r\n\r\n\
             {\"code\":503,\"description\":\"hub is draining\"}",
        );
        let position = Position { epoch: 1, offset: 2 };
        let error = Link::connect_after(&endpoint, "k3y", Some(position)).err().expect("it refuses");
        let request = server.join().expect("it ends");
        let line = "GET /api/internal/v1/ws/gateways/connect?delivery=written HTTP/1.1\r\n";
        assert!(request.starts_with(line), "{request}");
        assert!(request.contains("api-key: k3y\r\n"), "{request}");
        assert!(request.contains("last-position: 0000000000000001-2\r\n"), "{request}");
        let LinkError::Refused { status, retry_after, why } = error else { panic!("{error}") };
        assert_eq!((status, retry_after), (503, Some(Duration::from_secs(7))));
        assert_eq!(why, "hub is draining");
    }

    #[test]
    fn invalid_urls_and_tokens_are_told_from_temporary_errors() {
        let check = |base: &str, token: &str, usage: bool| {
            let endpoint = Endpoint { base: base.to_owned(), trusted: None };
            let error = Link::connect(&endpoint, token).err().expect("there is no hub");
            assert_eq!(matches!(error, LinkError::Usage(_)), usage, "{error}");
        };
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let gone = socket.local_addr().expect("it is bound");
        drop(socket);
        check(&format!("http://{gone}"), "t", false);
        check("ftp://127.0.0.1", "t", true);
        let (endpoint, _server) = answering("");
        check(&endpoint.base, "line\nbreak", true);
    }

    #[test]
    fn messages_go_both_ways_over_tls_until_the_hub_closes() {
        let hub = TlsHub::start(|stream| {
            let mut socket = tungstenite::accept(stream).expect("it upgrades");
            socket.send(Message::Ping(Vec::new().into())).expect("it is there");
            socket.send(Message::text("one")).expect("it is there");
            while !matches!(socket.read().expect("it answers"), Message::Text(text) if text.as_str() == "two") {}
            let frame = CloseFrame { code: 1008.into(), reason: "key revoked".into() };
            socket.close(Some(frame)).expect("it is there");
            while socket.read().is_ok() {}
        });
        let mut link = Link::connect(&hub.endpoint, "t0ken").expect("it lets us in");
        assert_eq!(link.receive(), Ok("one".to_owned()));
        link.send("two".to_owned()).expect("it is there");
        let closed = LinkError::Closed { code: 1008, reason: "key revoked".to_owned() };
        assert_eq!(link.receive(), Err(closed));
    }
}
