//! A machine by itself, without what ties it to a host; transcripts are with that.

use ringmq_codec::{Ack, PacketId, QoS, ReasonCode, Version};
use ringmq_codec::{AckKind, ConnAck, Publish, PublishProperties, ReasonCodes, SubAck, UserProperties};
use ringmq_sim::{Rng, for_each_seed};

use super::fuzzing::receive;

/// Packets of a server that make sense, in bytes.
fn sensible(version: Version, rng: &mut Rng, out: &mut Vec<u8>) {
    let id = PacketId::new(1 + rng.below(5) as u16).expect("it is not 0");
    match rng.below(8) {
        0 => ConnAck::new(ReasonCode::Success).encode(version, out),
        1..4 => {
            let qos = *rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
            let alias = (version.is_v5() && rng.chance(0.5)).then(|| 1 + rng.below(3) as u16);
            let topic: &[u8] = if alias.is_some() && rng.chance(0.5) { b"" } else { b"a/b" };
            Publish {
                dup: qos != QoS::AtMostOnce && rng.chance(0.3),
                qos,
                retain: rng.chance(0.2),
                topic,
                packet_id: (qos != QoS::AtMostOnce).then_some(id),
                properties: PublishProperties { topic_alias: alias, ..PublishProperties::default() },
                payload: b"payload",
            }
            .encode(version, out);
        }
        4..7 => {
            let kinds = [AckKind::PubAck, AckKind::PubRec, AckKind::PubRel, AckKind::PubComp];
            Ack::new(id, ReasonCode::Success).encode(*rng.pick(&kinds), version, out);
        }
        _ => {
            let packet_id = PacketId::new(61_441 + rng.below(3) as u16).expect("it is not 0");
            let reasons = [ReasonCode::Success];
            SubAck {
                packet_id,
                reason_string: None,
                user: UserProperties::EMPTY,
                reasons: ReasonCodes::from(&reasons[..]),
            }
            .encode(version, out);
        }
    }
}

/// What the fuzz target does, with seeds: sense with nonsense in it.
#[test]
fn no_bytes_of_a_server_panic() {
    for_each_seed("machine::tests::no_bytes_of_a_server_panic", 5_000, |seed| {
        let mut rng = Rng::new(seed);
        let first = (rng.next_u64() as u8) | 0x80;
        let version = [Version::V31, Version::V311, Version::V5][usize::from(first % 3)];
        let mut data = vec![first];
        for _ in 0..rng.below(60) {
            match rng.below(10) {
                0..5 => sensible(version, &mut rng, &mut data),
                5..9 => data.extend([0xFE, rng.next_u64() as u8]),
                _ if rng.chance(0.3) => {
                    let count = rng.below(8);
                    data.extend(rng.bytes(count));
                }
                _ => {}
            }
        }
        if rng.chance(0.2) {
            let at = rng.below(data.len());
            data[at] ^= 1 << rng.below(8);
        }
        receive(&data);
    });
}
