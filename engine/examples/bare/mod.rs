//! The barest driver of an engine: one shard, and connections that are buffers.

use ringmq_codec::{
    Ack, AckKind, Connect, PacketId, PublishHeader, QoS, ReasonCode, Subscribe, SubscribeFilter,
    SubscriptionOptions, Version,
};
use ringmq_engine::{Engine, EngineConfig, EngineIo};
use ringmq_turn::{ConnId, ConnInfo, Core, Io, ListenerId, Now, ShardId};

/// One engine and what it answers into.
pub struct Bare {
    pub engine: Engine,
    pub io: EngineIo,
    dirty: Vec<ConnId>,
    opened: u32,
}

impl Bare {
    pub fn new() -> Self {
        let mut io = Io::new(1);
        io.now = Now { mono_ms: 1, wall_ms: 1_700_000_000_000 };
        let engine =
            Engine::new(EngineConfig { sys_interval_ms: 0, ..EngineConfig::new(ShardId::new(0), 1, 7) });
        Self { engine, io, dirty: Vec::new(), opened: 0 }
    }

    /// A connected client.
    pub fn connect(&mut self, client_id: &str, version: Version) -> ConnId {
        let conn = ConnId { slot: self.opened, generation: 1 };
        self.opened += 1;
        self.io.open(conn);
        let info = ConnInfo { listener: ListenerId(0), remote: None, over_limit: false };
        self.engine.opened(conn, &info, &mut self.io);
        let mut packet = Vec::new();
        Connect::new(version, client_id).encode(&mut packet);
        self.receive(conn, &packet);
        conn
    }

    /// A connected client with one subscription.
    pub fn subscriber(&mut self, client_id: &str, filter: &str, qos: QoS) -> ConnId {
        let conn = self.connect(client_id, Version::V311);
        let filters = [SubscribeFilter { filter, options: SubscriptionOptions::new(qos) }];
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).expect("one is not zero"),
            subscription_id: None,
            user: Default::default(),
            filters: filters[..].into(),
        };
        let mut packet = Vec::new();
        subscribe.encode(Version::V311, &mut packet);
        self.receive(conn, &packet);
        conn
    }

    /// Hands bytes in and ends the turn; returns how many bytes were written for all connections.
    pub fn receive(&mut self, conn: ConnId, bytes: &[u8]) -> usize {
        self.engine.received(conn, bytes, &mut self.io);
        self.turn()
    }

    /// Ends the turn; returns how many bytes were written for all connections.
    pub fn turn(&mut self) -> usize {
        self.engine.turn_over(&mut self.io);
        self.io.take_dirty(&mut self.dirty);
        let mut written = 0;
        for conn in self.dirty.drain(..) {
            let spare = self.io.spare_buffer();
            let (bytes, _) = self.io.peek(conn).take(spare, Vec::new());
            let count = self.io.peek(conn).backlog_bytes();
            self.io.peek(conn).sent(count);
            written += count;
            self.io.recycle(bytes);
        }
        written
    }
}

/// `count` PUBLISH packets of one topic in a row; packet ids count up from 1.
pub fn publishes(topic: &str, qos: QoS, payload: &[u8], count: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in 1..=count {
        let header = PublishHeader {
            version: Version::V311,
            dup: false,
            qos,
            retain: false,
            topic: topic.as_bytes(),
            packet_id: PacketId::new(id).filter(|_| qos != QoS::AtMostOnce),
            properties: &[],
            message_expiry_s: None,
            topic_alias: None,
            subscription_ids: &[],
            payload_len: payload.len(),
        };
        header.encode(&mut bytes);
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// Acknowledgements of one kind for packet ids `first..=last`.
pub fn acks(kind: AckKind, first: u16, last: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in first..=last {
        let id = PacketId::new(id).expect("ids count up from one");
        Ack::new(id, ReasonCode::Success).encode(kind, Version::V311, &mut bytes);
    }
    bytes
}
