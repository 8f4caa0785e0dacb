//! PUBLISH as received, MQTT 5 section 3.3. [`crate::PublishHeader`] is how servers send it.

use std::fmt;

use crate::frame::{Frame, PacketType};
use crate::properties::RawProperties;
use crate::wire::{Reader, put_binary, put_properties, put_u16, put_with_length};
use crate::{
    DecodeError, PacketId, PayloadFormat, Properties, Property, PropertyId, PropertyScope, QoS,
    UserProperties, Version,
};

pub(crate) const DUP: u8 = 0x08;
pub(crate) const QOS_SHIFT: u8 = 1;
pub(crate) const RETAIN: u8 = 0x01;

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether this may be a repetition [MQTT-3.3.1-1]; never at QoS 0 [MQTT-3.3.1-2].
    pub dup: bool,
    /// The QoS that it is sent with; 3 does not decode [MQTT-3.3.1-4].
    pub qos: QoS,
    /// The RETAIN flag [MQTT-3.3.1-5].
    pub retain: bool,
    /// The Topic Name, NOT validated: a broker that knows the topic already need not do it again.
    /// [`crate::check_name`] does. Empty where a Topic Alias stands for it.
    pub topic: &'a [u8],
    /// The Packet Identifier; `None` exactly at QoS 0 [MQTT-2.2.1-2].
    pub packet_id: Option<PacketId>,
    /// MQTT 5's properties; empty in 3.x.
    pub properties: PublishProperties<'a>,
    /// The Application Message, which may be empty.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// Reads a PUBLISH.
    #[inline]
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        debug_assert_eq!(frame.packet_type(), Ok(PacketType::Publish));
        let qos = QoS::try_from(frame.first >> QOS_SHIFT & 3)?;
        let dup = frame.first & DUP != 0;
        let retain = frame.first & RETAIN != 0;
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::DupWithQoS0);
        }
        let mut reader = Reader::new(frame.body);
        let topic = reader.binary()?;
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Some(reader.packet_id()?),
        };
        let raw = reader.properties(version)?;
        let properties =
            if raw.is_empty() { PublishProperties::default() } else { PublishProperties::decode(raw)? };
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload: reader.rest() })
    }

    /// Appends the packet. A `packet_id` of `None` above QoS 0 is two zero bytes.
    ///
    /// Panics on DUP at QoS 0, on a Packet Identifier there, and on fields over 65,535 bytes.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.push(first_byte(self.dup, self.qos, self.retain));
        put_with_length(self.payload.len(), out, |out| {
            put_binary(self.topic, out);
            match self.qos {
                QoS::AtMostOnce => assert_eq!(self.packet_id, None, "[MQTT-2.2.1-2]"),
                QoS::AtLeastOnce | QoS::ExactlyOnce => {
                    put_u16(self.packet_id.map_or(0, PacketId::get), out);
                }
            }
            put_properties(version, out, |out| self.properties.encode(out));
        });
        out.extend_from_slice(self.payload);
    }
}

/// The fixed header's first byte. Panics on DUP at QoS 0 [MQTT-3.3.1-2].
#[inline]
pub(crate) fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    assert!(!dup || qos != QoS::AtMostOnce, "[MQTT-3.3.1-2]");
    PacketType::Publish.first()
        | (u8::from(dup) * DUP)
        | (qos as u8) << QOS_SHIFT
        | (u8::from(retain) * RETAIN)
}

