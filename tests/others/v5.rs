//! What MQTT 5 adds, against brokers that do it; and the numbers that a session counts.

use std::collections::HashSet;
use std::time::Duration;

use ringmq::client::{Error, Message, MessageProperties, RecvError, RouteOptions, Session, Status, Version};
use ringmq::{QoS, ReasonCode};

use crate::broker::{Ability, Broker, Kind, Setup, able};
use crate::proxy::Proxy;
use crate::{DEADLINE, kept, manager, number, numbered, session, session_at, wait_for};

const V: Version = Version::V5;

/// Rumqttd 0.20.0 ignores most of it: no limits in its CONNACK, no expiry.
const FULL: [Kind; 2] = [Kind::Mosquitto, Kind::Ringmq];

fn ready(session: &Session) {
    session.wait(DEADLINE).unwrap();
}

#[test]
fn requests_are_answered() {
    for kind in FULL {
        let broker = Broker::new(kind);
        let manager = manager();
        let server = manager.add(session("server", &broker, V)).unwrap();
        let client = manager.add(session("client", &broker, V)).unwrap();
        manager.wait_all(DEADLINE).unwrap();
        let responder =
            server.respond("double/+", |request| (2 * number(request)).to_be_bytes().to_vec()).unwrap();
        responder.wait_subscribed(DEADLINE).unwrap();
        for n in 0..100_u32 {
            let answer = client.request("double/1", n.to_be_bytes().to_vec(), DEADLINE).unwrap();
            assert_eq!(number(&answer), 2 * n, "{broker:?}");
        }
        assert_eq!(responder.answered(), 100);
        drop(responder);
        let message = Message::new("nobody", "").qos(QoS::AtLeastOnce);
        let error = client.request_message(message, Duration::from_millis(200)).unwrap_err();
        assert!(
            matches!(error, Error::Refused(ReasonCode::NoMatchingSubscribers)) || error.is_timeout(),
            "{error:?}"
        );
        manager.shutdown(DEADLINE).unwrap();
    }
}

#[test]
fn properties_travel() {
    for kind in FULL {
        let broker = Broker::new(kind);
        let manager = manager();
        let session = manager.add(session("s", &broker, V)).unwrap();
        ready(&session);
        let listener = session.listen(RouteOptions::new("p").subscription_id(7)).unwrap();
        listener.wait_subscribed(DEADLINE).unwrap();
        let properties = MessageProperties {
            payload_is_text: true,
            content_type: Some("text/plain".into()),
            response_topic: Some("answers".into()),
            correlation_data: Some("7".into()),
            user: vec![("k".into(), "v".into()), ("k".into(), "w".into())],
        };
        let message = Message { message_expiry_s: Some(60), ..Message::new("p", "x").properties(properties) };
        session.publish(message.clone()).unwrap().wait(DEADLINE).unwrap();
        let received = listener.recv(DEADLINE).unwrap();
        assert_eq!(received.properties, message.properties, "{broker:?}");
        assert!(received.message_expiry_s.is_some_and(|left| left <= 60));
        assert_eq!(received.subscription_ids, [7]);
        manager.shutdown(DEADLINE).unwrap();
    }
}

#[test]
fn packets_that_are_too_large_are_not_sent_either_way() {
    let setup = Setup::new(Kind::Mosquitto).with("max_packet_size 1000");
    let broker = setup.start();
    let manager = manager();
    let writer = manager.add(session("writer", &broker, V)).unwrap();
    let reader = manager.add(session("reader", &broker, V).packet_bytes_max(200)).unwrap();
    manager.wait_all(DEADLINE).unwrap();
    let listener = reader.listen("t").unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    let publish = |bytes| writer.publish(Message::new("t", vec![b'x'; bytes]).qos(QoS::AtLeastOnce));
    let too_large = |outcome: Result<_, Error>| match outcome {
        Err(Error::TooLarge { bytes_max: 1000, .. }) => {}
        other => panic!("{other:?}"),
    };
    // Only the connection knows the broker's limit.
    too_large(publish(2000).and_then(|delivery| delivery.wait(DEADLINE)));
    // This the broker takes, and cannot pass on; the next one it can.
    publish(500).unwrap().wait(DEADLINE).unwrap();
    publish(100).unwrap().wait(DEADLINE).unwrap();
    assert_eq!(listener.recv(DEADLINE).unwrap().payload.len(), 100);
    assert_eq!([&writer, &reader].map(|session| session.metrics().counts.reconnects), [0, 0]);
    manager.shutdown(DEADLINE).unwrap();
}

