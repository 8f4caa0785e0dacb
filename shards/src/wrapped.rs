//! Connections with layers between their sockets and the core.
//!
//! A connection without any comes here at most to be told apart.

use ringmq_turn::{CloseReason, ConnId, ConnInfo, Core, TransportFault, TurnedAway};

use crate::conn::Life;
use crate::driver::Driver;
use crate::flight::{Flight, Wrapped};
use crate::layers::Layers;
use crate::socket::{Socket, Wrapping};

/// Says whose connection a transport ended, for those who look for it. An operator who does not has counters.
fn log_end(info: &ConnInfo, why: TurnedAway, detail: Option<&str>) {
    let peer = info.remote.map(tracing::field::display);
    tracing::debug!(peer, listener = info.listener.0, ?why, detail, "a transport ended a connection");
}

/// Handshakes.
impl<C: Core> Driver<C> {
    /// Takes in an accepted connection that is not ready for the core.
    pub(crate) fn greet(&mut self, socket: Socket, info: &ConnInfo, layers: Box<Layers>) {
        let id = self.conns.insert(socket, info);
        self.io.open(id);
        self.greeting.push_back((self.io.now.mono_ms + self.config.handshake_timeout_ms, id));
        self.arm_later(id);
        self.wrap(id, Wrapping::new(layers, None));
    }

    /// Lets the layers of a connection shake hands.
    pub(crate) fn wrap(&mut self, id: ConnId, wrapping: Box<Wrapping>) {
        let conn = self.conns.at(id.slot);
        conn.life = Life::Greeting;
        if wrapping.layers.has_wire() {
            self.ready.push(id);
        }
        conn.socket.as_mut().expect("only a free slot has no socket").wrap(wrapping);
    }

    /// Whether a connection shakes hands still, and nobody gave it up.
    fn greets(&mut self, id: ConnId) -> bool {
        self.note_dials();
        self.conns.get(id).is_some_and(|conn| conn.life == Life::Greeting)
    }

    /// The handshakes are over: the connection is the core's.
    fn greeted(&mut self, id: ConnId) {
        if !self.greets(id) {
            return;
        }
        let conn = self.conns.at(id.slot);
        conn.life = Life::Open;
        let info = conn.info();
        match conn.wrapping().dial.take() {
            Some(index) => self.tell_connected(index, id),
            None => {
                self.core.opened(id, &info, &mut self.io);
                self.note_endings();
            }
        }
    }

    /// A connection will never open. What its layers have to say of that is sent.
    pub(crate) fn turn_away(&mut self, id: ConnId, why: TurnedAway) {
        if !self.greets(id) {
            return;
        }
        let conn = self.conns.at(id.slot);
        let info = conn.info();
        let wrapping = conn.wrapping();
        wrapping.parted = true;
        let dial = wrapping.dial.take();
        let detail = wrapping.layers.fault_detail().map(Box::<str>::from);
        match why {
            TurnedAway::TimedOut => self.die(id.slot),
            TurnedAway::Gone | TurnedAway::Fault(_) => {
                self.ready.push(id);
                self.end(id);
            }
        }
        match dial {
            Some(index) => {
                let detail = detail.as_deref().unwrap_or(
                    "the connection ended amid the handshake; check that the far end speaks TLS or WebSocket \
                     there, as it is expected to",
                );
                self.tell_turned_away(index, why, detail);
            }
            None => {
                log_end(&info, why, detail.as_deref());
                self.core.turned_away(info.listener, why, &mut self.io);
                self.note_endings();
            }
        }
    }

    /// Turns those away whose handshakes take too long.
    pub(crate) fn turn_away_late(&mut self) {
        while let Some(&(at, id)) = self.greeting.front() {
            let greets = self.conns.get(id).is_some_and(|conn| conn.life == Life::Greeting);
            if greets && at > self.io.now.mono_ms {
                break;
            }
            self.greeting.pop_front();
            if greets {
                self.turn_away(id, TurnedAway::TimedOut);
            }
        }
    }

    /// The program stops: nobody is told of those that did not open.
    pub(crate) fn stop_greeting(&mut self) {
        for id in self.conns.used() {
            if self.conns.at(id.slot).life == Life::Greeting {
                self.die(id.slot);
            }
        }
    }
}

/// Bytes from the wire.
impl<C: Core> Driver<C> {
    /// Takes bytes of a receive buffer through the layers to the core.
    pub(crate) fn unwrap(&mut self, id: ConnId, buffer: u16, len: usize) {
        let mut plain = std::mem::take(&mut self.lists.plain);
        let wire = self.ring.received(buffer, len);
        let outcome = self.conns.at(id.slot).wrapping().layers.receive(wire, &mut plain);
        self.take_in(id, &plain, outcome);
        plain.clear();
        self.lists.plain = plain;
    }

