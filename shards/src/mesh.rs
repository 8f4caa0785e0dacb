//! One shard's lanes to and from the others.

use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};

use ringmq_turn::{ConnInfo, Io, ShardId, ShardSet};

use crate::lane::{Consumer, Producer, lane};
use crate::shared::Shared;
use crate::socket::Socket;

/// A connection between two shards.
pub(crate) struct Moved {
    pub socket: Socket,
    pub info: ConnInfo,
    pub unread: Vec<u8>,
}

/// What a lane carries.
pub(crate) enum Envelope<M> {
    /// For the core.
    Core(M),
    /// For the driver.
    Connection(Box<Moved>),
}

struct Outgoing<M> {
    to: ShardId,
    lane: Producer<Envelope<M>>,
    /// What found no room, in order.
    waiting: VecDeque<Envelope<M>>,
    published: bool,
}

struct Incoming<M> {
    from: ShardId,
    lane: Consumer<Envelope<M>>,
    taken: bool,
}

/// The lanes of one shard.
pub(crate) struct Mesh<M> {
    outgoing: Vec<Outgoing<M>>,
    incoming: Vec<Incoming<M>>,
    capacity: usize,
}

/// The lanes of all shards, by shard.
pub(crate) fn meshes<M>(shards: usize, capacity: usize) -> Vec<Mesh<M>> {
    let mut meshes: Vec<Mesh<M>> =
        (0..shards).map(|_| Mesh { outgoing: Vec::new(), incoming: Vec::new(), capacity }).collect();
    for from in 0..shards {
        for to in (0..shards).filter(|&to| to != from) {
            let (producer, consumer) = lane(capacity);
            meshes[from].outgoing.push(Outgoing {
                to: ShardId::new(to),
                lane: producer,
                waiting: VecDeque::new(),
                published: false,
            });
            meshes[to].incoming.push(Incoming { from: ShardId::new(from), lane: consumer, taken: false });
        }
    }
    meshes
}

impl<M: Send> Mesh<M> {
    /// Whether anything waits to be taken.
    pub fn has_incoming(&mut self) -> bool {
        self.incoming.iter_mut().any(|incoming| incoming.lane.len() > 0)
    }

    /// How many envelopes found no room yet.
    pub fn waiting(&self) -> usize {
        self.outgoing.iter().map(|outgoing| outgoing.waiting.len()).sum()
    }

    /// The lanes that something may come from; [`Mesh::take`] goes through one.
    #[inline]
    pub fn sources(&self) -> usize {
        self.incoming.len()
    }

    /// How many envelopes wait in a lane now. What comes later is left for the next turn.
    #[inline]
    pub fn arrived(&mut self, source: usize) -> (ShardId, usize) {
        let incoming = &mut self.incoming[source];
        (incoming.from, incoming.lane.len())
    }

    /// The next of the envelopes that [`Mesh::arrived`] counted.
    #[inline]
    pub fn take(&mut self, source: usize) -> Option<Envelope<M>> {
        let incoming = &mut self.incoming[source];
        incoming.taken = true;
        incoming.lane.pop()
    }

    /// Queues a connection behind the messages that were sent so far.
    pub fn send_connection(&mut self, to: ShardId, moved: Moved) {
        let outgoing = self
            .outgoing
            .iter_mut()
            .find(|outgoing| outgoing.to == to)
            .expect("a connection moves to another shard of this runtime");
        outgoing.send(Envelope::Connection(Box::new(moved)));
    }

    /// The end of a turn: moves what the core sent into the lanes, shows it to the peers, gives back the
    /// slots that were read, and wakes those who sleep over either.
    pub fn publish<E, Command>(&mut self, io: &mut Io<M, E>, shared: &Shared<Command>) {
        let mut news = false;
        for outgoing in &mut self.outgoing {
            outgoing.retry();
            for message in io.lane(outgoing.to).drain(..) {
                outgoing.send(Envelope::Core(message));
            }
            outgoing.published = outgoing.lane.publish();
            news |= outgoing.published;
        }
        for incoming in &mut self.incoming {
            if incoming.taken {
                incoming.taken = incoming.lane.give_back();
                news |= incoming.taken;
            }
        }
        if !news {
            return;
        }
        fence(Ordering::SeqCst);
        for outgoing in &mut self.outgoing {
            if std::mem::take(&mut outgoing.published) {
                shared.shard(outgoing.to).bell.ring_after_fence();
            }
        }
        for incoming in &mut self.incoming {
            if std::mem::take(&mut incoming.taken) && incoming.lane.producer_waits() {
                shared.shard(incoming.from).bell.ring_after_fence();
            }
        }
    }

    /// Tells the core how much room there is.
    pub fn tell_room<E>(&mut self, io: &mut Io<M, E>) {
        for outgoing in &mut self.outgoing {
            let room = if outgoing.waiting.is_empty() { outgoing.lane.room(self.capacity / 2) } else { 0 };
            io.set_lane_room(outgoing.to, room);
        }
    }

    /// Before sleeping: asks to be woken for room where something waits, here or in the core, which
    /// filled the lanes in `full`; true when there is room already.
    pub fn wait_for_room(&mut self, full: &ShardSet) -> bool {
        let mut room = false;
        for outgoing in &mut self.outgoing {
            if !outgoing.waiting.is_empty() || full.contains(outgoing.to) {
                room |= outgoing.lane.wait_for_room();
            }
        }
        room
    }
}

impl<M> Outgoing<M> {
    #[inline]
    fn send(&mut self, envelope: Envelope<M>) {
        if !self.waiting.is_empty() {
            self.waiting.push_back(envelope);
        } else if let Err(envelope) = self.lane.push(envelope) {
            self.waiting.push_back(envelope);
        }
    }

    fn retry(&mut self) {
        while let Some(envelope) = self.waiting.pop_front() {
            if let Err(envelope) = self.lane.push(envelope) {
                self.waiting.push_front(envelope);
                break;
            }
        }
    }
}
