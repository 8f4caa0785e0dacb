//! What a core answers, and what it may ask its driver.

use std::fs::File;
use std::sync::Arc;

use crate::{ConnId, ConnectTicket, Now, Outbox, PeerId, ShardId, ShardSet, SyncTicket, make_room_for};

/// A connection that moves to another shard.
#[derive(Debug)]
pub struct HandOver {
    /// Its id here, which is void from now on.
    pub conn: ConnId,
    /// Where it goes.
    pub to: ShardId,
    /// Bytes that were received here and are to be presented again there, before any others.
    pub unread: Vec<u8>,
}

/// A change of whether a connection is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadSwitch {
    /// Stop receiving, so that the peer's sends stall.
    Pause(ConnId),
    /// Receive again.
    Resume(ConnId),
}

/// A file whose data is to be made durable.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    /// Returned with the outcome.
    pub ticket: SyncTicket,
    /// The file.
    pub file: Arc<File>,
}

/// A change of which connections are being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    /// Open a connection to a far end.
    Start(ConnectTicket, PeerId),
    /// Give up opening it.
    Cancel(ConnectTicket),
}

/// Messages for one other shard.
#[derive(Debug)]
struct LaneOut<M> {
    messages: Vec<M>,
    room: usize,
}

/// The answers of a core in one turn, and what it may know of its driver.
///
/// `M` is what cores send each other, `E` what a core tells other threads. Owned by the driver of one
/// shard; the driver's half of the methods says so in its documentation.
#[derive(Debug)]
pub struct Io<M, E> {
    /// The time of this turn.
    pub now: Now,
    /// When the core wants its next turn at the latest, on the monotonic clock. `Some(now)` or earlier
    /// asks for another turn at once.
    pub wake_at_ms: Option<u64>,
    /// Above this backlog a core should hold back what can wait.
    pub backlog_high_bytes: usize,
    /// Below this backlog a held connection is reported as drained.
    pub backlog_low_bytes: usize,
    outboxes: Vec<Outbox>,
    generations: Vec<u32>,
    dirty: Vec<ConnId>,
    closes: Vec<ConnId>,
    reads: Vec<ReadSwitch>,
    hand_overs: Vec<HandOver>,
    lanes: Vec<LaneOut<M>>,
    full_lanes: ShardSet,
    syncs: Vec<SyncRequest>,
    dials: Vec<Dial>,
    events: Vec<E>,
    spare: Vec<Vec<u8>>,
}

/// How many unused buffers an [`Io`] keeps for outboxes.
const SPARE_BUFFERS_MAX: usize = 1024;
/// Larger buffers are given back to the allocator instead of being kept.
const SPARE_BUFFER_BYTES_MAX: usize = 64 * 1024;

