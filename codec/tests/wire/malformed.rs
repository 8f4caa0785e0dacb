//! What is wrong with a packet, and the reason code that it gets: one row for each rule.

use crate::corpus::decode;
use ringmq_codec::ReasonCode::{
    ClientIdentifierNotValid, MalformedPacket, PacketTooLarge, ProtocolError, TopicAliasInvalid,
    TopicNameInvalid, UnsupportedProtocolVersion,
};
use ringmq_codec::Version::{V5, V31, V311};
use ringmq_codec::*;

type Row = (Version, &'static [u8], DecodeError, ReasonCode);

fn check(rows: &[Row]) {
    for (version, bytes, error, reason) in rows {
        assert_eq!(decode(*version, bytes), Err(*error), "{version}: {bytes:02x?}");
        assert_eq!(error.reason(), *reason, "{error}");
    }
}

#[test]
fn fixed_headers() {
    let flags = DecodeError::FlagsReserved;
    let mut rows = vec![
        (V5, &b"\x00\0"[..], DecodeError::PacketTypeReserved { packet_type: 0 }, MalformedPacket),
        (V311, b"\xf0\0", DecodeError::PacketTypeReserved { packet_type: 15 }, MalformedPacket),
        (V5, b"\xf1\0", flags, MalformedPacket),
        (V311, b"\x8a\x06\0\x01\0\x01t\0", flags, MalformedPacket),
        (V31, b"\x4a\x02\0\x01", flags, MalformedPacket),
        (V31, b"\xc0\x01\0", DecodeError::TrailingBytes, MalformedPacket),
        (V5, b"\xd0\x01\0", DecodeError::TrailingBytes, MalformedPacket),
    ];
    let first_bytes: &[&[u8]] = &[
        b"\x11\0", b"\x28\0", b"\x41\0", b"\x52\0", b"\x60\0", b"\x63\0", b"\x74\0", b"\x80\0", b"\x83\0",
        b"\x91\0", b"\xa0\0", b"\xa6\0", b"\xb1\0", b"\xc2\0", b"\xd8\0", b"\xe1\0",
    ];
    for bytes in first_bytes {
        rows.push((V311, bytes, flags, MalformedPacket));
        rows.push((V5, bytes, flags, MalformedPacket));
    }
    check(&rows);
}

/// In 3.1 these three carry a QoS of 1, and DUP when they are repeated.
#[test]
fn dup_is_fine_in_3_1() {
    for bytes in [&b"\x8a\x06\0\x01\0\x01t\0"[..], b"\xaa\x05\0\x01\0\x01t", b"\x6a\x02\0\x01"] {
        assert!(decode(V31, bytes).is_ok(), "{bytes:02x?}");
        assert_eq!(decode(V311, bytes), Err(DecodeError::FlagsReserved));
    }
}

#[test]
fn lengths() {
    let (invalid, max) = (Err(DecodeError::VarIntInvalid), REMAINING_LENGTH_MAX);
    let too_large = |bytes| Err(DecodeError::PacketTooLarge { bytes, bytes_max: 1000 });
    let incomplete = |need| Ok(Decoded::Incomplete { need });
    let cases = [
        (&b""[..], incomplete(1)),
        (b"\x30", incomplete(2)),
        (b"\x30\x80", incomplete(3)),
        (b"\x30\xff\xff", incomplete(4)),
        (b"\x30\xff\xff\xff", incomplete(5)),
        (b"\x30\x02", incomplete(4)),
        (b"\x30\x02a", incomplete(4)),
        (b"\x30\x80\x01", incomplete(131)),
        (b"\x30\xe4\x07", incomplete(999)),
        (b"\x30\xe5\x07", incomplete(1000)),
        (b"\x30\xe6\x07", too_large(1001)),
        (b"\x30\xff\x7f", too_large(16_386)),
        (b"\x30\x80\x80\x01", too_large(16_388)),
        (b"\x30\xff\xff\xff\x7f", too_large(max + 5)),
        (b"\x30\x80\x00", invalid),
        (b"\x30\xff\x00", invalid),
        (b"\x30\x80\x80\x00", invalid),
        (b"\x30\xff\xff\xff\x00", invalid),
        (b"\x30\xff\xff\xff\x80", invalid),
        (b"\x30\xff\xff\xff\xff\x01", invalid),
    ];
    for (input, expected) in cases {
        assert_eq!(frame(input, 1000), expected, "{input:02x?}");
    }
    assert_eq!(frame(b"\x30\xff\xff\xff\x7f", u32::MAX), incomplete(max as usize + 5));
    assert_eq!(DecodeError::VarIntInvalid.reason(), MalformedPacket);
    assert_eq!(too_large(1001).unwrap_err().reason(), PacketTooLarge);
    let whole = Frame { first: 0xc0, body: &[], total: 2 };
    assert_eq!(frame(b"\xc0\0\xc0\0", 1000), Ok(Decoded::Complete(whole)));
}

#[test]
fn connects() {
    let unsupported = |name_known, level| DecodeError::UnsupportedProtocolVersion { name_known, level };
    let will = DecodeError::WillFlagsInvalid;
    let rows: &[Row] = &[
        (V5, b"\x10\x0d\0\x04MQTT\x06\x02\0\0\0\0\0", unsupported(true, 6), UnsupportedProtocolVersion),
        (V5, b"\x10\x0d\0\x04MQTT\x03\x02\0\0\0\x01c", unsupported(true, 3), UnsupportedProtocolVersion),
        (V5, b"\x10\x0f\0\x06MQIsdp\x04\x02\0\0\0\x01c", unsupported(true, 4), UnsupportedProtocolVersion),
        (V5, b"\x10\x0c\0\x04mqtt\x04\x02\0\0\0\0", unsupported(false, 4), UnsupportedProtocolVersion),
        (V5, b"\x10\x03\0\0\x05", unsupported(false, 5), UnsupportedProtocolVersion),
        (V5, b"\x10\0", DecodeError::Truncated, MalformedPacket),
        (V5, b"\x10\x06\0\x04MQTT", DecodeError::Truncated, MalformedPacket),
        (V311, b"\x10\x0d\0\x04MQTT\x04\x03\0\0\0\x01c", DecodeError::ConnectFlagReserved, MalformedPacket),
        (V5, b"\x10\x0d\0\x04MQTT\x05\x03\0\0\0\0\0", DecodeError::ConnectFlagReserved, MalformedPacket),
        (V311, b"\x10\x0d\0\x04MQTT\x04\x0a\0\0\0\x01c", will, MalformedPacket),
        (V311, b"\x10\x0d\0\x04MQTT\x04\x22\0\0\0\x01c", will, MalformedPacket),
        (V311, b"\x10\x0d\0\x04MQTT\x04\x1e\0\0\0\x01c", will, MalformedPacket),
        (
            V31,
            b"\x10\x10\0\x06MQIsdp\x03\x42\0\0\0\x01cx",
            DecodeError::PasswordWithoutUserName,
            MalformedPacket,
        ),
        (
            V311,
            b"\x10\x10\0\x04MQTT\x04\x42\0\0\0\x01c\0\x01p",
            DecodeError::PasswordWithoutUserName,
            MalformedPacket,
        ),
        (V31, b"\x10\x0e\0\x06MQIsdp\x03\x02\0\0\0\0", DecodeError::ClientIdEmpty, ClientIdentifierNotValid),
        (V311, b"\x10\x0c\0\x04MQTT\x04\0\0\0\0\0", DecodeError::ClientIdEmpty, ClientIdentifierNotValid),
        (V311, b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\0x", DecodeError::TrailingBytes, MalformedPacket),
        (V311, b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x02c", DecodeError::Truncated, MalformedPacket),
        (V311, b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01\0", DecodeError::StringInvalid, MalformedPacket),
        (V311, b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01\xff", DecodeError::StringInvalid, MalformedPacket),
        (V311, b"\x10\x0d\0\x04MQTT\x04\x82\0\0\0\x01c", DecodeError::Truncated, MalformedPacket),
        (V311, b"\x10\x11\0\x04MQTT\x04\x06\0\0\0\x01c\0\0\0\0", DecodeError::TopicNameEmpty, ProtocolError),
        (
            V311,
            b"\x10\x12\0\x04MQTT\x04\x06\0\0\0\x01c\0\x01#\0\0",
            DecodeError::TopicNameWildcard,
            TopicNameInvalid,
        ),
        (
            V5,
            b"\x10\x11\0\x04MQTT\x05\x02\0\0\x04\x16\0\x01d\0\0",
            DecodeError::AuthenticationMethodMissing,
            ProtocolError,
        ),
    ];
    check(rows);
}

/// MQTT 3.1, "User name and password flags": the Remaining Length takes precedence.
#[test]
fn credentials_may_lack_in_3_1() {
    for (bytes, username) in [
        (&b"\x10\x0f\0\x06MQIsdp\x03\xc2\0\0\0\x01c"[..], None),
        (b"\x10\x12\0\x06MQIsdp\x03\xc2\0\0\0\x01c\0\x01u", Some("u")),
    ] {
        let expected = Connect { username, ..Connect::new(V31, "c") };
        assert_eq!(decode(V31, bytes), Ok(Packet::Connect(expected)));
    }
}

#[test]
fn publishes_and_acks() {
    let code = |code| DecodeError::ReasonCodeInvalid { code };
    let rows: &[Row] = &[
        (V311, b"\x36\x05\0\x01a\0\x01", DecodeError::QoSInvalid, MalformedPacket),
        (V5, b"\x38\x04\0\x01a\0", DecodeError::DupWithQoS0, MalformedPacket),
        (V311, b"\x32\x05\0\x01a\0\0", DecodeError::PacketIdZero, ProtocolError),
        (V311, b"\x32\x04\0\x01a\0", DecodeError::Truncated, MalformedPacket),
        (V311, b"\x30\x02\0\x01", DecodeError::Truncated, MalformedPacket),
        (V5, b"\x30\x03\0\x01a", DecodeError::Truncated, MalformedPacket),
        (V5, b"\x30\x04\0\x01a\x01", DecodeError::Truncated, MalformedPacket),
        (V5, b"\x30\x05\0\x01a\x80\0", DecodeError::VarIntInvalid, MalformedPacket),
        (V311, b"\x40\x02\0\0", DecodeError::PacketIdZero, ProtocolError),
        (V311, b"\x40\x01\0", DecodeError::Truncated, MalformedPacket),
        (V311, b"\x40\x03\0\x01\0", DecodeError::TrailingBytes, MalformedPacket),
        (V5, b"\x40\x05\0\x01\0\0\0", DecodeError::TrailingBytes, MalformedPacket),
        (V5, b"\x40\x03\0\x01\x01", code(0x01), ProtocolError),
        (V5, b"\x50\x03\0\x01\x92", code(0x92), ProtocolError),
        (V5, b"\x62\x03\0\x01\x10", code(0x10), ProtocolError),
        (V5, b"\x70\x03\0\x01\x80", code(0x80), ProtocolError),
        (V5, b"\x70\x03\0\x01\xff", code(0xff), ProtocolError),
        (V311, b"\x20\x02\x02\0", DecodeError::ConnAckFlagsReserved, MalformedPacket),
        (V311, b"\x20\x02\x01\x05", DecodeError::SessionPresentOnError, ProtocolError),
        (V311, b"\x20\x02\0\x06", code(6), ProtocolError),
        (V5, b"\x20\x03\0\x8b\0", code(0x8b), ProtocolError),
        (V311, b"\x90\x02\0\x01", DecodeError::PayloadEmpty, ProtocolError),
        (V5, b"\x90\x03\0\x01\0", DecodeError::PayloadEmpty, ProtocolError),
        (V311, b"\x90\x03\0\x01\x03", code(3), ProtocolError),
        (V311, b"\x90\x03\0\x01\x87", code(0x87), ProtocolError),
        (V5, b"\xb0\x04\0\x01\0\x01", code(1), ProtocolError),
        (V311, b"\xb0\x03\0\x01\0", DecodeError::TrailingBytes, MalformedPacket),
        (V311, b"\xe0\x01\0", DecodeError::TrailingBytes, MalformedPacket),
        (V5, b"\xe0\x01\x86", code(0x86), ProtocolError),
        (V5, b"\xf0\x02\x80\0", code(0x80), ProtocolError),
        (V5, b"\xf0\x01\x18", DecodeError::Truncated, MalformedPacket),
        (V5, b"\xf0\x02\x18\0", DecodeError::AuthenticationMethodMissing, ProtocolError),
    ];
    check(rows);
}

#[test]
fn subscriptions() {
    let (reserved, invalid) =
        (DecodeError::SubscriptionOptionsReserved, DecodeError::SubscriptionOptionsInvalid);
    let rows: &[Row] = &[
        (V311, b"\x82\x02\0\x01", DecodeError::PayloadEmpty, ProtocolError),
        (V5, b"\x82\x03\0\x01\0", DecodeError::PayloadEmpty, ProtocolError),
        (V311, b"\xa2\x02\0\x01", DecodeError::PayloadEmpty, ProtocolError),
        (V5, b"\xa2\x03\0\x01\0", DecodeError::PayloadEmpty, ProtocolError),
        (V311, b"\x82\x06\0\0\0\x01t\0", DecodeError::PacketIdZero, ProtocolError),
        (V311, b"\xa2\x05\0\0\0\x01t", DecodeError::PacketIdZero, ProtocolError),
        (V311, b"\x82\x05\0\x01\0\x01t", DecodeError::Truncated, MalformedPacket),
        (V311, b"\x82\x06\0\x01\0\x01\xff\0", DecodeError::StringInvalid, MalformedPacket),
        (V311, b"\xa2\x05\0\x01\0\x01\0", DecodeError::StringInvalid, MalformedPacket),
        (V311, b"\x82\x06\0\x01\0\x01t\x03", invalid, ProtocolError),
        (V311, b"\x82\x06\0\x01\0\x01t\x04", reserved, MalformedPacket),
        (V5, b"\x82\x07\0\x01\0\0\x01t\x03", invalid, ProtocolError),
        (V5, b"\x82\x07\0\x01\0\0\x01t\x30", invalid, ProtocolError),
        (V5, b"\x82\x07\0\x01\0\0\x01t\x40", reserved, MalformedPacket),
        (V5, b"\x82\x07\0\x01\0\0\x01t\xb3", reserved, MalformedPacket),
        // A good filter before it does not help.
        (V5, b"\x82\x0b\0\x01\0\0\x01t\0\0\x01t\x80", reserved, MalformedPacket),
        (V5, b"\x82\x10\0\x01\0\0\x0a$share/g/t\x04", DecodeError::NoLocalOnShared, ProtocolError),
    ];
    check(rows);
    // What is not a Topic Filter is answered filter by filter, not here.
    assert!(decode(V5, b"\x82\x08\0\x01\0\0\x02t#\0").is_ok());
    assert!(decode(V5, b"\x82\x06\0\x01\0\0\0\0").is_ok());
}

/// Each property where it may stand, twice, and everywhere else.
#[test]
fn properties_by_scope() {
    use PropertyScope::*;
    const SCOPES: [PropertyScope; 9] =
        [Connect, Will, ConnAck, Publish, Ack, Subscribe, Unsubscribe, Disconnect, Auth];
    let everywhere = &SCOPES[..];
    let rows: &[(&[u8], &[PropertyScope])] = &[
        (b"\x01\x01", &[Publish, Will]),
        (b"\x02\0\0\0\0", &[Publish, Will]),
        (b"\x03\0\0", &[Publish, Will]),
        (b"\x08\0\x01r", &[Publish, Will]),
        (b"\x09\0\0", &[Publish, Will]),
        (b"\x0b\x01", &[Publish, Subscribe]),
        (b"\x11\0\0\0\0", &[Connect, ConnAck, Disconnect]),
        (b"\x12\0\0", &[ConnAck]),
        (b"\x13\0\0", &[ConnAck]),
        (b"\x15\0\0", &[Connect, ConnAck, Auth]),
        (b"\x16\0\0", &[Connect, ConnAck, Auth]),
        (b"\x17\x01", &[Connect]),
        (b"\x18\0\0\0\0", &[Will]),
        (b"\x19\x01", &[Connect]),
        (b"\x1a\0\0", &[ConnAck]),
        (b"\x1c\0\0", &[ConnAck, Disconnect]),
        (b"\x1f\0\0", &[ConnAck, Ack, Disconnect, Auth]),
        (b"\x21\0\x01", &[Connect, ConnAck]),
        (b"\x22\0\0", &[Connect, ConnAck]),
        (b"\x23\0\x01", &[Publish]),
        (b"\x24\x01", &[ConnAck]),
        (b"\x25\x01", &[ConnAck]),
        (b"\x26\0\0\0\0", everywhere),
        (b"\x27\0\0\0\x01", &[Connect, ConnAck]),
        (b"\x28\x01", &[ConnAck]),
        (b"\x29\x01", &[ConnAck]),
        (b"\x2a\x01", &[ConnAck]),
    ];
    assert_eq!(rows.len(), 27);
    for (bytes, scopes) in rows {
        let id = bytes[0];
        for scope in SCOPES {
            let twice = bytes.repeat(2);
            let mut properties = Properties::new(&twice, scope);
            if !scopes.contains(&scope) {
                let error = DecodeError::PropertyNotAllowed { id };
                assert_eq!(properties.next(), Some(Err(error)), "{id:#x} in {scope:?}");
                assert_eq!(properties.next(), None);
                assert_eq!(error.reason(), MalformedPacket);
                continue;
            }
            let first = properties.next().unwrap().unwrap();
            assert_eq!(first.id() as u8, id);
            let mut again = Vec::new();
            first.encode(&mut again);
            assert_eq!(again, *bytes);
            let repeatable = id == 0x26 || (id == 0x0b && scope == Publish);
            let error = DecodeError::PropertyDuplicate { id };
            assert_eq!(properties.next(), Some(if repeatable { Ok(first) } else { Err(error) }));
            assert_eq!(error.reason(), ProtocolError);
            for cut in 1..bytes.len() {
                let error = Some(Err(DecodeError::Truncated));
                assert_eq!(Properties::new(&bytes[..cut], scope).next(), error, "{id:#x}");
            }
        }
    }
}

#[test]
fn property_values() {
    use PropertyScope::{ConnAck, Connect, Publish, Subscribe};
    let range = |id| DecodeError::PropertyOutOfRange { id };
    let unknown = |id| DecodeError::PropertyNotAllowed { id };
    let response = DecodeError::ResponseTopicInvalid;
    let rows: &[(PropertyScope, &[u8], DecodeError, ReasonCode)] = &[
        (Publish, b"\x01\x02", range(0x01), ProtocolError),
        (Publish, b"\x0b\0", range(0x0b), ProtocolError),
        (Subscribe, b"\x0b\x80\0", DecodeError::VarIntInvalid, MalformedPacket),
        (Subscribe, b"\x0b\xff\xff\xff\xff\x01", DecodeError::VarIntInvalid, MalformedPacket),
        (Publish, b"\x23\0\0", DecodeError::TopicAliasZero, TopicAliasInvalid),
        (Publish, b"\x08\0\x01#", response, ProtocolError),
        (Publish, b"\x08\0\x03a/+", response, ProtocolError),
        (Publish, b"\x08\0\0", response, ProtocolError),
        (Publish, b"\x08\0\x01\xff", DecodeError::StringInvalid, MalformedPacket),
        (Publish, b"\x03\0\x01\0", DecodeError::StringInvalid, MalformedPacket),
        (Publish, b"\x26\0\x01a\0\x01\xff", DecodeError::StringInvalid, MalformedPacket),
        (Publish, b"\x26\0\x01\xff\0\x01a", DecodeError::StringInvalid, MalformedPacket),
        (Connect, b"\x17\x02", range(0x17), ProtocolError),
        (Connect, b"\x19\xff", range(0x19), ProtocolError),
        (Connect, b"\x21\0\0", range(0x21), ProtocolError),
        (Connect, b"\x27\0\0\0\0", range(0x27), ProtocolError),
        (ConnAck, b"\x24\x02", range(0x24), ProtocolError),
        (ConnAck, b"\x25\x02", range(0x25), ProtocolError),
        (ConnAck, b"\x28\x02", range(0x28), ProtocolError),
        (ConnAck, b"\x29\x02", range(0x29), ProtocolError),
        (ConnAck, b"\x2a\x02", range(0x2a), ProtocolError),
        (Publish, b"\0", unknown(0), MalformedPacket),
        (Publish, b"\x2b", unknown(0x2b), MalformedPacket),
        (Publish, b"\xa6\0", unknown(0xa6), MalformedPacket),
    ];
    for (scope, bytes, error, reason) in rows {
        assert_eq!(Properties::new(bytes, *scope).next(), Some(Err(*error)), "{bytes:02x?}");
        assert_eq!(error.reason(), *reason, "{error}");
    }
    // Of the same section, each packet says the same.
    assert_eq!(decode(V5, b"\x30\x07\0\x01a\x03\x23\0\0"), Err(DecodeError::TopicAliasZero));
    assert_eq!(decode(V5, b"\x40\x06\0\x01\0\x02\x01\x01"), Err(unknown(1)));
    assert_eq!(decode(V5, b"\xa2\x08\0\x01\x02\x0b\x01\0\x01t"), Err(unknown(0x0b)));
    assert_eq!(decode(V5, b"\x90\x06\0\x01\x02\x0b\x01\0"), Err(unknown(0x0b)));
}
