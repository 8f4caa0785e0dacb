//! What changes between two starts: the number of shards, the level, the directory.

use std::fs;
use std::time::Duration;

use ringmq_codec::{AckKind, Packet, PacketId, Publish, PublishProperties, QoS, Version};

use crate::client::{Event, Link, Who};
use crate::ledger::{Name, name_in, payload};
use crate::program::{Directory, Setup};

const SESSIONS: u16 = 24;
/// Messages for each session at each step.
const STEP: u32 = 20;

fn session_id(n: u16) -> String {
    format!("session-{n}")
}

fn version(n: u16) -> Version {
    if n.is_multiple_of(2) { Version::V311 } else { Version::V5 }
}

fn qos(n: u32) -> QoS {
    if n.is_multiple_of(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce }
}

/// Publishes a range of numbered messages for every session, and a retained one of the last number.
fn publish(setup: &Setup, numbers: std::ops::Range<u32>) {
    let mut link = Link::connect(setup.address, &Who::persistent("publisher", Version::V5)).unwrap();
    for number in numbers.clone() {
        for n in 0..SESSIONS {
            let payload = payload(Name { publisher: n, number }, 50);
            let (topic, properties) = (format!("to/{n}"), PublishProperties::default());
            let (qos, packet_id) = (qos(number), PacketId::new(n + 1));
            let (topic, payload) = (topic.as_bytes(), &payload[..]);
            let packet = Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload };
            link.put(&Packet::Publish(packet));
            if number + 1 == numbers.end {
                let topic = format!("kept/{n}");
                let (topic, qos, packet_id) = (topic.as_bytes(), QoS::AtLeastOnce, PacketId::new(n + 1000));
                link.put(&Packet::Publish(Publish { qos, retain: true, topic, packet_id, ..packet }));
            }
        }
        link.flush().unwrap();
        let mut left = SESSIONS * if number + 1 == numbers.end { 2 } else { 1 };
        while left > 0 {
            match link.next().unwrap() {
                Event::Ack(AckKind::PubRec, packet_id, _) => {
                    link.put_ack(AckKind::PubRel, packet_id);
                    link.flush().unwrap();
                }
                Event::Ack(AckKind::PubAck | AckKind::PubComp, ..) => left -= 1,
                other => panic!("{other:?} to a publisher"),
            }
        }
    }
    link.disconnect();
}

/// Takes `count` messages of a session: their numbers.
fn take(setup: &Setup, n: u16, count: usize) -> Vec<u32> {
    let mut link = Link::connect(setup.address, &Who::persistent(&session_id(n), version(n))).unwrap();
    assert!(link.present, "session {n} is gone");
    let mut numbers = Vec::new();
    let mut open = 0;
    while numbers.len() < count || open > 0 {
        match link.next().unwrap() {
            Event::Publish(message) => {
                // What is more than asked for stays with the broker.
                if numbers.len() == count {
                    continue;
                }
                let name = name_in(&message.payload).unwrap();
                assert_eq!(name.publisher, n);
                numbers.push(name.number);
                let once = message.qos == QoS::ExactlyOnce;
                open += usize::from(once);
                link.put_ack(if once { AckKind::PubRec } else { AckKind::PubAck }, message.packet_id);
            }
            Event::Ack(AckKind::PubRel, packet_id, _) => {
                open -= 1;
                link.put_ack(AckKind::PubComp, packet_id);
            }
            other => panic!("{other:?} to session {n}"),
        }
        link.flush().unwrap();
    }
    // What was acknowledged has been read once this is answered.
    link.put(&Packet::PingReq);
    link.flush().unwrap();
    while link.next().unwrap() != Event::PingResp {}
    drop(link);
    numbers
}

