//! What became of every message.
//!
//! A message is counted once as received, and then as one copy for each session that is to have it, or
//! as one copy dropped for want of a subscriber. At all times
//! `copies = delivered + queued + dropped(reason) + expired`.

use crate::ended::TransportEnds;

/// Why a copy of a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Nobody subscribed to its topic.
    NoSubscriber,
    /// QoS 0 to a client that does not read as fast as it is sent to.
    SlowConsumer,
    /// QoS 0 to a session whose client is away.
    Offline,
    /// The session's queue is at its limit.
    QueueFull,
    /// The shard's memory is at its limit, or its log is full.
    MemoryFull,
    /// The publisher was refused, since a log is full.
    StorageFull,
    /// The packet would exceed the client's Maximum Packet Size. [MQTT-3.1.2-25]
    PacketTooLarge,
    /// The session ended before it was delivered.
    SessionEnded,
    /// The client answered PUBREC with an error.
    Refused,
    /// A client published to a topic below `$SYS`, which are the broker's own.
    ReservedTopic,
}

impl DropReason {
    /// Every reason, in the order of their counters.
    pub const ALL: [Self; 10] = [
        Self::NoSubscriber,
        Self::SlowConsumer,
        Self::Offline,
        Self::QueueFull,
        Self::MemoryFull,
        Self::StorageFull,
        Self::PacketTooLarge,
        Self::SessionEnded,
        Self::Refused,
        Self::ReservedTopic,
    ];

    /// Its name in metrics and topics.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSubscriber => "no_subscriber",
            Self::SlowConsumer => "slow_consumer",
            Self::Offline => "offline",
            Self::QueueFull => "queue_full",
            Self::MemoryFull => "memory_full",
            Self::StorageFull => "storage_full",
            Self::PacketTooLarge => "packet_too_large",
            Self::SessionEnded => "session_ended",
            Self::Refused => "refused",
            Self::ReservedTopic => "reserved_topic",
        }
    }
}

/// One shard's counters. All but `queued` only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Messages taken from clients and from the program, and wills.
    pub received: u64,
    /// Copies of them, and of retained messages replayed, for sessions of this shard.
    pub copies: u64,
    /// Copies handed to a connection at QoS 0, or acknowledged at QoS 1 and 2.
    pub delivered: u64,
    /// Copies that wait in a queue or for an acknowledgement.
    pub queued: u64,
    /// Copies whose Message Expiry Interval passed first.
    pub expired: u64,
    dropped: [u64; DropReason::ALL.len()],
}

impl Ledger {
    /// One copy was dropped.
    pub fn drop_copy(&mut self, reason: DropReason) {
        self.drop_copies(reason, 1);
    }

    /// Several copies were dropped.
    pub fn drop_copies(&mut self, reason: DropReason, count: u64) {
        self.dropped[reason as usize] += count;
    }

    /// How many copies were dropped for a reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// How many copies were dropped.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Whether the sum holds.
    pub fn balances(&self) -> bool {
        self.copies == self.delivered + self.queued + self.expired + self.dropped_total()
    }

    /// Adds another shard's counters.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.copies += other.copies;
        self.delivered += other.delivered;
        self.queued += other.queued;
        self.expired += other.expired;
        for (total, more) in self.dropped.iter_mut().zip(other.dropped) {
            *total += more;
        }
    }
}

/// Traffic and connections of one shard. All but the gauges only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes written for clients.
    pub bytes_sent: u64,
    /// PUBLISH packets received.
    pub publishes_received: u64,
    /// PUBLISH packets sent, repeats included.
    pub publishes_sent: u64,
    /// Clients accepted with CONNACK success.
    pub connects: u64,
    /// Connections refused or ended for a fault of the peer.
    pub violations: u64,
    /// Connections that their transports ended.
    pub transport_ends: TransportEnds,
    /// Clients connected now.
    pub clients_connected: u64,
    /// Sessions now, connected or not.
    pub sessions: u64,
    /// Subscriptions now.
    pub subscriptions: u64,
    /// Retained messages now.
    pub retained: u64,
    /// Retained messages that were not stored because there was no room.
    pub retained_refused: u64,
    /// Bytes of queued, in-flight and retained messages now.
    pub message_bytes: u64,
    /// Bytes of incomplete packets now.
    pub partial_bytes: u64,
}

impl Traffic {
    /// Adds another shard's counters.
    pub fn add(&mut self, other: &Self) {
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.publishes_received += other.publishes_received;
        self.publishes_sent += other.publishes_sent;
        self.connects += other.connects;
        self.violations += other.violations;
        self.transport_ends.add(&other.transport_ends);
        self.clients_connected += other.clients_connected;
        self.sessions += other.sessions;
        self.subscriptions += other.subscriptions;
        self.retained += other.retained;
        self.retained_refused += other.retained_refused;
        self.message_bytes += other.message_bytes;
        self.partial_bytes += other.partial_bytes;
    }
}
