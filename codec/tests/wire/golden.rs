//! Packets against bytes that were written by hand, in both directions, and the encoders that are
//! not a packet's own.

use crate::corpus::{corpus, decode, id};
use ringmq_codec::*;

#[test]
fn encoders_write_the_golden_bytes() {
    for (version, packet, bytes) in corpus() {
        // Behind something else, as in an outbox.
        let mut out = b"before".to_vec();
        packet.encode(version, &mut out);
        assert_eq!(&out[6..], bytes, "{version}: {packet:?}");
    }
}

#[test]
fn decoders_read_the_golden_bytes() {
    for (version, packet, bytes) in corpus() {
        assert_eq!(decode(version, bytes), Ok(packet), "{version}: {bytes:02x?}");
    }
}

#[test]
fn every_type_and_version_is_in_the_corpus() {
    for packet_type in 1..=15 {
        for version in [Version::V311, Version::V5] {
            let found = corpus().iter().any(|(v, p, _)| {
                let either = matches!(packet_type, 12 | 13) || (packet_type == 15 && version < Version::V5);
                (*v == version || either) && p.packet_type() as u8 == packet_type
            });
            assert!(found, "no packet of type {packet_type} in {version}");
        }
    }
}

/// What the short forms leave out, and longer forms than our encoders choose.
#[test]
fn longer_forms_read_the_same() {
    let cases: &[(&[u8], &[u8])] = &[
        (b"\x40\x02\0\x01", b"\x40\x03\0\x01\0"),
        (b"\x40\x02\0\x01", b"\x40\x04\0\x01\0\0"),
        (b"\x62\x03\0\x01\x92", b"\x62\x04\0\x01\x92\0"),
        (b"\xe0\0", b"\xe0\x01\0"),
        (b"\xe0\0", b"\xe0\x02\0\0"),
        (b"\xe0\x01\x04", b"\xe0\x02\x04\0"),
    ];
    for (short, long) in cases {
        assert_eq!(decode(Version::V5, short), decode(Version::V5, long), "{long:02x?}");
    }
}

