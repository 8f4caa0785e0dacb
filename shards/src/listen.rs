//! Listening sockets.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Type};

use crate::config::{BIND_RETRY_MS, ListenAddress, RuntimeConfig};
use crate::error::StartError;
use crate::unix::{self, SocketFile};

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
    pub addresses: Vec<ListenAddress>,
    /// Removed when dropped.
    pub files: Vec<SocketFile>,
}

/// Binds everything. TCP sockets queue no connections yet; Unix sockets do, since one that does not looks
/// like that of a dead process.
pub(crate) fn bind_all(config: &RuntimeConfig, shards: usize) -> Result<Bound, StartError> {
    let mut bound = Bound {
        listeners: (0..shards).map(|_| Vec::new()).collect(),
        addresses: Vec::new(),
        files: Vec::new(),
    };
    for wanted in &config.listeners {
        let failed = |source| listen_error(&wanted.address, source);
        match &wanted.address {
            ListenAddress::Tcp(addr) => bind_tcp(config, *addr, &mut bound).map_err(failed)?,
            ListenAddress::Unix(unix) => {
                let (socket, file) = unix::listen(unix, config.accept_backlog).map_err(failed)?;
                for listeners in &mut bound.listeners {
                    listeners.push(Listener(socket.try_clone().map_err(failed)?));
                }
                bound.files.push(file);
                bound.addresses.push(wanted.address.clone());
            }
        }
    }
    Ok(bound)
}

fn bind_tcp(config: &RuntimeConfig, mut addr: SocketAddr, bound: &mut Bound) -> io::Result<()> {
    if addr.port() != 0 {
        // Sharing the port would let another process of this user share it too, and take half of the
        // connections. So have it alone for a moment.
        until_free(&addr, || bind(config, addr, Sharing::Alone).map(drop))?;
    }
    for listeners in &mut bound.listeners {
        let listener = bind(config, addr, Sharing::WithOtherShards)?;
        addr = listener.addr()?;
        listeners.push(listener);
    }
    bound.addresses.push(ListenAddress::Tcp(addr));
    Ok(())
}

/// Tries to bind, for a while when the address is in use.
pub(crate) fn until_free<T>(
    address: &dyn fmt::Display,
    mut bind: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let since = Instant::now();
    let mut warned = false;
    loop {
        match bind() {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && since.elapsed() < Duration::from_millis(BIND_RETRY_MS) =>
            {
                if !warned {
                    tracing::warn!(
                        %address,
                        "the address is in use; trying again, since the kernel holds a killed process's \
                         sockets for a second or two"
                    );
                    warned = true;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            done => return done,
        }
    }
}

fn bind(config: &RuntimeConfig, addr: SocketAddr, sharing: Sharing) -> io::Result<Listener> {
    let socket = socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::WithOtherShards)?;
    if addr.is_ipv6()
        && (config.listeners.iter().filter_map(|other| other.address.as_tcp()))
            .any(|other| other.is_ipv4() && other.port() == addr.port())
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
pub(crate) fn listen_error(address: &ListenAddress, source: io::Error) -> StartError {
    let remedy = match (address, source.raw_os_error()) {
        (_, Some(libc::EMFILE | libc::ENFILE)) => "raise the limit of open files (`ulimit -n`)".to_owned(),
        (_, Some(libc::EAFNOSUPPORT)) => "the kernel has this address family switched off".to_owned(),
        (ListenAddress::Tcp(addr), Some(libc::EADDRINUSE)) => {
            let port = addr.port();
            format!("`ss -ltnp 'sport = :{port}'` shows who holds it: stop that, or listen elsewhere")
        }
        (ListenAddress::Tcp(_), Some(libc::EACCES)) => {
            "ports below 1024 need CAP_NET_BIND_SERVICE, or a lower net.ipv4.ip_unprivileged_port_start"
                .to_owned()
        }
        (ListenAddress::Tcp(_), Some(libc::EADDRNOTAVAIL)) => {
            "no interface has this address: `ip addr` lists those that do".to_owned()
        }
        (ListenAddress::Tcp(_), Some(_) | None) => "check the address".to_owned(),
        (ListenAddress::Unix(_), _) => unix::remedy(&source).to_owned(),
    };
    StartError::Listen { address: Box::new(address.clone()), source, remedy }
}
