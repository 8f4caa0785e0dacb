//! What is on its way: to shards, to clients, and from shard to shard.

use std::collections::VecDeque;

use ringmq_turn::{Core, ShardId};

use crate::agenda::Due;
use crate::client::{ClientId, Place};
use crate::shard::Source;
use crate::world::World;

/// The messages from one shard to another that are on their way.
#[derive(Debug)]
pub(crate) struct Lane<M> {
    in_flight: VecDeque<(u64, M)>,
    /// It is among the ready sources of its receiver.
    listed: bool,
    /// The agenda has it.
    put: bool,
}

impl<M> Default for Lane<M> {
    fn default() -> Self {
        Self { in_flight: VecDeque::new(), listed: false, put: false }
    }
}

impl<M> Lane<M> {
    pub(crate) fn len(&self) -> usize {
        self.in_flight.len()
    }
}

impl<C: Core> World<C> {
    /// When something that is sent now between a client and a shard arrives.
    pub(crate) fn client_due_ms(&mut self) -> u64 {
        self.now_ms + self.rng.range(self.network.client_delay_ms.clone())
    }

    /// Lets something happen now, or puts it on the agenda.
    pub(crate) fn plan(&mut self, due_ms: u64, due: Due) {
        if due_ms > self.now_ms {
            self.agenda.put(due_ms, due);
        } else {
            self.arrive(due);
        }
    }

    pub(crate) fn lane_index(&self, from: usize, to: usize) -> usize {
        from * self.shards.len() + to
    }

    /// Something that was on its way falls due.
    pub(crate) fn arrive(&mut self, due: Due) {
        match due {
            Due::Inbound(client) => {
                self.clients[client.index()].inbound_put_ms = None;
                self.refresh_inbound(client);
            }
            Due::Send(client) => {
                self.clients[client.index()].send_put_ms = None;
                self.refresh_send(client);
            }
            Due::Lane(from, to) => {
                let lane = self.lane_index(from, to);
                self.lanes[lane].put = false;
                self.refresh_lane(from, to);
            }
            Due::Refused(dial) => {
                let shard = self.dials.shard_of(dial);
                self.shards[shard.index()].ready.push_back(Source::Refused(dial));
            }
            Due::Sync(shard, ticket, errno) => {
                self.shards[shard].ready.push_back(Source::Sync(ticket, errno));
            }
        }
    }

    /// Lists a client with its shard, or puts it on the agenda, if it has something for its core.
    /// To be called whenever that may have changed.
    pub(crate) fn refresh_inbound(&mut self, client: ClientId) {
        let far = &mut self.clients[client.index()];
        let Some((due_ms, _)) = far.next_input() else { return };
        if due_ms > self.now_ms {
            if far.inbound_put_ms.is_none_or(|put_ms| put_ms > due_ms) {
                far.inbound_put_ms = Some(due_ms);
                self.agenda.put(due_ms, Due::Inbound(client));
            }
            return;
        }
        let shard = far.shard().expect("what has something for its core has a shard");
        if far.listed != Some(shard) {
            far.listed = Some(shard);
            self.shards[shard.index()].ready.push_back(Source::Client(client));
        }
    }

    /// Lists a client as able to take bytes, or puts it on the agenda.
    pub(crate) fn refresh_send(&mut self, client: ClientId) {
        let far = &mut self.clients[client.index()];
        if far.sending().is_empty() || far.stalled || far.is_cut() {
            return;
        }
        if far.send_due_ms > self.now_ms {
            if far.send_put_ms.is_none_or(|put_ms| put_ms > far.send_due_ms) {
                far.send_put_ms = Some(far.send_due_ms);
                self.agenda.put(far.send_due_ms, Due::Send(client));
            }
        } else if !far.send_listed {
            far.send_listed = true;
            self.ready_sends.push_back(client);
        }
    }

    /// Lists a lane with its receiver, or puts it on the agenda.
    fn refresh_lane(&mut self, from: usize, to: usize) {
        let index = self.lane_index(from, to);
        let lane = &mut self.lanes[index];
        let Some(&(due_ms, _)) = lane.in_flight.front() else { return };
        if due_ms > self.now_ms {
            if !lane.put {
                lane.put = true;
                self.agenda.put(due_ms, Due::Lane(from, to));
            }
        } else if !lane.listed {
            lane.listed = true;
            self.shards[to].ready.push_back(Source::Lane(from));
        }
    }

    /// Moves as many of a shard's messages into its lanes as have room there, and tells its `Io` how
    /// many more have.
    pub(crate) fn fill_lanes(&mut self, shard: ShardId) {
        let from = shard.index();
        for to in (0..self.shards.len()).filter(|&to| to != from) {
            let index = self.lane_index(from, to);
            let lane = &mut self.lanes[index];
            let waiting = self.shards[from].io.lane(ShardId::new(to));
            let room = self.network.lane_room_messages.saturating_sub(lane.in_flight.len());
            for message in waiting.drain(..room.min(waiting.len())) {
                let due_ms = self.now_ms + self.rng.range(self.network.lane_delay_ms.clone());
                let due_ms = lane.in_flight.back().map_or(due_ms, |(last_ms, _)| due_ms.max(*last_ms));
                lane.in_flight.push_back((due_ms, message));
            }
            let room = self.network.lane_room_messages.saturating_sub(lane.in_flight.len());
            self.shards[from].io.set_lane_room(ShardId::new(to), room);
            self.refresh_lane(from, to);
        }
    }

