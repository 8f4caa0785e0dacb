//! A client with a memory: what MQTT calls its session state outlives its connections.
//!
//! It keeps every rule that binds a client, and panics when the broker breaks one of its own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroU16;

use ringmq_codec::{
    Connect, Disconnect, PacketId, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions,
    Unsubscribe, UserProperties, Version, Will,
};
use ringmq_sim::{ClientId, Rng, World};
use ringmq_turn::ShardId;

/// The broker, and all that is between it and its clients.
pub type Broker = World<crate::Shard>;

/// Tells a message from all others: who published it, and its number among those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub publisher: u16,
    pub number: u32,
}

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Message {
    pub key: Key,
    pub topic: String,
    pub qos: QoS,
    pub retain: bool,
    /// Bytes behind the key in the payload.
    pub padding: usize,
    /// The payload is empty, without a key even.
    pub empty: bool,
    pub expiry_s: Option<u32>,
}

impl Message {
    pub fn payload(&self) -> Vec<u8> {
        if self.empty { Vec::new() } else { self.key.encode(self.padding) }
    }
}

impl Key {
    /// As a payload starts with it.
    pub fn encode(self, padding: usize) -> Vec<u8> {
        let mut payload = self.publisher.to_be_bytes().to_vec();
        payload.extend_from_slice(&self.number.to_be_bytes());
        payload.resize(payload.len() + padding, 0xA5);
        payload
    }

    /// From the start of a payload.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let (publisher, rest) = payload.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        Some(Self { publisher: u16::from_be_bytes(*publisher), number: u32::from_be_bytes(*number) })
    }
}

/// A message that arrived, and that the client had not taken before.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Absent when its payload is none that a peer publishes, such as an empty one.
    pub key: Option<Key>,
    pub topic: String,
    pub qos: QoS,
    pub retain: bool,
    /// The world's steps by then.
    pub at: u64,
    /// The world's time by then.
    pub at_ms: u64,
}

/// What a client is like, on every connection of it.
#[derive(Clone, Debug)]
pub struct Habits {
    pub version: Version,
    pub clean_start: bool,
    pub expiry_s: u32,
    pub receive_maximum: u16,
    pub alias_maximum: u16,
    /// It acknowledges when it is told to, not at once.
    pub lazy: bool,
    /// A session that it knows of may be gone when it comes back.
    pub forgettable: bool,
    pub will: Option<WillPlan>,
}

/// A will in waiting.
#[derive(Clone, Debug)]
pub struct WillPlan {
    pub message: Message,
    pub delay_s: u32,
}

impl Habits {
    /// A client whose session ends with its connection.
    pub fn transient(version: Version) -> Self {
        Self {
            version,
            clean_start: true,
            expiry_s: 0,
            receive_maximum: u16::MAX,
            alias_maximum: 0,
            lazy: false,
            forgettable: false,
            will: None,
        }
    }

    /// A client whose session outlives its connections for longer than any test.
    pub fn persistent(version: Version) -> Self {
        Self { clean_start: false, expiry_s: u32::MAX, ..Self::transient(version) }
    }

    /// As `self`, with everything else at random.
    pub fn varied(mut self, rng: &mut Rng) -> Self {
        self.version = *rng.pick(&[Version::V311, Version::V5]);
        self.lazy = rng.chance(0.5);
        self
    }

    /// Other limits for the next connection.
    pub fn change_limits(&mut self, rng: &mut Rng) {
        if self.version == Version::V5 {
            self.receive_maximum = *rng.pick(&[1, 2, 5, 50, u16::MAX]);
            self.alias_maximum = *rng.pick(&[0, 0, 1, 3]);
        }
    }
}

/// How far a message of ours has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// PUBLISH is to be sent, or was.
    Publish,
    /// PUBREC came: PUBREL is to be sent, or was.
    Release,
}

/// A QoS 1 or 2 message that is not done.
#[derive(Debug)]
pub struct Flight {
    pub id: PacketId,
    pub message: Message,
    pub stage: Stage,
    /// What its stage asks for went out on this connection.
    pub sent: bool,
    /// PUBLISH went out before.
    pub repeated: bool,
}

/// An acknowledgement that is due: PUBACK, PUBREC or PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    Ack(PacketId),
    Rec(PacketId),
    Comp(PacketId),
}

