//! Every message goes to one member of a shared group, wherever the members are.

use std::collections::HashMap;

use ringmq_codec::{QoS, Version};
use ringmq_engine::DropReason;
use ringmq_sim::{Rng, for_each_seed};

use crate::peer::{Habits, Key, Peer};
use crate::rig::{Rig, Setup};

const GROUPS: [&str; 2] = ["$share/g/job/#", "$share/h/job/+"];

/// A world in which peer 0 publishes and the others are members of one group each.
struct Crew {
    rig: Rig,
    /// The group of each peer, by its place.
    groups: Vec<&'static str>,
    inflight_max: u16,
}

impl Crew {
    fn new(seed: u64, persistent: usize, transient: usize) -> Self {
        let setup = Setup::rough(&mut Rng::new(seed));
        let inflight_max = setup.limits.inflight_messages_max;
        let mut rig = Rig::new(seed, &setup);
        rig.add_persistent("publisher");
        for _ in 0..persistent {
            rig.add_persistent("member");
        }
        for _ in 0..transient {
            let habits = Habits::transient(Version::V5).varied(&mut rig.rng);
            rig.add("transient", habits);
        }
        rig.settle();
        // Each group has a persistent member.
        let groups: Vec<_> = (0..rig.peers.len()).map(|at| GROUPS[at % GROUPS.len()]).collect();
        let mut crew = Self { rig, groups, inflight_max };
        for at in 1..=persistent {
            crew.rig.subscribe(at, crew.groups[at], QoS::ExactlyOnce);
        }
        crew.rig.settle();
        crew
    }

    fn publish(&mut self) {
        let qos = *self.rig.rng.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]);
        self.rig.publish(0, "job/x", qos);
    }

    /// A member that has connected anew, without a session, subscribes.
    fn subscribe_new(&mut self) {
        for at in 1..self.rig.peers.len() {
            let peer = &self.rig.peers[at];
            let idle = peer.link.as_ref().is_some_and(|link| link.up && link.asked.is_empty());
            if idle && peer.filters.is_empty() && self.rig.rng.chance(0.5) {
                self.rig.subscribe(at, self.groups[at], QoS::ExactlyOnce);
            }
        }
    }

    /// How often each message came to the members of a group.
    fn counts(&self, group: &str) -> HashMap<Key, usize> {
        let members = self.rig.peers.iter().zip(&self.groups).skip(1).filter(|(_, of)| **of == group);
        let mut counts = HashMap::new();
        for arrival in members.flat_map(|(peer, _)| &peer.inbox) {
            *counts.entry(arrival.key.expect("every message has one")).or_insert(0) += 1;
        }
        counts
    }

    /// Calls `check` with the QoS of each message and its count in each group.
    fn check(&self, check: impl Fn(QoS, usize) -> bool) {
        for group in GROUPS {
            let counts = self.counts(group);
            for (message, _) in &self.rig.peers[0].published {
                let count = counts.get(&message.key).copied().unwrap_or(0);
                assert!(check(message.qos, count), "{group} got {count} times {message:?}");
            }
        }
    }

    /// Members that are away keep only what was under way to them.
    fn check_away(&self, stays: &[bool]) {
        let away = stays.iter().filter(|stays| !**stays).count() as u64;
        let most = u64::from(self.inflight_max) * away;
        let (ledger, _) = self.rig.figures();
        assert!(ledger.queued <= most, "{} are queued for {away} members that are away", ledger.queued);
    }
}

fn check_drops(rig: &Rig, allowed: &[DropReason]) {
    let (ledger, traffic) = rig.figures();
    for reason in DropReason::ALL {
        let dropped = ledger.dropped(reason);
        assert!(dropped == 0 || allowed.contains(&reason), "{dropped} copies dropped: {}", reason.name());
    }
    assert_eq!((ledger.queued, traffic.message_bytes, traffic.violations), (0, 0, 0));
}

