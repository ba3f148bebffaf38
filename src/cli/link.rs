//! A gateway's side of one connection, on blocking sockets: what a gateway in the field does, with nothing of the hub in it.

use super::{Failure, client::tls_config, endpoint::Endpoint};
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

/// Where gateways connect.
pub const CONNECT_PATH: &str = "/api/internal/v1/ws/gateways/connect";
/// TCP, TLS and upgrade each.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// The hub pings every 20 s, and a gateway that has heard nothing for this long takes it for gone.
const SILENCE_MAX: Duration = Duration::from_secs(35);

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// The hub answered with something else than 101.
    Refused {
        /// The status.
        status: u16,
        /// The answer's description.
        why: String,
        /// The answer's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// It could not be reached, or was lost without a close frame.
    Lost(String),
    /// The hub closed it.
    Closed {
        /// The close frame's code; 1005 where it had none.
        code: u16,
        /// The close frame's reason.
        reason: String,
    },
    /// What was asked for cannot work: it is not worth another try.
    Usage(String),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, why, .. } => write!(f, "refused: {status} {why}"),
            Self::Lost(why) => write!(f, "lost: {why}"),
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

/// TLS over TCP, or TCP alone.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One open connection. Pings are answered while [`Link::receive`] waits.
pub struct Link {
    socket: WebSocket<Box<dyn Stream>>,
    tcp: TcpStream,
}

impl Link {
    /// Connects with a gateway's token.
    ///
    /// # Errors
    /// Why there is no connection.
    pub fn connect(endpoint: &Endpoint, token: &str) -> Result<Self, LinkError> {
        let (secure, rest) = match endpoint.base.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(LinkError::Usage(format!("{} is no address of a hub", endpoint.base))),
        };
        let scheme = if secure { "wss" } else { "ws" };
        let uri: Uri = format!("{scheme}://{rest}{CONNECT_PATH}")
            .parse()
            .map_err(|error| LinkError::Usage(format!("{} is no address of a hub: {error}", endpoint.base)))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let tcp = connect_tcp(&host, uri.port_u16().unwrap_or(if secure { 443 } else { 80 }))?;
        let tcp_handle = tcp.try_clone().map_err(lost)?;
        let stream: Box<dyn Stream> = if secure { Box::new(connect_tls(endpoint, &host, tcp)?) } else { Box::new(tcp) };
        let socket = upgrade(uri, token, stream)?;
        tcp_handle.set_read_timeout(Some(SILENCE_MAX)).map_err(lost)?;
        Ok(Self { socket, tcp: tcp_handle })
    }

    /// Waits for the next text; it blocks until there is one, or the connection ends.
    ///
    /// # Errors
    /// How the connection ended; it is of no more use then.
    pub fn receive(&mut self) -> Result<String, LinkError> {
        loop {
            match self.socket.read().map_err(read_error)? {
                Message::Text(text) => return Ok(text.as_str().to_owned()),
                Message::Close(frame) => {
                    // The answer to the close frame goes out with the next read, which ends when the hub hangs up.
                    while self.socket.read().is_ok() {}
                    return Err(closed(frame));
                }
                _ => {}
            }
        }
    }

    /// Sends a text.
    ///
    /// # Errors
    /// As for [`Link::receive`].
    pub fn send(&mut self, text: String) -> Result<(), LinkError> {
        self.socket.send(Message::text(text)).map_err(read_error)
    }

    /// Says goodbye and waits for the hub to say it, too.
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
        Error::Io(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            LinkError::Lost(format!("nothing was heard for {} s", SILENCE_MAX.as_secs()))
        }
        error => lost(error),
    }
}

fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, LinkError> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| lost(format!("{host}:{port}: {error}")))?;
    let mut last = lost(format!("{host} has no address"));
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
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|error| {
            let hint = if error.to_string().contains("certificate") { ": give --ca FILE" } else { "" };
            lost(format!("TLS: {error}{hint}"))
        })?;
    }
    Ok(stream)
}

fn upgrade(uri: Uri, token: &str, stream: Box<dyn Stream>) -> Result<WebSocket<Box<dyn Stream>>, LinkError> {
    let request = ClientRequestBuilder::new(uri).with_header("api-key", token);
    // An event is at most 1 MiB of payload; four times that leaves room for any envelope.
    let config = WebSocketConfig::default().max_message_size(Some(4 << 20)).max_frame_size(Some(4 << 20));
    match client_with_config(request, stream, Some(config)) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Failure(Error::Http(response))) => Err(refused(&response)),
        Err(HandshakeError::Failure(Error::HttpFormat(_))) => {
            Err(LinkError::Usage("the token holds characters that a header cannot".to_owned()))
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

    /// Answers one connection with these bytes after its request has come, and gives back what it sent.
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
    fn a_refusal_carries_status_reason_and_when_to_come_back() {
        let (endpoint, server) = answering(
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 43\r\n\r\n\
             {\"code\":503,\"description\":\"hub is draining\"}",
        );
        let error = Link::connect(&endpoint, "k3y").err().expect("it refuses");
        let request = server.join().expect("it ends");
        assert!(request.starts_with("GET /api/internal/v1/ws/gateways/connect HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("api-key: k3y\r\n"), "{request}");
        let LinkError::Refused { status, retry_after, why } = error else { panic!("{error}") };
        assert_eq!((status, retry_after), (503, Some(Duration::from_secs(7))));
        assert_eq!(why, "hub is draining");
    }

    #[test]
    fn what_cannot_work_is_told_from_what_may_work_later() {
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
    fn texts_go_both_ways_over_tls_until_the_hub_closes() {
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
