//! Brokers that are not there, go away, and come back.

use std::time::Duration;

use ringmq::QoS;
use ringmq::client::{ConnectError, Error, Event, EventKind, Events, Manager, Message, RouteOptions, Status};

use crate::{DEADLINE, broker_at, free_address, session, until};

/// Waits for an event.
fn wait_for(events: &Events, mut is_it: impl FnMut(&EventKind) -> bool) -> Event {
    loop {
        let event = events.recv(DEADLINE).expect("the event in time");
        if is_it(&event.kind) {
            return event;
        }
    }
}

#[test]
fn a_session_is_ready_once_its_broker_is_there() {
    let address = free_address();
    let manager = Manager::new().unwrap();
    let events = manager.events();
    let session = manager.add(session("early", address)).unwrap();
    let listener = session.listen("t").unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::Reconnecting { attempt: 2, .. }));
    let error = session.wait(Duration::ZERO).unwrap_err();
    assert!(error.is_timeout() && error.is_temporary(), "{error}");
    assert!(matches!(error, Error::NotReady { last: Some(_), .. }));
    assert!(error.to_string().contains(&address.to_string()), "it must say where: {error}");
    let broker = broker_at(address);
    session.wait(DEADLINE).unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    session.publish(Message::new("t", "x").qos(QoS::AtLeastOnce)).unwrap().wait(DEADLINE).unwrap();
    assert_eq!(listener.recv(DEADLINE).unwrap().payload, "x");
    manager.shutdown(DEADLINE).unwrap();
    broker.shutdown(DEADLINE).unwrap();
}

#[test]
fn every_route_is_back_after_the_broker_came_back_empty() {
    let address = free_address();
    let mut broker = broker_at(address);
    let manager = Manager::new().unwrap();
    for name in ["one", "two"] {
        manager.add(session(name, address)).unwrap();
    }
    let all = manager.listen(RouteOptions::new("all/#").qos(QoS::ExactlyOnce)).unwrap();
    let own = manager.listen_to("one", "own/+").unwrap();
    let (seen, handled) = std::sync::mpsc::channel();
    let options = RouteOptions::new("h").qos(QoS::AtMostOnce);
    let handle = move |message: ringmq::client::Received| {
        seen.send((message.qos, message.payload.clone())).unwrap();
    };
    let handler = manager.handle_to("two", options, handle).unwrap();
    for round in ["before", "after"] {
        manager.wait_all(DEADLINE).unwrap();
        for route in [all.route(), own.route(), &handler] {
            route.wait_subscribed(DEADLINE).unwrap();
        }
        for topic in ["all/1", "own/1", "h"] {
            let message = Message::new(topic, round).qos(QoS::ExactlyOnce);
            manager.publish_to("one", message).unwrap().wait(DEADLINE).unwrap();
        }
        for _ in 0..2 {
            let message = all.recv(DEADLINE).unwrap();
            assert_eq!((message.qos, &message.payload[..]), (QoS::ExactlyOnce, round.as_bytes()));
        }
        let message = own.recv(DEADLINE).unwrap();
        assert_eq!((message.qos, &message.payload[..]), (QoS::AtLeastOnce, round.as_bytes()));
        let (qos, payload) = handled.recv_timeout(DEADLINE).unwrap();
        assert_eq!((qos, &payload[..]), (QoS::AtMostOnce, round.as_bytes()));
        if round == "before" {
            let events = manager.events();
            broker.shutdown(DEADLINE).unwrap();
            for _ in 0..2 {
                wait_for(&events, |kind| matches!(kind, EventKind::Disconnected { .. }));
            }
            broker = broker_at(address);
        }
    }
    assert_eq!(all.dropped() + own.dropped() + handler.dropped(), 0);
    until(|| manager.get("one").unwrap().metrics().counts.reconnects == 1);
    assert_eq!(manager.status("one"), Some(Status::Ready));
    manager.shutdown(DEADLINE).unwrap();
    broker.shutdown(DEADLINE).unwrap();
}

#[test]
fn what_is_published_offline_arrives_in_order() {
    let address = free_address();
    let manager = Manager::new().unwrap();
    let reader = manager.add(session("reader", address)).unwrap();
    let listener = reader.listen("n").unwrap();
    let writer = manager.add(session("writer", address).offline_messages_max(200).paused()).unwrap();
    assert_eq!(writer.status(), Status::Idle);
    let message = |n: u32| Message::new("n", n.to_be_bytes().to_vec()).qos(QoS::AtLeastOnce);
    let deliveries: Vec<_> = (0..200).map(|n| writer.publish(message(n)).unwrap()).collect();
    for outcome in [writer.publish(message(200)), writer.try_publish(message(200))] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Full { held: 200 }) && error.is_temporary(), "{error}");
    }
    let broker = broker_at(address);
    reader.wait(DEADLINE).unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    writer.connect();
    writer.wait(DEADLINE).unwrap();
    let late = writer.publish(message(200)).unwrap();
    for delivery in &deliveries {
        delivery.wait(DEADLINE).unwrap();
    }
    late.wait(DEADLINE).unwrap();
    for n in 0..=200_u32 {
        assert_eq!(listener.recv(DEADLINE).unwrap().payload[..], n.to_be_bytes());
    }
    assert_eq!(writer.waiting(), 0);
    manager.shutdown(DEADLINE).unwrap();
    broker.shutdown(DEADLINE).unwrap();
}

#[test]
fn a_session_that_is_not_to_reconnect_gives_up() {
    let address = free_address();
    let manager = Manager::new().unwrap();
    let session = manager.add(session("once", address).no_reconnect()).unwrap();
    let error = session.wait(DEADLINE).unwrap_err();
    assert!(matches!(error, Error::Connect(ConnectError::Transport { .. })), "{error}");
    assert_eq!(session.status(), Status::Failed);
    let error = manager.wait_all(DEADLINE).unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
}

#[test]
fn a_session_disconnects_and_connects_as_it_is_told() {
    let address = free_address();
    let broker = broker_at(address);
    let manager = Manager::new().unwrap();
    let events = manager.events();
    let session = manager.add(session("s", address)).unwrap();
    session.wait(DEADLINE).unwrap();
    for _ in 0..3 {
        session.disconnect();
        wait_for(&events, |kind| matches!(kind, EventKind::Disconnected { why: None }));
        assert_eq!(session.status(), Status::Disconnected);
        let delivery = session.publish(Message::new("t", "").qos(QoS::AtLeastOnce)).unwrap();
        assert!(delivery.try_get().is_none());
        session.connect();
        session.wait(DEADLINE).unwrap();
        delivery.wait(DEADLINE).unwrap();
    }
    manager.shutdown(DEADLINE).unwrap();
    broker.shutdown(DEADLINE).unwrap();
}
