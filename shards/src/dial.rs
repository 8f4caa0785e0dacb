//! Connections that the core opens.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;

use ringmq_turn::{
    ConnId, ConnInfo, ConnectFailure, ConnectFailureKind, ConnectTicket, Core, Dial, ListenerId, PeerId,
    Slab, TurnedAway,
};

use crate::driver::Driver;
use crate::layers::Layers;
use crate::resolver::Query;
use crate::route::{Attempt, Route};
use crate::socket::{Socket, Wrapping};

/// What the next shard's core is told as the listener, where an outbound connection is handed over.
const NO_LISTENER: ListenerId = ListenerId(u16::MAX);

/// One connection on its way.
struct Dialling {
    ticket: ConnectTicket,
    /// Tells the users of a ticket apart.
    serial: u64,
    route: Option<Box<Route>>,
    stage: Stage,
}

/// How far it is.
enum Stage {
    /// Nothing is under way but a lookup of its name.
    Resolving,
    /// A request connects it.
    Connecting(Socket),
    /// The core gave it up while a request connected it: the socket is kept until the kernel is done.
    GivenUp(#[expect(dead_code, reason = "kept to be closed later")] Socket),
    /// It is connected, and its layers shake hands.
    Greeting(ConnId),
    /// It failed, and the core is to be told.
    Failed(ConnectFailure),
}

/// All of one shard.
pub(crate) struct Dials {
    /// By the index that their connects have in the ring.
    slots: Slab<Dialling>,
    /// Those that the core waits for.
    wanted: HashMap<ConnectTicket, u32>,
    /// Failed, to be told; some may have been given up since.
    failed: Vec<ConnectTicket>,
    serial: u64,
}

impl Dials {
    pub fn new() -> Self {
        Self { slots: Slab::new(), wanted: HashMap::new(), failed: Vec::new(), serial: 0 }
    }

    /// Whether the kernel and the core are done with all of them.
    pub fn is_empty(&self) -> bool {
        self.slots.len() == 0
    }

    /// Whether the core is to be told of any.
    pub fn have_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    fn insert(&mut self, ticket: ConnectTicket, route: Option<Box<Route>>) -> u32 {
        self.serial += 1;
        let stage = Stage::Resolving;
        let index = self.slots.insert(Dialling { ticket, serial: self.serial, route, stage });
        let before = self.wanted.insert(ticket, index);
        assert!(before.is_none(), "{ticket:?} is used again, and still being opened");
        index
    }

    /// Takes out one that the core waits for.
    fn remove(&mut self, index: u32) -> Dialling {
        let dial = self.slots.remove(index);
        self.wanted.remove(&dial.ticket);
        dial
    }

    fn fail(&mut self, index: u32, failure: ConnectFailure) {
        let dial = &mut self.slots[index];
        dial.stage = Stage::Failed(failure);
        self.failed.push(dial.ticket);
    }
}

/// What the core asks for.
impl<C: Core> Driver<C> {
    /// Carries out what the core asked for. Called before every answer too, so that none comes after the
    /// core gave up.
    pub(crate) fn note_dials(&mut self) {
        let mut dials = std::mem::take(&mut self.lists.dials);
        self.io.take_dials(&mut dials);
        for dial in dials.drain(..) {
            match dial {
                Dial::Start(ticket, peer) if !self.is_stopping() => self.start_dial(ticket, peer),
                Dial::Start(..) => {}
                Dial::Cancel(ticket) => self.give_up_dial(ticket),
            }
        }
        self.lists.dials = dials;
    }

    fn start_dial(&mut self, ticket: ConnectTicket, peer: PeerId) {
        let Some(registered) = self.shared.peers.get(peer) else {
            let index = self.dials.insert(ticket, None);
            let detail = format!("peer {} is not registered, or was removed", peer.0).into();
            let kind = ConnectFailureKind::Unresolved;
            return self.dials.fail(index, ConnectFailure { kind, detail });
        };
        let mut route = Box::new(Route::new(registered, self.config.user_timeout_ms));
        let Some((host, port)) = route.name() else {
            let first = route.first();
            let index = self.dials.insert(ticket, Some(route));
            return self.try_way(index, first);
        };
        let host = host.into();
        let index = self.dials.insert(ticket, Some(route));
        let query = Query { host, port, shard: self.me, dial: (ticket, self.dials.serial) };
        if let Err(cause) = self.shared.resolve(query) {
            let detail = format!(
                "cannot start a thread that looks names up ({cause}): raise the limit on processes \
                 (`ulimit -u`, `TasksMax=` in a systemd unit)"
            );
            let kind = ConnectFailureKind::Exhausted;
            self.dials.fail(index, ConnectFailure { kind, detail: detail.into() });
        }
    }

