//! The world: shards, clients, network and clock.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use ringmq_turn::{CloseReason, ConnInfo, Core, ListenerId, Now, ShardId, TransportFault, TurnedAway};

use crate::agenda::Agenda;
use crate::client::{Client, ClientId, Place};
use crate::dial::Dials;
use crate::flow::Lane;
use crate::network::Network;
use crate::rng::Rng;
use crate::shard::{Shard, Source};
use crate::trace::{Note, Trace};

/// The time when a world begins.
pub const START: Now = Now { mono_ms: 1_000_000, wall_ms: 1_750_000_000_000 };

/// Shards, their clients, the network between, and the clock.
///
/// Nothing happens by itself: a test says what the clients do, and lets things happen with
/// [`World::run_until_idle`], [`World::run_for_ms`] or [`World::step`]. A core that breaks the contract
/// makes it panic with the seed in the message.
pub struct World<C: Core> {
    pub(crate) seed: u64,
    pub(crate) rng: Rng,
    pub(crate) network: Network,
    pub(crate) now_ms: u64,
    /// Added to the wall clock.
    wall_jump_ms: i64,
    pub(crate) shards: Vec<Shard<C>>,
    pub(crate) clients: Vec<Client>,
    /// Every connection that cores asked for.
    pub(crate) dials: Dials,
    /// From each shard to each, by [`World::lane_index`].
    pub(crate) lanes: Vec<Lane<C::Message>>,
    pub(crate) agenda: Agenda,
    /// Clients that may have bytes to take.
    pub(crate) ready_sends: VecDeque<ClientId>,
    /// The shard that had the last turn.
    last_turn: usize,
    steps: u64,
    trace: Trace,
}

/// Making a world and looking at it.
impl<C: Core> World<C> {
    /// A world of `shards` shards, whose cores `make_core` makes from their ids and a seed for each.
    ///
    /// # Panics
    /// Without shards, with more than [`ringmq_turn::SHARDS_MAX`], or with a network in which nothing
    /// could arrive.
    pub fn new(
        seed: u64,
        shards: usize,
        network: Network,
        mut make_core: impl FnMut(ShardId, u64) -> C,
    ) -> Self {
        assert_ne!(shards, 0, "a world has shards");
        network.check();
        let mut rng = Rng::new(seed);
        let shards: Vec<_> = (0..shards)
            .map(|index| {
                let id = ShardId::new(index);
                Shard::new(make_core(id, rng.next_u64()), shards, &network)
            })
            .collect();
        Self {
            seed,
            rng,
            now_ms: START.mono_ms,
            wall_jump_ms: 0,
            clients: Vec::new(),
            dials: Dials::default(),
            lanes: (0..shards.len() * shards.len()).map(|_| Lane::default()).collect(),
            agenda: Agenda::default(),
            ready_sends: VecDeque::new(),
            last_turn: shards.len() - 1,
            shards,
            network,
            steps: 0,
            trace: Trace::new(),
        }
    }

    /// The seed that it was made with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Milliseconds on the monotonic clock, which begins at [`START`].
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        let passed_ms = self.now_ms - START.mono_ms;
        let wall_ms = (START.wall_ms + passed_ms).saturating_add_signed(self.wall_jump_ms);
        Now { mono_ms: self.now_ms, wall_ms }
    }

    /// How many turns and deliveries there were.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// A hash of all that happened: equal for two runs of one seed that did the same.
    pub fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// How many shards it has.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Every shard.
    pub fn shard_ids(&self) -> impl Iterator<Item = ShardId> + use<C> {
        (0..self.shards.len()).map(ShardId::new)
    }

    /// The core of a shard.
    pub fn core(&self, shard: ShardId) -> &C {
        &self.shards[shard.index()].core
    }

    /// The core of a shard, to change; the shard gets a turn to notice.
    pub fn core_mut(&mut self, shard: ShardId) -> &mut C {
        let shard = &mut self.shards[shard.index()];
        shard.needs_turn = true;
        &mut shard.core
    }

    /// The end of the world: everything but the cores is lost, as when the process is killed.
    pub fn into_cores(mut self) -> Vec<C> {
        std::mem::take(&mut self.shards).into_iter().map(|shard| shard.core).collect()
    }

    /// How many connections a shard's core has open.
    pub fn open_count(&self, shard: ShardId) -> usize {
        self.shards[shard.index()].open_count()
    }

    /// When a shard wants its next turn at the latest.
    pub fn wake_at_ms(&self, shard: ShardId) -> Option<u64> {
        self.shards[shard.index()].io.wake_at_ms
    }

    /// How many messages one shard sent another that it has not received: in the lane, and waiting for
    /// room in it.
    pub fn lane_messages(&mut self, from: ShardId, to: ShardId) -> usize {
        let waiting = self.shards[from.index()].io.lane(to).len();
        waiting + self.lanes[self.lane_index(from.index(), to.index())].len()
    }

    /// The settings, to change while it runs. The backlog marks are fixed when the world is made.
    pub fn network_mut(&mut self) -> &mut Network {
        &mut self.network
    }

    pub(crate) fn note(&mut self, what: &'static str, place: usize, which: u64) {
        self.note_bytes(what, (place, which), &[]);
    }

    pub(crate) fn note_bytes(&mut self, what: &'static str, (place, which): (usize, u64), bytes: &[u8]) {
        self.trace.note(&Note { at_ms: self.now_ms, what, place, which, bytes });
    }
}

