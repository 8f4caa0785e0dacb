//! One shard: its core, its connections and what has arrived for it.

use std::collections::VecDeque;

use ringmq_turn::{ConnId, Core, Io, ListenerId, SyncTicket, TurnedAway};

use crate::client::ClientId;
use crate::network::Network;

/// A generation that no connection has: a vacant slot gets it, so that [`Io::outbox`] refuses stale ids.
const VACANT: u32 = 0;

/// Something that may have arrivals for a shard.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// Its connection.
    Client(ClientId),
    /// The lane from another shard.
    Lane(usize),
    /// The oldest command.
    Command,
    /// The refusal of a connection that it opens, by number.
    Refused(usize),
    /// The disk's answer to a sync request, with an error number where it failed.
    Sync(SyncTicket, Option<i32>),
    /// A connection that was ended before it opened.
    TurnedAway(ListenerId, TurnedAway),
    /// The program stops.
    Shutdown,
}

/// One shard.
pub(crate) struct Shard<C: Core> {
    pub(crate) core: C,
    pub(crate) io: Io<C::Message, C::Event>,
    slots: Vec<Slot>,
    /// Slots for new connections.
    free: Vec<u32>,
    /// Slots that fell vacant in this turn: not used again before it is over.
    vacated: Vec<u32>,
    /// Where something has arrived, or seemed to when it was listed.
    pub(crate) ready: VecDeque<Source>,
    pub(crate) commands: VecDeque<C::Command>,
    pub(crate) events: Vec<C::Event>,
    /// What sync requests fail with.
    pub(crate) sync_errno: Option<i32>,
    /// A turn is due although nothing arrives: the first one, or a full lane has room again.
    pub(crate) needs_turn: bool,
    /// Its core was told that the program stops.
    pub(crate) stopping: bool,
    /// Turns in a row, at one time, in which nothing arrived.
    pub(crate) idle_turns: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    generation: u32,
    client: Option<ClientId>,
}

impl<C: Core> Shard<C> {
    pub(crate) fn new(core: C, shards: usize, network: &Network) -> Self {
        let mut io = Io::new(shards);
        io.backlog_high_bytes = network.backlog_high_bytes;
        io.backlog_low_bytes = network.backlog_low_bytes;
        Self {
            core,
            io,
            slots: Vec::new(),
            free: Vec::new(),
            vacated: Vec::new(),
            ready: VecDeque::new(),
            commands: VecDeque::new(),
            events: Vec::new(),
            sync_errno: None,
            needs_turn: true,
            stopping: false,
            idle_turns: 0,
        }
    }

    /// Whether it should have a turn now.
    pub(crate) fn is_ready(&self, now_ms: u64) -> bool {
        self.needs_turn || !self.ready.is_empty() || self.io.wake_at_ms.is_some_and(|at| at <= now_ms)
    }

    /// Gives a client's connection a slot; `choose` picks one of that many free ones.
    pub(crate) fn occupy(&mut self, client: ClientId, choose: impl FnOnce(usize) -> usize) -> ConnId {
        let slot = if self.free.is_empty() {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        } else {
            let at = choose(self.free.len());
            self.free.swap_remove(at)
        };
        let entry = &mut self.slots[slot as usize];
        entry.generation = entry.generation.wrapping_add(1).max(VACANT + 1);
        entry.client = Some(client);
        let conn = ConnId { slot, generation: entry.generation };
        self.io.open(conn);
        conn
    }

    /// Takes a connection out of its slot. Its id is void from now on.
    pub(crate) fn vacate(&mut self, conn: ConnId) {
        self.slots[conn.index()].client = None;
        self.io.open(ConnId { slot: conn.slot, generation: VACANT });
        self.vacated.push(conn.slot);
    }

    /// The client whose connection this is, if the core has it.
    pub(crate) fn client_of(&self, conn: ConnId) -> Option<ClientId> {
        let slot = self.slots.get(conn.index()).filter(|slot| slot.generation == conn.generation)?;
        slot.client
    }

    /// Makes the slots that fell vacant in this turn free.
    pub(crate) fn free_vacated(&mut self) {
        self.free.append(&mut self.vacated);
    }

    /// How many connections the core has.
    pub(crate) fn open_count(&self) -> usize {
        self.slots.len() - self.free.len() - self.vacated.len()
    }

    /// Takes all that waits in an outbox, as one run of bytes.
    pub(crate) fn take_outbox(&mut self, conn: ConnId) -> Vec<u8> {
        let buffer = self.io.spare_buffer();
        let (copied, shared) = self.io.peek(conn).take(buffer, Vec::new());
        if shared.is_empty() {
            return copied;
        }
        let mut all = Vec::with_capacity(copied.len());
        let mut at = 0;
        for piece in shared {
            all.extend_from_slice(&copied[at..piece.after]);
            all.extend_from_slice(&piece.bytes);
            at = piece.after;
        }
        all.extend_from_slice(&copied[at..]);
        self.io.recycle(copied);
        all
    }
}