    fn give_up_dial(&mut self, ticket: ConnectTicket) {
        // What the driver gave up because it stops is not known any more.
        let Some(index) = self.dials.wanted.remove(&ticket) else { return };
        let dial = &mut self.dials.slots[index];
        match std::mem::replace(&mut dial.stage, Stage::Resolving) {
            Stage::Connecting(socket) => {
                self.ring.cancel_connect(index as usize);
                // Should the cancellation miss.
                socket.cut();
                dial.stage = Stage::GivenUp(socket);
            }
            Stage::Greeting(conn) => {
                self.dials.slots.remove(index);
                self.die(conn.slot);
            }
            Stage::Resolving | Stage::Failed(_) => drop(self.dials.slots.remove(index)),
            Stage::GivenUp(_) => unreachable!("nobody waits for what was given up"),
        }
    }

    /// The program stops: nothing more is opened, and nobody told.
    pub(crate) fn stop_dialling(&mut self) {
        self.note_dials();
        let wanted: Vec<_> = self.dials.wanted.keys().copied().collect();
        for ticket in wanted {
            self.give_up_dial(ticket);
        }
    }
}

/// What comes of it.
impl<C: Core> Driver<C> {
    /// Takes in the addresses that were looked up.
    pub(crate) fn take_resolved(&mut self) {
        while let Some(resolved) = self.shared.shard(self.me).resolved.pop() {
            let (ticket, serial) = resolved.dial;
            let Some(&index) = self.dials.wanted.get(&ticket) else { continue };
            let dial = &mut self.dials.slots[index];
            let Some(route) = dial.route.as_mut().filter(|_| dial.serial == serial) else { continue };
            let first = match resolved.outcome {
                Ok(addresses) => {
                    route.set_addresses(addresses);
                    route.first()
                }
                Err(detail) => Err(ConnectFailure { kind: ConnectFailureKind::Unresolved, detail }),
            };
            self.try_way(index, first);
        }
    }

    /// Goes on with one that nothing is under way for.
    fn try_way(&mut self, index: u32, way: Result<Attempt, ConnectFailure>) {
        match way {
            Ok(Attempt { socket, address }) => {
                self.ring.connect(socket.raw_fd(), index as usize, address);
                self.dials.slots[index].stage = Stage::Connecting(socket);
            }
            Err(failure) => self.dials.fail(index, failure),
        }
    }

    /// A connect completed.
    pub(crate) fn connect_completed(&mut self, index: usize, result: i32) {
        self.note_dials();
        let index = index as u32;
        let dial = &mut self.dials.slots[index];
        match std::mem::replace(&mut dial.stage, Stage::Resolving) {
            Stage::Connecting(socket) if result >= 0 => self.connected(index, socket),
            Stage::Connecting(_) => {
                let route = dial.route.as_mut().expect("what is connected has a route");
                let way = route.next(&io::Error::from_raw_os_error(-result));
                self.try_way(index, way);
            }
            Stage::GivenUp(_) => drop(self.dials.slots.remove(index)),
            Stage::Resolving | Stage::Greeting(_) | Stage::Failed(_) => {
                unreachable!("nothing else has a connect")
            }
        }
    }

    /// A socket is connected.
    fn connected(&mut self, index: u32, socket: Socket) {
        let route = self.dials.slots[index].route.as_ref().expect("what is connected has a route");
        let layers = match Layers::connecting(route.peer(), self.config.frame_bytes_max) {
            Ok(layers) => layers,
            Err(failure) => return self.dials.fail(index, failure),
        };
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        let info = ConnInfo { listener: NO_LISTENER, remote: route.remote(), over_limit: false };
        let id = self.conns.insert(socket, &info);
        self.io.open(id);
        self.arm_later(id);
        match layers {
            None => self.tell_connected(index, id),
            Some(layers) => {
                self.dials.slots[index].stage = Stage::Greeting(id);
                self.wrap(id, Wrapping::new(layers, Some(index)));
            }
        }
    }

    /// A connection is ready for bytes.
    pub(crate) fn tell_connected(&mut self, index: u32, id: ConnId) {
        let Dialling { ticket, .. } = self.dials.remove(index);
        let remote = self.conns.at(id.slot).remote;
        self.core.connected(ticket, id, remote, &mut self.io);
        self.note_endings();
    }

    /// The layers of a connection did not get ready.
    pub(crate) fn tell_turned_away(&mut self, index: u32, why: TurnedAway, detail: &str) {
        let Dialling { ticket, route, .. } = self.dials.remove(index);
        let kind = match why {
            TurnedAway::TimedOut | TurnedAway::Gone => ConnectFailureKind::Closed,
            TurnedAway::Fault(fault) => ConnectFailureKind::Transport(fault),
        };
        let route = route.expect("what is connected has a route");
        self.core.connect_failed(ticket, route.failure(kind, &detail), &mut self.io);
        self.note_endings();
    }

    /// Tells the core of those that failed.
    pub(crate) fn report_failed_dials(&mut self) {
        for ticket in std::mem::take(&mut self.dials.failed) {
            self.note_dials();
            let Some(&index) = self.dials.wanted.get(&ticket) else { continue };
            // The ticket may be in use again.
            let Stage::Failed(failure) = &self.dials.slots[index].stage else { continue };
            let failure = failure.clone();
            self.dials.remove(index);
            self.core.connect_failed(ticket, failure, &mut self.io);
            self.note_endings();
        }
    }
}
