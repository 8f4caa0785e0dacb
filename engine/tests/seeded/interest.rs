//! A subscription is in force on every shard when it is acknowledged, and no longer when its end is.

use ringmq_codec::{QoS, ReasonCode, Version, matches};
use ringmq_engine::{Command, Event, LocalMessage, RequestId, SubscriberId};
use ringmq_sim::for_each_seed;
use ringmq_turn::ShardId;

use crate::model::counts;
use crate::peer::{Habits, Key};
use crate::rig::Rig;

const TOPICS: [&str; 4] = ["a", "a/b", "a/c", "d"];
const FILTERS: [&str; 7] = ["a", "a/b", "a/+", "a/#", "#", "+/c", "d"];

fn add_connected(rig: &mut Rig, count: usize) {
    for _ in 0..count {
        let habits = Habits::transient(Version::V5).varied(&mut rig.rng);
        rig.add("peer", habits);
    }
    rig.settle();
}

fn publish_anything(rig: &mut Rig) {
    let at = rig.rng.below(rig.peers.len());
    let (topic, qos) = (*rig.rng.pick(&TOPICS), rig.any_qos());
    rig.publish(at, topic, qos);
}

/// Filters that a peer does not hold and has not asked for, one at a time.
fn subscribe_anything(rig: &mut Rig) {
    let at = rig.rng.below(rig.peers.len());
    let (filter, qos) = (*rig.rng.pick(&FILTERS), rig.any_qos());
    let idle = rig.peers[at].link.as_ref().is_some_and(|link| link.asked.is_empty());
    if idle && rig.peers[at].filters.iter().all(|(held, ..)| held != filter) {
        rig.subscribe(at, filter, qos);
    }
}

/// What was published once a matching subscription was acknowledged must have come, once.
fn check_subscribed(rig: &Rig, since: u64) {
    for peer in &rig.peers {
        let counts = counts(peer);
        for (message, sent_at) in rig.peers.iter().flat_map(|publisher| &publisher.published) {
            let count = counts.get(&message.key).copied().unwrap_or(0);
            assert!(count <= 1, "nothing is repeated in peace: {} got {message:?} {count} times", peer.name);
            let mut holds = peer.filters.iter().filter(|(filter, ..)| matches(filter, &message.topic));
            if *sent_at >= since && holds.any(|(.., granted_at)| granted_at <= sent_at) {
                assert_eq!(count, 1, "{} holds {:?} and missed {message:?}", peer.name, peer.filters);
            }
        }
    }
}

/// Subscriptions that end while messages fly: nothing is published to them after the UNSUBACK.
fn unsubscribe_some(rig: &mut Rig) {
    let mut ended = Vec::new();
    for at in 0..rig.peers.len() {
        let held: Vec<String> = rig.peers[at].filters.iter().map(|(filter, ..)| filter.clone()).collect();
        if held.is_empty() || rig.rng.chance(0.5) {
            continue;
        }
        let filter = rig.rng.pick(&held).clone();
        rig.peers[at].unsubscribe(&mut rig.world, &[&filter]);
        ended.push((at, filter, None));
        rig.stir(5);
        publish_anything(rig);
    }
    for _ in 0..20 {
        rig.stir(10);
        for (at, _, acked_at) in &mut ended {
            let link = rig.peers[*at].link.as_ref().expect("it stays connected");
            if acked_at.is_none() && link.asked.is_empty() {
                *acked_at = Some(rig.world.steps());
            }
        }
        publish_anything(rig);
    }
    rig.settle();
    for (at, filter, acked_at) in ended {
        let peer = &rig.peers[at];
        let late = |key: Key| {
            let published = &rig.peers[usize::from(key.publisher)].published;
            let found = published.iter().find(|(message, _)| message.key == key).expect("it was published");
            acked_at.is_some_and(|acked_at| found.1 > acked_at)
        };
        for arrival in &peer.inbox {
            let held = peer.filters.iter().any(|(filter, ..)| matches(filter, &arrival.topic));
            let wanted = held || !matches(&filter, &arrival.topic);
            assert!(
                wanted || !arrival.key.is_some_and(late),
                "{} unsubscribed from {filter}, and got {arrival:?}",
                peer.name
            );
        }
    }
}

fn churn(seed: u64) {
    let mut rig = Rig::rough(seed);
    let count = 2 + rig.rng.below(5);
    add_connected(&mut rig, count);
    for _ in 0..4 {
        let since = rig.world.steps();
        for _ in 0..40 {
            rig.stir(15);
            if rig.rng.chance(0.4) {
                subscribe_anything(&mut rig);
            }
            if rig.rng.chance(0.7) {
                publish_anything(&mut rig);
            }
        }
        rig.settle();
        check_subscribed(&rig, since);
        unsubscribe_some(&mut rig);
    }
}