/// What clients do, and what is seen of them.
impl<C: Core> World<C> {
    /// A client connects; the given shard accepts it, or a random one.
    pub fn connect(&mut self, shard: Option<ShardId>) -> ClientId {
        let port = 1024 + (self.clients.len() % 60_000) as u16;
        let remote = Some(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port)));
        self.connect_as(shard, ConnInfo { listener: ListenerId(0), remote, over_limit: false })
    }

    /// A client connects in a way that the core is to be told of.
    pub fn connect_as(&mut self, shard: Option<ShardId>, info: ConnInfo) -> ClientId {
        let shard = shard.unwrap_or_else(|| ShardId::new(self.rng.below(self.shards.len())));
        assert!(shard.index() < self.shards.len(), "shard {shard} is not of this world");
        let client = ClientId(self.clients.len() as u32);
        let due_ms = self.client_due_ms();
        self.clients.push(Client::new(info, shard, due_ms));
        self.refresh_inbound(client);
        client
    }

    /// A client sends bytes. They are lost when its connection is closed, as they would be.
    ///
    /// # Panics
    /// When the client hung up or was cut.
    pub fn send(&mut self, client: ClientId, bytes: &[u8]) {
        let due_ms = self.client_due_ms();
        let far = &mut self.clients[client.index()];
        assert!(far.end.is_none(), "{client:?} is gone and cannot send");
        if far.shard().is_some() && !bytes.is_empty() {
            far.push_inbound(due_ms, bytes);
            self.refresh_inbound(client);
        }
    }

    /// What a client received since it was last taken.
    pub fn received(&self, client: ClientId) -> &[u8] {
        &self.clients[client.index()].received
    }

    /// Takes what a client received.
    pub fn take_received(&mut self, client: ClientId) -> Vec<u8> {
        std::mem::take(&mut self.clients[client.index()].received)
    }

    /// Whether the core closed the connection and the client has all its bytes.
    pub fn is_closed(&self, client: ClientId) -> bool {
        self.clients[client.index()].place == Place::Closed
    }

    /// Whether the connection exists still: neither side has closed it, or the other has yet to notice.
    pub fn is_connected(&self, client: ClientId) -> bool {
        !matches!(self.clients[client.index()].place, Place::Closed | Place::Gone)
    }

    /// The shard whose core has the connection open; absent on its way to one, and after its end.
    pub fn shard_of(&self, client: ClientId) -> Option<ShardId> {
        match self.clients[client.index()].place {
            Place::Open { shard, .. } => Some(shard),
            Place::Arriving { .. } | Place::Closing | Place::Closed | Place::Gone => None,
        }
    }

    /// Whether the core paused the connection.
    pub fn is_paused(&self, client: ClientId) -> bool {
        self.clients[client.index()].paused
    }

    /// Bytes that the core wrote and the client has not taken.
    pub fn backlog_bytes(&mut self, client: ClientId) -> usize {
        match self.clients[client.index()].place {
            Place::Open { shard, conn } => self.shards[shard.index()].io.backlog_bytes(conn),
            Place::Closing => self.clients[client.index()].sending().len(),
            Place::Arriving { .. } | Place::Closed | Place::Gone => 0,
        }
    }

    /// The network between a client and the broker fails. What is on its way may be lost on both sides.
    pub fn cut(&mut self, client: ClientId) {
        let due_ms = self.client_due_ms();
        self.note("cut", client.index(), 0);
        let far = &mut self.clients[client.index()];
        if matches!(far.place, Place::Closing) {
            far.settle(Place::Gone);
        }
        if far.shard().is_none() {
            return;
        }
        if self.network.shuffled {
            let sent = far.inbound_bytes(u64::MAX);
            far.truncate_inbound(self.rng.below(sent + 1));
        }
        far.end = Some((due_ms, CloseReason::Broken));
        self.refresh_inbound(client);
    }

    /// A client closes its side, after what it sent. It goes on reading until its shard notices.
    pub fn hang_up(&mut self, client: ClientId) {
        self.note("hang up", client.index(), 0);
        self.end_after_sent(client, CloseReason::PeerClosed);
    }

    /// A client breaks the rules of its transport, after what it sent: the driver ends its connection.
    pub fn misbehave(&mut self, client: ClientId, fault: TransportFault) {
        self.note("misbehave", client.index(), 0);
        self.end_after_sent(client, CloseReason::Transport(fault));
    }

    fn end_after_sent(&mut self, client: ClientId, reason: CloseReason) {
        let due_ms = self.client_due_ms();
        let far = &mut self.clients[client.index()];
        if far.shard().is_some() && far.end.is_none() {
            far.end = Some((due_ms.max(far.last_due_ms()), reason));
            self.refresh_inbound(client);
        }
    }

    /// A shard's transport ends a connection that the core never hears of.
    pub fn turn_away(&mut self, shard: ShardId, listener: ListenerId, why: TurnedAway) {
        self.shards[shard.index()].ready.push_back(Source::TurnedAway(listener, why));
    }

    /// A client stops reading, or reads again.
    pub fn stall(&mut self, client: ClientId, stalled: bool) {
        self.clients[client.index()].stalled = stalled;
        self.refresh_send(client);
    }
}

