//! The ways to a far end that one connection tries, one after the other.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ringmq_turn::{ConnectFailure, ConnectFailureKind};
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::peer::{Peer, PeerAddress, Registered};
use crate::socket::Socket;
use crate::sys;

/// A socket, and what it is to be connected to.
pub(crate) struct Attempt {
    pub socket: Socket,
    pub address: SockAddr,
}

/// What one connection has tried, and what it may try yet.
pub(crate) struct Route {
    peer: Arc<Registered>,
    user_timeout_ms: u32,
    /// The address that is tried, or the path of a Unix socket.
    now: Option<SockAddr>,
    /// Where to connect from, in this connection's order.
    all_sources: Box<[IpAddr]>,
    /// Those of them that may be tried yet with this address.
    sources: VecDeque<IpAddr>,
    /// Addresses to try yet.
    addresses: VecDeque<SocketAddr>,
    tried: usize,
    /// How the last try failed.
    last: Option<ConnectFailure>,
}

impl Route {
    /// To a far end whose addresses are not known yet.
    pub fn new(peer: Arc<Registered>, user_timeout_ms: u32) -> Self {
        Self {
            all_sources: peer.sources().collect(),
            peer,
            user_timeout_ms,
            now: None,
            sources: VecDeque::new(),
            addresses: VecDeque::new(),
            tried: 0,
            last: None,
        }
    }

    /// The far end.
    pub fn peer(&self) -> &Peer {
        &self.peer.peer
    }

    /// The name to look up first, if it is one.
    pub fn name(&self) -> Option<(&str, u16)> {
        match &self.peer().address {
            PeerAddress::Tcp { host, port } if host.parse::<IpAddr>().is_err() => Some((host, *port)),
            PeerAddress::Tcp { .. } | PeerAddress::Unix(_) => None,
        }
    }

    /// What the name was found to mean; nothing where there is no name.
    pub fn set_addresses(&mut self, addresses: Vec<SocketAddr>) {
        self.addresses = addresses.into();
    }

    /// The address that was tried last, for connections that have one.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.now.as_ref().and_then(SockAddr::as_socket)
    }

    /// The first way.
    pub fn first(&mut self) -> Result<Attempt, ConnectFailure> {
        match &self.peer.peer.address {
            PeerAddress::Tcp { host, port } => {
                if let Ok(ip) = host.parse() {
                    self.addresses = VecDeque::from([SocketAddr::new(ip, *port)]);
                }
                self.next_address()
            }
            PeerAddress::Unix(path) => match unix_attempt(path) {
                Ok(attempt) => {
                    self.now = Some(attempt.address.clone());
                    Ok(attempt)
                }
                Err(cause) => Err(self.system_failure(&cause)),
            },
        }
    }

    /// The way after one whose connect failed: from another local address where this one has no port left,
    /// to the next address otherwise.
    pub fn next(&mut self, cause: &io::Error) -> Result<Attempt, ConnectFailure> {
        self.last = Some(self.system_failure(cause));
        if cause.raw_os_error() == Some(libc::EADDRNOTAVAIL) && self.sources.len() > 1 {
            self.sources.pop_front();
            return self.attempt().or_else(|_| self.next_address());
        }
        self.next_address()
    }

    fn next_address(&mut self) -> Result<Attempt, ConnectFailure> {
        while let Some(addr) = self.addresses.pop_front() {
            self.tried += 1;
            self.now = Some(addr.into());
            let fits = |source: &&IpAddr| source.is_ipv4() == addr.is_ipv4();
            self.sources = self.all_sources.iter().filter(fits).copied().collect();
            if self.sources.is_empty() && !self.all_sources.is_empty() {
                let cause = "none of the source addresses is of its family; add one, or leave the choice to \
                             the kernel";
                self.last = Some(self.failure(ConnectFailureKind::Unreachable, &cause));
                continue;
            }
            if let Ok(attempt) = self.attempt() {
                return Ok(attempt);
            }
        }
        let last = self.last.take().expect("a name has addresses, and all of them failed");
        if self.tried < 2 {
            return Err(last);
        }
        let detail = format!("{}; none of its {} addresses could be reached", last.detail, self.tried);
        Err(ConnectFailure { kind: last.kind, detail: detail.into() })
    }

    /// A socket for the way that is tried now, from the first source that works.
    fn attempt(&mut self) -> Result<Attempt, ()> {
        let address = self.now.clone().ok_or(())?;
        let failure = match tcp_socket(&address, self.user_timeout_ms) {
            Ok(socket) => match self.bind(&socket) {
                Ok(()) => return Ok(Attempt { socket: Socket::new(OwnedFd::from(socket)), address }),
                Err(failure) => failure,
            },
            Err(cause) => self.system_failure(&cause),
        };
        self.last = Some(failure);
        Err(())
    }

    fn bind(&mut self, socket: &socket2::Socket) -> Result<(), ConnectFailure> {
        let mut last = None;
        while let Some(&source) = self.sources.front() {
            // The port is chosen by the connect, which knows which ones are free for this far end.
            let bound = sys::bind_address_no_port(socket)
                .and_then(|()| socket.bind(&SocketAddr::new(source, 0).into()));
            let Err(cause) = bound else { return Ok(()) };
            let cause = format!("from {source}: {cause}; `ip addr` lists this machine's addresses");
            last = Some(self.failure(ConnectFailureKind::Unreachable, &cause));
            self.sources.pop_front();
        }
        last.map_or(Ok(()), Err)
    }

    /// A failure of the connection that is tried now.
    pub fn failure(&self, kind: ConnectFailureKind, cause: &dyn Display) -> ConnectFailure {
        let peer = self.peer().address.to_string();
        let place = match self.remote().map(|remote| remote.to_string()) {
            Some(remote) if remote != peer => format!("{peer} at {remote}"),
            Some(_) | None => peer,
        };
        ConnectFailure { kind, detail: format!("cannot connect to {place}: {cause}").into() }
    }

    fn system_failure(&self, cause: &io::Error) -> ConnectFailure {
        self.failure(kind(cause), &format!("{cause}; {}", remedy(cause)))
    }
}

