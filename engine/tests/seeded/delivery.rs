//! What was published reaches everybody who is to have it, through cut connections and full lanes.

use ringmq_sim::{Network, Rng, for_each_seed};

use crate::model::check_arrivals;
use crate::rig::{Rig, Setup};

const TOPICS: [&str; 4] = ["t/0", "t/1", "t/0/x", "u"];
const FILTERS: [&str; 8] = ["t/0", "t/1", "t/+", "t/#", "#", "+/0", "u", "t/0/x"];

/// Publishers and persistent subscribers; the subscriptions are made and nothing else has happened.
fn populate(rig: &mut Rig) {
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

fn publish_anything(rig: &mut Rig) {
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
    assert_eq!(ledger.queued, 0, "everything was acknowledged");
    assert_eq!(traffic.violations, 0, "every client kept the rules");
    assert_eq!(traffic.message_bytes, 0, "nothing is kept for anybody");
    assert_eq!(traffic.partial_bytes, 0);
    assert_eq!(traffic.clients_connected, rig.peers.len() as u64);
    assert_eq!(traffic.sessions, rig.peers.len() as u64);
}

fn storm(mut rig: Rig, rounds: usize, harm_chance: f64) {
    populate(&mut rig);
    for _ in 0..rounds {
        rig.stir(30);
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
    for_each_seed("delivery::through_cut_connections", 60, |seed| storm(Rig::rough(seed), 200, 0.3));
}

#[test]
fn in_peace() {
    for_each_seed("delivery::in_peace", 40, |seed| storm(Rig::rough(seed), 150, 0.0));
}

#[test]
fn through_full_lanes() {
    for_each_seed("delivery::through_full_lanes", 40, |seed| {
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