/// What the rest of the program does.
impl<C: Core> World<C> {
    /// Another thread asks something of a shard. The commands of one shard arrive in order.
    pub fn command(&mut self, shard: ShardId, command: C::Command) {
        let shard = &mut self.shards[shard.index()];
        shard.commands.push_back(command);
        shard.ready.push_back(Source::Command);
    }

    /// Takes what a shard told other threads.
    pub fn take_events(&mut self, shard: ShardId) -> Vec<C::Event> {
        std::mem::take(&mut self.shards[shard.index()].events)
    }

    /// From now on, a shard's sync requests fail with this error number, or succeed again.
    pub fn fail_syncs(&mut self, shard: ShardId, errno: Option<i32>) {
        self.shards[shard.index()].sync_errno = errno;
    }

    /// Tells every core that the program stops.
    pub fn shut_down(&mut self) {
        for shard in &mut self.shards {
            shard.ready.push_back(Source::Shutdown);
        }
    }
}

/// Letting things happen.
impl<C: Core> World<C> {
    /// One random thing happens: a turn of a shard, or bytes reach a client. When there is nothing to do
    /// at this time, the clock moves to where there is. False when nothing is in flight either: then
    /// only a core's own timers, or the test, can make something happen.
    pub fn step(&mut self) -> bool {
        self.act(u64::MAX) || self.move_to_next(self.agenda.next_ms())
    }

