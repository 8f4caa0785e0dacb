//! The far ends that cores may connect to.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ringmq_turn::PeerId;

use crate::tls::ClientTls;

/// A far end that cores may connect to, once [`crate::Handle::add_peer`] knows it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it listens.
    pub address: PeerAddress,
    /// How to talk TLS to it; absent for plain connections.
    pub tls: Option<ClientTls>,
    /// The path to ask for where it speaks WebSocket; absent where it does not.
    pub websocket: Option<WebSocketPath>,
    /// Local addresses to connect from, in turn; empty leaves it to the kernel. Each has some 28,000 ports
    /// to one far end. Of no use with Unix sockets.
    pub sources: Vec<IpAddr>,
}

impl Peer {
    /// A far end without any layer.
    pub fn new(address: PeerAddress) -> Self {
        Self { address, tls: None, websocket: None, sources: Vec::new() }
    }

    /// A plain far end at a host, which is a name or an IP address.
    pub fn tcp(host: impl Into<Box<str>>, port: u16) -> Self {
        Self::new(PeerAddress::Tcp { host: host.into(), port })
    }

    /// A plain far end at a Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(PeerAddress::Unix(path.into()))
    }
}

/// Where a far end listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// A port of a host.
    Tcp {
        /// A name, or an IP address without brackets. All addresses of a name are tried, in the order in
        /// which the system gives them.
        host: Box<str>,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What a WebSocket client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketPath {
    /// The path, from its slash on. Default "/mqtt".
    pub path: Box<str>,
}

impl Default for WebSocketPath {
    fn default() -> Self {
        Self { path: "/mqtt".into() }
    }
}

/// A registered far end.
pub(crate) struct Registered {
    pub peer: Peer,
    /// How many connections to it asked for a source address.
    sourced: AtomicUsize,
}

impl Registered {
    fn new(peer: Peer) -> Arc<Self> {
        Arc::new(Self { peer, sourced: AtomicUsize::new(0) })
    }

    /// The local addresses to connect from, one of which is tried first, the next one next time.
    pub fn sources(&self) -> impl Iterator<Item = IpAddr> {
        let sources = &self.peer.sources;
        let first = match sources.len() {
            0 => 0,
            count => self.sourced.fetch_add(1, Ordering::Relaxed) % count,
        };
        sources[first..].iter().chain(&sources[..first]).copied()
    }
}

/// All of them. Looked at when a connection is opened, and never on the way of bytes.
#[derive(Default)]
pub(crate) struct Peers {
    known: RwLock<HashMap<PeerId, Arc<Registered>>>,
    next: AtomicU32,
}

impl Peers {
    // Each statement below leaves the table whole, so a panic of a holder spoils nothing.
    fn change<R>(&self, f: impl FnOnce(&mut HashMap<PeerId, Arc<Registered>>) -> R) -> R {
        f(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn add(&self, peer: Peer) -> PeerId {
        let id = PeerId(self.next.fetch_add(1, Ordering::Relaxed));
        self.change(|known| known.insert(id, Registered::new(peer)));
        id
    }

    /// False when there is none of this id.
    pub fn replace(&self, id: PeerId, peer: Peer) -> bool {
        let fresh = Registered::new(peer);
        self.change(|known| known.get_mut(&id).map(|slot| *slot = fresh).is_some())
    }

    /// False when there is none of this id.
    pub fn remove(&self, id: PeerId) -> bool {
        self.change(|known| known.remove(&id).is_some())
    }

    pub fn get(&self, id: PeerId) -> Option<Arc<Registered>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&id).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_id_is_never_used_again() {
        let peers = Peers::default();
        let first = peers.add(Peer::tcp("one", 1));
        let second = peers.add(Peer::tcp("two", 2));
        assert!(peers.replace(first, Peer::tcp("three", 3)));
        assert_eq!(peers.get(first).unwrap().peer.address.to_string(), "three:3");
        assert!(peers.remove(second) && !peers.remove(second));
        assert!(!peers.replace(second, Peer::tcp("two", 2)) && peers.get(second).is_none());
        assert!(![first, second].contains(&peers.add(Peer::unix("/run/x"))));
    }

    #[test]
    fn sources_take_turns() {
        let sources: Vec<_> = (1..=3).map(|last| IpAddr::from(Ipv4Addr::new(127, 0, 0, last))).collect();
        let peer = Registered::new(Peer { sources: sources.clone(), ..Peer::tcp("::1", 1883) });
        for first in [0, 1, 2, 0] {
            let mut turned = sources.clone();
            turned.rotate_left(first);
            assert!(peer.sources().eq(turned));
        }
        assert_eq!(Registered::new(Peer::unix("/run/x")).sources().count(), 0);
    }

    #[test]
    fn an_address_reads_as_people_write_it() {
        let table = [
            (Peer::tcp("broker.example", 1883), "broker.example:1883"),
            (Peer::tcp("::1", 8883), "[::1]:8883"),
            (Peer::unix("/run/ringmq.sock"), "/run/ringmq.sock"),
        ];
        for (peer, expected) in table {
            assert_eq!(peer.address.to_string(), expected);
        }
    }
}
