//! PUBACK, PUBREC, PUBREL and PUBCOMP, MQTT 5 sections 3.4 to 3.7, which differ in little but type.

use crate::frame::{Frame, PacketType};
use crate::wire::{Reader, put_properties, put_u16, put_with_length, put_within};
use crate::{
    DecodeError, PacketId, Properties, Property, PropertyScope, ReasonCode, UserProperties, Version,
};

/// Which of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AckKind {
    /// Answers a QoS 1 PUBLISH.
    PubAck,
    /// Answers a QoS 2 PUBLISH.
    PubRec,
    /// Answers PUBREC.
    PubRel,
    /// Answers PUBREL.
    PubComp,
}

/// What PUBACK and PUBREC may say [MQTT-3.4.2-1], [MQTT-3.5.2-1].
const RECEIVED_REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::NoMatchingSubscribers,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicNameInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::QuotaExceeded,
    ReasonCode::PayloadFormatInvalid,
];

/// What PUBREL and PUBCOMP may say [MQTT-3.6.2-1], [MQTT-3.7.2-1].
const RELEASED_REASONS: &[ReasonCode] = &[ReasonCode::Success, ReasonCode::PacketIdentifierNotFound];

impl AckKind {
    #[inline]
    const fn packet_type(self) -> PacketType {
        match self {
            Self::PubAck => PacketType::PubAck,
            Self::PubRec => PacketType::PubRec,
            Self::PubRel => PacketType::PubRel,
            Self::PubComp => PacketType::PubComp,
        }
    }

    const fn reasons(self) -> &'static [ReasonCode] {
        match self {
            Self::PubAck | Self::PubRec => RECEIVED_REASONS,
            Self::PubRel | Self::PubComp => RELEASED_REASONS,
        }
    }
}

/// A step in the delivery of a QoS 1 or 2 message [MQTT-2.2.1-5]. The packet's type says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The Packet Identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// The reason code, one that the packet's type may hold; always Success in 3.x.
    pub reason: ReasonCode,
    /// A diagnosis, for people to read [MQTT-3.4.2-2]. MQTT 5 only.
    pub reason_string: Option<&'a str>,
    /// User Properties [MQTT-3.4.2-3]. MQTT 5 only.
    pub user: UserProperties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement without properties.
    #[must_use]
    pub const fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, reason_string: None, user: UserProperties::EMPTY }
    }

    /// Reads any of the four: which one is in the frame's first byte.
    #[inline]
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let kind = match frame.packet_type()? {
            PacketType::PubRec => AckKind::PubRec,
            PacketType::PubRel => AckKind::PubRel,
            PacketType::PubComp => AckKind::PubComp,
            packet_type => {
                debug_assert_eq!(packet_type, PacketType::PubAck);
                AckKind::PubAck
            }
        };
        expect_flags(kind.packet_type(), version, frame)?;
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        if reader.is_empty() {
            return Ok(Self::new(packet_id, ReasonCode::Success));
        }
        if !version.is_v5() {
            return Err(DecodeError::TrailingBytes);
        }
        Self::decode_rest(kind, packet_id, reader)
    }

    /// The reason code, and the properties if there are any (section 3.4.2.1).
    fn decode_rest(kind: AckKind, packet_id: PacketId, mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let reason = ReasonCode::decode(reader.u8()?, kind.reasons())?;
        let mut ack = Self::new(packet_id, reason);
        if !reader.is_empty() {
            (ack.reason_string, ack.user) = decode_diagnosis(&mut reader)?;
        }
        reader.finish()?;
        Ok(ack)
    }

    /// Appends the packet, in its shortest form. 3.x has neither reason nor properties.
    pub fn encode(&self, kind: AckKind, version: Version, out: &mut Vec<u8>) {
        if !version.is_v5() || (self.reason_string.is_none() && self.user.is_empty()) {
            return encode_short(kind, version, self, out);
        }
        debug_assert!(kind.reasons().contains(&self.reason), "{} in {kind:?}", self.reason);
        out.push(kind.packet_type().first());
        put_with_length(0, out, |out| {
            put_u16(self.packet_id.get(), out);
            out.push(self.reason as u8);
            put_diagnosis(version, self.reason_string, self.user, out);
        });
    }

    /// Appends the packet, leaving out Reason String and User Properties if it is larger than
    /// `packet_bytes_max` with them [MQTT-3.4.2-2], [MQTT-3.4.2-3]. Appends nothing and says `false` if
    /// it is too large even so.
    #[must_use]
    pub fn encode_within(
        &self,
        kind: AckKind,
        version: Version,
        packet_bytes_max: u32,
        out: &mut Vec<u8>,
    ) -> bool {
        let full = |out: &mut Vec<u8>| self.encode(kind, version, out);
        put_within(packet_bytes_max, out, full, |out| encode_short(kind, version, self, out))
    }
}

