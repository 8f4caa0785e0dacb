//! PUBLISH as a server sends it: all but the payload, which many receivers share.

use crate::publish::first_byte;
use crate::wire::{put_u16, put_varint};
use crate::{PacketId, Property, QoS, Version, varint};

/// First byte, Remaining Length and Topic Name's length.
const PREFIX_BYTES_MAX: usize = 1 + 4 + 2;
const EXPIRY_BYTES: usize = 1 + 4;
const ALIAS_BYTES: usize = 1 + 2;

/// Everything in a PUBLISH up to its payload, for encoding once and sending often.
///
/// In 3.x the properties are left out. Whether the packet is within the receiver's Maximum Packet
/// Size [MQTT-3.1.2-24] is for the caller to find with [`PublishHeader::encoded_len`].
#[derive(Clone, Copy, Debug)]
pub struct PublishHeader<'a> {
    /// The receiver's version.
    pub version: Version,
    /// Whether this may be a repetition [MQTT-3.3.1-1]; never at QoS 0.
    pub dup: bool,
    /// The QoS to deliver at.
    pub qos: QoS,
    /// The RETAIN flag [MQTT-3.3.1-12], [MQTT-3.3.1-13].
    pub retain: bool,
    /// The Topic Name, valid, or empty where `topic_alias` stands for it.
    pub topic: &'a [u8],
    /// The Packet Identifier. `None` above QoS 0 leaves two zero bytes to be patched; at QoS 0 none
    /// is written [MQTT-2.2.1-2].
    pub packet_id: Option<PacketId>,
    /// Properties as [`crate::forwardable`] returned them.
    pub properties: &'a [u8],
    /// What is left of the Message Expiry Interval, in seconds [MQTT-3.3.2-6].
    pub message_expiry_s: Option<u32>,
    /// A Topic Alias, from 1 to the receiver's maximum [MQTT-3.1.2-26].
    pub topic_alias: Option<u16>,
    /// The matching subscriptions' identifiers [MQTT-3.3.4-4], each 1 to 268,435,455.
    pub subscription_ids: &'a [u32],
    /// How many bytes of payload follow.
    pub payload_len: usize,
}

impl PublishHeader<'_> {
    #[inline]
    fn properties_len(&self) -> usize {
        let expiry = if self.message_expiry_s.is_some() { EXPIRY_BYTES } else { 0 };
        let alias = if self.topic_alias.is_some() { ALIAS_BYTES } else { 0 };
        let ids: usize = self.subscription_ids.iter().map(|id| 1 + varint::encoded_len(*id)).sum();
        self.properties.len() + expiry + alias + ids
    }

    /// The Remaining Length, and the length of the properties where the version has them.
    #[inline]
    fn lengths(&self) -> (usize, Option<usize>) {
        let id_len = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let fixed = 2 + self.topic.len() + id_len + self.payload_len;
        match self.version {
            Version::V31 | Version::V311 => (fixed, None),
            Version::V5 => {
                let properties = self.properties_len();
                (fixed + varint_len(properties) + properties, Some(properties))
            }
        }
    }

    /// The size of the whole packet in bytes, payload included. Meaningful up to
    /// [`crate::REMAINING_LENGTH_MAX`] and five; longer packets cannot be encoded.
    #[inline]
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let (remaining, _) = self.lengths();
        1 + varint_len(remaining) + remaining
    }

    /// Appends everything up to the payload. Returns where, counted from this packet's first byte,
    /// the two bytes of its Packet Identifier are, so that copies can be patched; 0 at QoS 0.
    ///
    /// Panics if the topic is over 65,535 bytes long, if the packet is larger than MQTT can say, on
    /// DUP at QoS 0 and on Topic Alias 0.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) -> usize {
        let (remaining, properties_len) = self.lengths();
        let topic_len = u16::try_from(self.topic.len()).expect("a topic is at most 65,535 bytes");
        let (length, length_len) = varint::encode(to_u32(remaining));
        out.reserve(PREFIX_BYTES_MAX + remaining - self.payload_len);

        let first = first_byte(self.dup, self.qos, self.retain);
        let [high, low] = topic_len.to_be_bytes();
        let [l0, l1, l2, l3] = length;
        // Arrays of a known size are stored, those of another are calls to memcpy.
        match length_len {
            1 => out.extend_from_slice(&[first, l0, high, low]),
            2 => out.extend_from_slice(&[first, l0, l1, high, low]),
            3 => out.extend_from_slice(&[first, l0, l1, l2, high, low]),
            _ => out.extend_from_slice(&[first, l0, l1, l2, l3, high, low]),
        }
        out.extend_from_slice(self.topic);

        let packet_id_at = match self.qos {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                put_u16(self.packet_id.map_or(0, PacketId::get), out);
                1 + length_len + 2 + self.topic.len()
            }
        };
        if let Some(properties_len) = properties_len {
            put_varint(to_u32(properties_len), out);
            if properties_len > 0 {
                self.encode_properties(out);
            }
        }
        packet_id_at
    }

    fn encode_properties(&self, out: &mut Vec<u8>) {
        if let Some(value) = self.message_expiry_s {
            Property::MessageExpiryInterval(value).encode(out);
        }
        if let Some(value) = self.topic_alias {
            assert_ne!(value, 0, "[MQTT-3.3.2-8]");
            Property::TopicAlias(value).encode(out);
        }
        for id in self.subscription_ids {
            Property::SubscriptionIdentifier(*id).encode(out);
        }
        out.extend_from_slice(self.properties);
    }
}

/// What is too long for a length counts as the longest that there is: `encode` refuses it.
#[inline]
fn varint_len(len: usize) -> usize {
    varint::encoded_len(u32::try_from(len).unwrap_or(u32::MAX))
}

#[inline]
fn to_u32(len: usize) -> u32 {
    u32::try_from(len).expect("a packet of MQTT has under 2^28 bytes")
}
