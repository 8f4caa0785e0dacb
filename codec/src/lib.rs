//! MQTT 3.1, 3.1.1 and 5 on the wire, for both ends of a connection.
//!
//! [`frame()`] splits one packet off a buffer, [`Packet::decode`] reads it, borrowing everything from
//! that buffer, and each packet's `encode` appends bytes to a `Vec`. There is no I/O here, decoding
//! allocates nothing, and nothing remembers anything between packets: what depends on a connection's
//! state (topic aliases, who may send which packet) is the caller's to check.
//!
//! A peer's fault is a [`DecodeError`], which names the statement that it breaks and the
//! [`ReasonCode`] that MQTT 5 answers with. A fault of ours, such as a string too long to encode, is
//! a panic.

#![forbid(unsafe_code)]

mod ack;
mod auth;
mod connack;
mod connect;
mod connect_properties;
mod disconnect;
mod error;
mod frame;
mod packet;
mod ping;
mod properties;
mod property;
mod publish;
mod publish_header;
mod reason;
mod suback;
mod subscribe;
mod topic;
mod types;
mod unsubscribe;
mod user;
mod varint;
mod will;
mod wire;

pub use ack::{Ack, AckKind, encode_puback, encode_pubcomp, encode_pubrec, encode_pubrel};
pub use auth::Auth;
pub use connack::{ConnAck, ConnAckProperties, encode_connack};
pub use connect::Connect;
pub use connect_properties::ConnectProperties;
pub use disconnect::{Disconnect, encode_disconnect};
pub use error::DecodeError;
pub use frame::{Decoded, Frame, PacketType, frame};
pub use packet::Packet;
pub use ping::{encode_pingreq, encode_pingresp};
pub use properties::{Properties, PropertyScope, forwardable};
pub use property::{PayloadFormat, Property, PropertyId};
pub use publish::{Publish, PublishProperties, SubscriptionIds};
pub use publish_header::PublishHeader;
pub use reason::ReasonCode;
pub use suback::{ReasonCodes, SubAck, UnsubAck, encode_suback, encode_unsuback};
pub use subscribe::{RetainHandling, Subscribe, SubscribeFilter, SubscribeFilters, SubscriptionOptions};
pub use topic::{FilterError, TopicFilter, check_filter, check_name, matches};
pub use types::{PacketId, QoS, Version};
pub use unsubscribe::{Unsubscribe, UnsubscribeFilters};
pub use user::{UserProperties, UserPropertiesIter};
pub use varint::REMAINING_LENGTH_MAX;
pub use will::Will;
