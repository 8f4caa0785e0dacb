//! Any packet.

use crate::frame::{Frame, PacketType};
use crate::{
    Ack, AckKind, Auth, ConnAck, Connect, DecodeError, Disconnect, Publish, SubAck, Subscribe, UnsubAck,
    Unsubscribe, Version, encode_pingreq, encode_pingresp, ping,
};

/// One MQTT Control Packet, borrowed from the bytes that it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each holds the type that describes it")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Reads a packet of a connection that speaks `version`; a CONNECT by the version that it names.
    ///
    /// Who may send the packet, and whether now, is not checked.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        Ok(match frame.packet_type()? {
            PacketType::Connect => Self::Connect(Connect::decode(frame)?),
            PacketType::ConnAck => Self::ConnAck(ConnAck::decode(version, frame)?),
            PacketType::Publish => Self::Publish(Publish::decode(version, frame)?),
            PacketType::PubAck => Self::PubAck(Ack::decode(version, frame)?),
            PacketType::PubRec => Self::PubRec(Ack::decode(version, frame)?),
            PacketType::PubRel => Self::PubRel(Ack::decode(version, frame)?),
            PacketType::PubComp => Self::PubComp(Ack::decode(version, frame)?),
            PacketType::Subscribe => Self::Subscribe(Subscribe::decode(version, frame)?),
            PacketType::SubAck => Self::SubAck(SubAck::decode(version, frame)?),
            PacketType::Unsubscribe => Self::Unsubscribe(Unsubscribe::decode(version, frame)?),
            PacketType::UnsubAck => Self::UnsubAck(UnsubAck::decode(version, frame)?),
            PacketType::PingReq => {
                ping::decode(frame)?;
                Self::PingReq
            }
            PacketType::PingResp => {
                ping::decode(frame)?;
                Self::PingResp
            }
            PacketType::Disconnect => Self::Disconnect(Disconnect::decode(version, frame)?),
            PacketType::Auth => Self::Auth(Auth::decode(version, frame)?),
        })
    }

    /// The packet's type.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    /// Appends the packet; a CONNECT in the version that it names. Panics where the packet's own
    /// `encode` does.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Self::Connect(packet) => packet.encode(out),
            Self::ConnAck(packet) => packet.encode(version, out),
            Self::Publish(packet) => packet.encode(version, out),
            Self::PubAck(packet) => packet.encode(AckKind::PubAck, version, out),
            Self::PubRec(packet) => packet.encode(AckKind::PubRec, version, out),
            Self::PubRel(packet) => packet.encode(AckKind::PubRel, version, out),
            Self::PubComp(packet) => packet.encode(AckKind::PubComp, version, out),
            Self::Subscribe(packet) => packet.encode(version, out),
            Self::SubAck(packet) => packet.encode(version, out),
            Self::Unsubscribe(packet) => packet.encode(version, out),
            Self::UnsubAck(packet) => packet.encode(version, out),
            Self::PingReq => encode_pingreq(out),
            Self::PingResp => encode_pingresp(out),
            Self::Disconnect(packet) => packet.encode(version, out),
            Self::Auth(packet) => packet.encode(version, out),
        }
    }
}
