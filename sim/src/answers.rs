//! What a core answered: checked after every call, carried out after the turn.

use ringmq_turn::{ConnId, Core, HandOver, ReadSwitch, ShardId, SyncRequest};

use crate::agenda::Due;
use crate::client::{ClientId, Place};
use crate::world::World;

impl<C: Core> World<C> {
    /// Looks at what the core asked for in one call. Pauses count from here on, and the ids of
    /// connections that it closed or handed over are void.
    pub(crate) fn check_answers(&mut self, id: ShardId) {
        let io = &mut self.shards[id.index()].io;
        let (mut reads, mut closes, mut hand_overs) = (Vec::new(), Vec::new(), Vec::new());
        let mut dials = Vec::new();
        io.take_reads(&mut reads);
        io.take_dials(&mut dials);
        io.take_closes(&mut closes);
        io.take_hand_overs(&mut hand_overs);
        if !io.lane(id).is_empty() {
            self.breach(id, "it sent a message to itself");
        }
        for read in reads {
            self.switch_read(id, read);
        }
        for conn in closes {
            self.close(id, conn);
        }
        for hand_over in hand_overs {
            self.hand_over(id, hand_over);
        }
        for dial in dials {
            self.dial(id, dial);
        }
        if self.shards[id.index()].stopping {
            self.stop_dialling(id);
        }
    }

    /// Carries out what the core asked for in a turn.
    pub(crate) fn carry_out(&mut self, id: ShardId) {
        let shard = &mut self.shards[id.index()];
        let (mut dirty, mut syncs) = (Vec::new(), Vec::new());
        shard.io.take_dirty(&mut dirty);
        shard.io.take_syncs(&mut syncs);
        shard.io.take_events(&mut shard.events);
        shard.free_vacated();
        for conn in dirty {
            // Closed connections are among them.
            if let Some(client) = self.shards[id.index()].client_of(conn) {
                self.start_send(client);
                let io = &self.shards[id.index()].io;
                if io.backlog_bytes(conn) > io.backlog_high_bytes {
                    self.clients[client.index()].held = true;
                }
            }
        }
        for request in syncs {
            self.sync(id, &request);
        }
        self.fill_lanes(id);
    }

    /// The client behind a connection that the core named.
    fn named(&self, id: ShardId, conn: ConnId, what: &str) -> ClientId {
        match self.shards[id.index()].client_of(conn) {
            Some(client) => client,
            None => self.breach(id, &format!("it {what} {conn:?}, which is not open there")),
        }
    }

    fn switch_read(&mut self, id: ShardId, read: ReadSwitch) {
        match read {
            ReadSwitch::Pause(conn) => {
                let client = self.named(id, conn, "paused");
                self.note("paused", id.index(), client.index() as u64);
                let far = &mut self.clients[client.index()];
                if !far.paused && self.rng.chance(self.network.pause_overrun_chance) {
                    far.overrun_bytes = self.rng.below(far.inbound_bytes(self.now_ms) + 1);
                }
                far.paused = true;
                self.refresh_inbound(client);
            }
            ReadSwitch::Resume(conn) => {
                let client = self.named(id, conn, "resumed");
                self.note("resumed", id.index(), client.index() as u64);
                let far = &mut self.clients[client.index()];
                far.paused = false;
                far.overrun_bytes = 0;
                self.refresh_inbound(client);
            }
        }
    }

    fn close(&mut self, id: ShardId, conn: ConnId) {
        let client = self.named(id, conn, "closed");
        self.note("closes", id.index(), client.index() as u64);
        let due_ms = self.client_due_ms();
        let shard = &mut self.shards[id.index()];
        let last = shard.take_outbox(conn);
        shard.vacate(conn);
        let far = &mut self.clients[client.index()];
        if far.is_cut() {
            far.settle(Place::Gone);
            return;
        }
        if far.sending().is_empty() {
            far.send_due_ms = due_ms;
        }
        far.sending.extend_from_slice(&last);
        far.inbound.clear();
        far.unread.clear();
        if far.sending().is_empty() {
            far.settle(Place::Closed);
            self.note("closed by core", client.index(), 0);
        } else {
            far.place = Place::Closing;
            self.refresh_send(client);
        }
    }

    fn hand_over(&mut self, id: ShardId, hand_over: HandOver) {
        let HandOver { conn, to, unread } = hand_over;
        let client = self.named(id, conn, "handed over");
        self.note_bytes("handed over", (to.index(), client.index() as u64), &unread);
        if to == id || to.index() >= self.shards.len() {
            self.breach(id, &format!("it handed {conn:?} over to shard {to}, which is not another one"));
        }
        let backlog = self.shards[id.index()].io.backlog_bytes(conn);
        if backlog != 0 {
            self.breach(id, &format!("it handed {conn:?} over with {backlog} bytes in its outbox"));
        }
        self.shards[id.index()].vacate(conn);
        let due_ms = self.now_ms + self.rng.range(self.network.hand_over_delay_ms.clone());
        let far = &mut self.clients[client.index()];
        far.move_to(to, due_ms);
        // A core may hand over before it saw all of what the last shard left unread.
        far.unread.splice(..0, unread);
        self.refresh_inbound(client);
    }

    fn sync(&mut self, id: ShardId, request: &SyncRequest) {
        let due_ms = self.now_ms + self.rng.range(self.network.sync_delay_ms.clone());
        let errno = self.shards[id.index()].sync_errno;
        self.note("syncs", id.index(), request.ticket.0);
        self.plan(due_ms, Due::Sync(id.index(), request.ticket, errno));
    }

    /// The core did what the contract forbids.
    pub(crate) fn breach(&self, id: ShardId, what: &str) -> ! {
        panic!("seed {}: the core of shard {id} breaks the contract at {} ms: {what}", self.seed, self.now_ms)
    }
}
