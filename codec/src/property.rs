//! One property, MQTT 5 section 2.2.2.

use std::num::{NonZeroU16, NonZeroU32};

use crate::wire::{Reader, put_binary, put_string, put_u16, put_u32, put_varint};
use crate::{DecodeError, QoS, topic};

/// The properties' identifiers, MQTT 5 table 2-4. `as u8` is the identifier on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the specification's names; `Property` says what each one is")]
pub enum PropertyId {
    PayloadFormatIndicator = 1,
    MessageExpiryInterval = 2,
    ContentType = 3,
    ResponseTopic = 8,
    CorrelationData = 9,
    SubscriptionIdentifier = 11,
    SessionExpiryInterval = 17,
    AssignedClientIdentifier = 18,
    ServerKeepAlive = 19,
    AuthenticationMethod = 21,
    AuthenticationData = 22,
    RequestProblemInformation = 23,
    WillDelayInterval = 24,
    RequestResponseInformation = 25,
    ResponseInformation = 26,
    ServerReference = 28,
    ReasonString = 31,
    ReceiveMaximum = 33,
    TopicAliasMaximum = 34,
    TopicAlias = 35,
    MaximumQoS = 36,
    RetainAvailable = 37,
    UserProperty = 38,
    MaximumPacketSize = 39,
    WildcardSubscriptionAvailable = 40,
    SubscriptionIdentifierAvailable = 41,
    SharedSubscriptionAvailable = 42,
}

impl TryFrom<u8> for PropertyId {
    type Error = DecodeError;

    /// Fails with [`DecodeError::PropertyNotAllowed`] for an identifier that MQTT 5 does not define.
    ///
    /// Identifiers are Variable Byte Integers, but all are below 128 and hence one byte.
    fn try_from(id: u8) -> Result<Self, DecodeError> {
        Ok(match id {
            1 => Self::PayloadFormatIndicator,
            2 => Self::MessageExpiryInterval,
            3 => Self::ContentType,
            8 => Self::ResponseTopic,
            9 => Self::CorrelationData,
            11 => Self::SubscriptionIdentifier,
            17 => Self::SessionExpiryInterval,
            18 => Self::AssignedClientIdentifier,
            19 => Self::ServerKeepAlive,
            21 => Self::AuthenticationMethod,
            22 => Self::AuthenticationData,
            23 => Self::RequestProblemInformation,
            24 => Self::WillDelayInterval,
            25 => Self::RequestResponseInformation,
            26 => Self::ResponseInformation,
            28 => Self::ServerReference,
            31 => Self::ReasonString,
            33 => Self::ReceiveMaximum,
            34 => Self::TopicAliasMaximum,
            35 => Self::TopicAlias,
            36 => Self::MaximumQoS,
            37 => Self::RetainAvailable,
            38 => Self::UserProperty,
            39 => Self::MaximumPacketSize,
            40 => Self::WildcardSubscriptionAvailable,
            41 => Self::SubscriptionIdentifierAvailable,
            42 => Self::SharedSubscriptionAvailable,
            _ => return Err(DecodeError::PropertyNotAllowed { id }),
        })
    }
}

/// The Payload Format Indicator, MQTT 5 section 3.3.2.3.2. What it claims is not checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PayloadFormat {
    /// Unspecified bytes, which is the same as not saying.
    #[default]
    Bytes = 0,
    /// UTF-8 encoded character data.
    Utf8 = 1,
}

