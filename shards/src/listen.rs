//! Sockets: the listening ones, and what is between a connection and the core.
//!
//! Another transport (TLS, WebSocket, a Unix socket) would take the place of [`Socket`].

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Type};

use crate::config::{BIND_RETRY_MS, ListenerConfig, RuntimeConfig};
use crate::error::StartError;

/// A connected socket. Its options came with it from its listener.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// The peer's address, unless it has gone already.
    pub fn remote(&self) -> Option<SocketAddr> {
        SockRef::from(&self.0).peer_addr().ok().and_then(|addr| addr.as_socket())
    }

    /// Says that no more bytes follow.
    pub fn finish(&self) {
        // It fails when the connection has ended anyway.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Write);
    }

    /// Ends both directions, so that every request under way ends.
    pub fn cut(&self) {
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }

    /// Lets the kernel drop what it has not sent yet when the socket is closed.
    pub fn discard_unsent(&self) {
        let _ = SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
    }
}

/// A bound socket of one shard.
pub(crate) struct Listener(socket2::Socket);

impl Listener {
    pub fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Starts to queue connections.
    pub fn listen(&self, backlog: i32) -> io::Result<()> {
        self.0.listen(backlog)
    }

    /// The address that it is bound to.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }
}

/// Whether several sockets may have the address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    WithOtherShards,
}

/// Every configured listener bound once for each shard, and the addresses that came out.
pub(crate) struct Bound {
    /// By shard, then by listener.
    pub listeners: Vec<Vec<Listener>>,
    /// By listener.
    pub addresses: Vec<SocketAddr>,
}

/// Binds everything; none of it queues connections yet.
pub(crate) fn bind_all(config: &RuntimeConfig, shards: usize) -> Result<Bound, StartError> {
    let mut bound = Bound { listeners: (0..shards).map(|_| Vec::new()).collect(), addresses: Vec::new() };
    for wanted in &config.listeners {
        let failed = |source| listen_error(wanted.addr, source);
        if wanted.addr.port() != 0 {
            // Sharing the port would let another process of this user share it too, and take half of
            // the connections. So have it alone for a moment.
            wait_until_free(config, wanted).map_err(failed)?;
        }
        let mut addr = wanted.addr;
        for listeners in &mut bound.listeners {
            let listener = bind(config, addr, Sharing::WithOtherShards).map_err(failed)?;
            addr = listener.addr().map_err(failed)?;
            listeners.push(listener);
        }
        bound.addresses.push(addr);
    }
    Ok(bound)
}

fn wait_until_free(config: &RuntimeConfig, wanted: &ListenerConfig) -> io::Result<()> {
    let since = Instant::now();
    let mut warned = false;
    loop {
        match bind(config, wanted.addr, Sharing::Alone) {
            Ok(_) => return Ok(()),
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && since.elapsed() < Duration::from_millis(BIND_RETRY_MS) =>
            {
                if !warned {
                    tracing::warn!(
                        addr = %wanted.addr,
                        "the address is in use; trying again, since the kernel holds a killed process's \
                         sockets for a second or two"
                    );
                    warned = true;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(error) => return Err(error),
        }
    }
}

fn bind(config: &RuntimeConfig, addr: SocketAddr, sharing: Sharing) -> io::Result<Listener> {
    let socket = socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::WithOtherShards)?;
    if addr.is_ipv6()
        && config.listeners.iter().any(|other| other.addr.is_ipv4() && other.addr.port() == addr.port())
    {
        // The IPv4 half of the port has a listener of its own.
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit these.
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(false)?;
    if config.user_timeout_ms > 0 {
        socket.set_tcp_user_timeout(Some(Duration::from_millis(u64::from(config.user_timeout_ms))))?;
    }
    socket.bind(&addr.into())?;
    Ok(Listener(socket))
}

/// The error with its remedy.
pub(crate) fn listen_error(addr: SocketAddr, source: io::Error) -> StartError {
    let remedy = match source.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            let port = addr.port();
            format!("`ss -ltnp 'sport = :{port}'` shows who holds it: stop that, or listen elsewhere")
        }
        Some(libc::EACCES) => {
            "ports below 1024 need CAP_NET_BIND_SERVICE, or a lower net.ipv4.ip_unprivileged_port_start"
                .to_owned()
        }
        Some(libc::EADDRNOTAVAIL) => {
            "no interface has this address: `ip addr` lists those that do".to_owned()
        }
        Some(libc::EAFNOSUPPORT) => "the kernel has this address family switched off".to_owned(),
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files (`ulimit -n`)".to_owned(),
        Some(_) | None => "check the address".to_owned(),
    };
    StartError::Listen { addr, source, remedy }
}
