//! What a shard of the broker may be told, and every limit that it keeps.
//!
//! The fields are the configuration's keys of the same names; the binary's reference is tested against
//! them.

use ringmq_storage::Level;
use ringmq_turn::{ListenerId, ShardId};

/// What becomes of a QoS 1 or 2 message when a session's queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverflowPolicy {
    /// The new message is dropped and counted.
    #[default]
    DropNewest,
    /// The oldest message that waits is dropped and counted, the new one takes its place.
    DropOldest,
    /// The client is disconnected with reason 0x97, and the new message is dropped and counted.
    Disconnect,
}

/// The named bounds of one shard. What counts for the whole broker is divided by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet accepted, in bytes; announced as Maximum Packet Size.
    pub packet_bytes_max: u32,
    /// QoS 1 and 2 messages that a client may have unacknowledged; announced as Receive Maximum.
    pub receive_maximum: u16,
    /// Highest topic alias a client may use; announced as Topic Alias Maximum.
    pub topic_alias_maximum: u16,
    /// Topic aliases used towards a client that allows them.
    pub topic_alias_out_max: u16,
    /// Unacknowledged QoS 1 and 2 messages sent to a client, further bounded by its Receive Maximum.
    pub inflight_messages_max: u16,
    /// Messages that wait in one session's queue.
    pub queue_messages_max: u32,
    /// Bytes of the messages that wait in one session's queue.
    pub queue_bytes_max: u64,
    /// What happens beyond the two limits above.
    pub overflow: OverflowPolicy,
    /// Bytes not yet taken by a connection's peer beyond which QoS 0 messages to it are dropped.
    pub outbox_bytes_max: usize,
    /// Bytes of queued, retained and unsent messages that this shard holds in all.
    pub memory_bytes_max: u64,
    /// Longest Session Expiry Interval granted, in seconds; `u32::MAX` sets no bound.
    pub session_expiry_s_max: u32,
    /// Longest Keep Alive granted to MQTT 5 clients, in seconds; 0 sets no bound.
    pub keep_alive_s_max: u16,
    /// Time from a connection's opening to its complete CONNECT, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Sessions kept, connected or not.
    pub sessions_max: u32,
    /// Subscriptions of one session.
    pub subscriptions_max: u32,
    /// Retained messages kept.
    pub retained_messages_max: u32,
    /// Bytes of retained messages kept.
    pub retained_bytes_max: u64,
    /// Levels of a topic name or filter.
    pub topic_levels_max: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 16 * 1024 * 1024,
            receive_maximum: 1024,
            topic_alias_maximum: 256,
            topic_alias_out_max: 16,
            inflight_messages_max: 1024,
            queue_messages_max: 2_000_000,
            queue_bytes_max: 512 * 1024 * 1024,
            overflow: OverflowPolicy::DropNewest,
            outbox_bytes_max: 4 * 1024 * 1024,
            memory_bytes_max: 4 * 1024 * 1024 * 1024,
            session_expiry_s_max: u32::MAX,
            keep_alive_s_max: 0,
            connect_timeout_ms: 10_000,
            sessions_max: 2_000_000,
            subscriptions_max: 1_000_000,
            retained_messages_max: 5_000_000,
            retained_bytes_max: 2 * 1024 * 1024 * 1024,
            topic_levels_max: 128,
        }
    }
}

/// What one shard of the broker is made from.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Which shard this is.
    pub shard: ShardId,
    /// How many there are.
    pub shards: usize,
    /// Seed of the hash tables and of generated client ids, the same on every shard: it says which one
    /// owns a client id. Secret, so that peers cannot aim at buckets.
    pub seed: u64,
    /// The program's version, as published in `$SYS/broker/version`.
    pub version: &'static str,
    /// Time between two publications of the `$SYS` topics, in milliseconds; 0 for none.
    pub sys_interval_ms: u64,
    /// Topic filters that nobody may subscribe to, compared as text. SUBACK says 0x80 for them.
    pub refused_filters: Vec<String>,
    /// Which start of the log this is: larger than any before, below 2^22.
    pub epoch: u32,
    /// What acknowledgements promise, by listener.
    pub durability: Vec<Level>,
    /// What they promise on other listeners, and to the program itself.
    pub durability_default: Level,
    /// The bounds.
    pub limits: Limits,
}

impl EngineConfig {
    /// The defaults, for one of `shards` shards.
    pub fn new(shard: ShardId, shards: usize, seed: u64) -> Self {
        Self {
            shard,
            shards,
            seed,
            version: env!("CARGO_PKG_VERSION"),
            sys_interval_ms: 10_000,
            refused_filters: Vec::new(),
            epoch: 0,
            durability: Vec::new(),
            durability_default: Level::default(),
            limits: Limits::default(),
        }
    }

    /// What acknowledgements to clients of a listener promise.
    pub(crate) fn level(&self, listener: ListenerId) -> Level {
        self.durability.get(usize::from(listener.0)).copied().unwrap_or(self.durability_default)
    }

    /// The level that what moves between shards has to reach before it is gone from where it was.
    pub(crate) fn strictest(&self) -> Level {
        if self.syncs() { Level::Synced } else { Level::Written }
    }

    /// Whether any acknowledgement waits for a sync.
    pub(crate) fn syncs(&self) -> bool {
        self.durability.iter().chain([&self.durability_default]).any(|level| *level == Level::Synced)
    }
}
