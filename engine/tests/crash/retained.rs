//! Retained messages outlive the broker: of each topic the last one that was published.

use std::collections::HashMap;

use ringmq_codec::{QoS, Version};
use ringmq_sim::for_each_seed;
use ringmq_storage::Level;

use crate::peer::{Habits, Key, Message};
use crate::rig::Rig;
use crate::ship::{SYNCED, Ship, Voyage, WRITTEN};

const TOPICS_EACH: usize = 3;

/// Each peer publishes to topics of its own, so that it is known which message is the last.
fn publish_retained(rig: &mut Rig) {
    let (at, nth) = (rig.rng.below(rig.peers.len()), rig.rng.below(TOPICS_EACH));
    // A repetition at QoS 1 may come behind a message at QoS 2 that is not taken again.
    let qos = if nth == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
    let mut message = rig.peers[at].message(&format!("r/{at}/{nth}"), qos);
    message.retain = true;
    message.empty = rig.rng.chance(0.2);
    message.padding = *rig.rng.pick(&[0, 0, 100, 3000]);
    rig.peers[at].publish(&mut rig.world, message);
}

/// What is retained of a topic after a message.
fn retained(message: &Message) -> Vec<Option<Key>> {
    if message.empty { Vec::new() } else { vec![Some(message.key)] }
}

/// By topic, the place among its messages of the last that was acknowledged in the life in which it was
/// published.
type Sure = HashMap<String, usize>;

/// After a power loss, some of what was not acknowledged may be there without what came before it, which is
/// then repeated behind it.
fn note_sure(rig: &Rig, from: &[usize], sure: &mut Sure) {
    for (publisher, &from) in rig.peers.iter().zip(from) {
        for nth in 0..TOPICS_EACH {
            let topic = format!("r/{}/{nth}", publisher.index);
            let all = publisher.published.iter().enumerate();
            let all = all.filter(|(_, (message, _))| message.topic == topic).enumerate();
            let acked = all.filter(|(_, (at, (message, _)))| {
                *at >= from && publisher.acked.contains_key(&message.key.number)
            });
            if let Some((place, _)) = acked.last() {
                sure.insert(topic, place);
            }
        }
    }
}

/// A new subscriber is given the last message of each topic, or one that is no older than those of `sure`.
fn check_last(rig: &mut Rig, publishers: usize, sure: Option<&Sure>) {
    let habits = Habits::transient(Version::V5);
    let at = rig.add("fresh", habits);
    rig.settle();
    rig.subscribe(at, "r/#", QoS::ExactlyOnce);
    rig.settle();
    for publisher in &rig.peers[..publishers] {
        for nth in 0..TOPICS_EACH {
            let topic = format!("r/{}/{nth}", publisher.index);
            let came = rig.peers[at].inbox.iter().filter(|arrival| arrival.topic == topic);
            let came: Vec<Option<Key>> = came.map(|arrival| arrival.key).collect();
            let all = publisher.published.iter().map(|(message, _)| message);
            let all: Vec<_> = all.filter(|message| message.topic == topic).collect();
            let from =
                sure.map_or(all.len().saturating_sub(1), |sure| sure.get(&topic).copied().unwrap_or(0));
            let mut possible: Vec<Vec<Option<Key>>> =
                all[from..].iter().map(|message| retained(message)).collect();
            if from == 0 && (all.is_empty() || sure.is_some()) {
                possible.push(Vec::new());
            }
            assert!(possible.contains(&came), "{came:?} came of {topic}, not one of {possible:?}");
        }
    }
    rig.peers[at].hang_up(&mut rig.world);
    rig.peers.pop();
    rig.world.run_until_idle();
}

fn keep_on_publishing(seed: u64, voyage: Voyage) {
    let mut ship = Ship::new(seed, voyage);
    let publishers = 1 + ship.rig.rng.below(4);
    for _ in 0..publishers {
        ship.rig.add_persistent("publisher");
    }
    ship.settle();
    let mut sure = Sure::new();
    for _ in 0..2 + ship.rig.rng.below(3) {
        let from: Vec<usize> = ship.rig.peers.iter().map(|peer| peer.published.len()).collect();
        ship.live(40, |rig| {
            rig.stir(20);
            publish_retained(rig);
            if rig.rng.chance(0.1) {
                let at = rig.rng.below(rig.peers.len());
                rig.harm(at);
            }
        });
        ship.rig.poll();
        note_sure(&ship.rig, &from, &mut sure);
        ship.crash(0);
        ship.settle();
        if ship.rig.rng.chance(0.5) {
            // At rest, so that nothing is published again.
            ship.crash(0);
        }
        ship.settle();
        check_last(&mut ship.rig, publishers, (voyage.level == Level::Synced).then_some(&sure));
    }
}

#[test]
fn outlive_kills() {
    for_each_seed("retained::outlive_kills", 100, |seed| keep_on_publishing(seed, WRITTEN));
}

#[test]
fn outlive_power_losses() {
    for_each_seed("retained::outlive_power_losses", 100, |seed| keep_on_publishing(seed, SYNCED));
}
