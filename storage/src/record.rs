//! What a shard writes into its log.

use bytes::Bytes;

/// Where a record lies in its shard's log. Below 2^56.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogOffset(u64);

impl LogOffset {
    /// The bits that an offset uses.
    pub const BITS: u32 = 56;

    /// # Panics
    /// When `offset` does not fit [`LogOffset::BITS`].
    pub fn new(offset: u64) -> Self {
        assert!(offset >> Self::BITS == 0, "log offsets have {} bits", Self::BITS);
        Self(offset)
    }

    /// The offset as a number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A message, borrowed from wherever it lies.
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    /// The topic name, valid UTF-8.
    pub topic: &'a [u8],
    /// MQTT 5 properties that are forwarded unaltered, encoded as on the wire.
    pub properties: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// The payload again, where it can be shared by reference.
    pub shared_payload: Option<&'a Bytes>,
    /// The publication's QoS, 0 to 2.
    pub qos: u8,
    /// Wall-clock time in milliseconds at which its Message Expiry Interval ends; 0 for never.
    pub expires_at_ms: u64,
}

impl MessageView<'_> {
    /// What the message is charged with against byte limits.
    pub fn charged_bytes(&self) -> usize {
        self.topic.len() + self.properties.len() + self.payload.len()
    }
}

/// The session that a record is about: the shard's number for it, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionRecord(pub u64);

/// How a message waits in a session's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedAs {
    /// The QoS of the delivery, 1 or 2.
    pub qos: u8,
    /// The RETAIN flag of the delivery.
    pub retain: bool,
}

/// One fact that a persistent session, or the retained messages, must not forget.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// A message that later records refer to.
    Message(MessageView<'a>),
    /// A session began, or its client connected again.
    SessionOpened {
        /// The session.
        session: SessionRecord,
        /// Its client id.
        client_id: &'a str,
        /// Session Expiry Interval in seconds.
        expiry_s: u32,
    },
    /// A session's client went away.
    SessionClosed {
        /// The session.
        session: SessionRecord,
        /// Session Expiry Interval in seconds, from now.
        expiry_s: u32,
    },
    /// A session ended.
    SessionEnded {
        /// The session.
        session: SessionRecord,
    },
    /// A subscription was made or replaced.
    Subscribed {
        /// The session.
        session: SessionRecord,
        /// The filter as the client sent it.
        filter: &'a str,
        /// The subscription options byte of MQTT 5.
        options: u8,
        /// The Subscription Identifier; 0 for none.
        subscription_id: u32,
    },
    /// A subscription ended.
    Unsubscribed {
        /// The session.
        session: SessionRecord,
        /// The filter.
        filter: &'a str,
    },
    /// A message joined a session's queue.
    Queued {
        /// The session.
        session: SessionRecord,
        /// The message.
        message: LogOffset,
        /// How.
        queued_as: QueuedAs,
    },
    /// The oldest queued message was sent under a packet id.
    Sent {
        /// The session.
        session: SessionRecord,
        /// The packet id.
        packet_id: u16,
    },
    /// A delivery proceeded: PUBREC arrived.
    Received {
        /// The session.
        session: SessionRecord,
        /// The packet id.
        packet_id: u16,
    },
    /// A delivery ended: PUBACK or PUBCOMP arrived.
    Completed {
        /// The session.
        session: SessionRecord,
        /// The packet id.
        packet_id: u16,
    },
    /// A QoS 2 publication of the client was taken, and must not be taken twice.
    Taken {
        /// The session.
        session: SessionRecord,
        /// The packet id.
        packet_id: u16,
    },
    /// The client released a QoS 2 packet id.
    Released {
        /// The session.
        session: SessionRecord,
        /// The packet id.
        packet_id: u16,
    },
    /// A message is now the retained one of its topic.
    Retained {
        /// The message.
        message: LogOffset,
    },
    /// A topic has no retained message any more.
    RetainedCleared {
        /// The topic name.
        topic: &'a str,
    },
}
