//! A new subscription gets the retained messages that were acknowledged before it, or later ones.

use ringmq_codec::{QoS, Version, matches};
use ringmq_engine::{Command, Event, Limits, RequestId, SubscriberId};
use ringmq_sim::{Network, Rng, for_each_seed};
use ringmq_turn::ShardId;

use crate::peer::{Habits, Key, Message, Peer};
use crate::rig::{Rig, Setup};

/// A subscription that was made.
struct Made {
    at: usize,
    filter: String,
    sent_at: u64,
    granted_at: Option<u64>,
}

/// Topics of which only this peer publishes, so that their messages have an order.
fn topics_of(at: usize) -> [String; 3] {
    [format!("r/{at}/0"), format!("r/{at}/1"), format!("q/{at}")]
}

fn publish_retained(rig: &mut Rig) {
    let at = rig.rng.below(rig.peers.len());
    let topic = rig.rng.pick(&topics_of(at)).clone();
    let qos = *rig.rng.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]);
    let mut message = rig.peers[at].message(&topic, qos);
    message.retain = true;
    message.empty = rig.rng.chance(0.2);
    message.padding = *rig.rng.pick(&[0, 20, 5000]);
    rig.peers[at].publish(&mut rig.world, message);
}

fn subscribe(rig: &mut Rig, made: &mut Vec<Made>) {
    let at = rig.rng.below(rig.peers.len());
    let other = rig.rng.below(rig.peers.len());
    let filter = rig.rng.pick(&["r/#", "+/+/0", "#", "r/+/1"]).to_string();
    let filter = if rig.rng.chance(0.5) { rig.rng.pick(&topics_of(other)).clone() } else { filter };
    let idle = rig.peers[at].link.as_ref().is_some_and(|link| link.asked.is_empty());
    if idle && rig.peers[at].filters.iter().all(|(held, ..)| *held != filter) {
        let qos = rig.any_qos();
        rig.subscribe(at, &filter, qos);
        made.push(Made { at, filter, sent_at: rig.world.steps(), granted_at: None });
    }
}

fn note_grants(rig: &Rig, made: &mut [Made]) {
    for made in made.iter_mut().filter(|made| made.granted_at.is_none()) {
        let mut held = rig.peers[made.at].filters.iter();
        made.granted_at = held.find(|(filter, ..)| *filter == made.filter).map(|(.., at)| *at);
    }
}

/// The last message of a topic that was acknowledged by then.
fn last_acked<'a>(publisher: &'a Peer, topic: &str, by: u64) -> Option<&'a Message> {
    let messages = publisher.published.iter().map(|(message, _)| message).filter(|sent| sent.topic == topic);
    let mut acked = messages.filter(|sent| publisher.acked.get(&sent.key.number).is_some_and(|at| *at <= by));
    acked.next_back()
}

fn check(rig: &Rig, made: &Made) {
    let peer = &rig.peers[made.at];
    let granted_at = made.granted_at.expect("every subscription is acknowledged");
    for publisher in &rig.peers {
        for topic in topics_of(usize::from(publisher.index)) {
            if !matches(&made.filter, &topic) {
                continue;
            }
            // A live message may come before the SUBACK, and then stands for what it replaced.
            let came = || peer.inbox.iter().filter(|came| came.topic == topic && came.at >= made.sent_at);
            let numbers = || came().filter_map(|came| came.key).map(|key| key.number);
            if let Some(due) = last_acked(publisher, &topic, granted_at).filter(|due| !due.empty) {
                let later = numbers().any(|number| number >= due.key.number);
                let clears = publisher.published.iter().filter(|(sent, _)| sent.empty && sent.topic == topic);
                let cleared = clears.map(|(sent, _)| sent.key).any(|clear| clear > due.key);
                assert!(later || cleared, "{} subscribed to {} and missed {due:?}", peer.name, made.filter);
            }
            check_no_stale(peer, publisher, &topic, made);
        }
    }
}

/// What is replayed is no older than what was acknowledged when the client asked.
fn check_no_stale(peer: &Peer, publisher: &Peer, topic: &str, made: &Made) {
    let asked_before = |other: &&(String, QoS, u64)| matches(&other.0, topic) && other.0 != made.filter;
    if peer.filters.iter().any(|other| asked_before(&other)) {
        return; // It may be a replay to the other one.
    }
    let Some(floor) = last_acked(publisher, topic, made.sent_at) else { return };
    let least = floor.key.number + u32::from(floor.empty);
    let since = peer.inbox.iter().filter(|came| came.at >= made.sent_at);
    for came in since.filter(|came| came.retain && came.topic == *topic) {
        let number = came.key.expect("an empty message is not retained").number;
        assert!(number >= least, "{} got {came:?}, but {floor:?} was acknowledged", peer.name);
    }
}

/// The last that came of a topic is the last that was published.
fn check_last(rig: &Rig, made: &Made) {
    let peer = &rig.peers[made.at];
    for publisher in &rig.peers {
        for topic in topics_of(usize::from(publisher.index)) {
            let last = publisher.published.iter().rfind(|(message, _)| message.topic == topic);
            if let Some((last, _)) = last.filter(|_| matches(&made.filter, &topic)) {
                let mut since = peer.inbox.iter().filter(|came| came.at >= made.sent_at);
                let came = since.rfind(|came| came.topic == topic);
                let key = came.and_then(|came| came.key);
                let expected = (!last.empty).then_some(last.key);
                assert_eq!(key, expected, "{} has an old value of {topic} last, not {last:?}", peer.name);
            }
        }
    }
}

