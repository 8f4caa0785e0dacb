//! What a connection sends us.

use ringmq_turn::{CloseReason, ConnId, Core, ReadSwitch, TurnedAway};

use crate::conn::{Life, Receiving};
use crate::driver::Driver;
use crate::ring::Completion;

impl<C: Core> Driver<C> {
    /// A receive completed, or got something.
    pub(crate) fn received(&mut self, conn: ConnId, completion: &Completion) {
        let id = self.conns.id(conn.slot);
        debug_assert_eq!(id.generation & 0xff_ffff, conn.generation, "a slot waits for its requests");
        let conn = self.conns.at(id.slot);
        if !completion.more() {
            conn.receiving = Receiving::No;
        }
        let (life, wrapped) = (conn.life, conn.socket().is_wrapped());
        if let Some(buffer) = completion.buffer() {
            if completion.result > 0 {
                let bytes = self.ring.received(buffer, completion.result as usize);
                match life {
                    Life::Open | Life::Greeting | Life::Moving if wrapped => {
                        self.unwrap(id, buffer, completion.result as usize);
                    }
                    Life::Open => self.core.received(id, bytes, &mut self.io),
                    Life::Greeting => unreachable!("only layers shake hands"),
                    Life::Moving => {
                        if let Some(hand_over) = self.moving.iter_mut().find(|moving| moving.conn == id) {
                            hand_over.unread.extend_from_slice(bytes);
                        }
                    }
                    Life::Flushing | Life::Lingering | Life::Dying | Life::Free => {}
                }
            }
            self.ring.give_back(buffer);
            self.note_endings();
        }
        // While it was being opened, the core may have given it up.
        if !completion.more() && self.conns.get(id).is_some() {
            self.receive_ended(id, completion.result);
        }
    }

    fn receive_ended(&mut self, id: ConnId, result: i32) {
        let conn = self.conns.at(id.slot);
        let goes_on =
            result > 0 || matches!(-result, libc::ENOBUFS | libc::ECANCELED | libc::EAGAIN | libc::EINTR);
        if !goes_on {
            conn.ended = true;
        }
        match conn.life {
            Life::Open if conn.broken && (!goes_on || conn.paused) => self.fail(id),
            Life::Open if goes_on => self.arm_later(id),
            Life::Open if result == 0 => {
                self.core.closed(id, CloseReason::PeerClosed, &mut self.io);
                // What the core answered before it knew may still be read: peers close one side first.
                self.end(id);
                self.note_endings();
            }
            Life::Open => self.fail(id),
            Life::Greeting if goes_on && !conn.broken => self.arm_later(id),
            Life::Greeting => self.turn_away(id, TurnedAway::Gone),
            Life::Moving => {}
            Life::Flushing if result < 0 && !goes_on => self.die(id.slot),
            Life::Lingering if !goes_on => self.die(id.slot),
            Life::Flushing | Life::Lingering => self.arm_later(id),
            Life::Dying => self.free_if_quiet(id.slot),
            Life::Free => unreachable!("a free slot has no requests"),
        }
    }

    /// Receives from the connection again after this turn, if it still should be then.
    pub(crate) fn arm_later(&mut self, id: ConnId) {
        let conn = self.conns.at(id.slot);
        if !std::mem::replace(&mut conn.arming, true) {
            self.arming.push(id);
        }
    }

    /// Receives again from the listed connections. By now all buffers are given back.
    pub(crate) fn arm(&mut self) {
        self.arm_listeners();
        for id in self.arming.drain(..) {
            let Some(conn) = self.conns.get(id) else { continue };
            conn.arming = false;
            let wanted = match conn.life {
                Life::Open => !conn.paused,
                Life::Greeting => !conn.broken,
                Life::Flushing | Life::Lingering => !conn.ended,
                Life::Moving | Life::Dying | Life::Free => false,
            };
            if wanted && conn.receiving == Receiving::No {
                conn.receiving = Receiving::Yes;
                let (fd, fresh) = (conn.socket().raw_fd(), conn.socket().is_fresh());
                if fresh {
                    self.ring.receive_once(fd, id);
                } else {
                    self.ring.receive(fd, id);
                }
            }
        }
    }

    /// Carries out the core's pauses and resumes.
    pub(crate) fn switch_reads(&mut self) {
        let mut reads = std::mem::take(&mut self.lists.reads);
        self.io.take_reads(&mut reads);
        for read in reads.drain(..) {
            let (id, paused) = match read {
                ReadSwitch::Pause(id) => (id, true),
                ReadSwitch::Resume(id) => (id, false),
            };
            let Some(conn) = self.conns.get(id).filter(|conn| conn.life == Life::Open) else { continue };
            conn.paused = paused;
            if paused {
                self.stop_receiving(id);
            } else {
                self.arm_later(id);
            }
        }
        self.lists.reads = reads;
    }

    /// Ends the receive of a connection, if there is one.
    pub(crate) fn stop_receiving(&mut self, id: ConnId) {
        let conn = self.conns.at(id.slot);
        if conn.receiving == Receiving::Yes {
            conn.receiving = Receiving::Ending;
            self.ring.cancel_receive(id);
        }
    }

    /// A cancellation missed. Tries again, unless the receive ended meanwhile.
    pub(crate) fn cancel_again(&mut self, conn: ConnId) {
        let id = self.conns.id(conn.slot);
        let same = id.generation & 0xff_ffff == conn.generation;
        if same && self.conns.at(id.slot).receiving == Receiving::Ending {
            self.ring.cancel_receive(id);
        }
    }

    /// Reports connections whose sends failed while nothing was received.
    pub(crate) fn report_failed(&mut self) {
        while let Some(id) = self.failed.pop() {
            match self.conns.get(id).map(|conn| conn.life) {
                Some(Life::Open) => self.fail(id),
                Some(Life::Greeting) => self.turn_away(id, TurnedAway::Gone),
                Some(Life::Moving | Life::Flushing | Life::Lingering | Life::Dying | Life::Free) | None => {}
            }
        }
    }

    fn fail(&mut self, id: ConnId) {
        self.core.closed(id, CloseReason::Broken, &mut self.io);
        self.die(id.slot);
        self.note_endings();
    }
}
