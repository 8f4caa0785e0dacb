//! What a shard writes into its log.

use bytes::Bytes;

/// The most bytes that one segment has, since a [`LogOffset`] counts eight bytes in 26 bits.
pub const SEGMENT_BYTES_MAX: usize = 1 << (LogOffset::PLACE_BITS + 3);

/// A segment of one shard's log. Numbered upwards, never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u32);

/// Where a message lies in its shard's log: a segment and a place in it that is a multiple of eight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogOffset(u64);

impl LogOffset {
    /// The bits that an offset uses.
    pub const BITS: u32 = 56;
    const PLACE_BITS: u32 = 26;

    /// # Panics
    /// When `offset` does not fit [`LogOffset::BITS`].
    pub fn new(offset: u64) -> Self {
        assert!(offset >> Self::BITS == 0, "log offsets have {} bits", Self::BITS);
        Self(offset)
    }

    /// The offset of a place in a segment.
    ///
    /// # Panics
    /// When `place` is not a multiple of eight below [`SEGMENT_BYTES_MAX`], or there were 2^30 segments.
    #[inline]
    pub fn at(segment: SegmentId, place: usize) -> Self {
        assert!(place.is_multiple_of(8) && place < SEGMENT_BYTES_MAX, "{place} is no place in a segment");
        Self::new(u64::from(segment.0) << Self::PLACE_BITS | (place / 8) as u64)
    }

    /// The segment.
    #[inline]
    pub fn segment(self) -> SegmentId {
        SegmentId((self.0 >> Self::PLACE_BITS) as u32)
    }

    /// The place in the segment, in bytes.
    #[inline]
    pub fn place(self) -> usize {
        ((self.0 & ((1 << Self::PLACE_BITS) - 1)) * 8) as usize
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

/// The session that a record is about: a number that no other session of the store ever has.
///
/// The start of the process that made it in the high 24 bits, the shard in 7, then a count in 33.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionRecord(pub u64);

impl SessionRecord {
    /// The `count`th session that a shard makes in the `epoch`th start of a store.
    pub fn new(epoch: u32, shard: usize, count: u64) -> Self {
        debug_assert!(shard < 1 << 7 && count < 1 << 33, "shard {shard} makes no session {count}");
        Self(u64::from(epoch) << 40 | (shard as u64) << 33 | count)
    }
}

/// A QoS 2 publication that goes to several shards: a number that no other publication of the store ever
/// has. Made like [`SessionRecord`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicationRecord(pub u64);

/// The number of a message in its session's queue: consecutive, from any start. The packet id that it is
/// sent under follows from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueNumber(pub u64);

impl QueueNumber {
    /// The number `count` places on.
    #[inline]
    #[must_use]
    pub fn plus(self, count: usize) -> Self {
        Self(self.0 + count as u64)
    }

    /// How many places on from `first` this is, if it is not before that.
    #[inline]
    pub fn since(self, first: Self) -> Option<usize> {
        self.0.checked_sub(first.0).map(|count| count as usize)
    }
}

/// How a message waits in a session's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedAs {
    /// The QoS of the delivery, 1 or 2.
    pub qos: u8,
    /// The RETAIN flag of the delivery.
    pub retain: bool,
}

/// Subscription Identifiers, as the engine holds them or as the log does.
#[derive(Clone, Copy, Debug)]
pub enum SubscriptionIds<'a> {
    /// Numbers.
    Numbers(&'a [u32]),
    /// Four bytes each, little-endian.
    Encoded(&'a [u8]),
}

impl SubscriptionIds<'_> {
    /// None.
    pub const NONE: Self = Self::Numbers(&[]);

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Encoded(bytes) => bytes.len() / 4,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let at = |index: usize| match self {
            Self::Numbers(numbers) => numbers[index],
            Self::Encoded(bytes) => {
                let bytes = &bytes[index * 4..index * 4 + 4];
                u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
            }
        };
        (0..self.len()).map(at)
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// A message that a session's queue holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueuedMessage<'a> {
    /// Its number there.
    pub number: QueueNumber,
    /// The message.
    pub message: LogOffset,
    /// How.
    pub queued_as: QueuedAs,
    /// The Subscription Identifiers of the delivery.
    pub ids: SubscriptionIds<'a>,
    /// The shared group that it came through, as `$share/name/filter`.
    pub group: Option<&'a str>,
}

/// A will.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WillView<'a> {
    /// The topic name.
    pub topic: &'a str,
    /// MQTT 5 properties that are forwarded unaltered, encoded as on the wire.
    pub properties: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// QoS, 0 to 2.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
    /// Will Delay Interval in seconds.
    pub delay_s: u32,
    /// Message Expiry Interval in seconds.
    pub message_expiry_s: Option<u32>,
}

