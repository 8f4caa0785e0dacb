//! Property sections, MQTT 5 section 2.2.2: which properties a packet may hold, and how often.

use crate::wire::Reader;
use crate::{DecodeError, Property, PropertyId};

/// Where a property section stands, which says what it may hold (MQTT 5 table 2-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PropertyScope {
    /// CONNECT's own properties.
    Connect,
    /// The Will Properties in CONNECT's payload.
    Will,
    /// CONNACK
    ConnAck,
    /// PUBLISH
    Publish,
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK, which all may hold the same.
    Ack,
    /// SUBSCRIBE
    Subscribe,
    /// UNSUBSCRIBE
    Unsubscribe,
    /// DISCONNECT
    Disconnect,
    /// AUTH
    Auth,
}

/// A set of property identifiers: all are below 64.
const fn set(ids: &[PropertyId]) -> u64 {
    let mut bits = 0;
    let mut i = 0;
    while i < ids.len() {
        bits |= bit(ids[i]);
        i += 1;
    }
    bits
}

const fn bit(id: PropertyId) -> u64 {
    1 << id as u8
}

use PropertyId as Id;

const MESSAGE: u64 = set(&[
    Id::PayloadFormatIndicator,
    Id::MessageExpiryInterval,
    Id::ContentType,
    Id::ResponseTopic,
    Id::CorrelationData,
    Id::UserProperty,
]);
const AUTHENTICATION: u64 = set(&[Id::AuthenticationMethod, Id::AuthenticationData]);
const BOTH_ENDS: u64 = set(&[
    Id::SessionExpiryInterval,
    Id::ReceiveMaximum,
    Id::MaximumPacketSize,
    Id::TopicAliasMaximum,
    Id::UserProperty,
]) | AUTHENTICATION;
const DIAGNOSIS: u64 = set(&[Id::ReasonString, Id::UserProperty]);

/// What a server passes on unaltered: [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16],
/// [MQTT-3.3.2-17], [MQTT-3.3.2-20].
const FORWARDABLE: u64 = set(&[
    Id::PayloadFormatIndicator,
    Id::ContentType,
    Id::ResponseTopic,
    Id::CorrelationData,
    Id::UserProperty,
]);

impl PropertyScope {
    const fn allowed(self) -> u64 {
        match self {
            Self::Connect => {
                BOTH_ENDS | set(&[Id::RequestResponseInformation, Id::RequestProblemInformation])
            }
            Self::Will => MESSAGE | bit(Id::WillDelayInterval),
            Self::ConnAck => {
                BOTH_ENDS
                    | DIAGNOSIS
                    | set(&[
                        Id::AssignedClientIdentifier,
                        Id::ServerKeepAlive,
                        Id::ResponseInformation,
                        Id::ServerReference,
                        Id::MaximumQoS,
                        Id::RetainAvailable,
                        Id::WildcardSubscriptionAvailable,
                        Id::SubscriptionIdentifierAvailable,
                        Id::SharedSubscriptionAvailable,
                    ])
            }
            Self::Publish => MESSAGE | set(&[Id::SubscriptionIdentifier, Id::TopicAlias]),
            Self::Ack => DIAGNOSIS,
            Self::Subscribe => set(&[Id::SubscriptionIdentifier, Id::UserProperty]),
            Self::Unsubscribe => bit(Id::UserProperty),
            Self::Disconnect => DIAGNOSIS | set(&[Id::SessionExpiryInterval, Id::ServerReference]),
            Self::Auth => DIAGNOSIS | AUTHENTICATION,
        }
    }

    /// User properties repeat anywhere; a server tells of several Subscription Identifiers in one
    /// PUBLISH [MQTT-3.3.4-4].
    const fn repeatable(self) -> u64 {
        match self {
            Self::Publish => set(&[Id::UserProperty, Id::SubscriptionIdentifier]),
            Self::Connect
            | Self::Will
            | Self::ConnAck
            | Self::Ack
            | Self::Subscribe
            | Self::Unsubscribe
            | Self::Disconnect
            | Self::Auth => bit(Id::UserProperty),
        }
    }
}

/// The properties of one section, checked as they are read: each known, allowed where it stands, not
/// repeated, whole and in range. Ends at the first fault.
#[derive(Clone, Debug)]
pub struct Properties<'a> {
    reader: Reader<'a>,
    scope: PropertyScope,
    seen: u64,
}