#[test]
fn no_more_is_under_way_than_the_receive_maximum() {
    let setup = Setup::new(Kind::Mosquitto).with("max_inflight_messages 5");
    let broker = setup.start();
    let network = Proxy::new(broker.address(V));
    let manager = manager();
    let writer = manager.add(session_at("writer", network.url(), V)).unwrap();
    ready(&writer);
    let deliveries: Vec<_> =
        (0..500).map(|n| writer.publish(numbered("n", n, QoS::AtLeastOnce)).unwrap()).collect();
    for delivery in deliveries {
        delivery.wait(DEADLINE).unwrap();
    }
    assert!((2..=5).contains(&network.most_under_way()), "{}", network.most_under_way());
    manager.shutdown(DEADLINE).unwrap();
}

#[test]
fn the_broker_waits_for_acknowledgements_of_the_program() {
    for kind in able(Ability::MindsReceiveMaximum) {
        let broker = Broker::new(kind);
        let manager = manager();
        let reader = manager.add(session("reader", &broker, V).receive_maximum(3).manual_acks()).unwrap();
        ready(&reader);
        let listener = reader.listen("m").unwrap();
        listener.wait_subscribed(DEADLINE).unwrap();
        let writer = manager.add(session("other", &broker, V)).unwrap();
        ready(&writer);
        for n in 0..10 {
            writer.publish(numbered("m", n, QoS::AtLeastOnce)).unwrap().wait(DEADLINE).unwrap();
        }
        // At QoS 0 it waits for nothing, so that it overtakes what does.
        writer.publish(numbered("m", 99, QoS::AtMostOnce)).unwrap().wait(DEADLINE).unwrap();
        let mut held: Vec<_> = (0..3).map(|_| listener.recv(DEADLINE).unwrap()).collect();
        assert_eq!(held.iter().map(|message| number(message)).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(number(&listener.recv(DEADLINE).unwrap()), 99);
        for n in 3..10 {
            held.remove(0).ack();
            held.push(listener.recv(DEADLINE).unwrap());
            assert_eq!(number(held.last().unwrap()), n);
        }
        manager.shutdown(DEADLINE).unwrap();
    }
}

#[test]
fn topic_aliases_shorten_what_is_sent() {
    for kind in FULL {
        let broker = Broker::new(kind);
        let manager = manager();
        let reader = manager.add(session("reader", &broker, V)).unwrap();
        let listener = reader.listen("#").unwrap();
        reader.wait(DEADLINE).unwrap();
        listener.wait_subscribed(DEADLINE).unwrap();
        let topics: Vec<String> = (0..20).map(|n| format!("{n}/{}", "long".repeat(50))).collect();
        for (name, aliases) in [("plain", 0), ("short", 5)] {
            let writer = manager.add(session(name, &broker, V).topic_aliases_out_max(aliases)).unwrap();
            ready(&writer);
            // Runs of a topic, and more topics than aliases.
            for n in 0..400 {
                let message = numbered(&topics[n as usize / 20], n, QoS::AtLeastOnce);
                writer.publish(message).unwrap().wait(DEADLINE).unwrap();
                let message = listener.recv(DEADLINE).unwrap();
                assert_eq!((number(&message), &*message.topic), (n, &*topics[n as usize / 20]), "{broker:?}");
            }
        }
        let bytes = |name: &str| manager.get(name).unwrap().metrics().counts.bytes_sent;
        assert!(bytes("short") < bytes("plain") / 2, "{broker:?}: {} {}", bytes("short"), bytes("plain"));
        manager.shutdown(DEADLINE).unwrap();
    }
}

#[test]
fn messages_expire_at_the_broker_and_here() {
    for kind in FULL {
        let broker = Broker::new(kind);
        let manager = manager();
        let writer = manager.add(session("writer", &broker, V)).unwrap();
        let reader = manager.add(kept(session("reader", &broker, V), V)).unwrap();
        manager.wait_all(DEADLINE).unwrap();
        let listener = reader.listen("t").unwrap();
        listener.wait_subscribed(DEADLINE).unwrap();
        let events = manager.events();
        let message = |payload: &'static str, life_s| Message {
            message_expiry_s: Some(life_s),
            ..Message::new("t", payload).qos(QoS::AtLeastOnce)
        };
        reader.disconnect();
        let is_over =
            |kind: &ringmq::client::EventKind| matches!(kind, ringmq::client::EventKind::Disconnected { .. });
        wait_for(&events, "reader", is_over);
        writer.publish(message("short", 1)).unwrap().wait(DEADLINE).unwrap();
        writer.publish(message("long", 100)).unwrap().wait(DEADLINE).unwrap();
        writer.disconnect();
        wait_for(&events, "writer", is_over);
        let here = writer.publish(message("short, here", 1)).unwrap();
        let there = writer.publish(message("long, here", 100)).unwrap();
        // Their lives go by.
        std::thread::sleep(Duration::from_millis(2_500));
        writer.connect();
        assert!(matches!(here.wait(DEADLINE), Err(Error::Expired)), "{broker:?}");
        there.wait(DEADLINE).unwrap();
        reader.connect();
        for payload in ["long", "long, here"] {
            let received = listener.recv(DEADLINE).unwrap();
            assert_eq!(received.payload, payload, "{broker:?}");
            assert!(received.message_expiry_s.is_some_and(|left| left <= 98), "{received:?}");
        }
        assert_eq!(listener.try_recv().unwrap_err(), RecvError::Empty);
        manager.shutdown(DEADLINE).unwrap();
    }
}