/// Checks the reserved flags [MQTT-2.1.3-1]. In 3.1 a repeated SUBSCRIBE, UNSUBSCRIBE or PUBREL, which
/// all have QoS 1 there, carries DUP.
#[inline]
pub(crate) fn expect_flags(
    packet_type: PacketType,
    version: Version,
    frame: &Frame<'_>,
) -> Result<(), DecodeError> {
    const DUP: u8 = 0b1000;
    let expected = packet_type.reserved_flags();
    if version == Version::V31 && expected != 0 && frame.flags() == expected | DUP {
        return Ok(());
    }
    frame.expect_flags(expected)
}

/// Reads a property section that holds nothing but a Reason String and User Properties.
pub(crate) fn decode_diagnosis<'a>(
    reader: &mut Reader<'a>,
) -> Result<(Option<&'a str>, UserProperties<'a>), DecodeError> {
    let raw = reader.properties(Version::V5)?;
    let mut reason_string = None;
    for property in Properties::new(raw, PropertyScope::Ack) {
        if let Property::ReasonString(value) = property? {
            reason_string = Some(value);
        }
    }
    Ok((reason_string, UserProperties::checked(raw)))
}

/// Appends such a section; nothing before MQTT 5.
pub(crate) fn put_diagnosis(
    version: Version,
    reason_string: Option<&str>,
    user: UserProperties<'_>,
    out: &mut Vec<u8>,
) {
    put_properties(version, out, |out| {
        if let Some(value) = reason_string {
            Property::ReasonString(value).encode(out);
        }
        user.encode(out);
    });
}

/// Appends a form without properties: four bytes, or five with a reason other than Success.
#[inline]
fn encode_short(kind: AckKind, version: Version, ack: &Ack<'_>, out: &mut Vec<u8>) {
    debug_assert!(!version.is_v5() || kind.reasons().contains(&ack.reason), "{} in {kind:?}", ack.reason);
    let first = kind.packet_type().first();
    let [high, low] = ack.packet_id.get().to_be_bytes();
    if version.is_v5() && ack.reason != ReasonCode::Success {
        out.extend_from_slice(&[first, 3, high, low, ack.reason as u8]);
    } else {
        out.extend_from_slice(&[first, 2, high, low]);
    }
}

/// Appends a PUBACK [MQTT-4.3.2-4]. The reason is left out in 3.x, and when it is Success.
#[inline]
pub fn encode_puback(version: Version, packet_id: PacketId, reason: ReasonCode, out: &mut Vec<u8>) {
    encode_short(AckKind::PubAck, version, &Ack::new(packet_id, reason), out);
}

/// Appends a PUBREC [MQTT-4.3.3-8]. The reason is left out in 3.x, and when it is Success.
#[inline]
pub fn encode_pubrec(version: Version, packet_id: PacketId, reason: ReasonCode, out: &mut Vec<u8>) {
    encode_short(AckKind::PubRec, version, &Ack::new(packet_id, reason), out);
}

/// Appends a PUBREL [MQTT-4.3.3-4]. The reason is left out in 3.x, and when it is Success.
#[inline]
pub fn encode_pubrel(version: Version, packet_id: PacketId, reason: ReasonCode, out: &mut Vec<u8>) {
    encode_short(AckKind::PubRel, version, &Ack::new(packet_id, reason), out);
}

/// Appends a PUBCOMP [MQTT-4.3.3-11]. The reason is left out in 3.x, and when it is Success.
#[inline]
pub fn encode_pubcomp(version: Version, packet_id: PacketId, reason: ReasonCode, out: &mut Vec<u8>) {
    encode_short(AckKind::PubComp, version, &Ack::new(packet_id, reason), out);
}