#[test]
fn holds_from_suback_to_unsuback() {
    for_each_seed("interest::holds_from_suback_to_unsuback", 120, churn);
}

/// An in-process subscriber.
struct Local {
    id: SubscriberId,
    shard: ShardId,
    filter: &'static str,
    /// The world's steps when its subscription was answered.
    granted_at: Option<u64>,
    got: Vec<Key>,
}

/// In-process subscribers and publications, beside clients.
struct Program {
    locals: Vec<Local>,
    /// Keys, topics and steps of what the program published, with the answer's.
    published: Vec<(Key, &'static str, u64, Option<u64>)>,
}

/// No client has this index.
const PROGRAM: u16 = u16::MAX;

impl Program {
    fn subscribe(&mut self, rig: &mut Rig) {
        let number = self.locals.len() as u64;
        let shard = ShardId::new(rig.rng.below(rig.world.shard_count()));
        let (id, filter) = (SubscriberId(number), *rig.rng.pick(&FILTERS));
        let (request, qos) = (RequestId(number), QoS::ExactlyOnce);
        let command = Command::Subscribe { request, subscriber: id, filter: filter.to_owned(), qos };
        rig.world.command(shard, command);
        self.locals.push(Local { id, shard, filter, granted_at: None, got: Vec::new() });
    }

    fn publish(&mut self, rig: &mut Rig) {
        let key = Key { publisher: PROGRAM, number: self.published.len() as u32 };
        let shard = ShardId::new(rig.rng.below(rig.world.shard_count()));
        let topic = *rig.rng.pick(&TOPICS);
        let message = LocalMessage {
            topic: topic.to_owned(),
            payload: key.encode(0).into(),
            qos: rig.any_qos(),
            retain: false,
            properties: Default::default(),
            message_expiry_s: None,
        };
        // Subscriptions have the lower numbers.
        let request = RequestId(1_000_000 + u64::from(key.number));
        rig.world.command(shard, Command::Publish { request, message });
        self.published.push((key, topic, rig.world.steps(), None));
    }

    fn poll(&mut self, rig: &mut Rig) {
        for shard in rig.world.shard_ids() {
            for event in rig.world.take_events(shard) {
                self.take(event, shard, rig.world.steps());
            }
        }
    }

    fn take(&mut self, event: Event, shard: ShardId, at: u64) {
        match event {
            Event::Published { request, reason } => {
                assert!(matches!(reason, ReasonCode::Success | ReasonCode::NoMatchingSubscribers));
                let answered = &mut self.published[(request.0 - 1_000_000) as usize].3;
                assert!(answered.replace(at).is_none(), "a publication is answered once");
            }
            Event::Subscribed { request, reason } => {
                assert_eq!(reason, ReasonCode::GrantedQoS2);
                let answered = &mut self.locals[request.0 as usize].granted_at;
                assert!(answered.replace(at).is_none(), "a subscription is answered once");
            }
            Event::Delivery { subscriber, message } => {
                let local = &mut self.locals[subscriber.0 as usize];
                assert_eq!((local.id, local.shard), (subscriber, shard));
                assert!(matches(local.filter, &message.topic));
                local.got.push(Key::decode(&message.payload).expect("it has a key"));
            }
        }
    }

    /// What was published once a subscription was answered must have come, once.
    fn check(&self, rig: &Rig) {
        let by_clients = rig.peers.iter().flat_map(|peer| &peer.published);
        let by_clients = by_clients.map(|(message, at)| (message.key, message.topic.as_str(), *at));
        let by_program = self.published.iter().map(|(key, topic, at, _)| (*key, *topic, *at));
        for (key, topic, at) in by_clients.chain(by_program) {
            for local in self.locals.iter().filter(|local| matches(local.filter, topic)) {
                let count = local.got.iter().filter(|got| **got == key).count();
                assert!(count <= 1, "{:?} got {key:?} {count} times", local.id);
                let granted_at = local.granted_at.expect("every subscription is answered");
                assert!(granted_at > at || count == 1, "{:?} missed {key:?} to {topic}", local.id);
            }
        }
        assert!(self.published.iter().all(|(.., answered)| answered.is_some()), "all are answered");
    }
}

#[test]
fn holds_for_the_program_too() {
    for_each_seed("interest::holds_for_the_program_too", 120, |seed| {
        let mut rig = Rig::rough(seed);
        let mut program = Program { locals: Vec::new(), published: Vec::new() };
        add_connected(&mut rig, 3);
        for _ in 0..100 {
            rig.stir(15);
            program.poll(&mut rig);
            if rig.rng.chance(0.1) {
                program.subscribe(&mut rig);
            }
            match rig.rng.below(3) {
                0 => program.publish(&mut rig),
                1 => publish_anything(&mut rig),
                _ => subscribe_anything(&mut rig),
            }
        }
        rig.settle();
        program.poll(&mut rig);
        program.check(&rig);
        check_subscribed(&rig, 0);
    });
}