#[test]
fn the_number_of_shards_changes() {
    let directory = Directory::new("shards");
    let mut setup = Setup::new(directory.path(), 1);
    let mut program = setup.start();
    for n in 0..SESSIONS {
        let mut link = Link::connect(setup.address, &Who::persistent(&session_id(n), version(n))).unwrap();
        link.subscribe(&format!("to/{n}"), QoS::ExactlyOnce, None).unwrap();
        link.disconnect();
    }
    let mut taken = vec![0; usize::from(SESSIONS)];
    let mut numbers = 0..STEP;
    publish(&setup, numbers.clone());
    for (shards, killed) in [(3, true), (2, false), (4, true), (4, true), (1, false)] {
        if killed {
            program.kill()
        } else {
            program.stop()
        };
        setup.shards = shards;
        program = setup.start();
        numbers = numbers.end..numbers.end + STEP;
        publish(&setup, numbers.clone());
        // Some take all that there is, some a part.
        for n in 0..SESSIONS {
            let first = taken[usize::from(n)];
            let there = numbers.end - first;
            let count = if n.is_multiple_of(3) { there } else { there / 2 };
            let got = take(&setup, n, count as usize);
            assert!(got.iter().copied().eq(first..first + count), "{shards} shards: session {n} got {got:?}");
            taken[usize::from(n)] += count;
        }
    }
    let mut auditor = Link::connect(setup.address, &Who::clean("auditor", Version::V5)).unwrap();
    auditor.put_subscribe("kept/#", QoS::AtLeastOnce, None);
    auditor.flush().unwrap();
    let mut kept = std::collections::BTreeSet::new();
    while kept.len() < usize::from(SESSIONS) {
        if let Event::Publish(message) = auditor.next().unwrap() {
            let name = name_in(&message.payload).unwrap();
            assert!(message.retain && name.number + 1 == numbers.end);
            assert!(kept.insert(name.publisher));
        }
    }
    auditor.disconnect();
    program.stop();
}

#[test]
fn what_is_synced_survives_too() {
    let directory = Directory::new("synced");
    let setup = Setup::new(directory.path(), 2).with("--durability").with("synced");
    let program = setup.start();
    let mut link = Link::connect(setup.address, &Who::persistent(&session_id(0), version(0))).unwrap();
    link.subscribe("to/0", QoS::ExactlyOnce, None).unwrap();
    link.disconnect();
    publish(&setup, 0..100);
    program.kill();
    let program = setup.start();
    publish(&setup, 100..110);
    assert!(take(&setup, 0, 110).into_iter().eq(0..110));
    program.stop();
}

#[test]
fn one_directory_has_one_broker() {
    let directory = Directory::new("locked");
    let setup = Setup::new(directory.path(), 1);
    let program = setup.start();
    let other = Setup::new(directory.path(), 1);
    let (status, log) = other.run();
    assert!(!status.success() && log.contains(&*directory.path().to_string_lossy()), "{status}: {log}");
    // The first one is none the worse for it.
    let mut link = Link::connect(setup.address, &Who::persistent(&session_id(0), version(0))).unwrap();
    link.subscribe("to/0", QoS::ExactlyOnce, None).unwrap();
    link.disconnect();
    publish(&setup, 0..10);
    program.kill();
    // And its lock goes with it.
    let program = other.start();
    assert!(take(&other, 0, 10).into_iter().eq(0..10));
    program.stop();
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let directory = Directory::new("foreign");
    fs::write(directory.join("store"), "what another program keeps here").unwrap();
    fs::create_dir(directory.join("g1-0")).unwrap();
    fs::write(directory.join("g1-0/00000000.log"), "and here").unwrap();
    let (status, log) = Setup::new(directory.path(), 1).run();
    assert!(!status.success() && log.contains(&*directory.path().to_string_lossy()), "{status}: {log}");
    assert_eq!(fs::read(directory.join("store")).unwrap(), b"what another program keeps here");
    assert_eq!(fs::read(directory.join("g1-0/00000000.log")).unwrap(), b"and here");

    let file = directory.join("file");
    fs::write(&file, "no directory").unwrap();
    let (status, log) = Setup::new(&file, 1).run();
    assert!(!status.success() && log.contains(&*file.to_string_lossy()), "{status}: {log}");
}

#[test]
fn a_session_expires_while_the_broker_is_down() {
    let directory = Directory::new("expiry");
    let setup = Setup::new(directory.path(), 2);
    let program = setup.start();
    let short = Who { expiry_s: 1, ..Who::persistent("short", Version::V5) };
    let long = Who::persistent("long", Version::V5);
    for who in [&short, &long] {
        let mut link = Link::connect(setup.address, who).unwrap();
        link.subscribe("to/0", QoS::ExactlyOnce, None).unwrap();
        link.disconnect();
    }
    publish(&setup, 0..5);
    program.kill();
    // Not for luck: this is the time that the session has.
    std::thread::sleep(Duration::from_millis(1100));
    let program = setup.start();
    assert!(!Link::connect(setup.address, &short).unwrap().present);
    assert!(Link::connect(setup.address, &long).unwrap().present);
    program.stop();
}