#[test]
fn small_encoders() {
    type Case = (fn(&mut Vec<u8>), &'static [u8]);
    const NOT_FOUND: ReasonCode = ReasonCode::PacketIdentifierNotFound;
    const QUOTA: ReasonCode = ReasonCode::QuotaExceeded;
    const NO_SUBSCRIPTION: ReasonCode = ReasonCode::NoSubscriptionExisted;
    let cases: &[Case] = &[
        (|out| encode_puback(Version::V5, id(1), ReasonCode::Success, out), b"\x40\x02\0\x01"),
        (|out| encode_puback(Version::V5, id(1), QUOTA, out), b"\x40\x03\0\x01\x97"),
        (|out| encode_puback(Version::V311, id(1), QUOTA, out), b"\x40\x02\0\x01"),
        (|out| encode_pubrec(Version::V5, id(1), QUOTA, out), b"\x50\x03\0\x01\x97"),
        (|out| encode_pubrel(Version::V5, id(1), NOT_FOUND, out), b"\x62\x03\0\x01\x92"),
        (|out| encode_pubcomp(Version::V5, id(1), NOT_FOUND, out), b"\x70\x03\0\x01\x92"),
        (|out| encode_pubcomp(Version::V31, id(1), ReasonCode::Success, out), b"\x70\x02\0\x01"),
        (encode_pingreq, b"\xc0\0"),
        (encode_pingresp, b"\xd0\0"),
        (|out| encode_suback(Version::V31, id(1), &[QUOTA], out), b"\x90\x03\0\x01\x80"),
        (|out| encode_suback(Version::V5, id(1), &[QUOTA], out), b"\x90\x04\0\x01\0\x97"),
        (|out| encode_unsuback(Version::V311, id(1), &[NO_SUBSCRIPTION], out), b"\xb0\x02\0\x01"),
        (|out| encode_unsuback(Version::V5, id(1), &[NO_SUBSCRIPTION], out), b"\xb0\x04\0\x01\0\x11"),
        (|out| encode_disconnect(QUOTA, None, out), b"\xe0\x01\x97"),
        (|out| encode_disconnect(QUOTA, Some("x"), out), b"\xe0\x06\x97\x04\x1f\0\x01x"),
        (|out| encode_connack(Version::V311, &ConnAck::new(ReasonCode::Banned), out), b"\x20\x02\0\x05"),
    ];
    for (encode, expected) in cases {
        let mut out = Vec::new();
        encode(&mut out);
        assert_eq!(&out, expected);
    }
}

#[test]
fn publish_headers() {
    let plain = PublishHeader {
        version: Version::V311,
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: b"a/b",
        packet_id: None,
        properties: b"\x01\x01",
        message_expiry_s: Some(6),
        topic_alias: Some(3),
        subscription_ids: &[1, 200],
        payload_len: 2,
    };
    let v5 = PublishHeader { version: Version::V5, ..plain };
    let large = PublishHeader { payload_len: 200, qos: QoS::AtLeastOnce, ..plain };
    let bare = PublishHeader {
        properties: &[],
        message_expiry_s: None,
        topic_alias: None,
        subscription_ids: &[],
        qos: QoS::ExactlyOnce,
        packet_id: Some(id(7)),
        dup: true,
        retain: true,
        ..v5
    };
    let cases: &[(PublishHeader<'_>, &[u8], usize)] = &[
        (plain, b"\x30\x07\0\x03a/b", 0),
        (v5, b"\x30\x17\0\x03a/b\x0f\x02\0\0\0\x06\x23\0\x03\x0b\x01\x0b\xc8\x01\x01\x01", 0),
        (large, b"\x32\xcf\x01\0\x03a/b\0\0", 8),
        (bare, b"\x3d\x0a\0\x03a/b\0\x07\0", 7),
    ];
    for (header, expected, packet_id_at) in cases {
        let mut out = b"before".to_vec();
        assert_eq!(header.encode(&mut out), *packet_id_at, "{header:?}");
        assert_eq!(&out[6..], *expected, "{header:?}");
        assert_eq!(header.encoded_len(), expected.len() + header.payload_len, "{header:?}");
    }
}

/// [MQTT-3.2.2-19], [MQTT-3.2.2-20], [MQTT-3.4.2-2], [MQTT-3.4.2-3], [MQTT-3.9.2-2], [MQTT-3.11.2-2],
/// [MQTT-3.14.2-3], [MQTT-3.14.2-4]: what is optional goes, then the packet.
#[test]
fn diagnosis_is_left_out_where_it_does_not_fit() {
    let pairs = [("k", "v")];
    let (reason_string, user) = (Some("why"), UserProperties::from(&pairs[..]));
    let ack = Ack { reason_string, user, ..Ack::new(id(1), ReasonCode::QuotaExceeded) };
    let disconnect = Disconnect { reason_string, user, ..Disconnect::new(ReasonCode::QuotaExceeded) };
    let reasons = ReasonCodes::from(&[ReasonCode::UnspecifiedError][..]);
    let suback = SubAck { packet_id: id(1), reason_string, user, reasons };
    let unsuback = UnsubAck { packet_id: id(1), reason_string, user, reasons };
    let properties =
        ConnAckProperties { reason_string, user, retain_available: Some(false), ..Default::default() };
    let connack = ConnAck { properties, ..ConnAck::new(ReasonCode::ServerBusy) };
    let v5 = Version::V5;
    let check = |lean: usize, encode: &dyn Fn(u32, &mut Vec<u8>) -> bool| {
        let with_limit = |limit: usize| {
            let mut out = vec![0];
            let fits = encode(u32::try_from(limit).unwrap(), &mut out);
            assert_eq!(fits, out.len() > 1);
            out.len() - 1
        };
        let full = with_limit(100);
        assert_eq!(full, lean + 13, "lean {lean}");
        assert_eq!(with_limit(full), full);
        assert_eq!(with_limit(full - 1), lean);
        assert_eq!(with_limit(lean), lean);
        assert_eq!(with_limit(lean - 1), 0);
    };
    check(7, &|limit, out| connack.encode_within(v5, limit, out));
    check(6, &|limit, out| suback.encode_within(v5, limit, out));
    check(6, &|limit, out| unsuback.encode_within(v5, limit, out));
    // Their short forms have no property length either.
    let ack_within = |limit, out: &mut Vec<u8>| ack.encode_within(AckKind::PubAck, v5, limit, out);
    let mut out = Vec::new();
    assert!(ack_within(19, &mut out));
    assert_eq!(out.len(), 19);
    assert!(ack_within(18, &mut out) && !ack_within(4, &mut out));
    assert_eq!(out[19..], *b"\x40\x03\0\x01\x97");
    out.clear();
    assert!(disconnect.encode_within(v5, 16, &mut out));
    assert_eq!(out, b"\xe0\x01\x97");
}

/// [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.1.3-10]
#[test]
fn forwarding_keeps_what_the_sender_said_and_its_order() {
    let properties = [
        Property::UserProperty("a", "1"),
        Property::MessageExpiryInterval(9),
        Property::ContentType("t"),
        Property::UserProperty("a", "0"),
        Property::TopicAlias(3),
        Property::SubscriptionIdentifier(300),
        Property::WillDelayInterval(1),
        Property::CorrelationData(b"\0"),
        Property::PayloadFormatIndicator(PayloadFormat::Utf8),
        Property::ResponseTopic("r"),
    ];
    let (mut raw, mut expected, mut forwarded) = (Vec::new(), Vec::new(), Vec::new());
    for (i, property) in properties.iter().enumerate() {
        property.encode(&mut raw);
        if [0, 2, 3, 7, 8, 9].contains(&i) {
            property.encode(&mut expected);
        }
    }
    forwardable(&raw, &mut forwarded);
    assert_eq!(forwarded, expected);
    // What no decoder would pass ends it, quietly.
    for cut in 0..raw.len() {
        forwarded.clear();
        forwardable(&raw[..cut], &mut forwarded);
        assert!(expected.starts_with(&forwarded));
    }
}

#[test]
fn reason_codes() {
    for code in 0..=u8::MAX {
        match ReasonCode::try_from(code) {
            Ok(reason) => {
                assert_eq!(reason as u8, code);
                assert!(ReasonCode::ALL.contains(&reason));
                assert_eq!(reason.is_error(), code >= 0x80);
            }
            Err(error) => assert_eq!(error, DecodeError::ReasonCodeInvalid { code }),
        }
    }
    assert_eq!(ReasonCode::ALL.len(), 43);
    assert_eq!(ReasonCode::ClientIdentifierNotValid.to_string(), "Client Identifier not valid");
    for code in 0..=5 {
        assert_eq!(ReasonCode::from_connect_return_code(code).unwrap().connect_return_code(), code);
    }
    let accepted = ReasonCode::ALL.iter().filter(|r| r.connect_return_code() == 0);
    assert!(accepted.eq([&ReasonCode::Success]));
}
