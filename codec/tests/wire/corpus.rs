//! A corpus of packets, written by hand from the specification: bytes, and what they say.

use std::num::{NonZeroU16, NonZeroU32};

use ringmq_codec::*;

/// A version, a packet and its bytes. The encoder must produce just these.
pub type Golden = (Version, Packet<'static>, &'static [u8]);

pub fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

/// Splits and decodes bytes that are exactly one packet.
pub fn decode(version: Version, bytes: &[u8]) -> Result<Packet<'_>, DecodeError> {
    match frame(bytes, u32::MAX)? {
        Decoded::Complete(frame) => {
            assert_eq!(frame.total, bytes.len(), "the Remaining Length is wrong in {bytes:02x?}");
            Packet::decode(version, &frame)
        }
        Decoded::Incomplete { need } => panic!("{bytes:02x?} need {need} bytes"),
    }
}

const USER: UserPairs = &[("k", "1"), ("k", "2")];
type UserPairs = &'static [(&'static str, &'static str)];

fn user() -> UserProperties<'static> {
    USER.into()
}

pub fn corpus() -> Vec<Golden> {
    [connects(), connacks(), publishes(), acks(), subscribes(), subacks(), endings()].concat()
}

fn connects() -> Vec<Golden> {
    let v3 = Connect {
        keep_alive_s: 60,
        will: Some(Will {
            topic: "w",
            payload: b"\x00\xff",
            qos: QoS::ExactlyOnce,
            retain: true,
            delay_s: 0,
            message_expiry_s: None,
            properties: &[],
        }),
        username: Some("u"),
        password: Some(b"p"),
        clean_start: false,
        ..Connect::new(Version::V311, "c")
    };
    let v5 = Connect {
        keep_alive_s: 300,
        will: Some(Will {
            topic: "w/t",
            payload: b"bye",
            qos: QoS::AtLeastOnce,
            retain: false,
            delay_s: 5,
            message_expiry_s: Some(10),
            properties: b"\x01\x01\x26\x00\x01a\x00\x01b",
        }),
        password: Some(b"p"),
        properties: ConnectProperties {
            session_expiry_s: u32::MAX,
            receive_maximum: NonZeroU16::new(20).unwrap(),
            packet_bytes_max: NonZeroU32::new(1024),
            topic_alias_maximum: 7,
            request_response_information: true,
            request_problem_information: false,
            authentication_method: Some("m"),
            authentication_data: Some(b"d"),
            user: user(),
        },
        ..Connect::new(Version::V5, "")
    };
    vec![
        (
            Version::V31,
            Packet::Connect(Connect::new(Version::V31, "c")),
            b"\x10\x0f\0\x06MQIsdp\x03\x02\0\0\0\x01c",
        ),
        (
            Version::V311,
            Packet::Connect(Connect::new(Version::V311, "")),
            b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0",
        ),
        (
            Version::V311,
            Packet::Connect(v3),
            b"\x10\x1a\0\x04MQTT\x04\xf4\0\x3c\0\x01c\0\x01w\0\x02\x00\xff\0\x01u\0\x01p",
        ),
        (
            Version::V5,
            Packet::Connect(Connect::new(Version::V5, "c")),
            b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01c",
        ),
        (
            Version::V5,
            Packet::Connect(v5),
            b"\x10\x58\0\x04MQTT\x05\x4e\x01\x2c\
              \x2a\x11\xff\xff\xff\xff\x21\0\x14\x27\0\0\x04\0\x22\0\x07\x19\x01\x17\0\
              \x15\0\x01m\x16\0\x01d\x26\0\x01k\0\x011\x26\0\x01k\0\x012\
              \0\0\
              \x13\x18\0\0\0\x05\x02\0\0\0\x0a\x01\x01\x26\0\x01a\0\x01b\
              \0\x03w/t\0\x03bye\0\x01p",
        ),
    ]
}

fn connacks() -> Vec<Golden> {
    let resumed = ConnAck { session_present: true, ..ConnAck::new(ReasonCode::Success) };
    let everything = ConnAck {
        properties: ConnAckProperties {
            session_expiry_s: Some(1),
            receive_maximum: NonZeroU16::new(2),
            maximum_qos: Some(QoS::AtLeastOnce),
            retain_available: Some(false),
            packet_bytes_max: NonZeroU32::new(3),
            assigned_client_id: Some("a"),
            topic_alias_maximum: Some(4),
            reason_string: Some("r"),
            user: user(),
            wildcard_available: Some(true),
            subscription_ids_available: Some(false),
            shared_available: Some(true),
            server_keep_alive_s: Some(5),
            response_information: Some("i"),
            server_reference: Some("s"),
            authentication_method: Some("m"),
            authentication_data: Some(b"d"),
        },
        ..resumed
    };
    vec![
        (Version::V31, Packet::ConnAck(ConnAck::new(ReasonCode::NotAuthorized)), b"\x20\x02\0\x05"),
        (Version::V311, Packet::ConnAck(resumed), b"\x20\x02\x01\0"),
        (
            Version::V311,
            Packet::ConnAck(ConnAck::new(ReasonCode::UnsupportedProtocolVersion)),
            b"\x20\x02\0\x01",
        ),
        (Version::V5, Packet::ConnAck(resumed), b"\x20\x03\x01\0\0"),
        (Version::V5, Packet::ConnAck(ConnAck::new(ReasonCode::Banned)), b"\x20\x03\0\x8a\0"),
        (
            Version::V5,
            Packet::ConnAck(everything),
            b"\x20\x46\x01\0\x43\x11\0\0\0\x01\x21\0\x02\x24\x01\x25\0\x27\0\0\0\x03\x12\0\x01a\
              \x22\0\x04\x1f\0\x01r\x28\x01\x29\0\x2a\x01\x13\0\x05\x1a\0\x01i\x1c\0\x01s\
              \x15\0\x01m\x16\0\x01d\x26\0\x01k\0\x011\x26\0\x01k\0\x012",
        ),
    ]
}

