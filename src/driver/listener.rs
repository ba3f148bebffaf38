//! Listening sockets, one for each core on the same address.

use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::OwnedFd,
};

/// Connections that the kernel holds for us; it cuts this to its own bound (`net.core.somaxconn`).
const BACKLOG: i32 = 4_096;

/// Binds one socket for each of `shards` workers; port 0 takes a free one, the same for all.
pub(crate) fn bind(address: SocketAddr, shards: u16) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    let first = listen(address)?;
    let bound = StdListener::from(first.try_clone()?).local_addr()?;
    let mut sockets = vec![OwnedFd::from(first)];
    for _ in 1..shards {
        sockets.push(listen(bound)?.into());
    }
    Ok((bound, sockets))
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // `[::]` serves IPv4, too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    // Accepted sockets inherit it: an event is never held back for a fuller segment.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Whether somebody else listens on the address: `SO_REUSEPORT` would silently share it with another hub of this user.
pub(crate) fn is_taken(address: SocketAddr) -> bool {
    if address.port() == 0 {
        return false;
    }
    let probe = || -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(1)
    };
    probe().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::{super::socket, *};

    #[test]
    fn accepted_sockets_never_hold_an_event_back_and_never_block() {
        let (address, listeners) = bind("127.0.0.1:0".parse().expect("an address"), 1).expect("a listener");
        let client = std::net::TcpStream::connect(address).expect("a connection");
        let (accepted, peer) = socket::accept(&listeners[0]).expect("it works").expect("it waits");
        assert_eq!(peer, client.local_addr().expect("an address"));
        assert!(rustix::net::sockopt::tcp_nodelay(&accepted).expect("an option"), "inherited from the listener");
        let flags = rustix::fs::fcntl_getfl(&accepted).expect("flags");
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
        assert!(socket::accept(&listeners[0]).expect("it works").is_none());
    }
}
