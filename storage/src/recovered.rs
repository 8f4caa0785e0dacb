//! What a log held when it was opened.

use crate::{LogOffset, PublicationRecord, QueueNumber, QueuedAs, SegmentId, SessionRecord};

/// All that was found in one shard's log. Every message that it names is in the log, with one reference for
/// each time that it is named.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The sessions, in the order of their making.
    pub sessions: Vec<RecoveredSession>,
    /// The retained messages; their topics are their own.
    pub retained: Vec<LogOffset>,
    /// QoS 2 publications that came from other shards and may come again.
    pub came: Vec<PublicationRecord>,
    /// What could not be read.
    pub damage: Vec<Damage>,
    /// Sentences on what was lost to that: whose messages and subscriptions, as far as is known.
    pub losses: Vec<String>,
}

/// A session as it was.
#[derive(Debug)]
pub struct RecoveredSession {
    /// Its number.
    pub record: SessionRecord,
    /// Its client id.
    pub client_id: Box<str>,
    /// Session Expiry Interval in seconds.
    pub expiry_s: u32,
    /// Wall-clock time in milliseconds at which its client went away; `None` if it was connected to the
    /// last.
    pub closed_at_ms: Option<u64>,
    /// Its subscriptions.
    pub subscriptions: Vec<RecoveredSubscription>,
    /// Its will, if that was not published.
    pub will: Option<RecoveredWill>,
    /// QoS 2 packet ids taken from its client and not released; with the publication's number where it went
    /// to other shards too.
    pub taken: Vec<(u16, Option<PublicationRecord>)>,
    /// What its queue held, in order, with gaps where messages are gone.
    pub messages: Vec<RecoveredMessage>,
    /// The number of the next message.
    pub next: QueueNumber,
    /// The oldest segment in which something is said of it, its messages aside.
    pub told_in: SegmentId,
}

/// A subscription as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredSubscription {
    /// The filter as the client sent it.
    pub filter: Box<str>,
    /// The subscription options byte of MQTT 5.
    pub options: u8,
    /// The Subscription Identifier; 0 for none.
    pub subscription_id: u32,
}

/// A will as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredWill {
    /// The topic name.
    pub topic: Box<str>,
    /// MQTT 5 properties that are forwarded unaltered.
    pub properties: Box<[u8]>,
    /// The payload.
    pub payload: Box<[u8]>,
    /// QoS, 0 to 2.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
    /// Will Delay Interval in seconds.
    pub delay_s: u32,
    /// Message Expiry Interval in seconds.
    pub message_expiry_s: Option<u32>,
}

/// A place in a session's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredMessage {
    /// Its number.
    pub number: QueueNumber,
    /// How it is to be delivered.
    pub queued_as: QueuedAs,
    /// The message; `None` if the client has it and PUBCOMP is awaited.
    pub message: Option<LogOffset>,
    /// Subscription Identifiers and the shared group, where there are any.
    pub more: Option<Box<RecoveredMore>>,
}

/// Subscription Identifiers of a delivery, and the shared group that it came through.
pub type RecoveredMore = (Box<[u32]>, Option<Box<str>>);

/// Bytes of a log that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: SegmentId,
    /// Where they begin.
    pub place: usize,
    /// How many.
    pub bytes: usize,
    /// How many records are missing, where the next one says so.
    pub records: Option<u64>,
    /// What they seem to have been.
    pub seems: String,
    /// Where they were put, if anywhere.
    pub quarantined: Option<String>,
    /// They were the unfinished end of the log, as a crash leaves it, and were cut off. Nothing that was
    /// acknowledged is gone, unless the disk lost or changed what it had been given.
    pub torn_tail: bool,
}
