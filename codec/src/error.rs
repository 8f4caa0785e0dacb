//! What can be wrong with a packet, and the reason code that says so.

use thiserror::Error;

use crate::ReasonCode;

/// What a peer did wrong. Each variant names the statement of MQTT 5 that it enforces, or the
/// section where the specification gives the rule no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// [MQTT-3.1.2-24], [MQTT-3.2.2-15]: the packet is larger than its receiver allows.
    #[error("a packet of {bytes} bytes exceeds the limit of {bytes_max}")]
    PacketTooLarge {
        /// The whole packet's size, fixed header included.
        bytes: u32,
        /// The limit that it exceeds.
        bytes_max: u32,
    },
    /// [MQTT-1.5.5-1]: a Variable Byte Integer that is not minimal or runs past four bytes.
    #[error("a variable byte integer is not minimal or too long")]
    VarIntInvalid,
    /// Section 2.1.2: packet type 0, or 15 (AUTH) before MQTT 5, is forbidden.
    #[error("packet type {packet_type} is reserved")]
    PacketTypeReserved {
        /// The upper half of the fixed header's first byte.
        packet_type: u8,
    },
    /// [MQTT-2.1.3-1], and [MQTT-3.1.2-12], [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1],
    /// [MQTT-3.14.1-1], [MQTT-3.15.1-1] for single packets.
    #[error("the fixed header's reserved flags are wrong")]
    FlagsReserved,
    /// [MQTT-3.1.4-1] and section 1.2 (Malformed Packet): a field runs past the end of its packet.
    #[error("a field runs past the end of the packet")]
    Truncated,
    /// [MQTT-3.1.4-1] and section 1.2 (Malformed Packet): bytes remain after the last field.
    #[error("bytes remain after the last field")]
    TrailingBytes,
    /// [MQTT-1.5.4-1], [MQTT-1.5.4-2], [MQTT-1.5.7-1]: not UTF-8, or it holds U+0000.
    #[error("a string is not UTF-8 or holds a null character")]
    StringInvalid,
    /// [MQTT-3.1.2-1], [MQTT-3.1.2-2]: a protocol that is not MQTT 3.1, 3.1.1 or 5.
    #[error("protocol level {level} is not supported")]
    UnsupportedProtocolVersion {
        /// Whether the Protocol Name is one of MQTT's. If not, the peer may speak something else
        /// altogether, and closing without a CONNACK is in order.
        name_known: bool,
        /// The Protocol Level, or Protocol Version, that the peer asked for.
        level: u8,
    },
    /// [MQTT-3.1.2-3]: bit 0 of the Connect Flags is set.
    #[error("the reserved connect flag is set")]
    ConnectFlagReserved,
    /// [MQTT-3.1.2-7], [MQTT-3.1.2-8]: Will QoS 3, or Will QoS or Will Retain without a Will.
    #[error("the will flags contradict one another")]
    WillFlagsInvalid,
    /// 3.1.1's [MQTT-3.1.2-22]: the Password Flag without the User Name Flag. MQTT 5 allows it.
    #[error("a password without a user name")]
    PasswordWithoutUserName,
    /// 3.1.1's [MQTT-3.1.3-8]: a zero-length Client Identifier without Clean Session; in 3.1, any.
    #[error("the client identifier is empty")]
    ClientIdEmpty,
    /// [MQTT-3.2.2-1]: bits 7 to 1 of the Connect Acknowledge Flags are reserved.
    #[error("reserved connect acknowledge flags are set")]
    ConnAckFlagsReserved,
    /// [MQTT-3.2.2-6]: a CONNACK that refuses the connection claims a session.
    #[error("session present on a refused connection")]
    SessionPresentOnError,
    /// [MQTT-2.2.1-3], [MQTT-2.2.1-4]: Packet Identifier 0. The packet parses, so it is the value
    /// that breaks the protocol, not the format.
    #[error("the packet identifier is 0")]
    PacketIdZero,
    /// [MQTT-3.3.1-4]: both QoS bits of a PUBLISH are set.
    #[error("QoS 3")]
    QoSInvalid,
    /// [MQTT-3.3.1-2]: DUP is set on a QoS 0 PUBLISH.
    #[error("DUP on a QoS 0 message")]
    DupWithQoS0,
    /// [MQTT-4.7.3-1] and section 3.3.2.1: a zero-length Topic Name that no Topic Alias stands for.
    #[error("the topic name is empty")]
    TopicNameEmpty,
    /// [MQTT-4.7.3-3]: a Topic Name over 65,535 bytes. No packet can hold one.
    #[error("the topic name is too long")]
    TopicNameTooLong,
    /// [MQTT-3.3.2-2], [MQTT-4.7.0-1]: a Topic Name with a wildcard.
    #[error("the topic name holds a wildcard")]
    TopicNameWildcard,
    /// [MQTT-3.3.2-14]: a Response Topic with a wildcard, or an empty one ([MQTT-4.7.3-1]).
    #[error("the response topic is not a topic name")]
    ResponseTopicInvalid,
    /// [MQTT-3.3.2-7], [MQTT-3.3.2-8]: Topic Alias 0.
    #[error("the topic alias is 0")]
    TopicAliasZero,
    /// Section 2.2.2.2: a property that MQTT 5 does not define, or not for this packet.
    #[error("property {id:#04x} does not belong in this packet")]
    PropertyNotAllowed {
        /// The property's identifier.
        id: u8,
    },
    /// Section 3 throughout ("it is a Protocol Error to include ... more than once").
    #[error("property {id:#04x} occurs twice")]
    PropertyDuplicate {
        /// The property's identifier.
        id: u8,
    },
    /// Section 3 throughout: a zero where zero is a Protocol Error, or a flag that is neither 0 nor 1.
    #[error("the value of property {id:#04x} is out of range")]
    PropertyOutOfRange {
        /// The property's identifier.
        id: u8,
    },
    /// Sections 3.1.2.11.10 and 3.15.2.2.2: Authentication Data without an Authentication Method, or
    /// an AUTH without one.
    #[error("the authentication method is missing")]
    AuthenticationMethodMissing,
    /// [MQTT-3.8.3-2], [MQTT-3.8.3-3], [MQTT-3.10.3-2], [MQTT-3.9.3-1], [MQTT-3.11.3-1]: a list that
    /// must hold something is empty.
    #[error("the payload is empty")]
    PayloadEmpty,
    /// [MQTT-3.8.3-5]: reserved bits of the Subscription Options are set.
    #[error("reserved subscription options are set")]
    SubscriptionOptionsReserved,
    /// Section 3.8.3.1: a subscription's Maximum QoS is 3, or its Retain Handling is 3.
    #[error("a subscription option is out of range")]
    SubscriptionOptionsInvalid,
    /// [MQTT-3.8.3-4]: No Local on a Shared Subscription.
    #[error("no local on a shared subscription")]
    NoLocalOnShared,
    /// [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.2.2-8],
    /// [MQTT-3.9.3-2], [MQTT-3.11.3-2], [MQTT-3.14.2-1], [MQTT-3.15.2-1]: a reason code that is not
    /// one of the packet's.
    #[error("reason code {code:#04x} does not belong in this packet")]
    ReasonCodeInvalid {
        /// The code on the wire.
        code: u8,
    },
}

