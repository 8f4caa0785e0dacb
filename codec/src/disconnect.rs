//! DISCONNECT, MQTT 5 section 3.14.

use crate::frame::{Frame, PacketType};
use crate::wire::{Reader, put_properties, put_with_length, put_within};
use crate::{DecodeError, Properties, Property, PropertyScope, ReasonCode, UserProperties, Version};

/// MQTT 5 table 3-10 [MQTT-3.14.2-1], and Bad authentication method, which table 2-6 adds.
const REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::DisconnectWithWill,
    ReasonCode::UnspecifiedError,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::ServerBusy,
    ReasonCode::ServerShuttingDown,
    ReasonCode::BadAuthenticationMethod,
    ReasonCode::KeepAliveTimeout,
    ReasonCode::SessionTakenOver,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::TopicNameInvalid,
    ReasonCode::ReceiveMaximumExceeded,
    ReasonCode::TopicAliasInvalid,
    ReasonCode::PacketTooLarge,
    ReasonCode::MessageRateTooHigh,
    ReasonCode::QuotaExceeded,
    ReasonCode::AdministrativeAction,
    ReasonCode::PayloadFormatInvalid,
    ReasonCode::RetainNotSupported,
    ReasonCode::QoSNotSupported,
    ReasonCode::UseAnotherServer,
    ReasonCode::ServerMoved,
    ReasonCode::SharedSubscriptionsNotSupported,
    ReasonCode::ConnectionRateExceeded,
    ReasonCode::MaximumConnectTime,
    ReasonCode::SubscriptionIdentifiersNotSupported,
    ReasonCode::WildcardSubscriptionsNotSupported,
];

/// The last packet on a connection [MQTT-3.14.4-1]. In 3.x only a client sends it, and it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// The reason code; Success is a normal disconnection, without the Will [MQTT-3.14.4-3].
    pub reason: ReasonCode,
    /// A Session Expiry Interval in seconds in place of CONNECT's; never from a server
    /// [MQTT-3.14.2-2], which is the receiver's to check.
    pub session_expiry_s: Option<u32>,
    /// A diagnosis, for people to read [MQTT-3.14.2-3].
    pub reason_string: Option<&'a str>,
    /// Another server to use (section 4.11).
    pub server_reference: Option<&'a str>,
    /// User Properties [MQTT-3.14.2-4].
    pub user: UserProperties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT without properties.
    #[must_use]
    pub const fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            session_expiry_s: None,
            reason_string: None,
            server_reference: None,
            user: UserProperties::EMPTY,
        }
    }

    /// Reads a DISCONNECT; what the short forms leave out is Success and no properties (sections
    /// 3.14.2.1 and 3.14.2.2.1).
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        debug_assert_eq!(frame.packet_type(), Ok(PacketType::Disconnect));
        frame.expect_flags(0)?;
        let mut reader = Reader::new(frame.body);
        let mut disconnect = Self::new(ReasonCode::Success);
        if !version.is_v5() {
            reader.finish()?;
            return Ok(disconnect);
        }
        if !reader.is_empty() {
            disconnect.reason = ReasonCode::decode(reader.u8()?, REASONS)?;
        }
        if !reader.is_empty() {
            disconnect.decode_properties(reader.properties(version)?)?;
        }
        reader.finish()?;
        Ok(disconnect)
    }

    fn decode_properties(&mut self, raw: &'a [u8]) -> Result<(), DecodeError> {
        self.user = UserProperties::checked(raw);
        for property in Properties::new(raw, PropertyScope::Disconnect) {
            match property? {
                Property::SessionExpiryInterval(value) => self.session_expiry_s = Some(value),
                Property::ReasonString(value) => self.reason_string = Some(value),
                Property::ServerReference(value) => self.server_reference = Some(value),
                // Read from `raw` when asked for; others are not allowed here.
                _ => {}
            }
        }
        Ok(())
    }

    fn has_properties(&self) -> bool {
        self.session_expiry_s.is_some()
            || self.reason_string.is_some()
            || self.server_reference.is_some()
            || !self.user.is_empty()
    }

    /// Appends the packet, in its shortest form; in 3.x an empty one. Panics if a string is over
    /// 65,535 bytes.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let first = PacketType::Disconnect.first();
        if !version.is_v5() {
            return out.extend_from_slice(&[first, 0]);
        }
        debug_assert!(REASONS.contains(&self.reason), "{} in DISCONNECT", self.reason);
        let has_properties = self.has_properties();
        out.push(first);
        put_with_length(0, out, |out| {
            if self.reason == ReasonCode::Success && !has_properties {
                return;
            }
            out.push(self.reason as u8);
            if has_properties {
                put_properties(version, out, |out| self.encode_properties(out));
            }
        });
    }

    fn encode_properties(&self, out: &mut Vec<u8>) {
        let properties = [
            self.session_expiry_s.map(Property::SessionExpiryInterval),
            self.reason_string.map(Property::ReasonString),
            self.server_reference.map(Property::ServerReference),
        ];
        for property in properties.iter().flatten() {
            property.encode(out);
        }
        self.user.encode(out);
    }

    /// Appends the packet, leaving out Reason String and User Properties if it is larger than
    /// `packet_bytes_max` with them [MQTT-3.14.2-3], [MQTT-3.14.2-4]. Appends nothing and says `false` if
    /// it is too large even so.
    #[must_use]
    pub fn encode_within(&self, version: Version, packet_bytes_max: u32, out: &mut Vec<u8>) -> bool {
        let lean = Self { reason_string: None, user: UserProperties::EMPTY, ..*self };
        let full = |out: &mut Vec<u8>| self.encode(version, out);
        put_within(packet_bytes_max, out, full, |out| lean.encode(version, out))
    }
}

/// Appends MQTT 5's DISCONNECT with nothing but a reason. A server sends none in 3.x.
pub fn encode_disconnect(reason: ReasonCode, reason_string: Option<&str>, out: &mut Vec<u8>) {
    Disconnect { reason_string, ..Disconnect::new(reason) }.encode(Version::V5, out);
}
