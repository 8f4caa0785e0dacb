//! Damaged packets and noise: an error or another packet, and never a panic.

use crate::corpus::corpus;
use proptest::prelude::*;
use ringmq_codec::*;

fn digest_all(input: &[u8]) {
    for version in [Version::V31, Version::V311, Version::V5] {
        digest(version, input);
    }
}

/// Decodes all that there is. What decodes must survive being encoded and decoded again.
fn digest(version: Version, mut input: &[u8]) {
    while let Ok(Decoded::Complete(first)) = frame(input, 1 << 20) {
        input = &input[first.total..];
        let Ok(packet) = Packet::decode(version, &first) else { continue };
        // Everything lazy is looked at.
        assert!(!format!("{packet:?}").is_empty());
        if let Packet::Publish(publish) = &packet {
            let mut properties = Vec::new();
            forwardable(publish.properties.raw, &mut properties);
            assert!(Properties::new(&properties, PropertyScope::Publish).all(|p| p.is_ok()));
        }
        let mut out = Vec::new();
        packet.encode(version, &mut out);
        let Ok(Decoded::Complete(second)) = frame(&out, u32::MAX) else { panic!("{packet:?}") };
        assert_eq!(second.total, out.len());
        assert_eq!(Packet::decode(version, &second).as_ref(), Ok(&packet), "{version}: {out:02x?}");
    }
}

#[test]
fn every_prefix_is_incomplete() {
    for (_, _, bytes) in corpus() {
        for cut in 0..bytes.len() {
            let Ok(Decoded::Incomplete { need }) = frame(&bytes[..cut], u32::MAX) else {
                panic!("{cut} bytes of {bytes:02x?}");
            };
            assert!(cut < need && need <= bytes.len());
        }
    }
}

/// A body cut short under a Remaining Length that says so. Some of these are packets in their own
/// right: a payload may be shorter, a list may end early, and what is at the end may be optional.
#[test]
fn every_truncated_body_is_an_error_unless_the_packet_has_a_shorter_form() {
    for (version, packet, bytes) in corpus() {
        let Ok(Decoded::Complete(whole)) = frame(bytes, u32::MAX) else { unreachable!() };
        for cut in 0..whole.body.len() {
            let total = whole.total - whole.body.len() + cut;
            let short = Frame { body: &whole.body[..cut], total, ..whole };
            let decoded = Packet::decode(version, &short);
            let shorter_form = match &packet {
                Packet::Publish(publish) => cut >= whole.body.len() - publish.payload.len(),
                Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => {
                    version == Version::V5 && (2..=3).contains(&cut)
                }
                Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::SubAck(_) | Packet::UnsubAck(_) => {
                    decoded.is_ok()
                }
                Packet::Disconnect(_) => version == Version::V5 && cut < 2,
                Packet::Auth(_) => cut == 0,
                Packet::Connect(_) | Packet::ConnAck(_) | Packet::PingReq | Packet::PingResp => false,
            };
            assert_eq!(decoded.is_ok(), shorter_form, "{cut} bytes of the body of {packet:?}: {decoded:?}");
            if let Err(error) = decoded {
                let expected = [DecodeError::Truncated, DecodeError::PayloadEmpty];
                assert!(expected.contains(&error), "{cut} bytes of the body of {packet:?}: {error}");
            }
        }
    }
}

#[test]
fn every_flip_of_a_byte_is_digested() {
    for (_, _, bytes) in corpus() {
        let mut flipped = bytes.to_vec();
        for at in 0..bytes.len() {
            for value in 0..=u8::MAX {
                flipped[at] = value;
                digest_all(&flipped);
            }
            flipped[at] = bytes[at];
        }
    }
}

#[test]
fn every_body_under_every_first_byte_is_digested() {
    for (_, _, bytes) in corpus() {
        let mut mistaken = bytes.to_vec();
        for cut in 2..=bytes.len().min(0x7f) {
            mistaken.truncate(2);
            mistaken.extend_from_slice(&bytes[2..cut]);
            mistaken[1] = u8::try_from(cut - 2).unwrap();
            for first in 0..=u8::MAX {
                mistaken[0] = first;
                digest_all(&mistaken);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn noise_is_digested(first: u8, body in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut input = vec![first, u8::try_from(body.len()).unwrap()];
        input.extend_from_slice(&body);
        digest_all(&input);
        digest_all(&body);
    }

    /// Sections of sound properties in packets that may not hold them, in any order and number.
    #[test]
    fn shuffled_properties_are_digested(
        first: u8, picks in prop::collection::vec(0_usize..12, 0..5), tail in prop::collection::vec(0_u8..4, 0..5),
    ) {
        let properties: [&[u8]; 12] = [
            b"\x01\x01", b"\x02\0\0\0\x01", b"\x03\0\x01t", b"\x08\0\x01r", b"\x09\0\x01c", b"\x0b\x07",
            b"\x11\0\0\0\x01", b"\x15\0\x01m", b"\x1f\0\x01r", b"\x23\0\x01", b"\x26\0\x01a\0\x01b", b"\x1c\0\x01s",
        ];
        let section: Vec<u8> = picks.iter().flat_map(|pick| properties[*pick]).copied().collect();
        for head in [&b""[..], b"\0", b"\0\x01", b"\0\x01\0", b"\0\x01t", b"\0\x01t\0\x01"] {
            let mut body = head.to_vec();
            body.push(u8::try_from(section.len()).unwrap());
            body.extend_from_slice(&section);
            body.extend_from_slice(&tail);
            let mut input = vec![first, u8::try_from(body.len()).unwrap()];
            input.extend_from_slice(&body);
            digest_all(&input);
        }
    }
}
