//! What must have arrived, and in which order.

use std::collections::HashMap;

use ringmq_codec::{QoS, matches};

use crate::peer::{Key, Peer};
use crate::rig::Rig;

/// The QoS at which a peer's subscriptions let a topic through, if any does.
pub fn granted(peer: &Peer, topic: &str) -> Option<QoS> {
    let matching = peer.filters.iter().filter(|(filter, ..)| matches(filter, topic));
    matching.map(|(_, qos, _)| *qos).max()
}

/// How often each message came.
pub fn counts(peer: &Peer) -> HashMap<Key, usize> {
    let mut counts = HashMap::new();
    for key in peer.inbox.iter().filter_map(|arrival| arrival.key) {
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}

/// Checks everything that a peer got against everything that was published since it subscribed, when
/// all is at rest.
pub fn check_arrivals(rig: &Rig, at: usize) {
    check_counts(rig, at);
    check_order(rig, at);
}

/// Checks how often each message came.
pub fn check_counts(rig: &Rig, at: usize) {
    let peer = &rig.peers[at];
    let counts = counts(peer);
    for publisher in &rig.peers {
        for (message, _) in &publisher.published {
            let count = counts.get(&message.key).copied().unwrap_or(0);
            let about = || format!("{} got {count} times {message:?}", peer.name);
            let Some(granted) = granted(peer, &message.topic) else {
                assert_eq!(count, 0, "not subscribed: {}", about());
                continue;
            };
            let acked = publisher.acked.contains_key(&message.key.number);
            match (message.qos, granted) {
                (QoS::ExactlyOnce, QoS::ExactlyOnce) if !acked => assert!(count <= 1, "{}", about()),
                (QoS::AtLeastOnce | QoS::ExactlyOnce, _) if !acked => {}
                (QoS::AtMostOnce, _) => assert!(count <= 1, "{}", about()),
                (QoS::AtLeastOnce, QoS::AtMostOnce) => {}
                (QoS::ExactlyOnce, QoS::AtMostOnce) => assert!(count <= 1, "{}", about()),
                (QoS::AtLeastOnce, _) | (_, QoS::AtLeastOnce) => assert!(count >= 1, "{}", about()),
                (QoS::ExactlyOnce, QoS::ExactlyOnce) => assert_eq!(count, 1, "{}", about()),
            }
        }
    }
}

/// Checks that what a publisher published to a topic came in that order, repetitions aside. What goes
/// at QoS 0 may overtake the rest, and what is repeated and not kept comes in any order.
pub fn check_order(rig: &Rig, at: usize) {
    let peer = &rig.peers[at];
    let mut last: HashMap<(u16, &str, bool), u32> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for arrival in &peer.inbox {
        let Some(message) = arrival.key.and_then(|key| rig.message(key)) else { continue };
        let (key, unacked) = (message.key, message.qos == QoS::AtMostOnce);
        if !seen.insert(key) || (arrival.qos == QoS::AtMostOnce && !unacked) {
            continue;
        }
        let last = last.entry((key.publisher, &arrival.topic, unacked)).or_insert(0);
        assert!(*last < key.number, "{} got {key:?} of {} after {last}", peer.name, arrival.topic);
        *last = key.number;
    }
}
