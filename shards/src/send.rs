//! What we send to a connection: at most one request at a time.

use ringmq_turn::{ConnId, Core};

use crate::conn::{Life, Receiving};
use crate::driver::Driver;
use crate::flight::Flight;

/// A list with room for more sends is given back to the allocator.
const SETTLED_KEPT_MAX: usize = 1024;

impl<C: Core> Driver<C> {
    /// Sends what outboxes collected, at once where the kernel takes it.
    pub(crate) fn send_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.lists.dirty);
        self.io.take_dirty(&mut dirty);
        dirty.append(&mut self.ready);
        for conn in dirty.drain(..) {
            self.send_outbox(conn.slot);
        }
        self.lists.dirty = dirty;
    }

    /// By slot: a slot that was used again in this turn is listed under its former user only.
    fn send_outbox(&mut self, slot: u32) {
        let id = self.conns.id(slot);
        let conn = self.conns.at(slot);
        if conn.life == Life::Free {
            return;
        }
        conn.above_high |= self.io.backlog_bytes(id) > self.io.backlog_high_bytes;
        if conn.sending {
            return;
        }
        if conn.socket().is_wrapped() {
            return self.send_wrapped(id);
        }
        let outbox = self.io.peek(id);
        let len = outbox.waiting_bytes();
        let (bytes, shared) = outbox.take(Vec::new(), Vec::new());
        if len == 0 || conn.broken || conn.life == Life::Dying {
            outbox.sent(len);
            self.io.recycle(bytes);
            return;
        }
        self.ring
            .send_now(conn.socket().raw_fd(), Flight { conn: id, bytes, shared, done: 0, wrapped: None });
    }

    /// Looks how the sends at once went. The rest of what went short waits for the peer.
    pub(crate) fn settle(&mut self) {
        let mut settled = std::mem::take(&mut self.lists.settled);
        self.ring.settle(&mut settled);
        for settled in settled.drain(..) {
            let (id, wrapped) = (settled.flight.conn, settled.flight.wrapped.is_some());
            if wrapped {
                self.conns.at(id.slot).sending = false;
            }
            self.advance(settled.flight, settled.result);
            if wrapped && self.conns.at(id.slot).life == Life::Moving {
                // It may go now.
                self.ready.push(id);
            }
        }
        if settled.capacity() > SETTLED_KEPT_MAX {
            // After thousands of connections were opened at once, say.
            settled = Vec::new();
        }
        self.lists.settled = settled;
    }

    /// A send that waited for the peer completed.
    pub(crate) fn sent(&mut self, index: usize, result: i32) {
        let flight = self.ring.sent(index);
        let id = flight.conn;
        self.conns.at(id.slot).sending = false;
        self.advance(flight, result);
        let conn = self.conns.at(id.slot);
        if !conn.sending {
            self.ready.push(id);
        }
        match conn.life {
            Life::Open | Life::Greeting | Life::Moving | Life::Free => {}
            Life::Flushing | Life::Lingering => self.finishing.push(id),
            Life::Dying => self.free_if_quiet(id.slot),
        }
    }

    fn advance(&mut self, mut flight: Flight, result: i32) {
        let id = flight.conn;
        let conn = self.conns.at(id.slot);
        let gone = conn.broken || conn.life == Life::Dying;
        if !gone && result >= 0 {
            let sent = flight.took(result as usize);
            self.io.peek(id).sent(sent);
            self.note_drained(id);
            if flight.left() == 0 {
                self.io.recycle(flight.bytes);
                return;
            }
        }
        let waits =
            result >= 0 || matches!(-result, libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM);
        if !gone && waits {
            let conn = self.conns.at(id.slot);
            conn.sending = true;
            self.ring.send(conn.socket().raw_fd(), flight);
            return;
        }
        self.io.peek(id).sent(flight.owed());
        if !gone {
            self.send_failed(id);
        }
    }

    /// Notes a connection whose backlog was high when a turn ended, and is low now. The core is told in
    /// the next turn, also when all went out at once: it may have held something back meanwhile.
    pub(crate) fn note_drained(&mut self, id: ConnId) {
        let backlog = self.io.backlog_bytes(id);
        let conn = self.conns.at(id.slot);
        if conn.above_high && backlog < self.io.backlog_low_bytes {
            conn.above_high = false;
            self.drained.push(id);
        }
    }

    /// Tells the core of the connections that drained.
    pub(crate) fn report_drained(&mut self) {
        for id in std::mem::take(&mut self.drained) {
            if self.conns.get(id).is_some_and(|conn| conn.life == Life::Open) {
                self.core.drained(id, &mut self.io);
                self.note_endings();
            }
        }
    }

    /// Nothing more can be sent. What the peer sent before may still be received, and its end says that
    /// the connection is gone.
    fn send_failed(&mut self, id: ConnId) {
        let conn = self.conns.at(id.slot);
        conn.broken = true;
        conn.socket().cut();
        match conn.life {
            Life::Open | Life::Greeting if conn.receiving == Receiving::No => self.failed.push(id),
            Life::Open | Life::Greeting | Life::Moving => {}
            Life::Flushing | Life::Lingering => self.finishing.push(id),
            Life::Dying | Life::Free => {}
        }
        // What waits in the outbox is let go of.
        self.ready.push(id);
    }
}