fn unix_attempt(path: &std::path::Path) -> io::Result<Attempt> {
    let address = SockAddr::unix(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    Ok(Attempt { socket: Socket::new(OwnedFd::from(socket)), address })
}

fn tcp_socket(address: &SockAddr, user_timeout_ms: u32) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(address.domain(), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if user_timeout_ms > 0 {
        socket.set_tcp_user_timeout(Some(Duration::from_millis(u64::from(user_timeout_ms))))?;
    }
    Ok(socket)
}

fn kind(error: &io::Error) -> ConnectFailureKind {
    match error.raw_os_error() {
        // Without the file of a Unix socket, nobody listens there.
        Some(libc::ECONNREFUSED | libc::ENOENT) => ConnectFailureKind::Refused,
        Some(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOBUFS
            | libc::ENOMEM
            | libc::EADDRNOTAVAIL
            | libc::EADDRINUSE
            | libc::EAGAIN,
        ) => ConnectFailureKind::Exhausted,
        Some(_) | None => ConnectFailureKind::Unreachable,
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ENOENT) => "check that the far end runs, and listens there",
        Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE | libc::EAGAIN) => {
            "all local ports to it are in use: connect from more source addresses, or widen \
             net.ipv4.ip_local_port_range"
        }
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files (`ulimit -n`)",
        Some(libc::ENOBUFS | libc::ENOMEM) => "this machine has no memory left for one more connection",
        Some(libc::EACCES | libc::EPERM) => {
            "check the permissions of the socket's path, and the firewall's rules"
        }
        Some(_) => "check the address, the route to it and the firewalls between",
        None => "the path of a socket has 107 bytes at most, and no zero byte",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Peers;

    fn route(peer: Peer) -> Route {
        let peers = Peers::default();
        let id = peers.add(peer);
        Route::new(peers.get(id).unwrap(), 1000)
    }

    fn refusal() -> io::Error {
        io::Error::from_raw_os_error(libc::ECONNREFUSED)
    }

    #[test]
    fn all_addresses_of_a_name_are_tried_in_order() {
        let mut route = route(Peer::tcp("broker.example", 1883));
        assert_eq!(route.name(), Some(("broker.example", 1883)));
        let addresses: Vec<SocketAddr> =
            ["127.0.0.1:1883", "127.0.0.2:1883", "[::1]:1883"].map(|text| text.parse().unwrap()).into();
        route.set_addresses(addresses.clone());
        let mut attempt = route.first();
        for (tried, addr) in addresses.iter().enumerate() {
            assert_eq!(attempt.unwrap().address.as_socket(), Some(*addr), "try {tried}");
            assert_eq!(route.remote(), Some(*addr));
            attempt = route.next(&refusal());
        }
        let failure = attempt.err().unwrap();
        assert_eq!(failure.kind, ConnectFailureKind::Refused);
        for part in ["broker.example:1883 at [::1]:1883", "refused", "none of its 3 addresses"] {
            assert!(failure.detail.contains(part), "{}", failure.detail);
        }
    }

    #[test]
    fn a_source_without_ports_gives_way_to_the_next() {
        let sources = ["127.0.0.1", "::1", "127.0.0.2", "127.0.0.3"].map(|text| text.parse().unwrap());
        let mut route = route(Peer { sources: sources.to_vec(), ..Peer::tcp("127.0.0.1", 1883) });
        let from =
            |attempt: Result<Attempt, ConnectFailure>| attempt.map(|it| it.socket.local().unwrap().ip());
        let full = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        assert_eq!(from(route.first()), Ok(sources[0]));
        assert_eq!(from(route.next(&full)), Ok(sources[2]));
        assert_eq!(from(route.next(&full)), Ok(sources[3]));
        assert_eq!(from(route.next(&full)).unwrap_err().kind, ConnectFailureKind::Exhausted);
    }

    #[test]
    fn what_cannot_work_says_why() {
        let sourced = |source: &str, host: &str| Peer {
            sources: vec![source.parse().unwrap()],
            ..Peer::tcp(host, 1883)
        };
        let table = [
            (sourced("192.0.2.7", "127.0.0.1"), "from 192.0.2.7"),
            (sourced("::1", "127.0.0.1"), "none of the source addresses is of its family"),
            (Peer::unix("x".repeat(200)), "107 bytes"),
        ];
        for (peer, expected) in table {
            let failure = route(peer).first().err().unwrap();
            assert_eq!(failure.kind, ConnectFailureKind::Unreachable);
            assert!(failure.detail.contains(expected), "{}", failure.detail);
        }
    }
}