impl DecodeError {
    /// The reason code with which MQTT 5 answers this fault in a CONNACK or DISCONNECT
    /// ([MQTT-4.13.1-1]). For 3.x, see [`ReasonCode::connect_return_code`].
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::UnsupportedProtocolVersion { .. } => ReasonCode::UnsupportedProtocolVersion,
            Self::ClientIdEmpty => ReasonCode::ClientIdentifierNotValid,
            Self::TopicNameWildcard => ReasonCode::TopicNameInvalid,
            Self::TopicAliasZero => ReasonCode::TopicAliasInvalid,
            Self::VarIntInvalid
            | Self::PacketTypeReserved { .. }
            | Self::FlagsReserved
            | Self::Truncated
            | Self::TrailingBytes
            | Self::StringInvalid
            | Self::ConnectFlagReserved
            | Self::WillFlagsInvalid
            | Self::PasswordWithoutUserName
            | Self::ConnAckFlagsReserved
            | Self::QoSInvalid
            | Self::DupWithQoS0
            | Self::TopicNameTooLong
            | Self::PropertyNotAllowed { .. }
            | Self::SubscriptionOptionsReserved => ReasonCode::MalformedPacket,
            Self::SessionPresentOnError
            | Self::PacketIdZero
            | Self::TopicNameEmpty
            | Self::ResponseTopicInvalid
            | Self::PropertyDuplicate { .. }
            | Self::PropertyOutOfRange { .. }
            | Self::AuthenticationMethodMissing
            | Self::PayloadEmpty
            | Self::SubscriptionOptionsInvalid
            | Self::NoLocalOnShared
            | Self::ReasonCodeInvalid { .. } => ReasonCode::ProtocolError,
        }
    }
}
