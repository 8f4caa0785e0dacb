//! Messages, as an embedding program gives and gets them.

use bytes::Bytes;
use ringmq_codec::{PayloadFormat, Property, PropertyScope, QoS, check_name};
use ringmq_engine::LocalMessage;

use super::PublishError;

/// A message to publish, or one that a subscription received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The topic name.
    pub topic: String,
    /// The payload; shared, not copied, between the broker and the program.
    pub payload: Bytes,
    /// Of the publication when given; the lesser of that and the subscription's when received.
    pub qos: QoS,
    /// When given: store it as the topic's retained message, or clear that when the payload is empty. When
    /// received: it was published so, or was stored before the subscription was made.
    pub retain: bool,
    /// The rest of its life in seconds; none for ever.
    pub message_expiry_s: Option<u32>,
    /// The MQTT 5 properties that travel with it.
    pub properties: MessageProperties,
}

impl Message {
    /// A message at QoS 0, not retained.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
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

    /// The engine's form of it. Fails when its topic is not a topic name.
    pub(super) fn into_local(self) -> Result<LocalMessage, PublishError> {
        if let Err(fault) = check_name(self.topic.as_bytes()) {
            return Err(PublishError::Topic { topic: self.topic, fault });
        }
        Ok(LocalMessage {
            properties: self.properties.encode()?,
            topic: self.topic,
            payload: self.payload,
            qos: self.qos,
            retain: self.retain,
            message_expiry_s: self.message_expiry_s,
        })
    }

    pub(super) fn from_local(local: LocalMessage) -> Self {
        Self {
            properties: MessageProperties::decode(&local.properties),
            topic: local.topic,
            payload: local.payload,
            qos: local.qos,
            retain: local.retain,
            message_expiry_s: local.message_expiry_s,
        }
    }
}

/// The MQTT 5 properties of a message that the broker passes on unaltered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// The payload is UTF-8 text (Payload Format Indicator).
    pub payload_is_text: bool,
    /// What the payload is, a MIME type say.
    pub content_type: Option<String>,
    /// Where an answer is expected.
    pub response_topic: Option<String>,
    /// What an answer must repeat.
    pub correlation_data: Option<Bytes>,
    /// User properties; names may repeat, and their order is kept.
    pub user: Vec<(String, String)>,
}

/// The longest string or binary value that MQTT can express.
const VALUE_BYTES_MAX: usize = 65_535;

impl MessageProperties {
    fn encode(&self) -> Result<Bytes, PublishError> {
        let user = self.user.iter().flat_map(|(name, value)| [name, value]);
        let mut texts = self.content_type.iter().chain(&self.response_topic).chain(user);
        if texts.any(|text| text.len() > VALUE_BYTES_MAX || text.contains('\0'))
            || self.correlation_data.as_ref().is_some_and(|data| data.len() > VALUE_BYTES_MAX)
            || self.response_topic.as_ref().is_some_and(|topic| check_name(topic.as_bytes()).is_err())
        {
            return Err(PublishError::Properties);
        }
        let mut out = Vec::new();
        if self.payload_is_text {
            Property::PayloadFormatIndicator(PayloadFormat::Utf8).encode(&mut out);
        }
        if let Some(topic) = &self.response_topic {
            Property::ResponseTopic(topic).encode(&mut out);
        }
        if let Some(data) = &self.correlation_data {
            Property::CorrelationData(data).encode(&mut out);
        }
        if let Some(content_type) = &self.content_type {
            Property::ContentType(content_type).encode(&mut out);
        }
        for (name, value) in &self.user {
            Property::UserProperty(name, value).encode(&mut out);
        }
        Ok(out.into())
    }

    fn decode(raw: &[u8]) -> Self {
        let mut properties = Self::default();
        // The broker checked them when they came in.
        for property in ringmq_codec::Properties::new(raw, PropertyScope::Publish).flatten() {
            match property {
                Property::PayloadFormatIndicator(format) => {
                    properties.payload_is_text = format == PayloadFormat::Utf8;
                }
                Property::ContentType(content_type) => properties.content_type = Some(content_type.into()),
                Property::ResponseTopic(topic) => properties.response_topic = Some(topic.into()),
                Property::CorrelationData(data) => {
                    properties.correlation_data = Some(Bytes::copy_from_slice(data));
                }
                Property::UserProperty(name, value) => properties.user.push((name.into(), value.into())),
                // No other property is passed on unaltered.
                _ => {}
            }
        }
        properties
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_way_through_the_engine() {
        let message = Message {
            properties: MessageProperties {
                payload_is_text: true,
                content_type: Some("text/plain".into()),
                response_topic: Some("answers/here".into()),
                correlation_data: Some(Bytes::from_static(b"\x00\x01")),
                user: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
            },
            message_expiry_s: Some(5),
            ..Message::new("a/b", "hello").qos(QoS::ExactlyOnce).retained()
        };
        let local = message.clone().into_local().unwrap();
        assert_eq!(Message::from_local(local), message);
    }

    #[test]
    fn what_mqtt_cannot_express_is_refused() {
        for topic in ["", "a/+", "#", "a\0b"] {
            let refused = Message::new(topic, "x").into_local();
            assert!(matches!(refused, Err(PublishError::Topic { .. })), "{topic:?}");
        }
        let mut message = Message::new("a", "x");
        message.properties.response_topic = Some("a/#".into());
        assert!(matches!(message.into_local(), Err(PublishError::Properties)));
        let mut message = Message::new("a", "x");
        message.properties.user.push(("n".repeat(70_000), String::new()));
        assert!(matches!(message.into_local(), Err(PublishError::Properties)));
    }
}