/// A request that was not answered.
#[derive(Clone, Debug)]
pub enum Asked {
    Subscribe(Vec<(String, QoS)>),
    Unsubscribe,
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    pub client: ClientId,
    pub up: bool,
    pub bytes: Vec<u8>,
    /// The most that the broker takes unacknowledged.
    pub window: usize,
    pub aliases_max: u16,
    pub aliases_out: Vec<String>,
    pub aliases_in: HashMap<u16, String>,
    /// Ids of QoS 1 and 2 messages from the broker whose acknowledgement was not sent.
    pub unacked: HashSet<PacketId>,
    /// Ids in the order in which PUBACK and PUBREC have to come.
    pub pubacks: VecDeque<PacketId>,
    pub pubrecs: VecDeque<PacketId>,
    pub asked: HashMap<PacketId, Asked>,
}

/// One client.
#[derive(Debug)]
pub struct Peer {
    pub name: String,
    pub index: u16,
    pub habits: Habits,
    pub link: Option<Link>,
    pub flights: VecDeque<Flight>,
    /// QoS 2 ids of the broker that were taken and not released.
    pub taken: HashMap<PacketId, Option<Key>>,
    pub owed: VecDeque<Owed>,
    pub inbox: Vec<Arrival>,
    /// Everything that it published, QoS 0 only as far as it was sent, with the world's steps by then.
    pub published: Vec<(Message, u64)>,
    /// Numbers of those that were acknowledged (PUBACK or PUBREC), with the world's steps by then.
    pub acked: HashMap<u32, u64>,
    /// Subscriptions that SUBACK granted, with the world's steps by then.
    pub filters: Vec<(String, QoS, u64)>,
    pub knows_session: bool,
    /// Connections that ended by the broker's doing.
    pub closed_by_broker: u32,
    pub sent_publishes: u64,
    /// It takes a repeated message without DUP: the broker lost its power, and with that what it had heard
    /// of acknowledgements, so that it does not know how much it sent.
    pub lenient: bool,
    last_id: u16,
    numbers: u32,
}

/// Making one, and its connections.
impl Peer {
    pub fn new(name: &str, index: u16, habits: Habits) -> Self {
        Self {
            name: name.to_owned(),
            index,
            habits,
            link: None,
            flights: VecDeque::new(),
            taken: HashMap::new(),
            owed: VecDeque::new(),
            inbox: Vec::new(),
            published: Vec::new(),
            acked: HashMap::new(),
            filters: Vec::new(),
            knows_session: false,
            closed_by_broker: 0,
            sent_publishes: 0,
            lenient: false,
            last_id: 0,
            numbers: 0,
        }
    }

    pub fn is_up(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.up)
    }

    /// Connects, to the given shard or any. A connection that it had is left as it is.
    pub fn connect(&mut self, world: &mut Broker, shard: Option<ShardId>) {
        self.lose_link();
        let client = world.connect(shard);
        let mut bytes = Vec::new();
        self.encode_connect(&mut bytes);
        world.send(client, &bytes);
        self.link = Some(Link {
            client,
            up: false,
            bytes: Vec::new(),
            window: 0,
            aliases_max: 0,
            aliases_out: Vec::new(),
            aliases_in: HashMap::new(),
            unacked: HashSet::new(),
            pubacks: VecDeque::new(),
            pubrecs: VecDeque::new(),
            asked: HashMap::new(),
        });
    }

    fn encode_connect(&self, bytes: &mut Vec<u8>) {
        let habits = &self.habits;
        let mut connect =
            Connect { clean_start: habits.clean_start, ..Connect::new(habits.version, &self.name) };
        if habits.version == Version::V5 {
            connect.properties.session_expiry_s = habits.expiry_s;
            connect.properties.receive_maximum =
                NonZeroU16::new(habits.receive_maximum).expect("a Receive Maximum is not 0");
            connect.properties.topic_alias_maximum = habits.alias_maximum;
        }
        let payload = habits.will.as_ref().map(|will| will.message.payload());
        connect.will = habits.will.as_ref().zip(payload.as_ref()).map(|(will, payload)| Will {
            topic: &will.message.topic,
            payload,
            qos: will.message.qos,
            retain: will.message.retain,
            delay_s: will.delay_s,
            message_expiry_s: None,
            properties: &[],
        });
        connect.encode(bytes);
    }

    /// Forgets its connection, and what ends with one.
    pub fn lose_link(&mut self) {
        let Some(_) = self.link.take() else { return };
        self.owed.clear();
        for flight in &mut self.flights {
            flight.sent = false;
        }
        if self.habits.expiry_s == 0 {
            self.forget_session();
        }
    }

    /// Forgets its session state.
    pub fn forget_session(&mut self) {
        self.flights.clear();
        self.taken.clear();
        self.filters.clear();
        self.knows_session = false;
    }

    /// The network fails.
    pub fn cut(&mut self, world: &mut Broker) {
        if let Some(link) = &self.link {
            world.cut(link.client);
            self.lose_link();
        }
    }

    /// It closes its side without a word.
    pub fn hang_up(&mut self, world: &mut Broker) {
        if let Some(link) = &self.link {
            world.hang_up(link.client);
            self.lose_link();
        }
    }

    /// It says DISCONNECT.
    pub fn disconnect(&mut self, world: &mut Broker, reason: ReasonCode) {
        if let Some(link) = self.link.as_ref().filter(|link| link.up) {
            let mut bytes = Vec::new();
            Disconnect::new(reason).encode(self.habits.version, &mut bytes);
            world.send(link.client, &bytes);
            self.hang_up(world);
        }
    }

    pub fn stall(&mut self, world: &mut Broker, stalled: bool) {
        if let Some(link) = &self.link {
            world.stall(link.client, stalled);
        }
    }
}