fn publishes() -> Vec<Golden> {
    let plain = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: b"a/b",
        packet_id: None,
        properties: PublishProperties::default(),
        payload: b"hi",
    };
    let again = Publish { dup: true, qos: QoS::AtLeastOnce, retain: true, packet_id: Some(id(10)), ..plain };
    let twice = Publish { qos: QoS::ExactlyOnce, packet_id: Some(id(u16::MAX)), payload: b"", ..plain };
    let full = Publish {
        topic: b"",
        properties: PublishProperties {
            payload_format: Some(PayloadFormat::Utf8),
            message_expiry_s: Some(6),
            topic_alias: Some(3),
            response_topic: Some("r"),
            correlation_data: Some(b"\xff"),
            content_type: Some("t"),
            subscription_ids: SubscriptionIds::from(&[1, 200][..]),
            has_subscription_ids: true,
            user: user(),
            raw: &[],
        },
        ..twice
    };
    vec![
        (Version::V31, Packet::Publish(plain), b"\x30\x07\0\x03a/bhi"),
        (Version::V311, Packet::Publish(plain), b"\x30\x07\0\x03a/bhi"),
        (Version::V311, Packet::Publish(again), b"\x3b\x09\0\x03a/b\0\x0ahi"),
        (Version::V311, Packet::Publish(twice), b"\x34\x07\0\x03a/b\xff\xff"),
        (Version::V5, Packet::Publish(plain), b"\x30\x08\0\x03a/b\0hi"),
        (Version::V5, Packet::Publish(again), b"\x3b\x0a\0\x03a/b\0\x0a\0hi"),
        (
            Version::V5,
            Packet::Publish(full),
            b"\x34\x2e\0\0\xff\xff\x29\x01\x01\x02\0\0\0\x06\x23\0\x03\x08\0\x01r\x09\0\x01\xff\x03\0\x01t\
              \x0b\x01\x0b\xc8\x01\x26\0\x01k\0\x011\x26\0\x01k\0\x012",
        ),
    ]
}

fn acks() -> Vec<Golden> {
    let ok = Ack::new(id(258), ReasonCode::Success);
    let nobody = Ack::new(id(2), ReasonCode::NoMatchingSubscribers);
    let lost = Ack::new(id(2), ReasonCode::PacketIdentifierNotFound);
    let why = Ack { reason_string: Some("r"), user: user(), ..lost };
    vec![
        (Version::V31, Packet::PubAck(ok), b"\x40\x02\x01\x02"),
        (Version::V311, Packet::PubAck(ok), b"\x40\x02\x01\x02"),
        (Version::V311, Packet::PubRec(ok), b"\x50\x02\x01\x02"),
        (Version::V311, Packet::PubRel(ok), b"\x62\x02\x01\x02"),
        (Version::V311, Packet::PubComp(ok), b"\x70\x02\x01\x02"),
        (Version::V5, Packet::PubAck(ok), b"\x40\x02\x01\x02"),
        (Version::V5, Packet::PubAck(nobody), b"\x40\x03\0\x02\x10"),
        (Version::V5, Packet::PubRec(nobody), b"\x50\x03\0\x02\x10"),
        (Version::V5, Packet::PubRel(lost), b"\x62\x03\0\x02\x92"),
        (
            Version::V5,
            Packet::PubComp(why),
            b"\x70\x16\0\x02\x92\x12\x1f\0\x01r\x26\0\x01k\0\x011\x26\0\x01k\0\x012",
        ),
    ]
}

const V3_FILTERS: &[SubscribeFilter<'_>] = &[
    SubscribeFilter { filter: "a/+", options: options(QoS::AtLeastOnce) },
    SubscribeFilter { filter: "#", options: options(QoS::ExactlyOnce) },
];

const V5_FILTERS: &[SubscribeFilter<'_>] = &[
    SubscribeFilter { filter: "$share/g/t", options: options(QoS::AtMostOnce) },
    SubscribeFilter {
        filter: "t",
        options: SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::DoNotSend,
        },
    },
];

const fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    }
}

fn subscribes() -> Vec<Golden> {
    let v3 = Subscribe {
        packet_id: id(1),
        subscription_id: None,
        user: UserProperties::EMPTY,
        filters: V3_FILTERS.into(),
    };
    let v5 = Subscribe { subscription_id: Some(128), user: user(), filters: V5_FILTERS.into(), ..v3.clone() };
    let leave = Unsubscribe {
        packet_id: id(1),
        user: UserProperties::EMPTY,
        filters: UnsubscribeFilters::from(&["a/+", "#"][..]),
    };
    vec![
        (Version::V31, Packet::Subscribe(v3.clone()), b"\x82\x0c\0\x01\0\x03a/+\x01\0\x01#\x02"),
        (Version::V311, Packet::Subscribe(v3), b"\x82\x0c\0\x01\0\x03a/+\x01\0\x01#\x02"),
        (
            Version::V5,
            Packet::Subscribe(v5),
            b"\x82\x25\0\x01\x11\x0b\x80\x01\x26\0\x01k\0\x011\x26\0\x01k\0\x012\
              \0\x0a$share/g/t\0\0\x01t\x2e",
        ),
        (Version::V311, Packet::Unsubscribe(leave.clone()), b"\xa2\x0a\0\x01\0\x03a/+\0\x01#"),
        (Version::V5, Packet::Unsubscribe(leave), b"\xa2\x0b\0\x01\0\0\x03a/+\0\x01#"),
    ]
}

fn subacks() -> Vec<Golden> {
    const V3: &[ReasonCode] = &[
        ReasonCode::Success,
        ReasonCode::GrantedQoS1,
        ReasonCode::GrantedQoS2,
        ReasonCode::UnspecifiedError,
    ];
    const V5: &[ReasonCode] = &[ReasonCode::GrantedQoS2, ReasonCode::WildcardSubscriptionsNotSupported];
    const LEFT: &[ReasonCode] = &[ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
    let (packet_id, user) = (id(1), UserProperties::EMPTY);
    let suback = |reasons: &'static [ReasonCode]| {
        Packet::SubAck(SubAck { packet_id, user, reason_string: None, reasons: reasons.into() })
    };
    let unsuback = |reason_string, reasons: &'static [ReasonCode]| {
        Packet::UnsubAck(UnsubAck { packet_id, user, reason_string, reasons: reasons.into() })
    };
    vec![
        (Version::V31, suback(V3), b"\x90\x06\0\x01\0\x01\x02\x80"),
        (Version::V311, suback(V3), b"\x90\x06\0\x01\0\x01\x02\x80"),
        (Version::V5, suback(V5), b"\x90\x05\0\x01\0\x02\xa2"),
        (Version::V311, unsuback(None, &[]), b"\xb0\x02\0\x01"),
        (Version::V5, unsuback(None, LEFT), b"\xb0\x05\0\x01\0\0\x11"),
        (Version::V5, unsuback(Some("r"), LEFT), b"\xb0\x09\0\x01\x04\x1f\0\x01r\0\x11"),
    ]
}

fn endings() -> Vec<Golden> {
    let moved = Disconnect {
        session_expiry_s: Some(9),
        reason_string: Some("r"),
        server_reference: Some("s"),
        user: user(),
        ..Disconnect::new(ReasonCode::ServerMoved)
    };
    let step = Auth {
        method: Some("m"),
        data: Some(b"d"),
        reason_string: Some("r"),
        user: user(),
        ..Auth::new(ReasonCode::ContinueAuthentication)
    };
    vec![
        (Version::V311, Packet::PingReq, b"\xc0\0"),
        (Version::V5, Packet::PingResp, b"\xd0\0"),
        (Version::V311, Packet::Disconnect(Disconnect::new(ReasonCode::Success)), b"\xe0\0"),
        (Version::V31, Packet::Disconnect(Disconnect::new(ReasonCode::Success)), b"\xe0\0"),
        (Version::V5, Packet::Disconnect(Disconnect::new(ReasonCode::Success)), b"\xe0\0"),
        (Version::V5, Packet::Disconnect(Disconnect::new(ReasonCode::SessionTakenOver)), b"\xe0\x01\x8e"),
        (
            Version::V5,
            Packet::Disconnect(moved),
            b"\xe0\x1d\x9d\x1b\x11\0\0\0\x09\x1f\0\x01r\x1c\0\x01s\x26\0\x01k\0\x011\x26\0\x01k\0\x012",
        ),
        (Version::V5, Packet::Auth(Auth::new(ReasonCode::Success)), b"\xf0\0"),
        (
            Version::V5,
            Packet::Auth(step),
            b"\xf0\x1c\x18\x1a\x15\0\x01m\x16\0\x01d\x1f\0\x01r\x26\0\x01k\0\x011\x26\0\x01k\0\x012",
        ),
    ]
}
