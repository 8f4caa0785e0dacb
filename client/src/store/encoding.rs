//! Messages as bytes, and the time that they have left.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ringmq_codec::{
    Decoded, PayloadFormat, Properties, Property, PropertyScope, Publish, PublishProperties, QoS,
    UserProperties, Version, frame,
};

use super::Number;
use crate::message::{Message, MessageProperties, Topic};

/// What MQTT allows a string or a piece of binary data to have.
pub(super) const FIELD_BYTES_MAX: usize = 65_535;

/// Wall clock, milliseconds since 1970.
pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// When a message's Message Expiry Interval ends, if it begins now; 0 for never.
pub(super) fn expires_at_ms(message: &Message, now_ms: u64) -> u64 {
    message.message_expiry_s.map_or(0, |expiry_s| now_ms + u64::from(expiry_s) * 1000)
}

/// What is left of a Message Expiry Interval, in seconds.
pub(super) fn left_s(expires_at_ms: u64, now_ms: u64) -> Option<u32> {
    let left_ms = expires_at_ms.saturating_sub(now_ms);
    (expires_at_ms > 0).then(|| u32::try_from(left_ms.div_ceil(1000)).unwrap_or(u32::MAX))
}

/// Whether MQTT has room for every field of a message; if not, how long the longest is.
pub(super) fn check_fields(message: &Message) -> Result<(), usize> {
    let none = MessageProperties::default();
    let properties = message.properties.as_deref().unwrap_or(&none);
    let user = properties.user.iter().flat_map(|(name, value)| [name.len(), value.len()]);
    let others = [
        message.topic.len(),
        properties.content_type.as_ref().map_or(0, String::len),
        properties.response_topic.as_ref().map_or(0, |topic| topic.len()),
        properties.correlation_data.as_ref().map_or(0, Bytes::len),
    ];
    match user.chain(others).max() {
        Some(bytes) if bytes > FIELD_BYTES_MAX => Err(bytes),
        Some(_) | None => Ok(()),
    }
}

/// A message's properties as MQTT 5 has them on the wire, without their length and without its expiry. Of a
/// message that [`check_fields`] has passed.
pub(super) fn encode_properties(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(properties) = &message.properties else { return out };
    let known = [
        properties.payload_is_text.then_some(Property::PayloadFormatIndicator(PayloadFormat::Utf8)),
        properties.content_type.as_deref().map(Property::ContentType),
        properties.response_topic.as_deref().map(Property::ResponseTopic),
        properties.correlation_data.as_deref().map(Property::CorrelationData),
    ];
    let user = properties.user.iter().map(|(name, value)| Property::UserProperty(name, value));
    for property in known.into_iter().flatten().chain(user) {
        property.encode(&mut out);
    }
    out
}

/// The reverse of [`encode_properties`]; none for what was not encoded by it.
pub(super) fn decode_properties(raw: &[u8]) -> Option<Option<Box<MessageProperties>>> {
    if raw.is_empty() {
        return Some(None);
    }
    let mut out = MessageProperties::default();
    for property in Properties::new(raw, PropertyScope::Publish) {
        match property.ok()? {
            Property::PayloadFormatIndicator(format) => out.payload_is_text = format == PayloadFormat::Utf8,
            Property::ContentType(text) => out.content_type = Some(text.to_owned()),
            Property::ResponseTopic(name) => out.response_topic = Some(Topic::from(name)),
            Property::CorrelationData(data) => out.correlation_data = Some(Bytes::copy_from_slice(data)),
            Property::UserProperty(name, value) => out.user.push((name.to_owned(), value.to_owned())),
            // The rest of its life is kept beside, and the others concern one delivery.
            _ => {}
        }
    }
    Some(Some(Box::new(out)))
}

/// A message's fields as one of our stores has them.
pub(super) struct Fields<'a> {
    pub topic: &'a [u8],
    pub properties: &'a [u8],
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    pub expires_at_ms: u64,
}

impl Fields<'_> {
    /// The message; none if they are not what a message had.
    pub fn message(&self, now_ms: u64) -> Option<Message> {
        Some(Message {
            topic: Topic::from(std::str::from_utf8(self.topic).ok()?),
            payload: Bytes::copy_from_slice(self.payload),
            qos: QoS::try_from(self.qos).ok()?,
            retain: self.retain,
            message_expiry_s: left_s(self.expires_at_ms, now_ms),
            properties: decode_properties(self.properties)?,
        })
    }
}

/// Marks a publication that is kept whole: eight bytes with the end of its life (little-endian milliseconds
/// since 1970, 0 for never) and an MQTT 5 PUBLISH packet follow.
const WHOLE: u8 = 1;
/// Marks one of which PUBREC came; nothing follows.
const RELEASED: u8 = 2;

