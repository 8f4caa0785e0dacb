//! A world of shards and clients, and the mischief that is done to them.

use ringmq_codec::{QoS, ReasonCode, SubscriptionOptions, Version};
use ringmq_engine::{EngineConfig, Ledger, Limits, Traffic};
use ringmq_sim::{ClientId, Network, Rng};
use ringmq_turn::ShardId;

use crate::peer::{Broker, Habits, Key, Message, Peer};

/// A broker, its clients, and chance.
pub struct Rig {
    pub world: Broker,
    pub peers: Vec<Peer>,
    pub rng: Rng,
    /// Connections whose clients turned to another without a word.
    pub abandoned: Vec<ClientId>,
}

/// What a rig is made from.
pub struct Setup {
    pub shards: usize,
    pub network: Network,
    pub limits: Limits,
    pub sys_interval_ms: u64,
}

/// Calls of [`Rig::settle`]'s loop that settle anything that settles at all.
const SETTLE_ROUNDS_MAX: usize = 10_000;

impl Setup {
    /// One to five shards, a rough network with lanes of any room, and limits within reach.
    pub fn rough(rng: &mut Rng) -> Self {
        let network = Network {
            lane_room_messages: *rng.pick(&[1, 2, 4, 8, 64]),
            lane_delay_ms: 0..=*rng.pick(&[0, 4, 30]),
            client_delay_ms: 0..=*rng.pick(&[0, 5]),
            ..Network::rough()
        };
        let receive_maximum = *rng.pick(&[1, 3, 20, 1024]);
        let inflight_messages_max = *rng.pick(&[1, 2, 10, 1024]);
        let limits = Limits { receive_maximum, inflight_messages_max, ..Limits::default() };
        Self { shards: 1 + rng.below(5), network, limits, sys_interval_ms: 0 }
    }

    /// What a shard is made from.
    pub fn config(&self, shard: ShardId, seed: u64) -> EngineConfig {
        EngineConfig {
            sys_interval_ms: self.sys_interval_ms,
            limits: self.limits.clone(),
            ..EngineConfig::new(shard, self.shards, seed)
        }
    }
}

/// Making one, and looking at it.
impl Rig {
    /// A rig around a broker.
    pub fn of(world: Broker, seed: u64) -> Self {
        Self { world, peers: Vec::new(), rng: Rng::new(!seed), abandoned: Vec::new() }
    }

    /// Another peer, not connected yet; its index.
    pub fn add(&mut self, name: &str, habits: Habits) -> usize {
        let index = self.peers.len();
        self.peers.push(Peer::new(&format!("{name}{index}"), index as u16, habits));
        index
    }

    /// Another peer, whose session outlives the test.
    pub fn add_persistent(&mut self, name: &str) -> usize {
        let habits = Habits::persistent(Version::V5).varied(&mut self.rng);
        self.add(name, habits)
    }

    /// The counters of all shards together.
    pub fn figures(&self) -> (Ledger, Traffic) {
        let mut sums = (Ledger::default(), Traffic::default());
        for shard in self.world.shard_ids() {
            let (ledger, traffic) = self.world.core(shard).figures();
            assert!(ledger.balances(), "shard {shard}: {ledger:?}");
            sums.0.add(&ledger);
            sums.1.add(&traffic);
        }
        sums
    }

    /// A published message, by its key; none if no peer published it.
    pub fn message(&self, key: Key) -> Option<&Message> {
        let published = &self.peers.get(usize::from(key.publisher))?.published;
        let at = published.binary_search_by_key(&key.number, |(message, _)| message.key.number).ok()?;
        Some(&published[at].0)
    }
}

/// Letting things happen.
impl Rig {
    /// Every client takes what came. Whether anything did.
    pub fn poll(&mut self) -> bool {
        let mut came = false;
        for peer in &mut self.peers {
            came |= peer.poll(&mut self.world);
        }
        came
    }

    /// A few things happen, and the clients see what came of it.
    pub fn stir(&mut self, steps_max: usize) {
        for _ in 0..self.rng.below(steps_max + 1) {
            self.world.step();
        }
        for peer in &mut self.peers {
            if peer.habits.lazy && self.rng.chance(0.3) {
                let most = 1 + self.rng.below(4);
                peer.pay(&mut self.world, most);
            }
        }
        self.poll();
    }

    /// Every client that is down connects, or only those of `which`; then all that is under way ends.
    pub fn settle_with(&mut self, which: impl Fn(&Peer) -> bool) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            for at in 0..self.peers.len() {
                if self.peers[at].link.is_none() && which(&self.peers[at]) {
                    self.connect(at);
                }
                let peer = &mut self.peers[at];
                peer.stall(&mut self.world, false);
                peer.pay(&mut self.world, usize::MAX);
            }
            self.world.run_until_idle();
            let busy = self.poll() | self.peers.iter().any(|peer| !peer.owed.is_empty());
            let down = self.peers.iter().any(|peer| !peer.is_up() && which(peer));
            if !busy && !down {
                return;
            }
        }
        panic!("the clients and the broker never come to rest");
    }

    /// Every client connects, and all that is under way ends.
    pub fn settle(&mut self) {
        self.settle_with(|_| true);
        for peer in &self.peers {
            assert!(peer.flights.is_empty(), "{} is owed acknowledgements: {:?}", peer.name, peer.flights);
            let link = peer.link.as_ref().expect("it connected");
            assert!(link.asked.is_empty(), "{} is owed answers: {:?}", peer.name, link.asked);
        }
    }

    /// A peer connects to any shard; a connection that it has is cut, or left for the broker to find.
    pub fn connect(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        if let Some(link) = &peer.link {
            if self.rng.chance(0.5) {
                peer.cut(&mut self.world);
            } else {
                self.abandoned.push(link.client);
            }
        }
        peer.habits.change_limits(&mut self.rng);
        let shard = ShardId::new(self.rng.below(self.world.shard_count()));
        peer.connect(&mut self.world, Some(shard));
    }

    /// Something unkind happens to a peer.
    pub fn harm(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        if peer.link.is_none() {
            return self.connect(at);
        }
        match self.rng.below(8) {
            0..3 => peer.cut(&mut self.world),
            3 => peer.hang_up(&mut self.world),
            4 => {
                let reason = *self.rng.pick(&[ReasonCode::Success, ReasonCode::DisconnectWithWill]);
                peer.disconnect(&mut self.world, reason);
            }
            5 => self.connect(at),
            6 => peer.stall(&mut self.world, true),
            _ => peer.stall(&mut self.world, false),
        }
    }

    /// A peer publishes to one of `topics`.
    pub fn publish(&mut self, at: usize, topic: &str, qos: QoS) {
        let mut message = self.peers[at].message(topic, qos);
        message.padding = *self.rng.pick(&[0, 0, 0, 1, 10, 100, 5000]);
        self.peers[at].publish(&mut self.world, message);
    }

    /// A QoS at random.
    pub fn any_qos(&mut self) -> QoS {
        *self.rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
    }

    /// Subscribes one peer to one filter.
    pub fn subscribe(&mut self, at: usize, filter: &str, qos: QoS) {
        let options = SubscriptionOptions::new(qos);
        assert!(self.peers[at].subscribe(&mut self.world, &[(filter, options)]), "it is connected");
    }
}
