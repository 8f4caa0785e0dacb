//! What a shard's logic costs from a PUBLISH that arrives to the bytes that leave, through the trait `Core`
//! and without sockets.
#![allow(missing_docs, reason = "criterion's macros make a function that has none")]

#[path = "../../engine/examples/bare/mod.rs"]
mod bare;
mod quick;

use bare::{Bare, acks, publishes};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringmq_codec::{AckKind, QoS, Version};

const TOPIC: &str = "bench/topic/a";

fn qos0(criterion: &mut Criterion) {
    for (subscribers, batch, payload) in [(1_u32, 1, 64), (1, 64, 64), (100, 8, 16), (100, 8, 256)] {
        let mut bare = Bare::new();
        for number in 0..subscribers {
            bare.subscriber(&format!("s{number}"), TOPIC, QoS::AtMostOnce);
        }
        let publisher = bare.connect("p", Version::V311);
        let input = publishes(TOPIC, QoS::AtMostOnce, &vec![b'x'; payload], batch);
        let mut group = criterion.benchmark_group("step");
        group.throughput(Throughput::Elements(u64::from(subscribers) * u64::from(batch)));
        let name = format!("QoS 0, 1 to {subscribers}, {payload} B, a turn of {batch}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert!(bare.receive(publisher, &input) > payload));
        });
    }
}

fn qos1(criterion: &mut Criterion) {
    for batch in [1, 16] {
        let mut bare = Bare::new();
        let subscriber = bare.subscriber("s", TOPIC, QoS::AtLeastOnce);
        let publisher = bare.connect("p", Version::V311);
        let input = publishes(TOPIC, QoS::AtLeastOnce, &[b'x'; 64], batch);
        let mut next = 0_u32;
        let mut group = criterion.benchmark_group("step");
        group.throughput(Throughput::Elements(u64::from(batch)));
        group.bench_function(format!("QoS 1, 1 to 1, 64 B, both acks, a turn of {batch}"), |bencher| {
            bencher.iter(|| {
                assert!(bare.receive(publisher, &input) > 64);
                // Ids run from 1 to 65,535 and start again.
                for _ in 0..batch {
                    let id = (next % 65_535 + 1) as u16;
                    next += 1;
                    bare.receive(subscriber, &acks(AckKind::PubAck, id, id));
                }
            });
        });
    }
}

criterion_group!(name = benches; config = quick::config(); targets = qos0, qos1);
criterion_main!(benches);
