//! A connected socket, and what is between it and the core.

use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::SockRef;

/// A socket that is connected, or is being. One that was accepted has its options from its listener.
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

    /// The address that it has here.
    #[cfg(test)]
    pub fn local(&self) -> Option<SocketAddr> {
        SockRef::from(&self.0).local_addr().ok().and_then(|addr| addr.as_socket())
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