/// One property and its value, MQTT 5 table 2-4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    /// What the payload is [MQTT-3.3.2-4].
    PayloadFormatIndicator(PayloadFormat),
    /// Seconds until the message is of no use [MQTT-3.3.2-5].
    MessageExpiryInterval(u32),
    /// A MIME type, say [MQTT-3.3.2-19].
    ContentType(&'a str),
    /// Where answers go [MQTT-3.3.2-13].
    ResponseTopic(&'a str),
    /// What an answer must repeat [MQTT-3.3.2-16].
    CorrelationData(&'a [u8]),
    /// 1 to 268,435,455 (section 3.8.2.1.2).
    SubscriptionIdentifier(u32),
    /// Seconds that a session outlives its connection; 0xFFFFFFFF is for ever [MQTT-3.1.2-23].
    SessionExpiryInterval(u32),
    /// The Client Identifier that the server chose [MQTT-3.2.2-16].
    AssignedClientIdentifier(&'a str),
    /// Seconds, in place of the client's Keep Alive [MQTT-3.1.2-21].
    ServerKeepAlive(u16),
    /// The name of the method of extended authentication (section 4.12).
    AuthenticationMethod(&'a str),
    /// What the method says (section 4.12).
    AuthenticationData(&'a [u8]),
    /// Whether the client wants reason strings [MQTT-3.1.2-29].
    RequestProblemInformation(bool),
    /// Seconds between the end of a connection and its Will Message [MQTT-3.1.3-9].
    WillDelayInterval(u32),
    /// Whether the client wants Response Information [MQTT-3.1.2-28].
    RequestResponseInformation(bool),
    /// A basis for response topics (section 3.2.2.3.15).
    ResponseInformation(&'a str),
    /// Another server to use (section 4.11).
    ServerReference(&'a str),
    /// A diagnosis, for people to read.
    ReasonString(&'a str),
    /// How many unacknowledged QoS 1 and 2 messages its sender takes [MQTT-3.3.4-7].
    ReceiveMaximum(NonZeroU16),
    /// The highest Topic Alias that its sender takes [MQTT-3.1.2-26].
    TopicAliasMaximum(u16),
    /// Stands for a Topic Name; not 0 [MQTT-3.3.2-8].
    TopicAlias(u16),
    /// The highest QoS that the server takes, 0 or 1; 2 is said by leaving it out [MQTT-3.2.2-11].
    MaximumQoS(QoS),
    /// Whether the server keeps retained messages [MQTT-3.2.2-14].
    RetainAvailable(bool),
    /// A name and a value. May occur often, in an order that is kept [MQTT-3.3.2-18].
    UserProperty(&'a str, &'a str),
    /// The largest packet that its sender takes, in bytes [MQTT-3.1.2-24].
    MaximumPacketSize(NonZeroU32),
    /// Whether the server takes wildcards in Topic Filters [MQTT-3.2.2-21].
    WildcardSubscriptionAvailable(bool),
    /// Whether the server takes Subscription Identifiers (section 3.2.2.3.12).
    SubscriptionIdentifierAvailable(bool),
    /// Whether the server takes Shared Subscriptions (section 3.2.2.3.13).
    SharedSubscriptionAvailable(bool),
}

impl<'a> Property<'a> {
    /// The property's identifier.
    #[must_use]
    pub const fn id(&self) -> PropertyId {
        use PropertyId as Id;
        match self {
            Self::PayloadFormatIndicator(_) => Id::PayloadFormatIndicator,
            Self::MessageExpiryInterval(_) => Id::MessageExpiryInterval,
            Self::ContentType(_) => Id::ContentType,
            Self::ResponseTopic(_) => Id::ResponseTopic,
            Self::CorrelationData(_) => Id::CorrelationData,
            Self::SubscriptionIdentifier(_) => Id::SubscriptionIdentifier,
            Self::SessionExpiryInterval(_) => Id::SessionExpiryInterval,
            Self::AssignedClientIdentifier(_) => Id::AssignedClientIdentifier,
            Self::ServerKeepAlive(_) => Id::ServerKeepAlive,
            Self::AuthenticationMethod(_) => Id::AuthenticationMethod,
            Self::AuthenticationData(_) => Id::AuthenticationData,
            Self::RequestProblemInformation(_) => Id::RequestProblemInformation,
            Self::WillDelayInterval(_) => Id::WillDelayInterval,
            Self::RequestResponseInformation(_) => Id::RequestResponseInformation,
            Self::ResponseInformation(_) => Id::ResponseInformation,
            Self::ServerReference(_) => Id::ServerReference,
            Self::ReasonString(_) => Id::ReasonString,
            Self::ReceiveMaximum(_) => Id::ReceiveMaximum,
            Self::TopicAliasMaximum(_) => Id::TopicAliasMaximum,
            Self::TopicAlias(_) => Id::TopicAlias,
            Self::MaximumQoS(_) => Id::MaximumQoS,
            Self::RetainAvailable(_) => Id::RetainAvailable,
            Self::UserProperty(..) => Id::UserProperty,
            Self::MaximumPacketSize(_) => Id::MaximumPacketSize,
            Self::WildcardSubscriptionAvailable(_) => Id::WildcardSubscriptionAvailable,
            Self::SubscriptionIdentifierAvailable(_) => Id::SubscriptionIdentifierAvailable,
            Self::SharedSubscriptionAvailable(_) => Id::SharedSubscriptionAvailable,
        }
    }

    /// Reads the value of the property `id`, which was just taken.
    pub(crate) fn decode_value(id: PropertyId, r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        use PropertyId as Id;
        let out_of_range = DecodeError::PropertyOutOfRange { id: id as u8 };
        Ok(match id {
            Id::PayloadFormatIndicator => Self::PayloadFormatIndicator(match flag(id, r)? {
                false => PayloadFormat::Bytes,
                true => PayloadFormat::Utf8,
            }),
            Id::MessageExpiryInterval => Self::MessageExpiryInterval(r.u32()?),
            Id::ContentType => Self::ContentType(r.string()?),
            Id::ResponseTopic => Self::ResponseTopic(response_topic(r)?),
            Id::CorrelationData => Self::CorrelationData(r.binary()?),
            Id::SubscriptionIdentifier => match r.varint()? {
                0 => return Err(out_of_range),
                value => Self::SubscriptionIdentifier(value),
            },
            Id::SessionExpiryInterval => Self::SessionExpiryInterval(r.u32()?),
            Id::AssignedClientIdentifier => Self::AssignedClientIdentifier(r.string()?),
            Id::ServerKeepAlive => Self::ServerKeepAlive(r.u16()?),
            Id::AuthenticationMethod => Self::AuthenticationMethod(r.string()?),
            Id::AuthenticationData => Self::AuthenticationData(r.binary()?),
            Id::RequestProblemInformation => Self::RequestProblemInformation(flag(id, r)?),
            Id::WillDelayInterval => Self::WillDelayInterval(r.u32()?),
            Id::RequestResponseInformation => Self::RequestResponseInformation(flag(id, r)?),
            Id::ResponseInformation => Self::ResponseInformation(r.string()?),
            Id::ServerReference => Self::ServerReference(r.string()?),
            Id::ReasonString => Self::ReasonString(r.string()?),
            Id::ReceiveMaximum => Self::ReceiveMaximum(NonZeroU16::new(r.u16()?).ok_or(out_of_range)?),
            Id::TopicAliasMaximum => Self::TopicAliasMaximum(r.u16()?),
            Id::TopicAlias => match r.u16()? {
                0 => return Err(DecodeError::TopicAliasZero),
                value => Self::TopicAlias(value),
            },
            Id::MaximumQoS => Self::MaximumQoS(match flag(id, r)? {
                false => QoS::AtMostOnce,
                true => QoS::AtLeastOnce,
            }),
            Id::RetainAvailable => Self::RetainAvailable(flag(id, r)?),
            Id::UserProperty => Self::UserProperty(r.string()?, r.string()?),
            Id::MaximumPacketSize => Self::MaximumPacketSize(NonZeroU32::new(r.u32()?).ok_or(out_of_range)?),
            Id::WildcardSubscriptionAvailable => Self::WildcardSubscriptionAvailable(flag(id, r)?),
            Id::SubscriptionIdentifierAvailable => Self::SubscriptionIdentifierAvailable(flag(id, r)?),
            Id::SharedSubscriptionAvailable => Self::SharedSubscriptionAvailable(flag(id, r)?),
        })
    }

    /// Appends the property, identifier first. Panics if a string or binary value is over 65,535
    /// bytes long.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.id() as u8);
        match *self {
            Self::PayloadFormatIndicator(value) => out.push(value as u8),
            Self::MaximumQoS(value) => out.push(value as u8),
            Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::RetainAvailable(value)
            | Self::WildcardSubscriptionAvailable(value)
            | Self::SubscriptionIdentifierAvailable(value)
            | Self::SharedSubscriptionAvailable(value) => out.push(u8::from(value)),
            Self::ServerKeepAlive(value) | Self::TopicAliasMaximum(value) | Self::TopicAlias(value) => {
                put_u16(value, out)
            }
            Self::ReceiveMaximum(value) => put_u16(value.get(), out),
            Self::MessageExpiryInterval(value)
            | Self::SessionExpiryInterval(value)
            | Self::WillDelayInterval(value) => put_u32(value, out),
            Self::MaximumPacketSize(value) => put_u32(value.get(), out),
            Self::SubscriptionIdentifier(value) => put_varint(value, out),
            Self::ContentType(value)
            | Self::ResponseTopic(value)
            | Self::AssignedClientIdentifier(value)
            | Self::AuthenticationMethod(value)
            | Self::ResponseInformation(value)
            | Self::ServerReference(value)
            | Self::ReasonString(value) => put_string(value, out),
            Self::CorrelationData(value) | Self::AuthenticationData(value) => {
                put_binary(value, out);
            }
            Self::UserProperty(name, value) => {
                put_string(name, out);
                put_string(value, out);
            }
        }
    }
}

/// A byte that may be 0 or 1 only.
fn flag(id: PropertyId, r: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        2.. => Err(DecodeError::PropertyOutOfRange { id: id as u8 }),
    }
}

/// A Response Topic, which is a Topic Name [MQTT-3.3.2-14].
fn response_topic<'a>(r: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    topic::check_name(r.binary()?).map_err(|error| {
        let malformed = error == DecodeError::StringInvalid;
        if malformed { error } else { DecodeError::ResponseTopicInvalid }
    })
}
