//! The connections of one shard.

use std::net::SocketAddr;

use ringmq_turn::{ConnId, ConnInfo, ListenerId, make_room_for};

use crate::socket::{Socket, Wrapping};

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// No one uses the slot.
    Free,
    /// Its layers shake hands. The core does not know of it, or waits for it.
    Greeting,
    /// The core's.
    Open,
    /// On its way to another shard, once nothing is under way here.
    Moving,
    /// Closed by the core, or by the peer: the rest is written, input is discarded.
    Flushing,
    /// All is written and our side closed: the peer's end is awaited, so that what it sent meanwhile
    /// does not make the kernel reset the connection under the last bytes.
    Lingering,
    /// Shut down: freed when the kernel is done with its requests.
    Dying,
}

/// What receives for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// Nothing.
    No,
    /// A request.
    Yes,
    /// A request that is being cancelled.
    Ending,
}

/// One connection. Freed only when the kernel has no request for it any more.
pub(crate) struct Conn {
    pub socket: Option<Socket>,
    pub generation: u32,
    pub listener: ListenerId,
    pub life: Life,
    pub receiving: Receiving,
    /// The core does not want to receive.
    pub paused: bool,
    /// Listed to be received from again.
    pub arming: bool,
    /// A send waits for the peer, or, with layers, is being tried.
    pub sending: bool,
    /// The peer closed its side.
    pub ended: bool,
    /// A send failed: nothing more can be written.
    pub broken: bool,
    /// The backlog was above the high mark at the end of a turn, and not yet below the low one since.
    pub above_high: bool,
    pub over_limit: bool,
    pub remote: Option<SocketAddr>,
}

const _: () = assert!(size_of::<Conn>() <= 64, "a connection's state here stays small");

impl Conn {
    fn free() -> Self {
        Self {
            socket: None,
            generation: 0,
            listener: ListenerId(0),
            life: Life::Free,
            receiving: Receiving::No,
            paused: false,
            arming: false,
            sending: false,
            ended: false,
            broken: false,
            above_high: false,
            over_limit: false,
            remote: None,
        }
    }

    /// What the core is told of it.
    pub fn info(&self) -> ConnInfo {
        ConnInfo { listener: self.listener, remote: self.remote, over_limit: self.over_limit }
    }

    /// Its socket, which it has unless it is free.
    #[inline]
    pub fn socket(&self) -> &Socket {
        self.socket.as_ref().expect("only a free slot has no socket")
    }

    /// Its layers, of a connection that has some.
    pub fn wrapping(&mut self) -> &mut Wrapping {
        let wrapping = self.socket.as_mut().and_then(Socket::wrapping);
        wrapping.expect("only a connection with layers is asked for them")
    }

    /// Whether its layers have nothing more to say and all that they said is sent.
    pub fn has_parted(&mut self) -> bool {
        let sending = self.sending;
        let wrapping = self.socket.as_mut().and_then(Socket::wrapping);
        wrapping.is_none_or(|wrapping| wrapping.parted && !sending && !wrapping.layers.has_wire())
    }

    /// Whether the kernel has no request for it.
    pub fn is_quiet(&self) -> bool {
        self.receiving == Receiving::No && !self.sending
    }
}

/// All of them, by slot.
#[derive(Default)]
pub(crate) struct Conns {
    slots: Vec<Conn>,
    free: Vec<u32>,
}

impl Conns {
    /// Takes a slot for a new connection.
    pub fn insert(&mut self, socket: Socket, info: &ConnInfo) -> ConnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            let next = self.slots.len();
            make_room_for(&mut self.slots, next);
            self.slots.push(Conn::free());
            (self.slots.len() - 1) as u32
        });
        let conn = &mut self.slots[slot as usize];
        assert_eq!(conn.life, Life::Free, "a listed slot is free");
        *conn = Conn {
            socket: Some(socket),
            generation: conn.generation.wrapping_add(1),
            listener: info.listener,
            life: Life::Open,
            over_limit: info.over_limit,
            remote: info.remote,
            ..Conn::free()
        };
        ConnId { slot, generation: conn.generation }
    }

    /// Frees a slot and returns its socket.
    pub fn remove(&mut self, slot: u32) -> Socket {
        let conn = &mut self.slots[slot as usize];
        assert!(conn.life != Life::Free && conn.is_quiet(), "a slot is freed once, with nothing under way");
        conn.life = Life::Free;
        self.free.push(slot);
        conn.socket.take().expect("only a free slot has no socket")
    }

    /// How many slots are in use.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The connection in a slot, or what is left of it.
    #[inline]
    pub fn at(&mut self, slot: u32) -> &mut Conn {
        &mut self.slots[slot as usize]
    }

    /// The connection, unless it is gone.
    #[inline]
    pub fn get(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.slots
            .get_mut(conn.index())
            .filter(|found| found.generation == conn.generation && found.life != Life::Free)
    }

    /// The full id of the connection in a slot.
    #[inline]
    pub fn id(&self, slot: u32) -> ConnId {
        ConnId { slot, generation: self.slots[slot as usize].generation }
    }

    /// The slots in use.
    pub fn used(&self) -> Vec<ConnId> {
        (0..self.slots.len() as u32)
            .map(|slot| self.id(slot))
            .filter(|conn| self.slots[conn.index()].life != Life::Free)
            .collect()
    }
}
