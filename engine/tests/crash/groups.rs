//! Members of shared groups outlive the broker, with what they were given.

use std::collections::HashMap;

use ringmq_codec::QoS;
use ringmq_sim::for_each_seed;

use crate::peer::Key;
use crate::ship::{SYNCED, Ship, Voyage, WRITTEN};

const GROUPS: [&str; 2] = ["$share/g/job/#", "$share/h/job/+"];

/// How often each message came to the members of a group.
fn counts(ship: &Ship, group: usize) -> HashMap<Key, usize> {
    let members =
        ship.rig.peers.iter().skip(1).filter(|peer| usize::from(peer.index) % GROUPS.len() == group);
    let mut counts = HashMap::new();
    for arrival in members.flat_map(|peer| &peer.inbox) {
        *counts.entry(arrival.key.expect("every message has one")).or_insert(0) += 1;
    }
    counts
}

fn share(seed: u64, voyage: Voyage) {
    let mut ship = Ship::new(seed, voyage);
    ship.rig.add_persistent("publisher");
    let members = 2 + ship.rig.rng.below(4);
    for _ in 0..members {
        ship.rig.add_persistent("member");
    }
    ship.settle();
    for at in 1..=members {
        ship.rig.subscribe(at, GROUPS[at % GROUPS.len()], QoS::ExactlyOnce);
    }
    ship.settle();
    for _ in 0..2 + ship.rig.rng.below(3) {
        ship.live(60, |rig| {
            rig.stir(20);
            if rig.rng.chance(0.5) {
                let qos = *rig.rng.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]);
                rig.publish(0, "job/x", qos);
            }
            if rig.rng.chance(0.3) {
                let at = rig.rng.below(rig.peers.len());
                rig.harm(at);
            }
        });
        ship.crash(0);
    }
    ship.settle();
    for (group, name) in GROUPS.iter().enumerate() {
        let counts = counts(&ship, group);
        for (message, _) in &ship.rig.peers[0].published {
            let count = counts.get(&message.key).copied().unwrap_or(0);
            assert!(count >= 1, "{name} lost {message:?}");
        }
    }
}

#[test]
fn outlive_kills() {
    for_each_seed("groups::outlive_kills", 100, |seed| share(seed, WRITTEN));
}

#[test]
fn outlive_power_losses() {
    for_each_seed("groups::outlive_power_losses", 100, |seed| share(seed, SYNCED));
}
