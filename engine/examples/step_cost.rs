//! What one shard's logic costs a message, without sockets: nanoseconds by topology.
//!
//! `cargo run --release -p ringmq-engine --example step_cost`

mod bare;

use std::time::Instant;

use bare::{Bare, acks, publishes};
use ringmq_codec::{AckKind, QoS, Version};

const ROUNDS: u32 = 2_000;

fn report(name: &str, deliveries: u64, started: Instant) {
    let ns = started.elapsed().as_nanos() as f64 / deliveries as f64;
    println!("{name:<44} {ns:>8.1} ns a delivery");
}

fn fan_out(subscribers: u32, batch: u16, payload: usize) {
    let mut bare = Bare::new();
    for n in 0..subscribers {
        bare.subscriber(&format!("s{n}"), "bench/topic/a", QoS::AtMostOnce);
    }
    let publisher = bare.connect("p", Version::V311);
    let input = publishes("bench/topic/a", QoS::AtMostOnce, &vec![b'x'; payload], batch);
    bare.receive(publisher, &input);
    let rounds = (ROUNDS * 100 / subscribers).max(200);
    let started = Instant::now();
    for _ in 0..rounds {
        bare.receive(publisher, &input);
    }
    let deliveries = u64::from(rounds) * u64::from(subscribers) * u64::from(batch);
    report(&format!("QoS 0, 1 to {subscribers}, {payload} B, {batch} a turn"), deliveries, started);
}

fn pairs_qos1(batch: u16) {
    let mut bare = Bare::new();
    let subscriber = bare.subscriber("s", "bench/topic/a", QoS::AtLeastOnce);
    let publisher = bare.connect("p", Version::V311);
    let input = publishes("bench/topic/a", QoS::AtLeastOnce, &[b'x'; 64], batch);
    let started = Instant::now();
    let rounds = ROUNDS * 20;
    let mut next = 0u32;
    for _ in 0..rounds {
        bare.receive(publisher, &input);
        // Ids run from 1 to 65,535 and start again.
        for _ in 0..batch {
            let id = (next % 65_535 + 1) as u16;
            next += 1;
            bare.receive(subscriber, &acks(AckKind::PubAck, id, id));
        }
    }
    report(
        &format!("QoS 1, 1 to 1, {batch} a turn, acks one by one"),
        u64::from(rounds) * u64::from(batch),
        started,
    );
}

fn main() {
    for batch in [1, 8, 64] {
        fan_out(1, batch, 64);
    }
    fan_out(100, 8, 16);
    fan_out(100, 8, 256);
    for batch in [1, 16] {
        pairs_qos1(batch);
    }
}
