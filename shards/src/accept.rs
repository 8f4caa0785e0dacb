//! How connections come to a shard: from its listeners, and from other shards.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use ringmq_turn::{ConnInfo, Core, ListenerId};

use crate::config::{ACCEPT_REST_MS, OVER_LIMIT_MAX};
use crate::conn::{Life, Receiving};
use crate::driver::Driver;
use crate::layers::Layers;
use crate::listen::Listener;
use crate::mesh::Moved;
use crate::ring::Completion;
use crate::socket::Socket;
use crate::sys;

/// A listener of one shard.
pub(crate) struct Accepting {
    listener: Listener,
    /// A request accepts.
    active: bool,
    /// When to accept again, after descriptors ran out.
    rests_until_ms: Option<u64>,
    /// That descriptors ran out was logged, and none was accepted since.
    complained: bool,
}

impl Accepting {
    pub fn new(listener: Listener) -> Self {
        Self { listener, active: false, rests_until_ms: None, complained: false }
    }

    pub fn rests_until_ms(&self) -> Option<u64> {
        self.rests_until_ms
    }
}

impl<C: Core> Driver<C> {
    /// Accepts on every listener that does not and should.
    pub(crate) fn arm_listeners(&mut self) {
        let now_ms = self.io.now.mono_ms;
        for (index, accepting) in self.listeners.iter_mut().enumerate() {
            if accepting.active || accepting.rests_until_ms.is_some_and(|until| until > now_ms) {
                continue;
            }
            accepting.active = true;
            accepting.rests_until_ms = None;
            self.ring.accept(accepting.listener.raw_fd(), index);
        }
    }

    /// An accept completed.
    pub(crate) fn accepted(&mut self, listener: usize, completion: &Completion) {
        let socket = (completion.result >= 0).then(|| sys::adopt(completion.result));
        // Without the listener, the runtime is stopping.
        let Some(accepting) = self.listeners.get_mut(listener) else { return };
        accepting.active &= completion.more();
        if let Some(socket) = socket {
            accepting.complained = false;
            self.accepted.push_back((socket, ListenerId(listener as u16)));
            return;
        }
        match -completion.result {
            // One peer's trouble, or the system's for a moment.
            libc::EINTR | libc::EAGAIN | libc::ECONNABORTED | libc::EPROTO | libc::ECANCELED => {}
            errno => {
                accepting.rests_until_ms = Some(self.io.now.mono_ms + ACCEPT_REST_MS);
                if !std::mem::replace(&mut accepting.complained, true) {
                    let cause = std::io::Error::from_raw_os_error(errno);
                    tracing::warn!(
                        shard = %self.me, %cause, rest_ms = ACCEPT_REST_MS,
                        "cannot accept connections, trying again; if files ran out, raise `ulimit -n` or \
                         lower connections_max"
                    );
                }
            }
        }
    }

    /// Opens what was accepted, up to a turn's worth.
    pub(crate) fn open_accepted(&mut self) {
        let count = self.accepted.len().min(self.config.accepts_per_turn_max);
        for _ in 0..count {
            if let Some((socket, listener)) = self.accepted.pop_front() {
                self.open_socket(socket, listener);
            }
        }
    }

    fn open_socket(&mut self, socket: OwnedFd, listener: ListenerId) {
        let before = self.shared.connections.fetch_add(1, Ordering::Relaxed);
        if before >= self.config.connections_max + OVER_LIMIT_MAX {
            self.shared.forget_connections(1);
            return;
        }
        let socket = Socket::new(socket);
        let over_limit = before >= self.config.connections_max;
        let info = ConnInfo { listener, remote: socket.remote(), over_limit };
        let config = &self.config.listeners[usize::from(listener.0)];
        match Layers::accepted(config.tls.as_ref(), config.websocket, self.config.frame_bytes_max) {
            None => self.open(socket, &info, &[]),
            Some(layers) => self.greet(socket, &info, layers),
        }
    }

    /// Opens a connection that another shard handed over.
    pub(crate) fn open_moved(&mut self, moved: Moved) {
        if self.is_stopping() {
            self.shared.forget_connections(1);
            return;
        }
        self.open(moved.socket, &moved.info, &moved.unread);
    }

    fn open(&mut self, socket: Socket, info: &ConnInfo, unread: &[u8]) {
        let wrapped = socket.is_wrapped();
        let id = self.conns.insert(socket, info);
        self.io.open(id);
        self.core.opened(id, info, &mut self.io);
        self.note_endings();
        if wrapped {
            return self.open_wrapped(id, unread);
        }
        if !unread.is_empty() && self.conns.at(id.slot).life == Life::Open {
            self.core.received(id, unread, &mut self.io);
            self.note_endings();
            self.arm_later(id);
            return;
        }
        let conn = self.conns.at(id.slot);
        if conn.life == Life::Open {
            // Once only: the core may hand it over when it has seen the first bytes, and then nothing
            // must be receiving.
            conn.receiving = Receiving::Yes;
            self.ring.receive_once(conn.socket().raw_fd(), id);
        }
    }

    /// Stops accepting for good. What was accepted and not opened is closed.
    pub(crate) fn stop_accepting(&mut self) {
        for (index, accepting) in self.listeners.iter().enumerate() {
            if accepting.active {
                self.ring.cancel_accept(index);
            }
        }
        self.listeners.clear();
        self.accepted.clear();
    }

    /// Lets the kernel queue connections on every listener.
    pub(crate) fn listen(&mut self) -> Result<(), (usize, std::io::Error)> {
        for (index, accepting) in self.listeners.iter().enumerate() {
            accepting.listener.listen(self.config.accept_backlog).map_err(|error| (index, error))?;
        }
        Ok(())
    }
}