/// A line of Prometheus's text format: the name, its labels, the value.
fn sample(line: &str) -> (&str, &str, f64) {
    let (name, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = name
        .split_once('{')
        .map_or((name, ""), |(name, labels)| (name, labels.strip_suffix('}').expect("labels end")));
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (_, value) = label.split_once('=').unwrap();
        assert!(value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "{line}");
    }
    (name, labels, value.parse().unwrap())
}

#[test]
fn the_numbers_are_in_prometheus_format_and_right() {
    let broker = Broker::new(Kind::Mosquitto);
    let manager = manager();
    let session = manager.add(session("s", &broker, V)).unwrap();
    let listener = session.listen("t").unwrap();
    session.wait(DEADLINE).unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    for n in 0..10 {
        session.publish(numbered("t", n, QoS::AtLeastOnce)).unwrap().wait(DEADLINE).unwrap();
        listener.recv(DEADLINE).unwrap();
    }
    let text = manager.prometheus();
    let mut types = HashSet::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(types.insert(rest.split(' ').next().unwrap()), "twice: {line}");
        } else if !line.starts_with("# HELP ") {
            samples.push(sample(line));
        }
    }
    let value = |name: &str| {
        assert!(types.contains(name), "{name} has no type: {text}");
        samples.iter().find(|(other, ..)| *other == name).unwrap_or_else(|| panic!("no {name}: {text}")).2
    };
    for prefix in ["mqtt_session_", "mqtt_manager_"] {
        let value = |name: &str| value(&format!("{prefix}{name}"));
        assert_eq!((value("messages_sent_total"), value("messages_received_total")), (10.0, 10.0));
        assert!(value("bytes_sent_total") > 100.0 && value("bytes_received_total") >= 50.0);
        assert_eq!((value("errors_total"), value("reconnects_total")), (0.0, 0.0));
        assert_eq!(value("subscriptions"), 1.0);
        assert!(
            value("message_rate") >= 0.0 && value("bytes_rate") >= 0.0 && value("avg_message_rate") > 0.0
        );
    }
    let value = |name: &str| value(&format!("mqtt_session_{name}"));
    assert_eq!(value("connected"), 1.0);
    assert_eq!(value("status"), 3.0, "{:?}", Status::Ready);
    assert_eq!((value("persistent"), value("clean_session"), value("auto_reconnect")), (0.0, 1.0, 1.0));
    assert!(value("last_message_timestamp_seconds") > 1e9);
    assert_eq!(value("last_error_timestamp_seconds"), 0.0);
    manager.shutdown(DEADLINE).unwrap();
}
