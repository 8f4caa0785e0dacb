//! Messages there and back, at every version and QoS: retained, wills, shared and large ones.

use std::time::Duration;

use ringmq::QoS;
use ringmq::client::{Message, RecvError, RouteOptions, Version, Will};

use crate::broker::{Ability, Broker, Kind, can};
use crate::proxy::Proxy;
use crate::{DEADLINE, EVERY_QOS, VERSIONS, manager, number, numbered, session, session_at};

/// The versions that a broker speaks.
fn versions(kind: Kind) -> impl Iterator<Item = Version> {
    VERSIONS.into_iter().filter(move |version| *version != Version::V31 || can(kind, Ability::V31))
}

#[test]
fn messages_keep_their_order_at_every_version_and_qos() {
    const MESSAGES: u32 = 500;
    for kind in Kind::ALL {
        let broker = Broker::new(kind);
        for version in versions(kind) {
            let manager = manager();
            let reader = manager.add(session("reader", &broker, version)).unwrap();
            let writer = manager.add(session("writer", &broker, version)).unwrap();
            manager.wait_all(DEADLINE).unwrap();
            for qos in EVERY_QOS {
                let topic = format!("n/{}", qos as u8);
                let listener = reader.listen(RouteOptions::new(&*topic).qos(qos)).unwrap();
                listener.wait_subscribed(DEADLINE).unwrap();
                let deliveries: Vec<_> =
                    (0..MESSAGES).map(|n| writer.publish(numbered(&topic, n, qos)).unwrap()).collect();
                for n in 0..MESSAGES {
                    let message = listener.recv(DEADLINE).unwrap_or_else(|error| {
                        panic!("{broker:?} {version:?} {qos:?}: {n} of {MESSAGES} came: {error}")
                    });
                    assert_eq!((number(&message), message.qos), (n, qos), "{broker:?} {version:?}");
                }
                for delivery in deliveries {
                    delivery.wait(DEADLINE).unwrap();
                }
                assert_eq!(listener.try_recv().unwrap_err(), RecvError::Empty);
            }
            manager.shutdown(DEADLINE).unwrap();
        }
    }
}

#[test]
fn a_large_payload_arrives_whole() {
    let payload: Vec<u8> = (0..5_000_000_u32).map(|n| (n >> 7) as u8).collect();
    for kind in Kind::ALL {
        let broker = Broker::new(kind);
        for version in [Version::V311, Version::V5] {
            let manager = manager();
            let session = manager.add(session("s", &broker, version)).unwrap();
            let listener = session.listen("large").unwrap();
            session.wait(DEADLINE).unwrap();
            listener.wait_subscribed(DEADLINE).unwrap();
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
                let message = Message::new("large", payload.clone()).qos(qos);
                session.publish(message).unwrap().wait(DEADLINE).unwrap();
                assert!(listener.recv(DEADLINE).unwrap().payload == payload, "{broker:?} {version:?}");
            }
            manager.shutdown(DEADLINE).unwrap();
        }
    }
}

#[test]
fn retained_messages_come_first_until_they_are_cleared() {
    for kind in Kind::ALL {
        let broker = Broker::new(kind);
        for version in [Version::V311, Version::V5] {
            let manager = manager();
            let session = manager.add(session("s", &broker, version)).unwrap();
            session.wait(DEADLINE).unwrap();
            let publish = |payload: &'static str| {
                let message = Message::new("r/1", payload).qos(QoS::AtLeastOnce).retained();
                session.publish(message).unwrap().wait(DEADLINE).unwrap();
            };
            publish("kept");
            let listener = session.listen("r/+").unwrap();
            let message = listener.recv(DEADLINE).unwrap();
            assert_eq!((&*message.topic, &message.payload[..]), ("r/1", &b"kept"[..]), "{broker:?}");
            assert!(message.retain, "{broker:?}");
            publish("");
            listener.route().wait_subscribed(DEADLINE).unwrap();
            listener.stop();
            let listener = session.listen("r/#").unwrap();
            listener.wait_subscribed(DEADLINE).unwrap();
            let marker = Message::new("r/2", "marker").qos(QoS::AtLeastOnce);
            session.publish(marker).unwrap().wait(DEADLINE).unwrap();
            let mut first = listener.recv(DEADLINE).unwrap();
            if kind == Kind::Rumqttd && first.payload.is_empty() {
                // Version 5 of its protocol keeps the empty message that clears.
                first = listener.recv(DEADLINE).unwrap();
            }
            assert_eq!(first.payload, "marker", "{broker:?} {version:?}");
            manager.shutdown(DEADLINE).unwrap();
        }
    }
}

#[test]
fn wills_are_published_when_the_network_cuts_and_not_after_a_goodbye() {
    for kind in Kind::ALL {
        let broker = Broker::new(kind);
        for version in [Version::V311, Version::V5] {
            let network = Proxy::new(broker.address(version));
            let manager = manager();
            let watcher = manager.add(session("watcher", &broker, version)).unwrap();
            let wills = watcher.listen("will/#").unwrap();
            watcher.wait(DEADLINE).unwrap();
            wills.wait_subscribed(DEADLINE).unwrap();
            let will = |topic: &str| Will {
                topic: topic.into(),
                payload: "gone".into(),
                qos: QoS::AtLeastOnce,
                ..Will::default()
            };
            let polite = session("polite", &broker, version).will(will("will/polite"));
            manager.add(polite).unwrap().wait(DEADLINE).unwrap();
            let cut = session_at("cut", network.url(), version).will(will("will/cut")).no_reconnect();
            manager.add(cut).unwrap().wait(DEADLINE).unwrap();
            let events = manager.events();
            manager.remove("polite").unwrap();
            crate::wait_for(&events, "polite", |kind| matches!(kind, ringmq::client::EventKind::Removed));
            network.cut_now();
            let message = wills.recv(DEADLINE).unwrap();
            assert_eq!((&*message.topic, &message.payload[..]), ("will/cut", &b"gone"[..]), "{broker:?}");
            manager.shutdown(DEADLINE).unwrap();
        }
    }
}

#[test]
fn members_share_a_subscription() {
    const MESSAGES: u32 = 300;
    for kind in Kind::ALL {
        let broker = Broker::new(kind);
        let version = Version::V5;
        let manager = manager();
        let writer = manager.add(session("writer", &broker, version)).unwrap();
        let listeners: Vec<_> = ["one", "two", "three"]
            .map(|name| {
                let member = manager.add(session(name, &broker, version)).unwrap();
                member.wait(DEADLINE).unwrap();
                let listener = member.listen("$share/group/work/#").unwrap();
                listener.wait_subscribed(DEADLINE).unwrap();
                listener
            })
            .into();
        writer.wait(DEADLINE).unwrap();
        for n in 0..MESSAGES {
            writer.publish(numbered("work/1", n, QoS::AtLeastOnce)).unwrap().wait(DEADLINE).unwrap();
        }
        let mut all = Vec::new();
        let deadline = std::time::Instant::now() + DEADLINE;
        while all.len() < MESSAGES as usize && std::time::Instant::now() < deadline {
            for listener in &listeners {
                match listener.recv(Duration::from_millis(5)) {
                    Ok(message) => all.push(number(&message)),
                    Err(error) => assert_eq!(error, RecvError::Empty, "{broker:?}"),
                }
            }
        }
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..MESSAGES), "{broker:?}: each to one member: {all:?}");
        manager.shutdown(DEADLINE).unwrap();
    }
}
