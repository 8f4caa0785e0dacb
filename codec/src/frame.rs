//! The fixed header, MQTT 5 section 2.1: where one packet ends and the next begins.

use crate::{DecodeError, varint};

/// What the bytes at hand amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<T> {
    /// A whole one.
    Complete(T),
    /// Not there yet.
    Incomplete {
        /// How long the input must be before trying again is worth it: the packet's size once that
        /// is known, else one byte more than there is.
        need: usize,
    },
}

/// One packet's bytes, not yet looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The fixed header's first byte: packet type and flags.
    pub first: u8,
    /// All that follows the Remaining Length.
    pub body: &'a [u8],
    /// The packet's size, fixed header included: how far to advance in the input.
    pub total: usize,
}

impl Frame<'_> {
    /// The type that the first byte names; 0 is forbidden.
    #[inline]
    pub const fn packet_type(&self) -> Result<PacketType, DecodeError> {
        PacketType::from_first(self.first)
    }

    /// The lower half of the first byte.
    #[inline]
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.first & 0x0f
    }

    /// Fails unless the flags are `expected` [MQTT-2.1.3-1].
    #[inline]
    pub(crate) const fn expect_flags(&self, expected: u8) -> Result<(), DecodeError> {
        if self.flags() == expected { Ok(()) } else { Err(DecodeError::FlagsReserved) }
    }
}

/// The packet types, MQTT 5 table 2-1. `as u8` is the number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// CONNECT
    Connect = 1,
    /// CONNACK
    ConnAck = 2,
    /// PUBLISH
    Publish = 3,
    /// PUBACK
    PubAck = 4,
    /// PUBREC
    PubRec = 5,
    /// PUBREL
    PubRel = 6,
    /// PUBCOMP
    PubComp = 7,
    /// SUBSCRIBE
    Subscribe = 8,
    /// SUBACK
    SubAck = 9,
    /// UNSUBSCRIBE
    Unsubscribe = 10,
    /// UNSUBACK
    UnsubAck = 11,
    /// PINGREQ
    PingReq = 12,
    /// PINGRESP
    PingResp = 13,
    /// DISCONNECT
    Disconnect = 14,
    /// AUTH, new in MQTT 5
    Auth = 15,
}

impl PacketType {
    /// The type that a fixed header's first byte names; 0 is forbidden.
    #[inline]
    pub const fn from_first(first: u8) -> Result<Self, DecodeError> {
        Ok(match first >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            packet_type => return Err(DecodeError::PacketTypeReserved { packet_type }),
        })
    }

    /// The fixed header's first byte: this type, and the flags that MQTT reserves for it. PUBLISH,
    /// whose flags mean something, gets none.
    #[inline]
    pub(crate) const fn first(self) -> u8 {
        (self as u8) << 4 | self.reserved_flags()
    }

    /// The flags that every packet of this type has, PUBLISH excepted [MQTT-2.1.3-1].
    #[inline]
    pub(crate) const fn reserved_flags(self) -> u8 {
        match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            Self::Connect
            | Self::ConnAck
            | Self::Publish
            | Self::PubAck
            | Self::PubRec
            | Self::PubComp
            | Self::SubAck
            | Self::UnsubAck
            | Self::PingReq
            | Self::PingResp
            | Self::Disconnect
            | Self::Auth => 0,
        }
    }
}

/// Splits one packet off the front of `input`.
///
/// A packet of more than `packet_bytes_max` bytes, fixed header included, is
/// [`DecodeError::PacketTooLarge`] as soon as its length is known, so that a receiver need not make
/// room for it; a Remaining Length of five bytes, or one that is longer than it need be, is
/// [`DecodeError::VarIntInvalid`] [MQTT-1.5.5-1]. The packet's type is not looked at.
#[inline]
pub fn frame(input: &[u8], packet_bytes_max: u32) -> Result<Decoded<Frame<'_>>, DecodeError> {
    let Some((&first, rest)) = input.split_first() else {
        return Ok(Decoded::Incomplete { need: 1 });
    };
    let Some((body_bytes, length_bytes)) = varint::decode(rest)? else {
        return Ok(Decoded::Incomplete { need: input.len() + 1 });
    };
    let bytes = 1 + length_bytes + body_bytes;
    if bytes > packet_bytes_max {
        return Err(DecodeError::PacketTooLarge { bytes, bytes_max: packet_bytes_max });
    }
    let total = bytes as usize;
    match rest.get(length_bytes as usize..total - 1) {
        Some(body) => Ok(Decoded::Complete(Frame { first, body, total })),
        None => Ok(Decoded::Incomplete { need: total }),
    }
}
