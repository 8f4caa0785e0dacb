//! CONNACK, MQTT 5 section 3.2.

use std::num::{NonZeroU16, NonZeroU32};

use crate::frame::{Frame, PacketType};
use crate::wire::{Reader, put_properties, put_with_length, put_within};
use crate::{DecodeError, Properties, Property, PropertyScope, QoS, ReasonCode, UserProperties, Version};

const SESSION_PRESENT: u8 = 1;

/// The reason codes of MQTT 5 table 3-1 [MQTT-3.2.2-8].
const REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::UnspecifiedError,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::UnsupportedProtocolVersion,
    ReasonCode::ClientIdentifierNotValid,
    ReasonCode::BadUserNameOrPassword,
    ReasonCode::NotAuthorized,
    ReasonCode::ServerUnavailable,
    ReasonCode::ServerBusy,
    ReasonCode::Banned,
    ReasonCode::BadAuthenticationMethod,
    ReasonCode::TopicNameInvalid,
    ReasonCode::PacketTooLarge,
    ReasonCode::QuotaExceeded,
    ReasonCode::PayloadFormatInvalid,
    ReasonCode::RetainNotSupported,
    ReasonCode::QoSNotSupported,
    ReasonCode::UseAnotherServer,
    ReasonCode::ServerMoved,
    ReasonCode::ConnectionRateExceeded,
];

/// A server's answer to CONNECT [MQTT-3.2.0-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the server resumes a session [MQTT-3.2.2-3]; never with a failure [MQTT-3.2.2-6]. 3.1
    /// has no such flag, and it is neither written nor expected there.
    pub session_present: bool,
    /// The Connect Reason Code; in 3.x what the return code stands for.
    pub reason: ReasonCode,
    /// MQTT 5's properties; the defaults in 3.x.
    pub properties: ConnAckProperties<'a>,
}

/// What a server says about itself and the connection, section 3.2.2.3. `None` is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnAckProperties<'a> {
    /// Session Expiry Interval in seconds, if not what the client asked for.
    pub session_expiry_s: Option<u32>,
    /// How many unacknowledged QoS 1 and 2 messages the server takes; 65,535 if absent.
    pub receive_maximum: Option<NonZeroU16>,
    /// The highest QoS that the server takes [MQTT-3.2.2-11]. Exactly once is what absence means, and
    /// is encoded so.
    pub maximum_qos: Option<QoS>,
    /// Whether the server keeps retained messages [MQTT-3.2.2-14]; it does if absent.
    pub retain_available: Option<bool>,
    /// The largest packet in bytes that the server takes [MQTT-3.2.2-15].
    pub packet_bytes_max: Option<NonZeroU32>,
    /// The Client Identifier that the server chose for a client without one [MQTT-3.1.3-7].
    pub assigned_client_id: Option<&'a str>,
    /// The highest Topic Alias that the server takes [MQTT-3.2.2-17]; 0 if absent.
    pub topic_alias_maximum: Option<u16>,
    /// A diagnosis, for people to read [MQTT-3.2.2-19].
    pub reason_string: Option<&'a str>,
    /// User Properties [MQTT-3.2.2-20].
    pub user: UserProperties<'a>,
    /// Whether the server takes wildcards in Topic Filters [MQTT-3.2.2-21]; it does if absent.
    pub wildcard_available: Option<bool>,
    /// Whether the server takes Subscription Identifiers; it does if absent.
    pub subscription_ids_available: Option<bool>,
    /// Whether the server takes Shared Subscriptions; it does if absent.
    pub shared_available: Option<bool>,
    /// The Keep Alive in seconds that the client must use in place of its own [MQTT-3.1.2-21].
    pub server_keep_alive_s: Option<u16>,
    /// A basis for response topics [MQTT-3.1.2-28].
    pub response_information: Option<&'a str>,
    /// Another server to use (section 4.11).
    pub server_reference: Option<&'a str>,
    /// The client's own Authentication Method [MQTT-4.12.0-5].
    pub authentication_method: Option<&'a str>,
    /// What the method says last.
    pub authentication_data: Option<&'a [u8]>,
}

impl<'a> ConnAck<'a> {
    /// A CONNACK without properties.
    #[must_use]
    pub fn new(reason: ReasonCode) -> Self {
        Self { session_present: false, reason, properties: ConnAckProperties::default() }
    }