/// A publication as one value.
#[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "for stores elsewhere"))]
pub(super) fn encode_value(number: Number, message: &Message, now_ms: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + message.topic.len() + message.payload.len());
    out.push(WHOLE);
    out.extend_from_slice(&expires_at_ms(message, now_ms).to_le_bytes());
    let none = MessageProperties::default();
    let properties = message.properties.as_deref().unwrap_or(&none);
    let user: Vec<(&str, &str)> =
        properties.user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let publish = Publish {
        dup: false,
        qos: message.qos,
        retain: message.retain,
        topic: message.topic.as_bytes(),
        packet_id: (message.qos != QoS::AtMostOnce).then(|| number.packet_id()),
        properties: PublishProperties {
            payload_format: properties.payload_is_text.then_some(PayloadFormat::Utf8),
            content_type: properties.content_type.as_deref(),
            response_topic: properties.response_topic.as_deref(),
            correlation_data: properties.correlation_data.as_deref(),
            user: UserProperties::from(&*user),
            ..PublishProperties::default()
        },
        payload: &message.payload,
    };
    publish.encode(Version::V5, &mut out);
    out
}

/// What stands in its place once PUBREC came.
#[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "for stores elsewhere"))]
pub(super) fn released_value() -> &'static [u8] {
    &[RELEASED]
}

/// The reverse: the message and whether PUBREC came; none for other bytes.
#[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "for stores elsewhere"))]
pub(super) fn decode_value(value: &[u8], now_ms: u64) -> Option<(Message, bool)> {
    let (kind, rest) = value.split_first()?;
    match *kind {
        RELEASED if rest.is_empty() => return Some((Message::default(), true)),
        WHOLE => {}
        _ => return None,
    }
    let (expires_at_ms, packet) = rest.split_first_chunk::<8>()?;
    let Ok(Decoded::Complete(frame)) = frame(packet, u32::MAX) else { return None };
    if frame.total != packet.len() {
        return None;
    }
    let publish = Publish::decode(Version::V5, &frame).ok()?;
    let fields = Fields {
        topic: publish.topic,
        properties: publish.properties.raw,
        payload: publish.payload,
        qos: publish.qos as u8,
        retain: publish.retain,
        expires_at_ms: u64::from_le_bytes(*expires_at_ms),
    };
    Some((fields.message(now_ms)?, false))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(any::<char>(), 0..6)
            .prop_map(|chars| chars.into_iter().filter(|c| *c != '\0').collect())
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    prop_compose! {
        fn properties()(
            payload_is_text in any::<bool>(),
            content_type in proptest::option::of(text()),
            response_topic in proptest::option::of("[a-z/]{1,8}"),
            correlation_data in proptest::option::of(bytes()),
            user in proptest::collection::vec((text(), text()), 0..4),
        ) -> Option<Box<MessageProperties>> {
            let response_topic = response_topic.map(Topic::from);
            let all = MessageProperties { payload_is_text, content_type, response_topic, correlation_data, user };
            (all != MessageProperties::default()).then(|| Box::new(all))
        }
    }

    prop_compose! {
        fn message()(
            topic in "[a-zü/$]{1,12}",
            payload in bytes(),
            is_twice in any::<bool>(),
            retain in any::<bool>(),
            message_expiry_s in proptest::option::of(any::<u32>()),
            properties in properties(),
        ) -> Message {
            let qos = if is_twice { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            Message { topic: topic.into(), payload, qos, retain, message_expiry_s, properties }
        }
    }

    proptest! {
        #[test]
        fn a_value_gives_back_its_message(message in message(), number in any::<u64>(), now_ms in 1..1u64 << 60) {
            let value = encode_value(Number(number), &message, now_ms);
            prop_assert_eq!(decode_value(&value, now_ms), Some((message.clone(), false)));
            for end in 0..value.len() {
                prop_assert_eq!(decode_value(&value[..end], now_ms), None);
            }
            prop_assert_eq!(decode_properties(&encode_properties(&message)), Some(message.properties));
        }

        #[test]
        fn other_bytes_are_no_value(mut value in proptest::collection::vec(any::<u8>(), 0..64)) {
            decode_value(&value, 1);
            if let Some(first) = value.first_mut() {
                *first = WHOLE;
            }
            if value.len() > 10 {
                value[9] = 0x32;
                value[10] = (value.len() - 11) as u8;
            }
            decode_value(&value, 1);
        }
    }

    #[test]
    fn what_is_left_of_a_life_is_rounded_up() {
        for (expires_at_ms, now_ms, left) in [
            (0, 5, None),
            (1000, 1000, Some(0)),
            (999, 1000, Some(0)),
            (1001, 1000, Some(1)),
            (3000, 1000, Some(2)),
            (u64::MAX, 1, Some(u32::MAX)),
        ] {
            assert_eq!(left_s(expires_at_ms, now_ms), left, "{expires_at_ms} at {now_ms}");
        }
    }
}
