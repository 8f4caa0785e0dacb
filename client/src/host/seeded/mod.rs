//! Sessions against the broker's engine, through a network that does all that a contract allows.

mod ledger;
mod rig;

use std::collections::HashMap;
use std::sync::Arc;

use ringmq_codec::{QoS, Version, matches};
use ringmq_sim::{Rng, for_each_seed};

use super::tests::program::Inbox;
use crate::error::Error;
use crate::link::{Overflow, Request};
use crate::options::{Backoff, SessionOptions};
use rig::{Key, Rig, is_delivered};

const TOPICS: [&str; 3] = ["t/0", "t/1", "u"];
const FILTERS: [&str; 4] = ["t/0", "t/+", "#", "u"];

/// A session that outlives its connections, with everything else at random.
fn persistent(name: &str, rng: &mut Rng) -> SessionOptions {
    let addresses = vec!["mqtt://one".into(); 1 + rng.below(2)];
    let mut options = SessionOptions::new(name.into(), addresses);
    options.version = *rng.pick(&[Version::V31, Version::V311, Version::V5, Version::V5]);
    options.clean_start = false;
    options.session_expiry_s = u32::MAX;
    options.keep_alive_s = *rng.pick(&[0, 1, 5]);
    options.ping_timeout_ms = 3_000;
    options.write_timeout_ms = *rng.pick(&[2_000, 30_000]);
    options.connect_timeout_ms = *rng.pick(&[500, 5_000]);
    options.backoff = Backoff { first_ms: 100, max_ms: 1_000, factor_percent: 200, jitter: rng.chance(0.5) };
    options.inflight_messages_max = *rng.pick(&[1, 5, 4096]);
    options.receive_maximum = *rng.pick(&[1, 4, u16::MAX]);
    options.topic_aliases_out_max = *rng.pick(&[0, 1, 3]);
    options.topic_alias_maximum = *rng.pick(&[0, 2, 16]);
    options.manual_acks = rng.chance(0.2);
    options
}

fn inbox(filter: &str, rng: &mut Rng) -> Inbox {
    let (overflow, capacity) = *rng.pick(&[
        (Overflow::Withhold, 1),
        (Overflow::Withhold, 5),
        (Overflow::Pause, 1),
        (Overflow::Pause, 10),
        (Overflow::DropNewest, usize::MAX),
    ]);
    Inbox { acknowledges: rng.chance(0.2), ..Inbox::new(filter, overflow, capacity) }
}

/// Sessions with subscriptions, at rest.
fn populate(rig: &mut Rig) -> Vec<(usize, &'static str, QoS)> {
    let mut subscriptions = Vec::new();
    for at in 0..2 + rig.rng.below(3) {
        let options = persistent(&format!("s{at}"), &mut rig.rng);
        let filter = *rig.rng.pick(&FILTERS);
        let route = inbox(filter, &mut rig.rng);
        assert_eq!(rig.add(at % 2, options, vec![route], None), at);
        let qos = *rig.rng.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce]);
        rig.subscribe(at, filter, qos);
        subscriptions.push((at, filter, qos));
    }
    rig.settle();
    subscriptions
}

fn publish_anything(rig: &mut Rig) {
    let at = rig.rng.below(rig.programs.len());
    let (topic, qos) =
        (*rig.rng.pick(&TOPICS), *rig.rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]));
    for _ in 0..1 + rig.rng.below(4) {
        rig.publish(at, topic, qos);
    }
}

/// The program has a session do something.
fn meddle(rig: &mut Rig) {
    let at = rig.rng.below(rig.programs.len());
    match rig.rng.below(3) {
        0 => rig.request(at, Request::Reconnect),
        1 => {
            rig.request(at, Request::Disconnect);
            rig.pass(50);
            rig.request(at, Request::Connect);
        }
        _ => rig.request(at, Request::Connect),
    }
}

fn storm(rig: &mut Rig, rounds: usize, harm_chance: f64) {
    for _ in 0..rounds {
        let ms = 1 + rig.rng.below(30) as u64;
        rig.pass(ms);
        if rig.rng.chance(0.5) {
            let most = 1 + rig.rng.below(3);
            rig.take(most);
        }
        if rig.rng.chance(0.6) {
            publish_anything(rig);
        }
        if rig.rng.chance(harm_chance) {
            rig.harm();
        }
        if rig.rng.chance(harm_chance / 5.0) {
            meddle(rig);
        }
        if rig.rng.chance(harm_chance / 10.0) {
            rig.is_down = !rig.is_down;
        }
    }
}