    /// Reads a CONNACK.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        debug_assert_eq!(frame.packet_type(), Ok(PacketType::ConnAck));
        frame.expect_flags(0)?;
        let mut reader = Reader::new(frame.body);
        let flags = reader.u8()?;
        let code = reader.u8()?;
        let (session_present, reason) = match version {
            // 3.1 calls the whole byte unused.
            Version::V31 => (false, ReasonCode::from_connect_return_code(code)?),
            Version::V311 => (session_present(flags)?, ReasonCode::from_connect_return_code(code)?),
            Version::V5 => (session_present(flags)?, ReasonCode::decode(code, REASONS)?),
        };
        if session_present && reason != ReasonCode::Success {
            return Err(DecodeError::SessionPresentOnError);
        }
        let properties = ConnAckProperties::decode(reader.properties(version)?)?;
        reader.finish()?;
        Ok(Self { session_present, reason, properties })
    }

    /// Appends the packet. Panics if a field is over 65,535 bytes.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        debug_assert!(!self.session_present || self.reason == ReasonCode::Success, "[MQTT-3.2.2-6]");
        out.push(PacketType::ConnAck.first());
        put_with_length(0, out, |out| {
            match version {
                Version::V31 => out.extend_from_slice(&[0, self.reason.connect_return_code()]),
                Version::V311 => {
                    let code = self.reason.connect_return_code();
                    out.extend_from_slice(&[u8::from(self.session_present), code]);
                }
                Version::V5 => {
                    debug_assert!(REASONS.contains(&self.reason), "{} in CONNACK", self.reason);
                    out.extend_from_slice(&[u8::from(self.session_present), self.reason as u8]);
                }
            }
            put_properties(version, out, |out| self.properties.encode(out));
        });
    }

    /// Appends the packet, leaving out Reason String and User Properties if it is larger than
    /// `packet_bytes_max` with them [MQTT-3.2.2-19], [MQTT-3.2.2-20]. Appends nothing and says `false`
    /// if it is too large even so.
    #[must_use]
    pub fn encode_within(&self, version: Version, packet_bytes_max: u32, out: &mut Vec<u8>) -> bool {
        let lean = Self {
            properties: ConnAckProperties {
                reason_string: None,
                user: UserProperties::EMPTY,
                ..self.properties
            },
            ..*self
        };
        let full = |out: &mut Vec<u8>| self.encode(version, out);
        put_within(packet_bytes_max, out, full, |out| lean.encode(version, out))
    }
}

/// The Connect Acknowledge Flags, of which one means something [MQTT-3.2.2-1].
const fn session_present(flags: u8) -> Result<bool, DecodeError> {
    if flags & !SESSION_PRESENT != 0 {
        return Err(DecodeError::ConnAckFlagsReserved);
    }
    Ok(flags == SESSION_PRESENT)
}

/// Appends a CONNACK; the same as [`ConnAck::encode`].
pub fn encode_connack(version: Version, connack: &ConnAck<'_>, out: &mut Vec<u8>) {
    connack.encode(version, out);
}

impl<'a> ConnAckProperties<'a> {
    fn decode(raw: &'a [u8]) -> Result<Self, DecodeError> {
        let mut this = Self { user: UserProperties::checked(raw), ..Self::default() };
        for property in Properties::new(raw, PropertyScope::ConnAck) {
            match property? {
                Property::SessionExpiryInterval(value) => this.session_expiry_s = Some(value),
                Property::ReceiveMaximum(value) => this.receive_maximum = Some(value),
                Property::MaximumQoS(value) => this.maximum_qos = Some(value),
                Property::RetainAvailable(value) => this.retain_available = Some(value),
                Property::MaximumPacketSize(value) => this.packet_bytes_max = Some(value),
                Property::AssignedClientIdentifier(value) => this.assigned_client_id = Some(value),
                Property::TopicAliasMaximum(value) => this.topic_alias_maximum = Some(value),
                Property::ReasonString(value) => this.reason_string = Some(value),
                Property::WildcardSubscriptionAvailable(value) => {
                    this.wildcard_available = Some(value);
                }
                Property::SubscriptionIdentifierAvailable(value) => {
                    this.subscription_ids_available = Some(value);
                }
                Property::SharedSubscriptionAvailable(value) => this.shared_available = Some(value),
                Property::ServerKeepAlive(value) => this.server_keep_alive_s = Some(value),
                Property::ResponseInformation(value) => this.response_information = Some(value),
                Property::ServerReference(value) => this.server_reference = Some(value),
                Property::AuthenticationMethod(value) => this.authentication_method = Some(value),
                Property::AuthenticationData(value) => this.authentication_data = Some(value),
                // Read from `raw` when asked for; others are not allowed here.
                _ => {}
            }
        }
        Ok(this)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let maximum_qos = self.maximum_qos.filter(|qos| *qos != QoS::ExactlyOnce);
        let properties = [
            self.session_expiry_s.map(Property::SessionExpiryInterval),
            self.receive_maximum.map(Property::ReceiveMaximum),
            maximum_qos.map(Property::MaximumQoS),
            self.retain_available.map(Property::RetainAvailable),
            self.packet_bytes_max.map(Property::MaximumPacketSize),
            self.assigned_client_id.map(Property::AssignedClientIdentifier),
            self.topic_alias_maximum.map(Property::TopicAliasMaximum),
            self.reason_string.map(Property::ReasonString),
            self.wildcard_available.map(Property::WildcardSubscriptionAvailable),
            self.subscription_ids_available.map(Property::SubscriptionIdentifierAvailable),
            self.shared_available.map(Property::SharedSubscriptionAvailable),
            self.server_keep_alive_s.map(Property::ServerKeepAlive),
            self.response_information.map(Property::ResponseInformation),
            self.server_reference.map(Property::ServerReference),
            self.authentication_method.map(Property::AuthenticationMethod),
            self.authentication_data.map(Property::AuthenticationData),
        ];
        for property in properties.iter().flatten() {
            property.encode(out);
        }
        self.user.encode(out);
    }
}