impl<'a> Properties<'a> {
    /// The properties in `raw`, a section without its length.
    #[must_use]
    pub const fn new(raw: &'a [u8], scope: PropertyScope) -> Self {
        Self { reader: Reader::new(raw), scope, seen: 0 }
    }

    fn take(&mut self) -> Result<Property<'a>, DecodeError> {
        let id = PropertyId::try_from(self.reader.u8()?)?;
        if self.scope.allowed() & bit(id) == 0 {
            return Err(DecodeError::PropertyNotAllowed { id: id as u8 });
        }
        if self.seen & bit(id) & !self.scope.repeatable() != 0 {
            return Err(DecodeError::PropertyDuplicate { id: id as u8 });
        }
        self.seen |= bit(id);
        Property::decode_value(id, &mut self.reader)
    }
}

impl<'a> Iterator for Properties<'a> {
    type Item = Result<Property<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let property = self.take();
        if property.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(property)
    }
}

/// The properties of a section as they stand, unread: identifier, and bytes with the identifier.
/// For sections that [`Properties`] has passed; ends where it would have failed.
#[derive(Clone, Debug)]
pub(crate) struct RawProperties<'a> {
    reader: Reader<'a>,
}

impl<'a> RawProperties<'a> {
    pub(crate) const fn new(raw: &'a [u8]) -> Self {
        Self { reader: Reader::new(raw) }
    }

    /// Only those that a server forwards, see [`forwardable`].
    pub(crate) fn forwardable(raw: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        Self::new(raw).filter(|(id, _)| FORWARDABLE & bit(*id) != 0).map(|(_, bytes)| bytes)
    }

    fn take(&mut self) -> Result<(PropertyId, &'a [u8]), DecodeError> {
        let start = self.reader.rest();
        let id = PropertyId::try_from(self.reader.u8()?)?;
        skip_value(id, &mut self.reader)?;
        Ok((id, &start[..start.len() - self.reader.rest().len()]))
    }
}

impl<'a> Iterator for RawProperties<'a> {
    type Item = (PropertyId, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.take().ok()
    }
}

/// Skips a property's value by its type alone.
fn skip_value(id: PropertyId, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    match id {
        Id::PayloadFormatIndicator
        | Id::RequestProblemInformation
        | Id::RequestResponseInformation
        | Id::MaximumQoS
        | Id::RetainAvailable
        | Id::WildcardSubscriptionAvailable
        | Id::SubscriptionIdentifierAvailable
        | Id::SharedSubscriptionAvailable => reader.bytes(1).map(drop),
        Id::ServerKeepAlive | Id::ReceiveMaximum | Id::TopicAliasMaximum | Id::TopicAlias => {
            reader.bytes(2).map(drop)
        }
        Id::MessageExpiryInterval
        | Id::SessionExpiryInterval
        | Id::WillDelayInterval
        | Id::MaximumPacketSize => reader.bytes(4).map(drop),
        Id::SubscriptionIdentifier => reader.varint().map(drop),
        Id::ContentType
        | Id::ResponseTopic
        | Id::CorrelationData
        | Id::AssignedClientIdentifier
        | Id::AuthenticationMethod
        | Id::AuthenticationData
        | Id::ResponseInformation
        | Id::ServerReference
        | Id::ReasonString => reader.binary().map(drop),
        Id::UserProperty => {
            reader.binary()?;
            reader.binary().map(drop)
        }
    }
}

/// Appends, from the properties of a PUBLISH or a Will, those that a server passes on unaltered and
/// in their order: Payload Format Indicator [MQTT-3.3.2-4], Response Topic [MQTT-3.3.2-15],
/// Correlation Data [MQTT-3.3.2-16], User Properties [MQTT-3.3.2-17], [MQTT-3.3.2-18] and Content
/// Type [MQTT-3.3.2-20].
///
/// Message Expiry Interval, Topic Alias, Subscription Identifiers and Will Delay Interval stay
/// behind: each delivery has its own. `raw` is a section as a decoder returned it; of one that no
/// decoder has passed, what follows the first fault is dropped.
pub fn forwardable(raw: &[u8], out: &mut Vec<u8>) {
    for bytes in RawProperties::forwardable(raw) {
        out.extend_from_slice(bytes);
    }
}