/// Everything that was delivered reached every subscriber, as often as its QoS says, and in order.
fn check_arrivals(rig: &Rig, subscriptions: &[(usize, &'static str, QoS)]) {
    for (at, filter, granted) in subscriptions {
        let program = &rig.programs[*at];
        let counts = program.counts();
        for publisher in &rig.programs {
            for published in publisher.published.iter().filter(|one| matches(filter, one.topic)) {
                let qos = published.qos.min(*granted);
                let count = counts.get(&published.key).copied().unwrap_or(0);
                let outcome = published.outcome.get().expect("all are settled");
                // Who waited for it may have gone with the process.
                let is_kept = publisher.store.is_some() && published.qos != QoS::AtMostOnce;
                let is_gone = publisher.store.is_some() && matches!(outcome, Err(Error::Gone));
                assert!(is_delivered(&outcome) || is_gone, "{:?}: {outcome:?}", published.key);
                if is_gone && !is_kept {
                    assert!(count <= 1, "{:?}", published.key);
                    continue;
                }
                // A program that acknowledges by itself gets again what it has not.
                let is_manual = program.shared.options.manual_acks
                    || program.inboxes.inboxes.lock().unwrap().iter().any(|inbox| inbox.acknowledges);
                let is_sound = match qos {
                    QoS::AtMostOnce => count <= 1,
                    QoS::AtLeastOnce => count >= 1,
                    QoS::ExactlyOnce if is_manual => count >= 1,
                    QoS::ExactlyOnce => count == 1,
                };
                assert!(
                    is_sound,
                    "{:?} at {qos:?} came {count} times to session {at} ({:?}, {:?})",
                    published.key, program.shared.options.version, published.qos
                );
            }
        }
        check_order(program);
    }
}

/// Of one publisher, topic and QoS, what comes for the first time comes in order. [MQTT-4.6.0-6]
fn check_order(program: &rig::Program) {
    let mut last: HashMap<(u32, String, QoS), Key> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for (key, received) in &program.arrived {
        if !seen.insert(*key) {
            continue;
        }
        let of = (key.session, received.topic.to_string(), received.qos);
        if let Some(before) = last.insert(of, *key) {
            assert!(before < *key, "{key:?} came after {before:?}");
        }
    }
}

fn run(seed: u64, rounds: usize, harm_chance: f64) {
    let mut rig = Rig::new(seed);
    let subscriptions = populate(&mut rig);
    storm(&mut rig, rounds, harm_chance);
    rig.settle();
    check_arrivals(&rig, &subscriptions);
    rig.finish();
}

#[test]
fn in_peace() {
    for_each_seed("host::seeded::in_peace", 40, |seed| run(seed, 100, 0.0));
}

#[test]
fn through_cuts_and_stalls() {
    for_each_seed("host::seeded::through_cuts_and_stalls", 150, |seed| run(seed, 200, 0.2));
}

/// A broker that comes back empty: everything is settled, and every subscription is back.
#[test]
fn through_restarts_of_a_forgetful_broker() {
    for_each_seed("host::seeded::through_restarts_of_a_forgetful_broker", 80, |seed| {
        let mut rig = Rig::new(seed);
        let subscriptions = populate(&mut rig);
        for _ in 0..1 + rig.rng.below(3) {
            storm(&mut rig, 40, 0.1);
            rig.restart_broker();
        }
        rig.settle();
        let before: Vec<usize> = rig.programs.iter().map(|program| program.published.len()).collect();
        for at in 0..rig.programs.len() {
            rig.programs[at].arrived.clear();
            TOPICS.iter().for_each(|topic| rig.publish(at, topic, QoS::ExactlyOnce));
        }
        rig.settle();
        for (at, filter, _) in subscriptions {
            let counts = rig.programs[at].counts();
            for (publisher, before) in rig.programs.iter().zip(&before) {
                for published in
                    publisher.published[*before..].iter().filter(|one| matches(filter, one.topic))
                {
                    assert_eq!(counts.get(&published.key), Some(&1), "{:?} for {at}", published.key);
                }
            }
        }
        rig.finish();
    });
}

/// Processes that publish are killed. What their stores kept arrives, and at QoS 2 once. [MQTT-4.1.0-1]
#[test]
fn through_crashes_of_publishers_with_stores() {
    for_each_seed("host::seeded::through_crashes_of_publishers_with_stores", 150, |seed| {
        let mut rig = Rig::new(seed);
        let mut subscriptions = Vec::new();
        for at in 0..4 {
            let mut options = persistent(&format!("s{at}"), &mut rig.rng);
            let (filter, is_subscriber) = (*rig.rng.pick(&FILTERS), at >= 2);
            options.manual_acks &= !is_subscriber;
            let route = Inbox { acknowledges: false, ..inbox(filter, &mut rig.rng) };
            let store = (!is_subscriber || rig.rng.chance(0.5)).then(Arc::default);
            rig.add(at / 2, options, vec![route], store);
            if is_subscriber {
                rig.subscribe(at, filter, QoS::ExactlyOnce);
                subscriptions.push((at, filter, QoS::ExactlyOnce));
            }
        }
        rig.settle();
        for _ in 0..1 + rig.rng.below(4) {
            for _ in 0..40 {
                let ms = 1 + rig.rng.below(20) as u64;
                rig.pass(ms);
                if rig.rng.chance(0.5) {
                    rig.take(2);
                }
                if rig.rng.chance(0.7) {
                    let (at, topic) = (rig.rng.below(2), *rig.rng.pick(&TOPICS));
                    let qos = *rig.rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
                    rig.publish(at, topic, qos);
                }
                if rig.rng.chance(0.1) {
                    rig.harm();
                }
            }
            rig.crash(0);
        }
        rig.settle();
        check_arrivals(&rig, &subscriptions);
        rig.finish();
    });
}

/// Everything is removed amid everything else.
#[test]
fn removed_amid_the_storm() {
    for_each_seed("host::seeded::removed_amid_the_storm", 60, |seed| {
        let mut rig = Rig::new(seed);
        populate(&mut rig);
        storm(&mut rig, 50, 0.3);
        for at in 0..rig.programs.len() {
            rig.request(at, Request::Remove);
        }
        rig.pass(20);
        for program in &rig.programs {
            assert_eq!(program.shared.held(), 0);
            for published in &program.published {
                assert!(published.outcome.get().is_some(), "{:?} was not settled", published.key);
            }
        }
        rig.finish();
    });
}
