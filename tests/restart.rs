//! The program with a data directory, stopped or killed and started again: one step at a time, where
//! `tests/crash` does all at once and at random moments.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "crash/client.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod client;
#[path = "crash/program.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod program;

use std::net::SocketAddr;

use client::{Event, Link, Message, Who};
use program::{Directory, Program, Setup};
use ringmq_codec::{AckKind, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Version, Will};

/// How a broker is brought down.
const WAYS_DOWN: [fn(Program) -> String; 2] = [Program::stop, Program::kill];

fn persistent(to: SocketAddr, id: &str) -> Link {
    Link::connect(to, &Who::persistent(id, Version::V5)).unwrap()
}

fn put_publish(link: &mut Link, topic: &str, payload: &str, (qos, retain, packet_id): (QoS, bool, u16)) {
    let (topic, payload) = (topic.as_bytes(), payload.as_bytes());
    let packet_id = PacketId::new(packet_id);
    let properties = PublishProperties::default();
    link.put(&Packet::Publish(Publish { dup: false, qos, retain, topic, packet_id, properties, payload }));
}

/// Publishes at QoS 1 and waits for the PUBACK.
fn publish(link: &mut Link, topic: &str, payload: &str, retain: bool) {
    put_publish(link, topic, payload, (QoS::AtLeastOnce, retain, 1));
    link.flush().unwrap();
    let Event::Ack(AckKind::PubAck, 1, reason) = link.next().unwrap() else { panic!("no PUBACK") };
    assert!(!reason.is_error(), "{reason}");
}

/// What a program said that it found.
fn recovered(program: &mut Program, fields: [&str; 3]) -> [u32; 3] {
    let log = program.log();
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let line = lines.map(|line| line["fields"].clone()).find(|fields| fields["message"] == "recovered");
    let line = line.unwrap_or_else(|| panic!("it does not say what it found:\n{log}"));
    fields.map(|name| line[name].as_u64().unwrap_or_else(|| panic!("{name} in {line}")) as u32)
}

fn next_message(link: &mut Link) -> Message {
    match link.next().unwrap() {
        Event::Publish(message) => message,
        other => panic!("{other:?} instead of a message"),
    }
}

fn ack(link: &mut Link, kind: AckKind, packet_id: u16) {
    link.put_ack(kind, packet_id);
    link.flush().unwrap();
}

/// The payload of the next message, which is acknowledged.
fn take(link: &mut Link) -> String {
    let message = next_message(link);
    if message.qos == QoS::AtLeastOnce {
        ack(link, AckKind::PubAck, message.packet_id);
    }
    String::from_utf8(message.payload).unwrap()
}

#[test]
fn sessions_queues_and_retained_messages_outlive_the_process() {
    for down in WAYS_DOWN {
        let directory = Directory::new("outlive");
        let setup = Setup::new(directory.path(), 2);
        let program = setup.start();
        let mut away = persistent(setup.address, "away");
        assert!(!away.present);
        away.subscribe("queue/#", QoS::AtLeastOnce, Some(7)).unwrap();
        away.disconnect();
        let mut publisher = Link::connect(setup.address, &Who::clean("p", Version::V311)).unwrap();
        for n in 0..100 {
            publish(&mut publisher, "queue/n", &n.to_string(), false);
        }
        for (topic, payload) in [("kept/1", "old"), ("kept/1", "one"), ("kept/2", "two"), ("kept/2", "")] {
            publish(&mut publisher, topic, payload, true);
        }
        publisher.disconnect();
        down(program);

        let mut program = setup.start();
        assert_eq!(recovered(&mut program, ["sessions", "queued", "retained"]), [1, 100, 1]);
        let mut away = persistent(setup.address, "away");
        assert!(away.present);
        for n in 0..100 {
            let message = next_message(&mut away);
            assert_eq!((message.payload, message.ids), (n.to_string().into_bytes(), vec![7]));
            ack(&mut away, AckKind::PubAck, message.packet_id);
        }
        let mut publisher = Link::connect(setup.address, &Who::clean("p", Version::V5)).unwrap();
        publish(&mut publisher, "queue/after", "after", false);
        assert_eq!(take(&mut away), "after");
        publisher.subscribe("kept/+", QoS::AtMostOnce, None).unwrap();
        let kept = next_message(&mut publisher);
        assert_eq!(
            (kept.topic.as_str(), kept.payload.as_slice(), kept.retain),
            ("kept/1", &b"one"[..], true)
        );
        // Nothing of all that is there twice, or for ever.
        away.disconnect();
        publisher.disconnect();
        down(program);
        let _program = setup.start();
        let mut away = persistent(setup.address, "away");
        let mut publisher = Link::connect(setup.address, &Who::clean("p", Version::V5)).unwrap();
        publish(&mut publisher, "queue/", "last", false);
        assert_eq!(take(&mut away), "last");
    }
}