impl<M, E> Io<M, E> {
    /// An `Io` for one of `shards` shards.
    pub fn new(shards: usize) -> Self {
        Self {
            now: Now::default(),
            wake_at_ms: None,
            backlog_high_bytes: 256 * 1024,
            backlog_low_bytes: 64 * 1024,
            outboxes: Vec::new(),
            generations: Vec::new(),
            dirty: Vec::new(),
            closes: Vec::new(),
            reads: Vec::new(),
            hand_overs: Vec::new(),
            lanes: (0..shards).map(|_| LaneOut { messages: Vec::new(), room: 0 }).collect(),
            full_lanes: ShardSet::EMPTY,
            syncs: Vec::new(),
            dials: Vec::new(),
            events: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// The outbox of an open connection, to append to. The driver will write it out after the turn.
    #[inline]
    pub fn outbox(&mut self, conn: ConnId) -> &mut Outbox {
        debug_assert_eq!(self.generations[conn.index()], conn.generation, "a stale connection id");
        let outbox = &mut self.outboxes[conn.index()];
        if !outbox.listed {
            outbox.listed = true;
            self.dirty.push(conn);
            if !outbox.has_buffer()
                && let Some(buffer) = self.spare.pop()
            {
                outbox.give_buffer(buffer);
            }
        }
        outbox
    }

    /// Bytes that the connection's peer has not taken yet.
    #[inline]
    pub fn backlog_bytes(&self, conn: ConnId) -> usize {
        self.outboxes[conn.index()].backlog_bytes()
    }

    /// Closes the connection once its outbox is written. The core must not use the id again.
    pub fn close(&mut self, conn: ConnId) {
        self.closes.push(conn);
    }

    /// Stops receiving from the connection until [`Io::resume`].
    pub fn pause(&mut self, conn: ConnId) {
        self.reads.push(ReadSwitch::Pause(conn));
    }

    /// Receives from a paused connection again.
    pub fn resume(&mut self, conn: ConnId) {
        self.reads.push(ReadSwitch::Resume(conn));
    }

    /// Moves a connection to another shard. The core must not use the id again; its outbox must be empty.
    pub fn hand_over(&mut self, hand_over: HandOver) {
        self.hand_overs.push(hand_over);
    }

    /// Sends a message to another shard. It is never lost; cores that could fill a lane look at
    /// [`Io::full_lanes`] first and hold back what can wait.
    pub fn message(&mut self, to: ShardId, message: M) {
        let lane = &mut self.lanes[to.index()];
        lane.messages.push(message);
        if lane.messages.len() >= lane.room {
            self.full_lanes.insert(to);
        }
    }

    /// The shards whose lanes have no room left this turn.
    #[inline]
    pub fn full_lanes(&self) -> &ShardSet {
        &self.full_lanes
    }

    /// Asks for a file's data to be made durable; [`crate::Core::synced`] answers.
    pub fn sync(&mut self, request: SyncRequest) {
        self.syncs.push(request);
    }

    /// Opens a connection to a far end; [`crate::Core::connected`] or [`crate::Core::connect_failed`]
    /// answers, the former once every layer (TLS, WebSocket) is ready for bytes. How long that may take is
    /// the core's to say, with [`Io::cancel_connect`].
    pub fn connect(&mut self, ticket: ConnectTicket, peer: PeerId) {
        self.dials.push(Dial::Start(ticket, peer));
    }

    /// Gives up opening a connection that has no answer yet. None comes from then on.
    pub fn cancel_connect(&mut self, ticket: ConnectTicket) {
        self.dials.push(Dial::Cancel(ticket));
    }

    /// Tells other threads of the program.
    pub fn event(&mut self, event: E) {
        self.events.push(event);
    }
}

/// The driver's half.
impl<M, E> Io<M, E> {
    /// For drivers: makes the slot of a new connection usable.
    pub fn open(&mut self, conn: ConnId) {
        if self.outboxes.len() <= conn.index() {
            make_room_for(&mut self.outboxes, conn.index());
            self.outboxes.resize_with(conn.index() + 1, Outbox::default);
            self.generations.resize(conn.index() + 1, 0);
        }
        self.generations[conn.index()] = conn.generation;
        self.outboxes[conn.index()].clear();
    }

    /// For drivers: the slot's outbox, without listing it as having something to send.
    pub fn peek(&mut self, conn: ConnId) -> &mut Outbox {
        &mut self.outboxes[conn.index()]
    }

    /// For drivers: moves the connections whose outboxes were used since the last call into `list`,
    /// closed ones included.
    pub fn take_dirty(&mut self, list: &mut Vec<ConnId>) {
        for conn in &self.dirty {
            self.outboxes[conn.index()].listed = false;
        }
        list.append(&mut self.dirty);
    }

    /// For drivers: moves the connections that the core closed into `list`.
    pub fn take_closes(&mut self, list: &mut Vec<ConnId>) {
        list.append(&mut self.closes);
    }

    /// For drivers: moves the changes of reading, in order, into `list`.
    pub fn take_reads(&mut self, list: &mut Vec<ReadSwitch>) {
        list.append(&mut self.reads);
    }

    /// For drivers: moves the hand-overs into `list`.
    pub fn take_hand_overs(&mut self, list: &mut Vec<HandOver>) {
        list.append(&mut self.hand_overs);
    }

    /// For drivers: the messages that wait for a shard, in order; the driver drains what it could send
    /// and leaves the rest.
    pub fn lane(&mut self, to: ShardId) -> &mut Vec<M> {
        &mut self.lanes[to.index()].messages
    }

    /// For drivers: says how many messages the lane to a shard takes until the next call, those that
    /// wait included.
    pub fn set_lane_room(&mut self, to: ShardId, room: usize) {
        let lane = &mut self.lanes[to.index()];
        lane.room = room;
        if lane.messages.len() >= room {
            self.full_lanes.insert(to);
        } else {
            self.full_lanes.remove(to);
        }
    }

    /// For drivers: moves the sync requests into `list`.
    pub fn take_syncs(&mut self, list: &mut Vec<SyncRequest>) {
        list.append(&mut self.syncs);
    }

    /// For drivers: moves the requests to open connections, in order, into `list`.
    pub fn take_dials(&mut self, list: &mut Vec<Dial>) {
        list.append(&mut self.dials);
    }

    /// For drivers: moves the events into `list`.
    pub fn take_events(&mut self, list: &mut Vec<E>) {
        list.append(&mut self.events);
    }

    /// For drivers: an empty buffer to put in the place of one that is being sent.
    pub fn spare_buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// For drivers: gives a buffer back for another outbox to use.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= SPARE_BUFFER_BYTES_MAX && self.spare.len() < SPARE_BUFFERS_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 1 }
    }

    #[test]
    fn an_outbox_is_listed_once_a_turn() {
        let mut io: Io<(), ()> = Io::new(1);
        io.open(conn(3));
        io.outbox(conn(3)).put(b"ab");
        io.outbox(conn(3)).put(b"c");
        let mut dirty = Vec::new();
        io.take_dirty(&mut dirty);
        assert_eq!(dirty, [conn(3)]);
        let (bytes, _) = io.peek(conn(3)).take(Vec::new(), Vec::new());
        assert_eq!(bytes, b"abc");
        assert_eq!(io.backlog_bytes(conn(3)), 3);
        io.peek(conn(3)).sent(3);
        assert_eq!(io.backlog_bytes(conn(3)), 0);
    }

    #[test]
    fn a_lane_is_full_when_its_room_is_used() {
        let mut io: Io<u8, ()> = Io::new(2);
        let to = ShardId::new(1);
        io.set_lane_room(to, 2);
        io.message(to, 1);
        assert!(io.full_lanes().is_empty());
        io.message(to, 2);
        assert!(io.full_lanes().contains(to));
        io.lane(to).clear();
        io.set_lane_room(to, 2);
        assert!(io.full_lanes().is_empty());
    }
}