/// What it asks for.
impl Peer {
    fn free_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = PacketId::new(self.last_id).expect("it starts from 1");
            let asked = self.link.as_ref().is_some_and(|link| link.asked.contains_key(&id));
            if !asked && self.flights.iter().all(|flight| flight.id != id) {
                return id;
            }
        }
    }

    /// Subscribes; false if it has no connection.
    pub fn subscribe(&mut self, world: &mut Broker, filters: &[(&str, SubscriptionOptions)]) -> bool {
        if !self.is_up() {
            return false;
        }
        let packet_id = self.free_id();
        let list: Vec<_> =
            filters.iter().map(|&(filter, options)| SubscribeFilter { filter, options }).collect();
        let mut bytes = Vec::new();
        let user = UserProperties::EMPTY;
        Subscribe { packet_id, subscription_id: None, user, filters: list.as_slice().into() }
            .encode(self.habits.version, &mut bytes);
        let asked = filters.iter().map(|(filter, options)| ((*filter).to_owned(), options.qos)).collect();
        let link = self.link.as_mut().expect("it is up");
        link.asked.insert(packet_id, Asked::Subscribe(asked));
        world.send(link.client, &bytes);
        true
    }

    /// Unsubscribes; false if it has no connection.
    pub fn unsubscribe(&mut self, world: &mut Broker, filters: &[&str]) -> bool {
        if !self.is_up() {
            return false;
        }
        self.filters.retain(|(held, ..)| !filters.contains(&held.as_str()));
        let packet_id = self.free_id();
        let mut bytes = Vec::new();
        Unsubscribe { packet_id, user: UserProperties::EMPTY, filters: filters.into() }
            .encode(self.habits.version, &mut bytes);
        let link = self.link.as_mut().expect("it is up");
        link.asked.insert(packet_id, Asked::Unsubscribe);
        world.send(link.client, &bytes);
        true
    }

    /// The next message that this peer could publish.
    pub fn message(&mut self, topic: &str, qos: QoS) -> Message {
        self.numbers += 1;
        let key = Key { publisher: self.index, number: self.numbers };
        Message { key, topic: topic.to_owned(), qos, retain: false, padding: 0, empty: false, expiry_s: None }
    }

    /// Publishes. At QoS 0 only if it has a connection.
    pub fn publish(&mut self, world: &mut Broker, message: Message) {
        if message.qos == QoS::AtMostOnce {
            if self.is_up() {
                self.published.push((message.clone(), world.steps()));
                self.send_publish(world, &message, None, false);
            }
            return;
        }
        let id = self.free_id();
        self.published.push((message.clone(), world.steps()));
        self.flights.push_back(Flight { id, message, stage: Stage::Publish, sent: false, repeated: false });
        self.pump(world);
    }
}
