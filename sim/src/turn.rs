//! A turn of a shard: what has arrived is handed in.

use std::time::Duration;

use ringmq_turn::{CloseReason, ConnId, Core, ShardId, SyncFailure};

use crate::client::{ClientId, Input, Place};
use crate::shard::Source;
use crate::world::World;

impl<C: Core> World<C> {
    /// One turn of a shard.
    pub(crate) fn turn(&mut self, id: ShardId) {
        let now = self.now();
        let shard = &mut self.shards[id.index()];
        shard.io.now = now;
        shard.needs_turn = false;
        self.fill_lanes(id);
        let most =
            if self.network.shuffled { 1 + self.rng.below(self.network.turn_inputs_max) } else { usize::MAX };
        let mut inputs = 0;
        while inputs < most
            && let Some(source) = self.take_source(id)
        {
            if self.hand_in(id, source) {
                inputs += 1;
                self.check_answers(id);
            }
        }
        self.note("turn over", id.index(), inputs as u64);
        let shard = &mut self.shards[id.index()];
        shard.core.turn_over(&mut shard.io);
        shard.idle_turns = if inputs == 0 { shard.idle_turns + 1 } else { 0 };
        self.check_answers(id);
        self.carry_out(id);
    }

    /// Something that may have arrived: a random one of them, or the one that has waited longest.
    fn take_source(&mut self, id: ShardId) -> Option<Source> {
        let ready = &mut self.shards[id.index()].ready;
        let at = if self.network.shuffled && ready.len() > 1 { self.rng.below(ready.len()) } else { 0 };
        // Commands and messages keep their order for all that: what is listed is only where to look.
        if self.network.shuffled { ready.swap_remove_back(at) } else { ready.pop_front() }
    }

    /// Hands one arrival in, if there is one.
    fn hand_in(&mut self, id: ShardId, source: Source) -> bool {
        let at = id.index();
        match source {
            Source::Client(client) => return self.hand_in_client(id, client),
            Source::Lane(from) => {
                let Some(message) = self.take_message(from, at) else { return false };
                self.note("message", at, from as u64);
                let shard = &mut self.shards[at];
                shard.core.message(ShardId::new(from), message, &mut shard.io);
            }
            Source::Command => {
                self.note("command", at, 0);
                let shard = &mut self.shards[at];
                let command = shard.commands.pop_front().expect("each was listed once");
                shard.core.command(command, &mut shard.io);
            }
            Source::Refused(dial) => return self.hand_in_refusal(id, dial),
            Source::Sync(ticket, errno) => {
                self.note("synced", at, ticket.0);
                let outcome = errno.map_or(Ok(Duration::ZERO), |errno| Err(SyncFailure { errno }));
                let shard = &mut self.shards[at];
                shard.core.synced(ticket, outcome, &mut shard.io);
            }
            Source::TurnedAway(listener, why) => {
                self.note("turned away", at, u64::from(listener.0));
                let shard = &mut self.shards[at];
                shard.core.turned_away(listener, why, &mut shard.io);
            }
            Source::Shutdown => {
                self.note("shutdown", at, 0);
                let shard = &mut self.shards[at];
                shard.core.shutdown(&mut shard.io);
                shard.stopping = true;
            }
        }
        true
    }

    /// Hands in what a connection has next.
    fn hand_in_client(&mut self, id: ShardId, client: ClientId) -> bool {
        let far = &mut self.clients[client.index()];
        if far.listed == Some(id) {
            far.listed = None;
        }
        // It may have moved, closed or paused since it was listed.
        if far.shard() != Some(id) {
            return false;
        }
        let input = match far.next_input() {
            Some((due_ms, input)) if due_ms <= self.now_ms => input,
            Some(_) | None => {
                self.refresh_inbound(client);
                return false;
            }
        };
        match (far.place, input) {
            (Place::Arriving { .. }, _) => self.hand_in_open(id, client),
            (Place::Open { conn, .. }, input) => self.hand_in_input(client, (id, conn), input),
            (Place::Closing | Place::Closed | Place::Gone, _) => {
                unreachable!("a connection without a shard has no input")
            }
        }
        self.refresh_inbound(client);
        true
    }

    fn hand_in_open(&mut self, id: ShardId, client: ClientId) {
        let dialled = self.clients[client.index()].dial.take().map(|dial| self.dial_answered(dial));
        self.note(if dialled.is_some() { "connected" } else { "opened" }, id.index(), client.index() as u64);
        let (shuffled, rng) = (self.network.shuffled, &mut self.rng);
        let shard = &mut self.shards[id.index()];
        let conn = shard.occupy(client, |free| if shuffled { rng.below(free) } else { free - 1 });
        let far = &mut self.clients[client.index()];
        far.place = Place::Open { shard: id, conn };
        match dialled {
            Some(ticket) => shard.core.connected(ticket, conn, far.info.remote, &mut shard.io),
            None => shard.core.opened(conn, &far.info, &mut shard.io),
        }
    }

    fn hand_in_input(&mut self, client: ClientId, (id, conn): (ShardId, ConnId), input: Input) {
        let (at, which) = (id.index(), client.index() as u64);
        match input {
            Input::Unread => {
                let bytes = self.take_unread(client);
                self.hand_in_bytes(client, (id, conn), &bytes);
            }
            Input::Bytes => {
                let bytes = self.take_bytes(client);
                self.hand_in_bytes(client, (id, conn), &bytes);
            }
            Input::Drained => {
                self.note("drained", at, which);
                self.clients[client.index()].drained = false;
                let shard = &mut self.shards[at];
                shard.core.drained(conn, &mut shard.io);
            }
            Input::End(reason) => self.hand_in_end(client, (id, conn), reason),
            Input::Open => unreachable!("it is open"),
        }
    }

    fn hand_in_bytes(&mut self, client: ClientId, (id, conn): (ShardId, ConnId), bytes: &[u8]) {
        self.note_bytes("received", (id.index(), client.index() as u64), bytes);
        let shard = &mut self.shards[id.index()];
        shard.core.received(conn, bytes, &mut shard.io);
    }

    fn hand_in_end(&mut self, client: ClientId, (id, conn): (ShardId, ConnId), reason: CloseReason) {
        self.note("ended", id.index(), client.index() as u64);
        self.clients[client.index()].settle(Place::Gone);
        let shard = &mut self.shards[id.index()];
        let waiting = shard.io.peek(conn).waiting_bytes();
        shard.core.closed(conn, reason, &mut shard.io);
        if shard.io.peek(conn).waiting_bytes() != waiting {
            self.breach(id, &format!("it wrote to {conn:?}, which it was told is gone"));
        }
        // Before the answers are looked at: none may name the connection.
        self.shards[id.index()].vacate(conn);
    }
}
