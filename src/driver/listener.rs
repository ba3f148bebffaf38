//! Listening sockets, one for each core on the same address.

use crate::limits;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::OwnedFd,
};

/// Connections that wait in the kernel for an accept. The kernel limits this to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Binds one socket for each of `shards` cores to the same address. Port 0 takes a free port, the same for all.
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
    // A hub that starts again must not wait for the old hub's connections to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    // One listener per core: the kernel spreads the connections, and no core wakes for another's.
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // `[::]` serves IPv4 as well, whatever the system's default (`net.ipv6.bindv6only`) is.
        socket.set_only_v6(false)?;
    }
    // Set here, because accepted sockets inherit both options: that saves two system calls per connection. Without this
    // one the kernel would hold back small events until earlier ones are acknowledged (Nagle's algorithm).
    socket.set_tcp_nodelay(true)?;
    // The kernel takes little more than it can send, so that a ping is never far behind events in its buffer.
    socket.set_tcp_notsent_lowat(limits::UNSENT_BYTES_MARK)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Whether another process listens on the address. `SO_REUSEPORT` would not report it but share the address with
/// another hub of the same user, and each would get a part of the connections.
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
    fn accepted_sockets_have_nodelay_and_the_unsent_mark_and_do_not_block() {
        let (address, listeners) = bind("127.0.0.1:0".parse().expect("an address"), 1).expect("a listener");
        let client = std::net::TcpStream::connect(address).expect("a connection");
        let (accepted, peer) = socket::accept(&listeners[0]).expect("it works").expect("it waits");
        assert_eq!(peer, client.local_addr().expect("an address"));
        assert!(rustix::net::sockopt::tcp_nodelay(&accepted).expect("an option"), "inherited from the listener");
        let mark = socket2::SockRef::from(&accepted).tcp_notsent_lowat().expect("an option");
        assert_eq!(mark, limits::UNSENT_BYTES_MARK, "inherited from the listener");
        let flags = rustix::fs::fcntl_getfl(&accepted).expect("flags");
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
        assert!(socket::accept(&listeners[0]).expect("it works").is_none());
    }
}