/// Nobody is cut: members unsubscribe and subscribe again, but for the first of each group.
#[test]
fn share_the_work_in_peace() {
    for_each_seed("groups::share_the_work_in_peace", 120, |seed| {
        let mut crew = Crew::new(seed, 2 + (seed % 5) as usize, 0);
        for _ in 0..120 {
            crew.rig.stir(12);
            crew.publish();
            crew.subscribe_new();
            let at = crew.rig.rng.below(crew.rig.peers.len());
            let idle = crew.rig.peers[at].link.as_ref().is_some_and(|link| link.asked.is_empty());
            if at > GROUPS.len() && idle && !crew.rig.peers[at].filters.is_empty() {
                let group = crew.groups[at];
                crew.rig.peers[at].unsubscribe(&mut crew.rig.world, &[group]);
            }
        }
        crew.rig.settle();
        crew.check(|_, count| count == 1);
        check_drops(&crew.rig, &[]);
    });
}

/// Members with sessions are cut at any moment: nothing is lost, QoS 2 is never repeated.
#[test]
fn outlive_cut_members() {
    for_each_seed("groups::outlive_cut_members", 200, |seed| {
        let mut crew = Crew::new(seed, 2 + (seed % 5) as usize, 0);
        for _ in 0..200 {
            crew.rig.stir(20);
            if crew.rig.rng.chance(0.5) {
                crew.publish();
            }
            if crew.rig.rng.chance(0.4) {
                let at = crew.rig.rng.below(crew.rig.peers.len());
                crew.rig.harm(at);
            }
        }
        crew.rig.settle();
        crew.check(|qos, count| if qos == QoS::ExactlyOnce { count == 1 } else { count >= 1 });
        check_drops(&crew.rig, &[]);
    });
}

/// Members without sessions are cut too: only QoS 2 messages that were under way to them are lost.
#[test]
fn outlive_members_that_never_return() {
    for_each_seed("groups::outlive_members_that_never_return", 200, |seed| {
        let mut crew = Crew::new(seed, 2 + (seed % 2) as usize, 1 + (seed % 5) as usize);
        for _ in 0..200 {
            crew.rig.stir(20);
            crew.subscribe_new();
            if crew.rig.rng.chance(0.5) {
                crew.publish();
            }
            if crew.rig.rng.chance(0.5) {
                let at = crew.rig.rng.below(crew.rig.peers.len());
                crew.rig.harm(at);
            }
        }
        crew.rig.settle();
        crew.check(|qos, count| if qos == QoS::ExactlyOnce { count <= 1 } else { count >= 1 });
        check_drops(&crew.rig, &[DropReason::SessionEnded]);
        let (ledger, _) = crew.rig.figures();
        let missing: usize =
            GROUPS.iter().map(|group| missing(&crew.rig.peers[0], &crew.counts(group))).sum();
        assert!(missing as u64 <= ledger.dropped(DropReason::SessionEnded), "{missing} are missing");
    });
}

fn missing(publisher: &Peer, counts: &HashMap<Key, usize>) -> usize {
    publisher.published.iter().filter(|(message, _)| !counts.contains_key(&message.key)).count()
}

/// Members that are away get nothing while others are there, and what waits for them goes to those.
#[test]
fn go_to_members_that_are_there() {
    for_each_seed("groups::go_to_members_that_are_there", 120, |seed| {
        let mut crew = Crew::new(seed, 4 + (seed % 5) as usize, 0);
        for _ in 0..6 {
            // They may have some in flight, and more that wait.
            for _ in 0..10 {
                crew.publish();
                crew.rig.stir(10);
            }
            let stays: Vec<_> =
                (0..crew.rig.peers.len()).map(|at| at <= GROUPS.len() || crew.rig.rng.chance(0.5)).collect();
            for at in (0..stays.len()).filter(|at| !stays[*at]) {
                crew.rig.peers[at].cut(&mut crew.rig.world);
            }
            let is_there = |peer: &Peer| stays[usize::from(peer.index)];
            crew.rig.settle_with(is_there);
            crew.check_away(&stays);
            let first = crew.rig.peers[0].published.len();
            for _ in 0..10 {
                crew.publish();
                crew.rig.stir(10);
            }
            crew.rig.settle_with(is_there);
            for group in GROUPS {
                let counts = crew.counts(group);
                for (message, _) in &crew.rig.peers[0].published[first..] {
                    assert_eq!(counts.get(&message.key), Some(&1), "{group}: {message:?}");
                }
            }
            crew.rig.settle();
        }
        crew.check(|qos, count| if qos == QoS::ExactlyOnce { count == 1 } else { count >= 1 });
        check_drops(&crew.rig, &[]);
    });
}
