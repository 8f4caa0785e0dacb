//! Peers that break every rule disturb nobody else.

use ringmq_codec::{Connect, Publish, PublishProperties, QoS, Version};
use ringmq_sim::{ClientId, Rng, for_each_seed};

use crate::delivery::{populate, publish_anything};
use crate::model::check_arrivals;
use crate::peer::Key;
use crate::rig::Rig;

/// A stream that a decent client could send. What it publishes is told from all that peers publish.
fn decent_stream(rng: &mut Rng) -> Vec<u8> {
    let version = *rng.pick(&[Version::V31, Version::V311, Version::V5]);
    let mut bytes = Vec::new();
    Connect::new(version, &format!("noise{}", rng.below(5))).encode(&mut bytes);
    for number in 0..rng.below(4) {
        let payload = Key { publisher: u16::MAX, number: number as u32 }.encode(rng.below(300));
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: rng.pick(&["t/0", "noise", "t/0/x"]).as_bytes(),
            packet_id: None,
            properties: PublishProperties::default(),
            payload: &payload,
        };
        publish.encode(version, &mut bytes);
    }
    bytes
}

/// That stream with some of it changed, left out, or put in.
fn spoil(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..1 + rng.below(4) {
        let at = rng.below(bytes.len());
        match rng.below(4) {
            0 => bytes[at] = rng.next_u64() as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => bytes.truncate(at + 1),
            _ => {
                let count = rng.below(20);
                let noise = rng.bytes(count);
                bytes.splice(at..at, noise);
            }
        }
    }
}

fn make_noise(rig: &mut Rig) -> ClientId {
    let client = rig.world.connect(None);
    let mut bytes = match rig.rng.below(3) {
        0 => {
            let count = rig.rng.below(200);
            rig.rng.bytes(count)
        }
        1 => {
            let (mut bytes, count) = (decent_stream(&mut rig.rng), rig.rng.below(300));
            bytes.extend(rig.rng.bytes(count));
            bytes
        }
        _ => decent_stream(&mut rig.rng),
    };
    if rig.rng.chance(0.7) && !bytes.is_empty() {
        spoil(&mut rig.rng, &mut bytes);
    }
    rig.world.send(client, &bytes);
    client
}

#[test]
fn disturbs_nobody() {
    for_each_seed("garbage::disturbs_nobody", 240, |seed| {
        let mut rig = Rig::rough(seed);
        populate(&mut rig);
        let mut noise = Vec::new();
        for _ in 0..120 {
            rig.stir(20);
            if rig.rng.chance(0.5) {
                publish_anything(&mut rig);
            }
            if rig.rng.chance(0.1) {
                let at = rig.rng.below(rig.peers.len());
                rig.harm(at);
            }
            noise.push(make_noise(&mut rig));
            if rig.rng.chance(0.4) {
                let client = noise.swap_remove(rig.rng.below(noise.len()));
                rig.world.cut(client);
            }
        }
        rig.settle();
        for at in 0..rig.peers.len() {
            check_arrivals(&rig, at);
        }
        // Who never said CONNECT is shown the door.
        rig.world.run_for_ms(11_000);
        rig.settle();
        for client in noise {
            rig.world.cut(client);
        }
        rig.settle();
        let open: usize = rig.world.shard_ids().map(|shard| rig.world.open_count(shard)).sum();
        assert_eq!(open, rig.peers.len(), "only decent clients are connected");
        assert_eq!(rig.figures().1.partial_bytes, 0);
    });
}
