//! What other threads of the program ask of a shard, and what it tells them.

use std::sync::Arc;

use bytes::Bytes;
use ringmq_codec::{QoS, ReasonCode};

/// Names one in-process subscriber; chosen by the program, unique among its living subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriberId(pub u64);

/// Names one request, to match its answer; chosen by the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// A message as the program gives it or gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalMessage {
    /// The topic name.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// Of the publication when given, of the subscription's grant when delivered.
    pub qos: QoS,
    /// Store it (given), or: it was stored before the subscription was made (delivered).
    pub retain: bool,
    /// MQTT 5 properties that are forwarded unaltered, encoded as on the wire.
    pub properties: Bytes,
    /// The rest of its life in seconds; none for ever.
    pub message_expiry_s: Option<u32>,
}

/// What a program asks of one shard.
#[derive(Clone, Debug)]
pub enum Command {
    /// Publish a message. Any shard takes it; one program thread should keep to one shard so that its
    /// messages stay in order. Answered by [`Event::Published`].
    Publish {
        /// Comes back in the answer.
        request: RequestId,
        /// The message.
        message: LocalMessage,
    },
    /// Subscribe to a filter, from within the program. Answered by [`Event::Subscribed`], then
    /// [`Event::Delivery`] for each message. A subscriber keeps to one shard.
    Subscribe {
        /// Comes back in the answer.
        request: RequestId,
        /// The subscriber; made by its first subscription.
        subscriber: SubscriberId,
        /// The topic filter; shared subscriptions are allowed.
        filter: String,
        /// The highest QoS at which messages are reported.
        qos: QoS,
    },
    /// End one subscription. Answered by [`Event::Subscribed`] too.
    Unsubscribe {
        /// Comes back in the answer.
        request: RequestId,
        /// The subscriber.
        subscriber: SubscriberId,
        /// The topic filter.
        filter: String,
    },
    /// End a subscriber and all its subscriptions. Not answered.
    Leave {
        /// The subscriber.
        subscriber: SubscriberId,
    },
}

/// What a shard tells the program.
#[derive(Clone, Debug)]
pub enum Event {
    /// A [`Command::Publish`] is done: every session that must have the message has it.
    Published {
        /// Of the command.
        request: RequestId,
        /// Success, No matching subscribers, or why it was refused.
        reason: ReasonCode,
    },
    /// A [`Command::Subscribe`] or [`Command::Unsubscribe`] is done, and known on every shard.
    Subscribed {
        /// Of the command.
        request: RequestId,
        /// The granted QoS, success, or why it was refused.
        reason: ReasonCode,
    },
    /// A message for an in-process subscriber.
    Delivery {
        /// For whom.
        subscriber: SubscriberId,
        /// The message.
        message: Arc<LocalMessage>,
    },
}