/// One fact that a session, or the retained messages, must not forget.
///
/// What is said of a session before its [`Record::SessionBegins`], or after its end, is about nothing,
/// but for [`Record::Queued`]: compaction may write a session anew behind messages that it holds.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// A message that other records refer to. Written by [`crate::Log::keep`].
    Message(MessageView<'a>),
    /// All that was known of a session but its messages is void, and told anew by this and what follows.
    SessionBegins {
        /// The session.
        session: SessionRecord,
        /// Its client id.
        client_id: &'a str,
        /// Session Expiry Interval in seconds; a session with 0 ends with its connection.
        expiry_s: u32,
        /// Wall-clock time in milliseconds at which its client went away; 0 while it is connected.
        closed_at_ms: u64,
        /// The number of the next message in its queue.
        next: QueueNumber,
    },
    /// A session's client connected again. A will that it had is void.
    SessionResumed {
        /// The session.
        session: SessionRecord,
        /// Session Expiry Interval in seconds.
        expiry_s: u32,
    },
    /// A session's client went away.
    SessionClosed {
        /// The session.
        session: SessionRecord,
        /// Session Expiry Interval in seconds.
        expiry_s: u32,
        /// Wall-clock time in milliseconds.
        at_ms: u64,
    },
    /// A session ended, and all that it had.
    SessionEnded {
        /// The session.
        session: SessionRecord,
    },
    /// A session has a will.
    Will {
        /// The session.
        session: SessionRecord,
        /// The will.
        will: WillView<'a>,
    },
    /// A session's will was published or dropped.
    WillGone {
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
    /// A message joined a session's queue, or lies elsewhere now.
    Queued {
        /// The session.
        session: SessionRecord,
        /// The message.
        queued: QueuedMessage<'a>,
    },
    /// The client received a QoS 2 message, which need not be kept any more, and PUBCOMP is awaited.
    Received {
        /// The session.
        session: SessionRecord,
        /// The message's number.
        number: QueueNumber,
    },
    /// Messages left a session's queue: acknowledged, expired or dropped.
    Completed {
        /// The session.
        session: SessionRecord,
        /// The number of the first.
        number: QueueNumber,
        /// How many, one behind the other; at least one.
        count: u16,
    },
    /// A QoS 2 publication of the session's client was taken, and must not be taken twice.
    Taken {
        /// The session.
        session: SessionRecord,
        /// The packet id.
        packet_id: u16,
        /// Its number where it went to other shards too: they may lack it after a crash, and know by the
        /// number whether they do.
        publication: Option<PublicationRecord>,
    },
    /// The session's client released a QoS 2 packet id.
    Released {
        /// The session.
        session: SessionRecord,
        /// The packet id.
        packet_id: u16,
    },
    /// A QoS 2 publication came from another shard, and must not be taken from there twice.
    Came {
        /// The publication.
        publication: PublicationRecord,
    },
    /// It will not come again.
    Went {
        /// The publication.
        publication: PublicationRecord,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_gives_back_its_segment_and_place() {
        for (segment, place) in [(0, 0), (1, 8), (7, SEGMENT_BYTES_MAX - 8), ((1 << 30) - 1, 64)] {
            let at = LogOffset::at(SegmentId(segment), place);
            assert_eq!((at.segment(), at.place()), (SegmentId(segment), place));
        }
    }

    #[test]
    fn session_numbers_of_other_starts_and_shards_differ() {
        let all = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 127, (1 << 33) - 1)];
        for (index, &(epoch, shard, count)) in all.iter().enumerate() {
            for &(other_epoch, other_shard, other_count) in &all[..index] {
                assert_ne!(
                    SessionRecord::new(epoch, shard, count),
                    SessionRecord::new(other_epoch, other_shard, other_count)
                );
            }
        }
    }
}
