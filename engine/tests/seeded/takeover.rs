//! The same client connects again and again, to any shard, without ending what it had.

use ringmq_codec::{QoS, Version};
use ringmq_sim::for_each_seed;

use crate::model::check_arrivals;
use crate::peer::Habits;
use crate::rig::Rig;

fn populate(rig: &mut Rig, persistent: usize, transient: usize) {
    for _ in 0..persistent {
        rig.add_persistent("peer");
    }
    for _ in 0..transient {
        let habits = Habits::transient(Version::V5).varied(&mut rig.rng);
        rig.add("transient", habits);
    }
    rig.settle();
    for at in 0..persistent {
        let (own, qos) = (format!("to/{at}"), rig.any_qos());
        rig.subscribe(at, &own, qos);
        rig.subscribe(at, "all", QoS::ExactlyOnce);
    }
    rig.settle();
}

fn check_connections(rig: &Rig) {
    for client in &rig.abandoned {
        assert!(!rig.world.is_connected(*client), "{client:?} was taken over, and is connected still");
    }
    let open: usize = rig.world.shard_ids().map(|shard| rig.world.open_count(shard)).sum();
    assert_eq!(open, rig.peers.len(), "every client has one connection");
    let (ledger, traffic) = rig.figures();
    assert_eq!(traffic.clients_connected, rig.peers.len() as u64);
    assert_eq!(traffic.sessions, rig.peers.len() as u64);
    assert_eq!((ledger.queued, traffic.message_bytes, traffic.violations), (0, 0, 0));
}

fn storm(seed: u64, connects: usize) {
    let mut rig = Rig::rough(seed);
    let (persistent, transient) = (1 + rig.rng.below(5), rig.rng.below(4));
    populate(&mut rig, persistent, transient);
    let mut done = 0;
    while done < connects {
        if rig.rng.chance(0.7) {
            rig.stir(12);
        }
        let at = rig.rng.below(rig.peers.len());
        match rig.rng.below(5) {
            0 => {
                let topic = format!("to/{}", rig.rng.below(persistent));
                let (topic, qos) = (*rig.rng.pick(&["all", &topic]), rig.any_qos());
                rig.publish(at, topic, qos);
            }
            _ => {
                rig.connect(at);
                done += 1;
            }
        }
    }
    rig.settle();
    check_connections(&rig);
    for at in 0..persistent {
        check_arrivals(&rig, at);
    }
    // Every session still works.
    for at in 0..persistent {
        rig.publish(at, "all", QoS::ExactlyOnce);
    }
    rig.settle();
    for at in 0..persistent {
        check_arrivals(&rig, at);
    }
}

#[test]
fn storms_end_with_one_connection_each() {
    for_each_seed("takeover::storms_end_with_one_connection_each", 100, |seed| storm(seed, 300));
}
