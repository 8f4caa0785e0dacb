//! What packets cost to read and to write: PUBLISH of each version and QoS, CONNECT, SUBSCRIBE.
#![allow(missing_docs, reason = "criterion's macros make a function that has none")]

mod quick;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringmq_codec::{
    Connect, Decoded, Packet, PacketId, PublishHeader, QoS, Subscribe, SubscribeFilter, SubscriptionOptions,
    Version, frame,
};

const PACKET_BYTES_MAX: u32 = 1 << 20;
const PAYLOAD: [u8; 64] = [b'x'; 64];
const VERSIONS: [(Version, &str); 3] = [(Version::V31, "3.1"), (Version::V311, "3.1.1"), (Version::V5, "5")];
const ALL_QOS: [(QoS, u8); 3] = [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 2)];

fn publish(version: Version, qos: QoS, out: &mut Vec<u8>) {
    let header = PublishHeader {
        version,
        dup: false,
        qos,
        retain: false,
        topic: black_box(b"plant/eu-1/hall-7/line-3/device-000042/temp"),
        packet_id: PacketId::new(7).filter(|_| qos != QoS::AtMostOnce),
        properties: &[],
        message_expiry_s: None,
        topic_alias: None,
        subscription_ids: &[],
        payload_len: PAYLOAD.len(),
    };
    header.encode(out);
    out.extend_from_slice(&PAYLOAD);
}

fn connect(version: Version, out: &mut Vec<u8>) {
    let packet = Connect {
        keep_alive_s: 60,
        username: Some("sensor"),
        password: Some(b"secret"),
        ..Connect::new(version, "device-000042")
    };
    packet.encode(out);
}

fn subscribe(version: Version, out: &mut Vec<u8>) {
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    let filters = ["plant/+/hall-7/#", "plant/eu-1/alarms", "$share/group/jobs/+"]
        .map(|filter| SubscribeFilter { filter, options });
    let packet = Subscribe {
        packet_id: PacketId::new(7).expect("seven is not zero"),
        subscription_id: None,
        user: Default::default(),
        filters: filters[..].into(),
    };
    packet.encode(version, out);
}

/// Measures both ways of a packet that `write` appends.
fn both(criterion: &mut Criterion, name: &str, version: Version, write: impl Fn(&mut Vec<u8>)) {
    let mut bytes = Vec::with_capacity(1024);
    criterion.bench_function(&format!("encode/{name}"), |bencher| {
        bencher.iter(|| {
            bytes.clear();
            write(black_box(&mut bytes));
        });
    });
    bytes.clear();
    write(&mut bytes);
    criterion.bench_function(&format!("decode/{name}"), |bencher| {
        bencher.iter(|| {
            let Ok(Decoded::Complete(frame)) = frame(black_box(&bytes), PACKET_BYTES_MAX) else {
                panic!("it is one whole packet");
            };
            match Packet::decode(version, &frame) {
                // Filters are read as they are walked.
                Ok(Packet::Subscribe(packet)) => _ = black_box(packet.filters.count()),
                packet => _ = black_box(packet.expect("we wrote it")),
            }
        });
    });
}

fn packets(criterion: &mut Criterion) {
    for (version, name) in VERSIONS {
        for (qos, number) in ALL_QOS {
            let name = format!("PUBLISH {name} QoS {number}, 64 B");
            both(criterion, &name, version, |out| publish(version, qos, out));
        }
        both(criterion, &format!("CONNECT {name}"), version, |out| connect(version, out));
        both(criterion, &format!("SUBSCRIBE {name}, 3 filters"), version, |out| subscribe(version, out));
    }
}

criterion_group!(name = benches; config = quick::config(); targets = packets);
criterion_main!(benches);
