//! Many sessions, and sessions that come and go.

use std::collections::HashSet;

use ringmq::QoS;
use ringmq::client::{EventKind, Manager, Message, Status};

use crate::{DEADLINE, broker, session, until};

#[test]
fn a_thousand_sessions_are_run_by_two_threads() {
    const SESSIONS: usize = 1_000;
    let broker = broker();
    let manager = Manager::builder().io_threads(2).start().unwrap();
    let listener = manager.listen("hello/+").unwrap();
    for n in 0..SESSIONS {
        manager.add(session(&format!("s{n}"), broker.addresses()[0])).unwrap();
    }
    manager.wait_all(DEADLINE).unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    let metrics = manager.metrics();
    assert_eq!((metrics.sessions, metrics.ready), (SESSIONS, SESSIONS));
    until(|| manager.metrics().subscriptions == SESSIONS as u64);
    assert_eq!(broker.connections(), SESSIONS);
    // One message, to each of them.
    let message = Message::new("hello/all", "x").qos(QoS::AtLeastOnce);
    manager.publish_to("s0", message).unwrap().wait(DEADLINE).unwrap();
    let names: HashSet<_> = (0..SESSIONS).map(|_| listener.recv(DEADLINE).unwrap().session).collect();
    assert_eq!(names.len(), SESSIONS);
    let deliveries = manager.publish_all(Message::new("nobody", "").qos(QoS::AtLeastOnce));
    assert_eq!(deliveries.len(), SESSIONS);
    for (name, delivery) in deliveries {
        delivery.unwrap().wait(DEADLINE).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    manager.shutdown(DEADLINE).unwrap();
    assert!(manager.list().is_empty());
    broker.shutdown(DEADLINE).unwrap();
}

#[test]
fn a_name_may_be_used_again_and_again() {
    let broker = broker();
    let manager = Manager::new().unwrap();
    let events = manager.events();
    let listener = manager.listen("t").unwrap();
    for round in 0..50_u8 {
        let session = manager.add(session("s", broker.addresses()[0])).unwrap();
        session.wait(DEADLINE).unwrap();
        listener.wait_subscribed(DEADLINE).unwrap();
        let message = Message::new("t", vec![round]).qos(QoS::AtLeastOnce);
        session.publish(message).unwrap().wait(DEADLINE).unwrap();
        assert_eq!(listener.recv(DEADLINE).unwrap().payload[..], [round]);
        manager.remove("s").unwrap();
        assert_eq!(session.status(), Status::Removed);
    }
    let mut removed = 0;
    while removed < 50 {
        removed += usize::from(matches!(events.recv(DEADLINE).unwrap().kind, EventKind::Removed));
    }
    manager.shutdown(DEADLINE).unwrap();
}
