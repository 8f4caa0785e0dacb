//! What was published reaches everybody who is to have it, through cut connections and full lanes.

use ringmq_codec::{Connect, Disconnect, PacketId, Publish, PublishProperties, QoS, ReasonCode, Version};
use ringmq_engine::Limits;
use ringmq_sim::{Network, Rng, for_each_seed};

use crate::model::{check_arrivals, counts};
use crate::peer::Key;
use crate::rig::{Rig, Setup};

const TOPICS: [&str; 4] = ["t/0", "t/1", "t/0/x", "u"];
const FILTERS: [&str; 8] = ["t/0", "t/1", "t/+", "t/#", "#", "+/0", "u", "t/0/x"];

/// Publishers and persistent subscribers; the subscriptions are made and nothing else has happened.
pub fn populate(rig: &mut Rig) {
    for _ in 0..2 + rig.rng.below(5) {
        rig.add_persistent("peer");
    }
    rig.settle();
    for at in 0..rig.peers.len() {
        for _ in 0..rig.rng.below(4) {
            let (filter, qos) = (*rig.rng.pick(&FILTERS), rig.any_qos());
            rig.subscribe(at, filter, qos);
        }
    }
    rig.settle();
}

pub fn publish_anything(rig: &mut Rig) {
    let at = rig.rng.below(rig.peers.len());
    let (topic, qos) = (*rig.rng.pick(&TOPICS), rig.any_qos());
    for _ in 0..1 + rig.rng.below(3) {
        rig.publish(at, topic, qos);
    }
}

fn check_all(rig: &Rig) {
    for at in 0..rig.peers.len() {
        check_arrivals(rig, at);
    }
    let (ledger, traffic) = rig.figures();
    let sent: u64 = rig.peers.iter().map(|peer| peer.sent_publishes).sum();
    let acked: usize = rig.peers.iter().map(|peer| peer.acked.len()).sum();
    assert!((acked as u64..=sent).contains(&ledger.received), "{acked} to {sent}: {ledger:?}");
    assert_eq!(ledger.queued, 0, "everything was acknowledged");
    assert_eq!(traffic.violations, 0, "every client kept the rules");
    assert_eq!(traffic.message_bytes, 0, "nothing is kept for anybody");
    assert_eq!(traffic.partial_bytes, 0);
    assert_eq!(traffic.clients_connected, rig.peers.len() as u64);
    assert_eq!(traffic.sessions, rig.peers.len() as u64);
}

/// Publishers are paused before much waits for room in a lane: what does is no publication, but a report
/// or an answer of each turn.
fn check_lanes(rig: &mut Rig) {
    const OVERFLOW_MAX: usize = 30;
    let room = rig.world.network_mut().lane_room_messages;
    for from in rig.world.shard_ids() {
        for to in rig.world.shard_ids().filter(|to| *to != from) {
            let waiting = rig.world.lane_messages(from, to);
            assert!(
                waiting <= room + OVERFLOW_MAX,
                "{waiting} messages from {from} to {to}, {room} have room"
            );
        }
    }
}

fn storm(mut rig: Rig, rounds: usize, harm_chance: f64) {
    populate(&mut rig);
    for _ in 0..rounds {
        rig.stir(30);
        check_lanes(&mut rig);
        if rig.rng.chance(0.6) {
            publish_anything(&mut rig);
        }
        if rig.rng.chance(harm_chance) {
            let at = rig.rng.below(rig.peers.len());
            rig.harm(at);
        }
    }
    rig.settle();
    check_all(&rig);
}

#[test]
fn through_cut_connections() {
    for_each_seed("delivery::through_cut_connections", 200, |seed| storm(Rig::rough(seed), 200, 0.3));
}

#[test]
fn in_peace() {
    for_each_seed("delivery::in_peace", 120, |seed| storm(Rig::rough(seed), 150, 0.0));
}

#[test]
fn through_full_lanes() {
    for_each_seed("delivery::through_full_lanes", 120, |seed| {
        let mut rng = Rng::new(seed);
        let network = Network {
            lane_room_messages: 1 + rng.below(2),
            lane_delay_ms: 0..=50,
            client_delay_ms: 0..=0,
            ..Network::rough()
        };
        let setup = Setup { shards: 2 + rng.below(4), network, ..Setup::rough(&mut rng) };
        storm(Rig::new(seed, &setup), 200, 0.1);
    });
}

/// Clients that wait for nothing: all that they have to say arrives with their CONNECT.
#[test]
fn from_hasty_clients() {
    for_each_seed("delivery::from_hasty_clients", 200, |seed| {
        // They cannot know of a Receive Maximum yet.
        let setup = Setup { limits: Limits::default(), ..Setup::rough(&mut Rng::new(seed)) };
        let mut rig = Rig::new(seed, &setup);
        let watcher = rig.add_persistent("watcher");
        rig.settle();
        rig.subscribe(watcher, "t/#", QoS::ExactlyOnce);
        rig.settle();
        let mut keys = Vec::new();
        for publisher in 0..20 {
            let version = *rig.rng.pick(&[Version::V311, Version::V5]);
            let mut bytes = Vec::new();
            Connect::new(version, &format!("hasty{publisher}")).encode(&mut bytes);
            for number in 1..=1 + rig.rng.below(20) as u16 {
                let key = Key { publisher: 1000 + publisher, number: u32::from(number) };
                keys.push(key);
                put_publish(version, key, rig.any_qos(), &mut bytes);
            }
            Disconnect::new(ReasonCode::Success).encode(version, &mut bytes);
            let client = rig.world.connect(None);
            for piece in bytes.chunks(1 + rig.rng.below(bytes.len())) {
                rig.world.send(client, piece);
            }
            rig.stir(20);
        }
        rig.settle();
        let came = counts(&rig.peers[watcher]);
        for key in keys {
            assert_eq!(came.get(&key), Some(&1), "{key:?} comes once");
        }
    });
}

fn put_publish(version: Version, key: Key, qos: QoS, bytes: &mut Vec<u8>) {
    let packet_id = PacketId::new(key.number as u16).filter(|_| qos != QoS::AtMostOnce);
    let payload = key.encode(0);
    let properties = PublishProperties::default();
    Publish { dup: false, qos, retain: false, topic: b"t/hasty", packet_id, properties, payload: &payload }
        .encode(version, bytes);
}
