//! A connected socket, and what is between it and the core.

use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::SockRef;

use crate::layers::Layers;

/// A socket that is connected, or is being. One that was accepted has its options from its listener.
pub(crate) struct Socket {
    fd: OwnedFd,
    wrapping: Option<Box<Wrapping>>,
}

/// The layers of a connection that has some. They move with its socket.
pub(crate) struct Wrapping {
    pub layers: Box<Layers>,
    /// The layers said goodbye: nothing follows.
    pub parted: bool,
    /// The core has not seen any of its bytes.
    pub fresh: bool,
    /// Until it opens: the index of the core's request, if it is the core that opens it.
    pub dial: Option<u32>,
}

impl Wrapping {
    pub fn new(layers: Box<Layers>, dial: Option<u32>) -> Box<Self> {
        Box::new(Self { layers, parted: false, fresh: true, dial })
    }
}

impl Socket {
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, wrapping: None }
    }

    /// Puts layers between it and the core.
    pub fn wrap(&mut self, wrapping: Box<Wrapping>) {
        self.wrapping = Some(wrapping);
    }

    /// Whether layers lie between it and the core.
    #[inline]
    pub fn is_wrapped(&self) -> bool {
        self.wrapping.is_some()
    }

    pub fn wrapping(&mut self) -> Option<&mut Wrapping> {
        self.wrapping.as_deref_mut()
    }

    /// Whether the core may have to see the first bytes before any others are received.
    pub fn is_fresh(&self) -> bool {
        self.wrapping.as_ref().is_some_and(|wrapping| wrapping.fresh)
    }

    /// Whether its layers have words for the peer that are not being sent.
    pub fn has_wire(&self) -> bool {
        self.wrapping.as_ref().is_some_and(|wrapping| wrapping.layers.has_wire())
    }

    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The peer's address, unless it has gone already.
    pub fn remote(&self) -> Option<SocketAddr> {
        SockRef::from(&self.fd).peer_addr().ok().and_then(|addr| addr.as_socket())
    }

    /// The address that it has here.
    #[cfg(test)]
    pub fn local(&self) -> Option<SocketAddr> {
        SockRef::from(&self.fd).local_addr().ok().and_then(|addr| addr.as_socket())
    }

    /// Says that no more bytes follow.
    pub fn finish(&self) {
        // It fails when the connection has ended anyway.
        let _ = SockRef::from(&self.fd).shutdown(Shutdown::Write);
    }

    /// Ends both directions, so that every request under way ends.
    pub fn cut(&self) {
        let _ = SockRef::from(&self.fd).shutdown(Shutdown::Both);
    }

    /// Lets the kernel drop what it has not sent yet when the socket is closed.
    pub fn discard_unsent(&self) {
        let _ = SockRef::from(&self.fd).set_linger(Some(Duration::ZERO));
    }
}