/// The properties of a PUBLISH, section 3.3.2.3. The default is none.
#[derive(Clone, Copy, Default, Debug)]
pub struct PublishProperties<'a> {
    /// All of them as decoded, without their length, for [`crate::forwardable`] to choose from. Not
    /// looked at in comparing or encoding.
    pub raw: &'a [u8],
    /// Payload Format Indicator [MQTT-3.3.2-4].
    pub payload_format: Option<PayloadFormat>,
    /// Message Expiry Interval in seconds [MQTT-3.3.2-5].
    pub message_expiry_s: Option<u32>,
    /// Topic Alias; never 0 [MQTT-3.3.2-8]. Whether it is within bounds is the receiver's to check.
    pub topic_alias: Option<u16>,
    /// Response Topic, a valid Topic Name [MQTT-3.3.2-14].
    pub response_topic: Option<&'a str>,
    /// Correlation Data [MQTT-3.3.2-16].
    pub correlation_data: Option<&'a [u8]>,
    /// Content Type [MQTT-3.3.2-19].
    pub content_type: Option<&'a str>,
    /// Subscription Identifiers [MQTT-3.3.4-4].
    pub subscription_ids: SubscriptionIds<'a>,
    /// Whether there are any: a client must not send one [MQTT-3.3.4-6]. Not looked at in comparing
    /// or encoding.
    pub has_subscription_ids: bool,
    /// User Properties [MQTT-3.3.2-17].
    pub user: UserProperties<'a>,
}

impl<'a> PublishProperties<'a> {
    #[cold]
    fn decode(raw: &'a [u8]) -> Result<Self, DecodeError> {
        let mut this = Self {
            raw,
            subscription_ids: SubscriptionIds(Source::Wire(raw)),
            user: UserProperties::checked(raw),
            ..Self::default()
        };
        for property in Properties::new(raw, PropertyScope::Publish) {
            match property? {
                Property::PayloadFormatIndicator(value) => this.payload_format = Some(value),
                Property::MessageExpiryInterval(value) => this.message_expiry_s = Some(value),
                Property::TopicAlias(value) => this.topic_alias = Some(value),
                Property::ResponseTopic(value) => this.response_topic = Some(value),
                Property::CorrelationData(value) => this.correlation_data = Some(value),
                Property::ContentType(value) => this.content_type = Some(value),
                Property::SubscriptionIdentifier(_) => this.has_subscription_ids = true,
                // Read from `raw` when asked for; others are not allowed here.
                _ => {}
            }
        }
        Ok(this)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let properties = [
            self.payload_format.map(Property::PayloadFormatIndicator),
            self.message_expiry_s.map(Property::MessageExpiryInterval),
            self.topic_alias.map(Property::TopicAlias),
            self.response_topic.map(Property::ResponseTopic),
            self.correlation_data.map(Property::CorrelationData),
            self.content_type.map(Property::ContentType),
        ];
        for property in properties.iter().flatten() {
            property.encode(out);
        }
        for id in self.subscription_ids.iter() {
            Property::SubscriptionIdentifier(id).encode(out);
        }
        self.user.encode(out);
    }
}

/// Equal if every property is, in whatever order they were encoded.
impl PartialEq for PublishProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.payload_format == other.payload_format
            && self.message_expiry_s == other.message_expiry_s
            && self.topic_alias == other.topic_alias
            && self.response_topic == other.response_topic
            && self.correlation_data == other.correlation_data
            && self.content_type == other.content_type
            && self.subscription_ids == other.subscription_ids
            && self.user == other.user
    }
}

impl Eq for PublishProperties<'_> {}

/// The Subscription Identifiers of a PUBLISH, each 1 to 268,435,455 [MQTT-3.3.4-4]. To encode some,
/// make it from a slice.
#[derive(Clone, Copy)]
pub struct SubscriptionIds<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// A property section that was checked, with other properties in it.
    Wire(&'a [u8]),
    List(&'a [u32]),
}

impl<'a> SubscriptionIds<'a> {
    /// The identifiers in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (raw, list): (&[u8], &[u32]) = match self.0 {
            Source::Wire(raw) => (raw, &[]),
            Source::List(list) => (&[], list),
        };
        RawProperties::new(raw)
            .filter(|(id, _)| *id == PropertyId::SubscriptionIdentifier)
            .map(|(_, bytes)| Reader::new(&bytes[1..]).varint().expect("checked when the packet was decoded"))
            .chain(list.iter().copied())
    }
}

impl Default for SubscriptionIds<'_> {
    fn default() -> Self {
        Self(Source::List(&[]))
    }
}

impl<'a> From<&'a [u32]> for SubscriptionIds<'a> {
    fn from(ids: &'a [u32]) -> Self {
        Self(Source::List(ids))
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscriptionIds<'_> {}

impl fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
