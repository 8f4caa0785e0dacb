//! SUBSCRIBE, MQTT 5 section 3.8.

use std::fmt;

use crate::ack::expect_flags;
use crate::frame::{Frame, PacketType};
use crate::topic::is_shared;
use crate::wire::{Reader, put_properties, put_string, put_u16, put_with_length};
use crate::{DecodeError, PacketId, Properties, Property, PropertyScope, QoS, UserProperties, Version};

const QOS: u8 = 0x03;
const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;
const RETAIN_HANDLING_SHIFT: u8 = 4;
const RESERVED_V5: u8 = 0xC0;
const RESERVED_V3: u8 = 0xFC;

/// A request for subscriptions, one or more [MQTT-3.8.3-2].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The Packet Identifier, which the SUBACK repeats [MQTT-3.8.4-2].
    pub packet_id: PacketId,
    /// The Subscription Identifier for all of them, 1 to 268,435,455 [MQTT-3.3.4-3]. MQTT 5 only.
    pub subscription_id: Option<u32>,
    /// User Properties. MQTT 5 only.
    pub user: UserProperties<'a>,
    /// What to subscribe to, at least one.
    pub filters: SubscribeFilters<'a>,
}

/// One Topic Filter of a SUBSCRIBE and how to subscribe to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeFilter<'a> {
    /// A string [MQTT-3.8.3-1], but not yet known to be a Topic Filter: [`crate::check_filter`] tells,
    /// and a server answers for each filter.
    pub filter: &'a str,
    /// The Subscription Options.
    pub options: SubscriptionOptions,
}

/// The Subscription Options, section 3.8.3.1. In 3.x only the QoS; the rest is the default, which is
/// how 3.x behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The highest QoS to deliver at [MQTT-3.8.4-8].
    pub qos: QoS,
    /// Whether to leave out what the same client publishes; never on a Shared Subscription
    /// [MQTT-3.8.3-4].
    pub no_local: bool,
    /// Whether to keep the RETAIN flag in forwarding [MQTT-3.3.1-12], [MQTT-3.3.1-13].
    pub retain_as_published: bool,
    /// When to send retained messages.
    pub retain_handling: RetainHandling,
}

/// When a subscription is answered with the retained messages that it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// Always [MQTT-3.3.1-9].
    #[default]
    SendAtSubscribe = 0,
    /// If the subscription did not exist [MQTT-3.3.1-10].
    SendAtSubscribeIfNew = 1,
    /// Never [MQTT-3.3.1-11].
    DoNotSend = 2,
}

impl SubscriptionOptions {
    /// Delivery at up to this QoS, all else by default.
    #[must_use]
    pub fn new(qos: QoS) -> Self {
        Self { qos, ..Self::default() }
    }

    /// Reads the options byte, reserved bits first [MQTT-3.8.3-5].
    pub fn decode(version: Version, bits: u8) -> Result<Self, DecodeError> {
        let reserved = if version.is_v5() { RESERVED_V5 } else { RESERVED_V3 };
        if bits & reserved != 0 {
            return Err(DecodeError::SubscriptionOptionsReserved);
        }
        let invalid = DecodeError::SubscriptionOptionsInvalid;
        Ok(Self {
            qos: QoS::try_from(bits & QOS).map_err(|_| invalid)?,
            no_local: bits & NO_LOCAL != 0,
            retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
            retain_handling: match bits >> RETAIN_HANDLING_SHIFT {
                0 => RetainHandling::SendAtSubscribe,
                1 => RetainHandling::SendAtSubscribeIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return Err(invalid),
            },
        })
    }

    /// The options byte; in 3.x the QoS alone.
    #[must_use]
    pub fn encode(&self, version: Version) -> u8 {
        if !version.is_v5() {
            return self.qos as u8;
        }
        self.qos as u8
            | (u8::from(self.no_local) * NO_LOCAL)
            | (u8::from(self.retain_as_published) * RETAIN_AS_PUBLISHED)
            | (self.retain_handling as u8) << RETAIN_HANDLING_SHIFT
    }
}

impl<'a> Subscribe<'a> {
    /// Reads a SUBSCRIBE, its filters included.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        debug_assert_eq!(frame.packet_type(), Ok(PacketType::Subscribe));
        expect_flags(PacketType::Subscribe, version, frame)?;
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let raw = reader.properties(version)?;
        let mut subscription_id = None;
        for property in Properties::new(raw, PropertyScope::Subscribe) {
            if let Property::SubscriptionIdentifier(value) = property? {
                subscription_id = Some(value);
            }
        }
        let filters = SubscribeFilters::decode(version, reader)?;
        Ok(Self { packet_id, subscription_id, user: UserProperties::checked(raw), filters })
    }

    /// Appends the packet. Panics without a filter, and if a string is over 65,535 bytes.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        assert!(self.filters.len() > 0, "[MQTT-3.8.3-2]");
        out.push(PacketType::Subscribe.first());
        put_with_length(0, out, |out| {
            put_u16(self.packet_id.get(), out);
            put_properties(version, out, |out| {
                if let Some(value) = self.subscription_id {
                    assert_ne!(value, 0, "section 3.8.2.1.2");
                    Property::SubscriptionIdentifier(value).encode(out);
                }
                self.user.encode(out);
            });
            for SubscribeFilter { filter, options } in self.filters.clone() {
                put_string(filter, out);
                out.push(options.encode(version));
            }
        });
    }
}

/// Yields the filters of a [`Subscribe`]. To encode some, make it from a slice.
#[derive(Clone)]
pub struct SubscribeFilters<'a> {
    source: Source<'a>,
    left: usize,
}

#[derive(Clone)]
enum Source<'a> {
    /// A payload that was checked.
    Wire(Version, Reader<'a>),
    List(std::slice::Iter<'a, SubscribeFilter<'a>>),
}

impl<'a> SubscribeFilters<'a> {
    fn decode(version: Version, payload: Reader<'a>) -> Result<Self, DecodeError> {
        let mut reader = payload;
        let mut left = 0;
        while !reader.is_empty() {
            let SubscribeFilter { filter, options } = take_filter(version, &mut reader)?;
            if options.no_local && is_shared(filter) {
                return Err(DecodeError::NoLocalOnShared);
            }
            left += 1;
        }
        if left == 0 {
            return Err(DecodeError::PayloadEmpty);
        }
        Ok(Self { source: Source::Wire(version, payload), left })
    }
}

fn take_filter<'a>(version: Version, reader: &mut Reader<'a>) -> Result<SubscribeFilter<'a>, DecodeError> {
    let filter = reader.string()?;
    let options = SubscriptionOptions::decode(version, reader.u8()?)?;
    Ok(SubscribeFilter { filter, options })
}

impl<'a> From<&'a [SubscribeFilter<'a>]> for SubscribeFilters<'a> {
    fn from(filters: &'a [SubscribeFilter<'a>]) -> Self {
        Self { source: Source::List(filters.iter()), left: filters.len() }
    }
}

impl<'a> Iterator for SubscribeFilters<'a> {
    type Item = SubscribeFilter<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        match &mut self.source {
            Source::List(filters) => filters.next().copied(),
            Source::Wire(version, reader) => {
                Some(take_filter(*version, reader).expect("checked when the packet was decoded"))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for SubscribeFilters<'_> {}

impl PartialEq for SubscribeFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.clone().eq(other.clone())
    }
}

impl Eq for SubscribeFilters<'_> {}

impl fmt::Debug for SubscribeFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