    fn take_in(&mut self, id: ConnId, plain: &[u8], outcome: Result<(), TransportFault>) {
        let conn = self.conns.at(id.slot);
        let life = conn.life;
        let layers = &conn.wrapping().layers;
        if layers.has_wire() {
            self.ready.push(id);
        }
        if life == Life::Greeting && layers.is_ready() {
            self.greeted(id);
        }
        if !plain.is_empty() {
            self.hand_in(id, plain);
        }
        let Some(conn) = self.conns.get(id) else { return };
        match outcome {
            Err(fault) => self.faulted(id, fault),
            Ok(()) if conn.wrapping().layers.has_ended() => self.said_goodbye(id),
            Ok(()) => {}
        }
    }

    fn hand_in(&mut self, id: ConnId, plain: &[u8]) {
        let Some(conn) = self.conns.get(id) else { return };
        match conn.life {
            Life::Open => {
                conn.wrapping().fresh = false;
                self.core.received(id, plain, &mut self.io);
                self.note_endings();
            }
            Life::Moving => {
                if let Some(hand_over) = self.moving.iter_mut().find(|moving| moving.conn == id) {
                    hand_over.unread.extend_from_slice(plain);
                }
            }
            Life::Greeting | Life::Flushing | Life::Lingering | Life::Dying | Life::Free => {}
        }
    }

    /// The peer broke the rules of a layer, which has told it already if it has words for that.
    fn faulted(&mut self, id: ConnId, fault: TransportFault) {
        let conn = self.conns.at(id.slot);
        match conn.life {
            Life::Greeting => self.turn_away(id, TurnedAway::Fault(fault)),
            Life::Open => {
                let info = conn.info();
                let wrapping = conn.wrapping();
                wrapping.parted = true;
                log_end(&info, TurnedAway::Fault(fault), wrapping.layers.fault_detail());
                self.ready.push(id);
                self.core.closed(id, CloseReason::Transport(fault), &mut self.io);
                self.end(id);
                self.note_endings();
            }
            // The layers remember it, for the shard that it goes to.
            Life::Moving => {}
            Life::Flushing | Life::Lingering | Life::Dying | Life::Free => {}
        }
    }

    /// The peer said goodbye in a layer's words: as good as the end of the stream.
    fn said_goodbye(&mut self, id: ConnId) {
        match self.conns.at(id.slot).life {
            Life::Greeting => self.turn_away(id, TurnedAway::Gone),
            Life::Open => {
                self.core.closed(id, CloseReason::PeerClosed, &mut self.io);
                self.end(id);
                self.note_endings();
            }
            // The layers remember it, for the shard that it goes to.
            Life::Moving => {}
            Life::Flushing | Life::Lingering | Life::Dying | Life::Free => {}
        }
    }

    /// The core has heard of a connection that another shard handed over: it gets what was read there, and
    /// hears of what the layers met on the way.
    pub(crate) fn open_wrapped(&mut self, id: ConnId, unread: &[u8]) {
        if !unread.is_empty() {
            self.hand_in(id, unread);
        }
        self.arm_later(id);
        let outcome = self.conns.at(id.slot).wrapping().layers.receive(&[], &mut Vec::new());
        self.take_in(id, &[], outcome);
    }
}

/// Bytes for the wire.
impl<C: Core> Driver<C> {
    /// Sends what the outbox collected, and what the layers have to say.
    pub(crate) fn send_wrapped(&mut self, id: ConnId) {
        let conn = self.conns.at(id.slot);
        let outbox = self.io.peek(id);
        let plain_bytes = outbox.waiting_bytes();
        let (bytes, shared) = outbox.take(Vec::new(), Vec::new());
        let plain = Flight { conn: id, bytes, shared, done: 0, wrapped: None };
        let mut wire = Vec::new();
        if !conn.broken && conn.life != Life::Dying {
            let layers = &mut conn.wrapping().layers;
            if plain_bytes > 0 {
                layers.send(plain_bytes, plain.pieces());
            }
            layers.take_wire(&mut wire);
        }
        self.io.recycle(plain.bytes);
        if wire.is_empty() {
            // Nothing of it reaches the peer any more.
            self.io.peek(id).sent(plain_bytes);
            return;
        }
        // From now on: nothing else may be sent, and the connection must not move.
        conn.sending = true;
        let wrapped = Some(Wrapped { plain_bytes, reported: 0 });
        let flight = Flight { conn: id, bytes: wire, shared: Vec::new(), done: 0, wrapped };
        self.ring.send_now(conn.socket().raw_fd(), flight);
    }

    /// All bytes of a closing connection are sent: lets its layers say goodbye, and has that sent too.
    pub(crate) fn part(&mut self, id: ConnId) {
        let conn = self.conns.at(id.slot);
        let wrapping = conn.wrapping();
        if !std::mem::replace(&mut wrapping.parted, true) {
            wrapping.layers.finish();
        }
        let sending = conn.sending;
        self.arm_later(id);
        if !sending {
            // Sent in the next turn, and looked at again then. A send under way sees to the same.
            self.ready.push(id);
            self.finishing.push(id);
        }
    }
}