#[test]
fn what_is_under_way_goes_on_where_it_was() {
    let directory = Directory::new("under-way");
    let setup = Setup::new(directory.path(), 2);
    let mut program = setup.start();
    let mut subscriber = persistent(setup.address, "s");
    subscriber.subscribe("t/#", QoS::ExactlyOnce, None).unwrap();
    let mut publisher = persistent(setup.address, "p");
    publish(&mut publisher, "t/1", "at least once", false);
    for (packet_id, payload) in [(2, "to receive"), (3, "to release")] {
        put_publish(&mut publisher, "t/2", payload, (QoS::ExactlyOnce, false, packet_id));
        publisher.flush().unwrap();
        assert_eq!(publisher.next().unwrap(), Event::Ack(AckKind::PubRec, packet_id, ReasonCode::Success));
    }
    let sent: Vec<Message> = (0..3).map(|_| next_message(&mut subscriber)).collect();
    ack(&mut subscriber, AckKind::PubRec, sent[2].packet_id);
    let released = sent[2].packet_id;
    assert_eq!(subscriber.next().unwrap(), Event::Ack(AckKind::PubRel, released, ReasonCode::Success));
    for _ in 0..2 {
        program.kill();
        program = setup.start();
        // The same packet ids, and what was received is not sent again.
        subscriber = persistent(setup.address, "s");
        assert!(subscriber.present);
        let again = |message: &Message| Event::Publish(Message { dup: true, ..message.clone() });
        let release = Event::Ack(AckKind::PubRel, released, ReasonCode::Success);
        let mut expect = vec![again(&sent[0]), again(&sent[1]), release];
        for _ in 0..3 {
            let event = subscriber.next().unwrap();
            let at = expect.iter().position(|expected| *expected == event);
            expect.remove(at.unwrap_or_else(|| panic!("{event:?} instead of one of {expect:?}")));
        }
        // The publisher did not hear of its PUBREC; the message is known and not taken again.
        publisher = persistent(setup.address, "p");
        put_publish(&mut publisher, "t/2", "to receive", (QoS::ExactlyOnce, false, 2));
        publisher.flush().unwrap();
        assert_eq!(publisher.next().unwrap(), Event::Ack(AckKind::PubRec, 2, ReasonCode::Success));
    }
    for packet_id in [2, 3] {
        ack(&mut publisher, AckKind::PubRel, packet_id);
        assert_eq!(publisher.next().unwrap(), Event::Ack(AckKind::PubComp, packet_id, ReasonCode::Success));
    }
    ack(&mut subscriber, AckKind::PubAck, sent[0].packet_id);
    ack(&mut subscriber, AckKind::PubRec, sent[1].packet_id);
    let packet_id = sent[1].packet_id;
    assert_eq!(subscriber.next().unwrap(), Event::Ack(AckKind::PubRel, packet_id, ReasonCode::Success));
    for packet_id in [packet_id, released] {
        ack(&mut subscriber, AckKind::PubComp, packet_id);
    }
    // Nothing is left but what comes now.
    publish(&mut publisher, "t/3", "last", false);
    assert_eq!(take(&mut subscriber), "last");
}

#[test]
fn a_will_is_published_after_the_restart_unless_its_client_is_back() {
    let directory = Directory::new("will");
    let setup = Setup::new(directory.path(), 2);
    let program = setup.start();
    let mut subscriber = persistent(setup.address, "s");
    subscriber.subscribe("wills/#", QoS::AtLeastOnce, None).unwrap();
    subscriber.disconnect();
    let (payload, qos) = (&b"gone"[..], QoS::AtLeastOnce);
    let will = |topic, delay_s| Will {
        topic,
        payload,
        qos,
        retain: false,
        delay_s,
        message_expiry_s: None,
        properties: &[],
    };
    let who = |id, will| Who { will: Some(will), ..Who::persistent(id, Version::V5) };
    let _soon = Link::connect(setup.address, &who("soon", will("wills/soon", 0))).unwrap();
    let _back = Link::connect(setup.address, &who("back", will("wills/back", 3600))).unwrap();
    program.kill();

    let _program = setup.start();
    let mut subscriber = persistent(setup.address, "s");
    assert_eq!(next_message(&mut subscriber).topic, "wills/soon");
    let back = persistent(setup.address, "back");
    assert!(back.present);
    back.disconnect();
    publish(&mut persistent(setup.address, "p"), "wills/end", "", false);
    assert_eq!(next_message(&mut subscriber).topic, "wills/end");
}

#[test]
fn sessions_and_messages_move_to_other_shards() {
    const CLIENTS: u32 = 12;
    let directory = Directory::new("move");
    let one = Setup::new(directory.path(), 1);
    let program = one.start();
    let mut publisher = Link::connect(one.address, &Who::clean("p", Version::V5)).unwrap();
    for n in 0..CLIENTS {
        let mut away = persistent(one.address, &format!("away-{n}"));
        away.subscribe("all", QoS::AtLeastOnce, None).unwrap();
        away.disconnect();
        publish(&mut publisher, &format!("kept/{n}"), &n.to_string(), true);
    }
    publish(&mut publisher, "all", "1 shard", false);
    publisher.disconnect();
    program.stop();
    for (before, shards) in [(1, 3), (3, 2), (2, 2)] {
        let setup = Setup { shards: shards as usize, ..one.clone() };
        let mut program = setup.start();
        assert_eq!(
            recovered(&mut program, ["shards_before", "shards", "sessions"]),
            [before, shards, CLIENTS]
        );
        let mut publisher = Link::connect(setup.address, &Who::clean("p", Version::V5)).unwrap();
        publish(&mut publisher, "all", &format!("{shards} shards"), false);
        program.kill();
    }

    let setup = Setup { shards: 1, ..one };
    let _program = setup.start();
    for n in 0..CLIENTS {
        let mut away = persistent(setup.address, &format!("away-{n}"));
        assert!(away.present);
        for payload in ["1 shard", "3 shards", "2 shards", "2 shards"] {
            assert_eq!(take(&mut away), payload, "for client {n}");
        }
    }
    let mut reader = Link::connect(setup.address, &Who::clean("r", Version::V5)).unwrap();
    reader.subscribe("kept/#", QoS::AtMostOnce, None).unwrap();
    let mut kept: Vec<u32> = (0..CLIENTS).map(|_| take(&mut reader).parse().unwrap()).collect();
    kept.sort_unstable();
    assert_eq!(kept, (0..CLIENTS).collect::<Vec<_>>());
}
