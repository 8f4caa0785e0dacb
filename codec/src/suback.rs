//! SUBACK and UNSUBACK, MQTT 5 sections 3.9 and 3.11: a reason code for each filter asked for.

use std::fmt;

use crate::ack::{decode_diagnosis, put_diagnosis};
use crate::frame::{Frame, PacketType};
use crate::wire::{Reader, put_u16, put_with_length, put_within};
use crate::{DecodeError, PacketId, ReasonCode, UserProperties, Version};

/// MQTT 5 table 3-8 [MQTT-3.9.3-2].
const SUBACK_REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::GrantedQoS1,
    ReasonCode::GrantedQoS2,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::QuotaExceeded,
    ReasonCode::SharedSubscriptionsNotSupported,
    ReasonCode::SubscriptionIdentifiersNotSupported,
    ReasonCode::WildcardSubscriptionsNotSupported,
];

/// 3.1.1's return codes (its [MQTT-3.9.3-2]). 3.1 has no failure, but servers send it.
const SUBACK_REASONS_V3: &[ReasonCode] =
    &[ReasonCode::Success, ReasonCode::GrantedQoS1, ReasonCode::GrantedQoS2, ReasonCode::UnspecifiedError];

/// MQTT 5 table 3-9 [MQTT-3.11.3-2].
const UNSUBACK_REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::NoSubscriptionExisted,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::PacketIdentifierInUse,
];

/// The answer to a SUBSCRIBE [MQTT-3.8.4-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The SUBSCRIBE's Packet Identifier [MQTT-3.9.2-1].
    pub packet_id: PacketId,
    /// A diagnosis, for people to read. MQTT 5 only.
    pub reason_string: Option<&'a str>,
    /// User Properties [MQTT-3.9.2-2]. MQTT 5 only.
    pub user: UserProperties<'a>,
    /// One for each filter, in order [MQTT-3.9.3-1]: the QoS granted (Success is QoS 0), or a failure.
    pub reasons: ReasonCodes<'a>,
}

/// The answer to an UNSUBSCRIBE [MQTT-3.10.4-4].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The UNSUBSCRIBE's Packet Identifier [MQTT-3.11.2-1].
    pub packet_id: PacketId,
    /// A diagnosis, for people to read. MQTT 5 only.
    pub reason_string: Option<&'a str>,
    /// User Properties [MQTT-3.11.2-2]. MQTT 5 only.
    pub user: UserProperties<'a>,
    /// One for each filter, in order [MQTT-3.11.3-1]; none in 3.x.
    pub reasons: ReasonCodes<'a>,
}

impl<'a> SubAck<'a> {
    /// Reads a SUBACK.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        debug_assert_eq!(frame.packet_type(), Ok(PacketType::SubAck));
        frame.expect_flags(0)?;
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let (reason_string, user) = match version {
            Version::V31 | Version::V311 => (None, UserProperties::EMPTY),
            Version::V5 => decode_diagnosis(&mut reader)?,
        };
        let allowed = if version.is_v5() { SUBACK_REASONS } else { SUBACK_REASONS_V3 };
        let reasons = ReasonCodes::decode(reader.rest(), allowed)?;
        Ok(Self { packet_id, reason_string, user, reasons })
    }

    /// Appends the packet. In 3.x every failure is 0x80. Panics without a reason.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        assert!(!self.reasons.is_empty(), "[MQTT-3.9.3-1]");
        out.push(PacketType::SubAck.first());
        put_with_length(0, out, |out| {
            put_u16(self.packet_id.get(), out);
            put_diagnosis(version, self.reason_string, self.user, out);
            for reason in self.reasons.iter() {
                debug_assert!(SUBACK_REASONS.contains(&reason), "{reason} in SUBACK");
                out.push(if version.is_v5() || !reason.is_error() {
                    reason as u8
                } else {
                    ReasonCode::UnspecifiedError as u8
                });
            }
        });
    }

    /// Appends the packet, leaving out Reason String and User Properties if it is larger than
    /// `packet_bytes_max` with them [MQTT-3.9.2-2]. Appends nothing and says `false` if it is too large
    /// even so.
    #[must_use]
    pub fn encode_within(&self, version: Version, packet_bytes_max: u32, out: &mut Vec<u8>) -> bool {
        let lean = Self { reason_string: None, user: UserProperties::EMPTY, ..*self };
        let full = |out: &mut Vec<u8>| self.encode(version, out);
        put_within(packet_bytes_max, out, full, |out| lean.encode(version, out))
    }
}