    /// The oldest message of a lane, if it has arrived. Its sender gets a turn if it waits for room.
    pub(crate) fn take_message(&mut self, from: usize, to: usize) -> Option<C::Message> {
        let index = self.lane_index(from, to);
        let lane = &mut self.lanes[index];
        lane.listed = false;
        let message = match lane.in_flight.front() {
            Some((due_ms, _)) if *due_ms <= self.now_ms => lane.in_flight.pop_front()?.1,
            Some(_) | None => return None,
        };
        if self.shards[from].io.full_lanes().contains(ShardId::new(to)) {
            self.shards[from].needs_turn = true;
        }
        self.refresh_lane(from, to);
        Some(message)
    }

    /// The next bytes of a client for its core.
    pub(crate) fn take_bytes(&mut self, client: ClientId) -> Vec<u8> {
        let far = &mut self.clients[client.index()];
        let network = &self.network;
        let mut most = network.receive_bytes_max;
        if far.paused {
            most = most.min(far.overrun_bytes);
        }
        if self.rng.chance(network.split_chance) {
            most = most.min(1 + self.rng.below(network.split_bytes_max));
        }
        let mut bytes = Vec::new();
        while bytes.len() < most {
            far.take_inbound(most - bytes.len(), &mut bytes);
            let more = far.inbound.front().is_some_and(|piece| piece.due_ms <= self.now_ms);
            if !more || !self.rng.chance(network.merge_chance) {
                break;
            }
        }
        bytes
    }

    /// The next of the bytes that a shard has to see again.
    pub(crate) fn take_unread(&mut self, client: ClientId) -> Vec<u8> {
        let unread = &mut self.clients[client.index()].unread;
        let mut most = unread.len();
        if self.rng.chance(self.network.split_chance) {
            most = most.min(1 + self.rng.below(self.network.split_bytes_max));
        }
        unread.drain(..most).collect()
    }

    /// Takes a connection's outbox and puts it on its way, unless the last one still is.
    pub(crate) fn start_send(&mut self, client: ClientId) {
        let far = &self.clients[client.index()];
        let Place::Open { shard, conn } = far.place else { return };
        let at = shard.index();
        let shard = &mut self.shards[at];
        if far.is_cut() || !far.sending().is_empty() || shard.io.peek(conn).waiting_bytes() == 0 {
            return;
        }
        let bytes = shard.take_outbox(conn);
        let due_ms = self.client_due_ms();
        let far = &mut self.clients[client.index()];
        let old = std::mem::replace(&mut far.sending, bytes);
        far.sent = 0;
        far.send_due_ms = due_ms;
        self.shards[at].io.recycle(old);
        self.refresh_send(client);
    }

    /// The client at this place among those that are ready takes bytes.
    pub(crate) fn deliver_send(&mut self, at: usize) {
        let client = if self.network.shuffled {
            self.ready_sends.swap_remove_back(at)
        } else {
            self.ready_sends.pop_front()
        };
        let client = client.expect("the caller counted them");
        let due_ms = self.client_due_ms();
        let far = &mut self.clients[client.index()];
        far.send_listed = false;
        if far.sending().is_empty() || far.stalled || far.is_cut() || far.send_due_ms > self.now_ms {
            return;
        }
        let mut count = far.sending().len();
        if self.rng.chance(self.network.partial_send_chance) {
            count = 1 + self.rng.below(count);
        }
        let bytes = far.sending()[..count].to_vec();
        far.received.extend_from_slice(&bytes);
        far.sent += count;
        far.send_due_ms = due_ms;
        self.note_bytes("takes", (client.index(), 0), &bytes);
        self.report_sent(client, count);
        self.refresh_send(client);
    }

    /// Tells the outbox what the client took, and goes on with what waits there.
    fn report_sent(&mut self, client: ClientId, count: usize) {
        let far = &mut self.clients[client.index()];
        let finished = far.sending().is_empty();
        match far.place {
            Place::Open { shard, conn } => {
                let io = &mut self.shards[shard.index()].io;
                io.peek(conn).sent(count);
                if far.held && io.backlog_bytes(conn) < io.backlog_low_bytes {
                    far.held = false;
                    far.drained = true;
                }
                self.refresh_inbound(client);
                if finished {
                    self.start_send(client);
                }
            }
            Place::Closing if finished => {
                far.settle(Place::Closed);
                self.note("closed by core", client.index(), 0);
            }
            Place::Closing => {}
            Place::Arriving { .. } | Place::Closed | Place::Gone => {
                unreachable!("a connection has no bytes in flight before it opens or after it ends")
            }
        }
    }
}
