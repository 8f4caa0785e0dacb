//! Messages, as a program gives and gets them.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use ringmq_codec::{QoS, Version};

use crate::link::AckToken;

/// A topic name; clones share it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Topic {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

impl Deref for Topic {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Topic {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl From<String> for Topic {
    fn from(name: String) -> Self {
        Self(Arc::from(name))
    }
}

impl From<&Topic> for Topic {
    fn from(name: &Topic) -> Self {
        name.clone()
    }
}

impl PartialEq<str> for Topic {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Topic {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A message to publish, or one that was received. Cheap to clone: topic and payload are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The topic name.
    pub topic: Topic,
    /// The payload.
    pub payload: Bytes,
    /// Of the publication when given, of the delivery when received.
    pub qos: QoS,
    /// When given: the broker is to store it as the topic's retained message, or clear that when the payload
    /// is empty. When received: the RETAIN flag as it came.
    pub retain: bool,
    /// The rest of its life in seconds; none for ever. MQTT 5.
    pub message_expiry_s: Option<u32>,
    /// The other MQTT 5 properties that travel with it; none in MQTT 3.
    pub properties: Option<Box<MessageProperties>>,
}

impl Message {
    /// A message at QoS 0, not retained.
    pub fn new(topic: impl Into<Topic>, payload: impl Into<Bytes>) -> Self {
        Self { topic: topic.into(), payload: payload.into(), ..Self::default() }
    }

    /// The same message at another QoS.
    #[must_use]
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// The same message, to be retained.
    #[must_use]
    pub fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    /// The same message with these properties.
    #[must_use]
    pub fn properties(mut self, properties: MessageProperties) -> Self {
        self.properties = Some(Box::new(properties));
        self
    }
}

impl Message {
    /// Bytes of the PUBLISH that it makes, at most: a topic alias or Subscription Identifier aside.
    pub(crate) fn packet_bytes(&self, version: Version) -> usize {
        let id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let mut rest = 2 + self.topic.len() + id + self.payload.len();
        if version == Version::V5 {
            let mut bytes = if self.message_expiry_s.is_some() { 5 } else { 0 };
            if let Some(properties) = &self.properties {
                bytes += properties.bytes();
            }
            rest += varint_bytes(bytes) + bytes;
        }
        1 + varint_bytes(rest) + rest
    }
}

/// Bytes of a Variable Byte Integer.
fn varint_bytes(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

impl MessageProperties {
    fn bytes(&self) -> usize {
        let string = |text: usize| 3 + text;
        let user = |(name, value): &(String, String)| 5 + name.len() + value.len();
        (if self.payload_is_text { 2 } else { 0 })
            + self.content_type.as_ref().map_or(0, |text| string(text.len()))
            + self.response_topic.as_ref().map_or(0, |topic| string(topic.len()))
            + self.correlation_data.as_ref().map_or(0, |data| string(data.len()))
            + self.user.iter().map(user).sum::<usize>()
    }
}

/// MQTT 5 properties of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// The payload is UTF-8 text (Payload Format Indicator).
    pub payload_is_text: bool,
    /// What the payload is, a MIME type say.
    pub content_type: Option<String>,
    /// Where an answer is expected.
    pub response_topic: Option<Topic>,
    /// What an answer must repeat.
    pub correlation_data: Option<Bytes>,
    /// User properties; names may repeat, and their order is kept.
    pub user: Vec<(String, String)>,
}

/// A message that a session received. Reads as the [`Message`] that it holds.
#[derive(Clone, Debug)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// The name of the session that received it.
    pub session: Arc<str>,
    /// The DUP flag: the broker may have sent it before.
    pub dup: bool,
    /// The Subscription Identifiers that it came with, MQTT 5.
    pub subscription_ids: Vec<u32>,
    /// Present while the broker is not told yet that it arrived.
    pub(crate) ack: Option<Arc<AckToken>>,
}

impl Received {
    /// Tells the broker that the message is dealt with (PUBACK, or PUBREC and PUBCOMP), where the session was
    /// made with `manual_acks`. Without it, or called again, or after the connection was lost (then the broker
    /// sends the message again), nothing happens. A message that several routes received is acknowledged once
    /// every one of them has.
    pub fn ack(&mut self) {
        if let Some(token) = self.ack.take() {
            token.used();
        }
    }
}

impl Deref for Received {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}
