//! How connections leave a shard: closed by the core, gone with the peer, or handed over.

use ringmq_turn::{ConnId, Core};

use crate::conn::{Life, Receiving};
use crate::driver::Driver;
use crate::mesh::Moved;

impl<C: Core> Driver<C> {
    /// Takes note of what the core closed and handed over, right after it did: what arrives for these
    /// from now on is not for it.
    #[inline]
    pub(crate) fn note_endings(&mut self) {
        let mut closes = std::mem::take(&mut self.lists.closes);
        self.io.take_closes(&mut closes);
        for id in closes.drain(..) {
            if self.conns.get(id).is_some_and(|conn| conn.life == Life::Open) {
                self.end(id);
            }
        }
        self.lists.closes = closes;
        let known = self.moving.len();
        self.io.take_hand_overs(&mut self.moving);
        for at in known..self.moving.len() {
            let id = self.moving[at].conn;
            let Some(conn) = self.conns.get(id).filter(|conn| conn.life == Life::Open) else { continue };
            conn.life = Life::Moving;
            self.stop_receiving(id);
        }
    }

    /// Writes the rest, then closes.
    pub(crate) fn end(&mut self, id: ConnId) {
        self.conns.at(id.slot).life = Life::Flushing;
        self.finishing.push(id);
        self.lingering.push_back((self.io.now.mono_ms + self.config.linger_ms, id));
    }

    /// Goes on with closing the listed connections.
    pub(crate) fn finish(&mut self) {
        let mut list = std::mem::take(&mut self.lists.slots);
        std::mem::swap(&mut list, &mut self.finishing);
        for id in list.drain(..) {
            let backlog = self.io.backlog_bytes(id);
            let Some(conn) = self.conns.get(id) else { continue };
            let written = backlog == 0 && conn.has_parted();
            let over = conn.broken || (written && conn.ended);
            match conn.life {
                Life::Flushing | Life::Lingering if over => self.die(id.slot),
                Life::Flushing if backlog == 0 && !written => self.part(id),
                Life::Flushing if written => {
                    conn.life = Life::Lingering;
                    conn.socket().finish();
                    self.arm_later(id);
                }
                // Written as the peer takes it.
                Life::Flushing => self.arm_later(id),
                Life::Lingering | Life::Greeting | Life::Open | Life::Moving | Life::Dying | Life::Free => {}
            }
        }
        self.lists.slots = list;
        self.arm();
    }

    /// Cuts the closing connections whose time is over.
    pub(crate) fn cut_overdue(&mut self) {
        while let Some(&(at, id)) = self.lingering.front() {
            let gone = self.conns.get(id).is_none();
            if !gone && at > self.io.now.mono_ms {
                break;
            }
            self.lingering.pop_front();
            if gone {
                continue;
            }
            let conn = self.conns.at(id.slot);
            if matches!(conn.life, Life::Flushing | Life::Lingering) {
                conn.socket().discard_unsent();
                self.die(id.slot);
            }
        }
    }

    /// Ends a connection without more ado.
    pub(crate) fn die(&mut self, slot: u32) {
        let conn = self.conns.at(slot);
        conn.life = Life::Dying;
        if !conn.is_quiet() {
            conn.socket().cut();
        }
        self.free_if_quiet(slot);
    }

    /// Frees the slot of a dying connection once the kernel is done with it.
    pub(crate) fn free_if_quiet(&mut self, slot: u32) {
        if !self.conns.at(slot).is_quiet() {
            return;
        }
        let id = self.conns.id(slot);
        drop(self.conns.remove(slot));
        self.io.peek(id).clear();
        self.shared.forget_connections(1);
    }

    /// Sends off the connections that are handed over and have nothing under way.
    pub(crate) fn move_away(&mut self) {
        let mut at = 0;
        while at < self.moving.len() {
            let id = self.moving[at].conn;
            let Some(conn) = self.conns.get(id).filter(|conn| conn.life == Life::Moving) else {
                self.moving.swap_remove(at);
                continue;
            };
            let silent = conn.broken || !conn.socket().has_wire();
            let quiet = conn.receiving == Receiving::No && !conn.sending && silent;
            if !quiet || self.io.backlog_bytes(id) > 0 {
                at += 1;
                continue;
            }
            let info = conn.info();
            let hand_over = self.moving.swap_remove(at);
            let socket = self.conns.remove(id.slot);
            self.io.peek(id).clear();
            let moved = Moved { socket, info, unread: hand_over.unread };
            if hand_over.to == self.me {
                self.open_moved(moved);
            } else {
                self.mesh.send_connection(hand_over.to, moved);
            }
        }
    }
}