impl<'a> UnsubAck<'a> {
    /// Reads an UNSUBACK.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        debug_assert_eq!(frame.packet_type(), Ok(PacketType::UnsubAck));
        frame.expect_flags(0)?;
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        if !version.is_v5() {
            reader.finish()?;
            let (user, reasons) = (UserProperties::EMPTY, ReasonCodes::default());
            return Ok(Self { packet_id, reason_string: None, user, reasons });
        }
        let (reason_string, user) = decode_diagnosis(&mut reader)?;
        let reasons = ReasonCodes::decode(reader.rest(), UNSUBACK_REASONS)?;
        Ok(Self { packet_id, reason_string, user, reasons })
    }

    /// Appends the packet; in 3.x the Packet Identifier alone. Panics without a reason in MQTT 5.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.push(PacketType::UnsubAck.first());
        put_with_length(0, out, |out| {
            put_u16(self.packet_id.get(), out);
            if !version.is_v5() {
                return;
            }
            assert!(!self.reasons.is_empty(), "[MQTT-3.11.3-1]");
            put_diagnosis(version, self.reason_string, self.user, out);
            for reason in self.reasons.iter() {
                debug_assert!(UNSUBACK_REASONS.contains(&reason), "{reason} in UNSUBACK");
                out.push(reason as u8);
            }
        });
    }

    /// Appends the packet, leaving out Reason String and User Properties if it is larger than
    /// `packet_bytes_max` with them [MQTT-3.11.2-2]. Appends nothing and says `false` if it is too
    /// large even so.
    #[must_use]
    pub fn encode_within(&self, version: Version, packet_bytes_max: u32, out: &mut Vec<u8>) -> bool {
        let lean = Self { reason_string: None, user: UserProperties::EMPTY, ..*self };
        let full = |out: &mut Vec<u8>| self.encode(version, out);
        put_within(packet_bytes_max, out, full, |out| lean.encode(version, out))
    }
}

/// Appends a SUBACK without properties [MQTT-3.8.4-1]. In 3.x every failure is 0x80. Panics without
/// a reason.
pub fn encode_suback(version: Version, packet_id: PacketId, reasons: &[ReasonCode], out: &mut Vec<u8>) {
    let (user, reasons) = (UserProperties::EMPTY, ReasonCodes::from(reasons));
    SubAck { packet_id, reason_string: None, user, reasons }.encode(version, out);
}

/// Appends an UNSUBACK without properties [MQTT-3.10.4-4]; in 3.x without reasons too. Panics without
/// a reason in MQTT 5.
pub fn encode_unsuback(version: Version, packet_id: PacketId, reasons: &[ReasonCode], out: &mut Vec<u8>) {
    let (user, reasons) = (UserProperties::EMPTY, ReasonCodes::from(reasons));
    UnsubAck { packet_id, reason_string: None, user, reasons }.encode(version, out);
}

/// The reason codes of a SUBACK or UNSUBACK. To encode some, make it from a slice.
#[derive(Clone, Copy)]
pub struct ReasonCodes<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// Codes that were checked.
    Wire(&'a [u8]),
    List(&'a [ReasonCode]),
}

impl<'a> ReasonCodes<'a> {
    fn decode(raw: &'a [u8], allowed: &[ReasonCode]) -> Result<Self, DecodeError> {
        if raw.is_empty() {
            return Err(DecodeError::PayloadEmpty);
        }
        for code in raw {
            ReasonCode::decode(*code, allowed)?;
        }
        Ok(Self(Source::Wire(raw)))
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            Source::Wire(raw) => raw.len(),
            Source::List(list) => list.len(),
        }
    }

    /// Whether there are none, as in 3.x's UNSUBACK.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The codes in order.
    pub fn iter(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        let (raw, list): (&[u8], &[ReasonCode]) = match self.0 {
            Source::Wire(raw) => (raw, &[]),
            Source::List(list) => (&[], list),
        };
        raw.iter()
            .map(|code| ReasonCode::try_from(*code).expect("checked when the packet was decoded"))
            .chain(list.iter().copied())
    }
}

impl Default for ReasonCodes<'_> {
    fn default() -> Self {
        Self(Source::List(&[]))
    }
}

impl<'a> From<&'a [ReasonCode]> for ReasonCodes<'a> {
    fn from(reasons: &'a [ReasonCode]) -> Self {
        Self(Source::List(reasons))
    }
}

impl PartialEq for ReasonCodes<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for ReasonCodes<'_> {}

impl fmt::Debug for ReasonCodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
