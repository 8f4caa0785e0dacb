//! An acknowledgement says that every session has the message, and no sooner.

use ringmq_codec::QoS;
use ringmq_sim::{Network, Rng, for_each_seed};

use crate::rig::{Rig, Setup};

/// Subscribers that are away, so that what they have can be counted, and publishers.
fn populate(rig: &mut Rig, subscribers: usize, publishers: usize) {
    for _ in 0..subscribers {
        rig.add_persistent("subscriber");
    }
    rig.settle();
    for at in 0..subscribers {
        // The members of a group have one copy among them.
        let filter = if at < 2 { "$share/g/t/#" } else { "t/#" };
        rig.subscribe(at, filter, QoS::ExactlyOnce);
    }
    rig.settle();
    for at in 0..subscribers {
        rig.peers[at].hang_up(&mut rig.world);
    }
    rig.world.run_until_idle();
    for _ in 0..publishers {
        rig.add_persistent("publisher");
    }
}

fn check_acked_is_queued(rig: &Rig, copies: usize) {
    let acked: usize = rig.peers.iter().map(|peer| peer.acked.len()).sum();
    let (ledger, _) = rig.figures();
    assert!(
        ledger.queued >= (acked * copies) as u64,
        "{acked} messages are acknowledged, but of {} copies only {} are kept",
        acked * copies,
        ledger.queued
    );
}

fn publish_and_count(seed: u64, qos: QoS, harm_chance: f64) {
    let mut rng = Rng::new(seed);
    let network = Network {
        lane_delay_ms: 0..=40,
        client_delay_ms: 0..=1,
        lane_room_messages: *rng.pick(&[1, 4, 100]),
        ..Network::rough()
    };
    let setup = Setup { shards: 2 + rng.below(4), network, ..Setup::rough(&mut rng) };
    let mut rig = Rig::new(seed, &setup);
    let (subscribers, publishers) = (2 + rng.below(4), 1 + rng.below(3));
    let copies = subscribers - 1;
    populate(&mut rig, subscribers, publishers);
    let away = |peer: &crate::peer::Peer| peer.name.starts_with("publisher");
    rig.settle_with(away);
    for _ in 0..150 {
        rig.stir(6);
        check_acked_is_queued(&rig, copies);
        let at = subscribers + rig.rng.below(publishers);
        if rig.rng.chance(0.5) {
            rig.publish(at, "t/x", qos);
        }
        if rig.rng.chance(harm_chance) {
            rig.harm(at);
        }
    }
    rig.settle_with(away);
    check_acked_is_queued(&rig, copies);
}

#[test]
fn puback_waits_for_every_shard() {
    for_each_seed("contract::puback_waits_for_every_shard", 120, |seed| {
        publish_and_count(seed, QoS::AtLeastOnce, 0.0);
    });
}

#[test]
fn pubrec_waits_for_every_shard() {
    for_each_seed("contract::pubrec_waits_for_every_shard", 200, |seed| {
        publish_and_count(seed, QoS::ExactlyOnce, 0.2);
    });
}
