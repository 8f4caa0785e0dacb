//! The network cuts at every packet of a QoS 2 exchange, before it, within it and after it, both ways.

use ringmq::QoS;
use ringmq::client::{Listener, Manager, RouteOptions, Session, SessionBuilder, Version};

use crate::broker::{Ability, Broker, Kind, able};
use crate::proxy::{Cut, Packet, Place, Proxy, Way};
use crate::{DEADLINE, kept, manager, number, numbered, session, session_at};

const PLACES: [Place; 3] = [Place::Before, Place::Within, Place::After];

/// What a test publishes before it says that this was all.
const MESSAGES: u32 = 3;

/// The packets of an exchange with the way that each goes, seen from the publisher.
const EXCHANGE: [(Way, Packet); 4] = [
    (Way::ToBroker, Packet::Publish),
    (Way::ToClient, Packet::Pubrec),
    (Way::ToBroker, Packet::Pubrel),
    (Way::ToClient, Packet::Pubcomp),
];

fn back(way: Way) -> Way {
    match way {
        Way::ToBroker => Way::ToClient,
        Way::ToClient => Way::ToBroker,
    }
}

fn ready(manager: &Manager, builder: SessionBuilder) -> Session {
    let session = manager.add(builder).unwrap();
    session.wait(DEADLINE).unwrap();
    session
}

fn listen(session: &Session, topic: &str) -> Listener {
    let listener = session.listen(RouteOptions::new(topic).qos(QoS::ExactlyOnce)).unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    listener
}

/// All numbers up to the one that says that this was all.
fn all(listener: &Listener, what: &str) -> Vec<u32> {
    let mut all = Vec::new();
    loop {
        let message = listener.recv(DEADLINE).unwrap_or_else(|error| panic!("{what}: {all:?} came: {error}"));
        match number(&message) {
            u32::MAX => return all,
            n => all.push(n),
        }
    }
}

/// What arrives of messages that are published by a session whose network is cut.
fn publish(broker: &Broker, (version, is_kept): (Version, bool), (way, packet): (Way, Packet), place: Place) {
    let what = format!("{broker:?} {version:?} {packet:?} {place:?}, kept: {is_kept}");
    let topic = format!("to/{}", what.replace([' ', ','], "-"));
    let network = Proxy::new(broker.address(version));
    let manager = manager();
    let reader = ready(&manager, session("reader", broker, version));
    let listener = listen(&reader, &topic);
    let mut builder = session_at("writer", network.url(), version).client_id(&topic[topic.len() - 20..]);
    if is_kept {
        builder = kept(builder, version);
    }
    let writer = ready(&manager, builder);
    network.cut(Cut::At(way, packet, place));
    let publish = |n| writer.publish(numbered(&topic, n, QoS::ExactlyOnce)).unwrap();
    let deliveries: Vec<_> = (0..MESSAGES).map(publish).collect();
    for delivery in deliveries {
        delivery.wait(DEADLINE).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    network.wait_for_cut();
    publish(u32::MAX).wait(DEADLINE).unwrap();
    let mut came = all(&listener, &what);
    if !is_kept {
        // What was under way is published anew, so that an earlier one may come between and again.
        came.sort_unstable();
        came.dedup();
    }
    assert!(came.iter().copied().eq(0..MESSAGES), "{what}: {came:?}");
    manager.shutdown(DEADLINE).unwrap();
}

#[test]
fn a_kept_session_publishes_exactly_once_wherever_the_network_cuts() {
    for kind in able(Ability::ResumesExactlyOnce) {
        let broker = Broker::new(kind);
        for version in [Version::V311, Version::V5] {
            for packet in EXCHANGE {
                for place in PLACES {
                    publish(&broker, (version, true), packet, place);
                }
            }
        }
    }
}

#[test]
fn a_clean_session_publishes_at_least_once_wherever_the_network_cuts() {
    for kind in Kind::ALL {
        let broker = Broker::new(kind);
        for version in [Version::V311, Version::V5] {
            for packet in EXCHANGE {
                for place in PLACES {
                    publish(&broker, (version, false), packet, place);
                }
            }
        }
    }
}

#[test]
fn a_kept_session_receives_exactly_once_wherever_the_network_cuts() {
    for kind in able(Ability::ResumesExactlyOnce) {
        let broker = Broker::new(kind);
        for version in [Version::V311, Version::V5] {
            for (way, packet) in EXCHANGE {
                for place in PLACES {
                    let what = format!("{broker:?} {version:?} {packet:?} {place:?}");
                    let topic = format!("from/{}", what.replace(' ', "-"));
                    let network = Proxy::new(broker.address(version));
                    let manager = manager();
                    let writer = ready(&manager, session("writer", &broker, version));
                    let id = &topic[topic.len() - 20..];
                    let builder = session_at("reader", network.url(), version).client_id(id);
                    let reader = ready(&manager, kept(builder, version));
                    let listener = listen(&reader, &topic);
                    network.cut(Cut::At(back(way), packet, place));
                    let publish = |n| {
                        let message = numbered(&topic, n, QoS::ExactlyOnce);
                        writer.publish(message).unwrap().wait(DEADLINE).unwrap();
                    };
                    (0..MESSAGES).for_each(publish);
                    network.wait_for_cut();
                    publish(u32::MAX);
                    let came = all(&listener, &what);
                    assert!(came.iter().copied().eq(0..MESSAGES), "{what}: {came:?}");
                    manager.shutdown(DEADLINE).unwrap();
                }
            }
        }
    }
}