    /// Lets things happen until nothing is in flight and nothing is due. The clock moves as far as the
    /// network needs; timers that fall due on the way run, later ones do not.
    ///
    /// # Panics
    /// When that takes more than [`Network::steps_max`] steps.
    pub fn run_until_idle(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            self.check_steps(steps);
        }
    }

    /// Lets exactly this much time pass, and all that falls due in it happen.
    ///
    /// # Panics
    /// When that takes more than [`Network::steps_max`] steps.
    pub fn run_for_ms(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        let mut steps = 0;
        loop {
            if !self.act(end_ms) {
                let next_ms = self.agenda.next_ms().into_iter().chain(self.next_wake_ms()).min();
                if !self.move_to_next(next_ms.filter(|&next_ms| next_ms <= end_ms)) {
                    break;
                }
            }
            steps += 1;
            self.check_steps(steps);
        }
        self.move_clock(end_ms);
    }

    /// Lets this much time pass, and then whatever is still in flight arrive.
    ///
    /// # Panics
    /// As [`World::run_for_ms`] and [`World::run_until_idle`].
    pub fn advance_ms(&mut self, ms: u64) {
        self.run_for_ms(ms);
        self.run_until_idle();
    }

    /// Time passes in which no shard runs, as when the machine is suspended.
    pub fn freeze_ms(&mut self, ms: u64) {
        self.move_clock(self.now_ms + ms);
    }

    /// The wall clock is set forward, or back. The monotonic clock does not notice.
    pub fn jump_wall_ms(&mut self, by_ms: i64) {
        self.wall_jump_ms += by_ms;
    }

    /// One thing that can happen now does; the clock creeps no further than `limit_ms`.
    fn act(&mut self, limit_ms: u64) -> bool {
        let sends = self.ready_sends.len();
        let turns = self.shards.iter().filter(|shard| shard.is_ready(self.now_ms)).count();
        if sends + turns == 0 {
            return false;
        }
        self.steps += 1;
        let choice = if self.network.shuffled { self.rng.below(sends + turns) } else { 0 };
        if choice < sends {
            self.deliver_send(choice);
            return true;
        }
        let shard = self.choose_shard(choice - sends);
        self.creep(shard, limit_ms);
        self.last_turn = shard;
        self.turn(ShardId::new(shard));
        true
    }

    /// The shard that has the next turn: the `nth` of the ready ones after the last that had one.
    fn choose_shard(&mut self, nth: usize) -> usize {
        if self.network.shuffled && self.rng.chance(self.network.needless_turn_chance) {
            return self.rng.below(self.shards.len());
        }
        let count = self.shards.len();
        (1..=count)
            .map(|after| (self.last_turn + after) % count)
            .filter(|&at| self.shards[at].is_ready(self.now_ms))
            .nth(nth)
            .expect("the caller counted them")
    }

    /// Turns take time now and then. They must where a shard asks for one after the other and waits
    /// for what is in flight.
    fn creep(&mut self, shard: usize, limit_ms: u64) {
        /// So many turns without an arrival fit into a millisecond.
        const IDLE_TURNS_MAX: u64 = 256;
        let waits = self.shards[shard].idle_turns >= IDLE_TURNS_MAX && self.agenda.next_ms().is_some();
        if (waits || self.rng.chance(self.network.clock_creep_chance)) && self.now_ms < limit_ms {
            self.move_clock(self.now_ms + 1);
        }
    }

    fn next_wake_ms(&self) -> Option<u64> {
        self.shards.iter().filter_map(|shard| shard.io.wake_at_ms).min()
    }

    /// Moves the clock to `next_ms`, but no further than to the first timer.
    fn move_to_next(&mut self, next_ms: Option<u64>) -> bool {
        let Some(next_ms) = next_ms else { return false };
        self.move_clock(self.next_wake_ms().map_or(next_ms, |wake_ms| wake_ms.min(next_ms)));
        true
    }

    /// Moves the clock, and makes ready what falls due.
    fn move_clock(&mut self, to_ms: u64) {
        assert!(to_ms >= self.now_ms, "the monotonic clock goes forward");
        if to_ms > self.now_ms {
            self.now_ms = to_ms;
            for shard in &mut self.shards {
                shard.idle_turns = 0;
            }
        }
        while let Some(due) = self.agenda.take(self.now_ms) {
            self.arrive(due);
        }
    }

    fn check_steps(&self, steps: u64) {
        assert!(
            steps <= self.network.steps_max,
            "seed {}: the cores are restless: {steps} steps, and still no rest at {} ms",
            self.seed,
            self.now_ms,
        );
    }
}

impl<C: Core> Drop for World<C> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the world of seed {} ends by a panic at {} ms, after {} steps",
                self.seed, self.now_ms, self.steps
            );
        }
    }
}