/// Publishes and subscribes for a short while, so that the last message often meets a subscription on its
/// way; then all comes to rest.
fn episode(rig: &mut Rig) -> Vec<Made> {
    let mut made = Vec::new();
    for _ in 0..12 {
        rig.stir(8);
        note_grants(rig, &mut made);
        match rig.rng.below(4) {
            0 => subscribe(rig, &mut made),
            _ => publish_retained(rig),
        }
    }
    rig.settle();
    note_grants(rig, &mut made);
    made
}

fn episodes(mut rig: Rig, peers: usize, episode: fn(&mut Rig) -> Vec<Made>) {
    for _ in 0..peers {
        let habits = Habits::transient(Version::V5).varied(&mut rig.rng);
        rig.add("peer", habits);
    }
    rig.settle();
    for _ in 0..12 {
        let made = episode(&mut rig);
        for made in &made {
            check(&rig, made);
            check_last(&rig, made);
        }
        for made in &made {
            rig.peers[made.at].unsubscribe(&mut rig.world, &[&made.filter]);
        }
        rig.settle();
    }
}

#[test]
fn reach_a_new_subscriber() {
    for_each_seed("retained::reach_a_new_subscriber", 120, |seed| {
        let mut rig = Rig::rough(seed);
        let peers = 2 + rig.rng.below(4);
        episodes(rig, peers, episode);
    });
}

/// Messages are on their way to the shards that store them while a subscription to all of them spreads.
fn race(rig: &mut Rig) -> Vec<Made> {
    for at in 1..rig.peers.len() {
        for topic in topics_of(at) {
            let mut message = rig.peers[at].message(&topic, QoS::AtLeastOnce);
            message.retain = true;
            rig.peers[at].publish(&mut rig.world, message);
        }
    }
    rig.stir(20);
    let sent_at = rig.world.steps();
    rig.subscribe(0, "#", QoS::AtLeastOnce);
    rig.settle();
    let mut made = vec![Made { at: 0, filter: "#".to_owned(), sent_at, granted_at: None }];
    note_grants(rig, &mut made);
    made
}

/// A lane with much in it is as slow as the slowest of its messages; what goes alone may be fast.
#[test]
fn reach_a_subscriber_that_is_faster() {
    for_each_seed("retained::reach_a_subscriber_that_is_faster", 150, |seed| {
        let mut rng = Rng::new(seed);
        let network = Network { lane_delay_ms: 0..=100, client_delay_ms: 0..=1, ..Network::rough() };
        let limits = Limits::default();
        let setup = Setup { shards: 3, network, limits, ..Setup::rough(&mut rng) };
        episodes(Rig::new(seed, &setup), 5, race);
    });
}

/// An in-process subscriber to everything.
#[derive(Default)]
struct Local {
    granted_at: Option<u64>,
    got: Vec<(String, Option<Key>)>,
}

impl Local {
    fn poll(&mut self, rig: &mut Rig, shard: ShardId) {
        for event in rig.world.take_events(shard) {
            match event {
                Event::Subscribed { .. } => self.granted_at = Some(rig.world.steps()),
                Event::Delivery { message, .. } => {
                    self.got.push((message.topic.clone(), Key::decode(&message.payload)));
                }
                Event::Published { .. } => unreachable!("the program publishes nothing"),
            }
        }
    }

    /// The last that it got of each topic is the last that was published.
    fn check(&self, rig: &Rig) {
        let granted_at = self.granted_at.expect("every subscription is answered");
        for publisher in &rig.peers {
            for topic in topics_of(usize::from(publisher.index)) {
                let last = publisher.published.iter().rfind(|(message, _)| message.topic == topic);
                let Some((last, _)) = last else { continue };
                let got = self.got.iter().rfind(|(of, _)| *of == topic);
                let got = got.and_then(|(_, key)| *key);
                let expected = (!last.empty).then_some(last.key);
                assert_eq!(got, expected, "the program subscribed at {granted_at}; last came {last:?}");
            }
        }
    }
}

#[test]
fn reach_the_program() {
    for_each_seed("retained::reach_the_program", 200, |seed| {
        let mut rig = Rig::rough(seed);
        for _ in 0..2 + rig.rng.below(4) {
            let habits = Habits::transient(Version::V5).varied(&mut rig.rng);
            rig.add("peer", habits);
        }
        rig.settle();
        let shard = ShardId::new(rig.rng.below(rig.world.shard_count()));
        let mut local = Local::default();
        for round in 0..60 {
            rig.stir(12);
            local.poll(&mut rig, shard);
            publish_retained(&mut rig);
            if round == 40 {
                let (request, subscriber) = (RequestId(1), SubscriberId(1));
                let (filter, qos) = ("#".to_owned(), QoS::ExactlyOnce);
                rig.world.command(shard, Command::Subscribe { request, subscriber, filter, qos });
            }
        }
        rig.settle();
        local.poll(&mut rig, shard);
        local.check(&rig);
    });
}
