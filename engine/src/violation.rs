//! What a peer did against the rules, and the reason code that it is told.

use ringmq_codec::{DecodeError, ReasonCode};

/// A peer's fault that ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// A packet is malformed or breaks a rule of its own. [MQTT-4.13.1-1]
    #[error("{0}")]
    Malformed(DecodeError),
    /// A packet other than CONNECT came first. [MQTT-3.1.0-1]
    #[error("the first packet is not CONNECT")]
    NotConnected,
    /// A second CONNECT. [MQTT-3.1.0-2]
    #[error("CONNECT was sent twice")]
    ConnectTwice,
    /// A packet that only a server sends.
    #[error("a packet that only a server sends")]
    NotForServers,
    /// More QoS 1 and 2 messages than the Receive Maximum. [MQTT-3.3.4-9]
    #[error("more unacknowledged messages than the Receive Maximum")]
    ReceiveMaximumExceeded,
    /// A topic alias above the maximum, or one without a topic before. [MQTT-3.3.2-9]
    #[error("a topic alias is unknown or out of range")]
    TopicAliasInvalid,
    /// A PUBLISH from a client with a subscription identifier. [MQTT-3.3.4-6]
    #[error("a client sent a subscription identifier")]
    SubscriptionIdFromClient,
    /// An empty topic without an alias.
    #[error("neither a topic name nor an alias")]
    TopicMissing,
    /// A topic of more levels than the configuration allows.
    #[error("the topic name has too many levels")]
    TopicLevels,
    /// A Session Expiry Interval at DISCONNECT after none at CONNECT. [MQTT-3.14.2-2]
    #[error("a session expiry interval was set at DISCONNECT after none at CONNECT")]
    SessionExpiryRaised,
    /// The shard holds as many bytes as it may, and this packet would take more.
    #[error("the server has no memory for the packet")]
    MemoryFull,
    /// A QoS 1 or 2 message for which the log has no room, from a client that knows no other refusal.
    #[error("the server has no room for the message")]
    StorageFull,
    /// AUTH without an exchange to belong to.
    #[error("AUTH was sent without an authentication method")]
    AuthUnexpected,
}

impl Violation {
    /// What an MQTT 5 client is told in DISCONNECT.
    pub(crate) fn reason(self) -> ReasonCode {
        match self {
            Self::Malformed(error) => error.reason(),
            Self::NotConnected
            | Self::ConnectTwice
            | Self::NotForServers
            | Self::SubscriptionIdFromClient
            | Self::TopicMissing
            | Self::SessionExpiryRaised
            | Self::AuthUnexpected => ReasonCode::ProtocolError,
            Self::MemoryFull | Self::StorageFull => ReasonCode::QuotaExceeded,
            Self::ReceiveMaximumExceeded => ReasonCode::ReceiveMaximumExceeded,
            Self::TopicAliasInvalid => ReasonCode::TopicAliasInvalid,
            Self::TopicLevels => ReasonCode::TopicNameInvalid,
        }
    }
}
