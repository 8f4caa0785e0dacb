//! Messages there and back.

use std::sync::mpsc::channel;
use std::time::Duration;

use ringmq::QoS;
use ringmq::client::{
    Error, Message, MessageProperties, Overflow, Received, RecvError, RouteOptions, Status, Version,
};

use crate::{DEADLINE, block_on, broker, ready, session, until};

fn numbered(n: u32, qos: QoS) -> Message {
    Message::new("n", n.to_be_bytes().to_vec()).qos(qos)
}

#[test]
fn messages_keep_their_order_at_every_qos_and_version() {
    let broker = broker();
    let manager = ringmq::client::Manager::new().unwrap();
    for version in [Version::V31, Version::V311, Version::V5] {
        let session = manager.add(session("s", broker.addresses()[0]).version(version)).unwrap();
        session.wait(DEADLINE).unwrap();
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let listener = session.listen(RouteOptions::new("n").qos(qos)).unwrap();
            listener.wait_subscribed(DEADLINE).unwrap();
            let deliveries: Vec<_> = (0..2_000).map(|n| session.publish(numbered(n, qos)).unwrap()).collect();
            for n in 0..2_000_u32 {
                let message = listener.recv(DEADLINE).unwrap();
                assert_eq!((&message.payload[..], message.qos), (&n.to_be_bytes()[..], qos), "{version:?}");
            }
            for delivery in deliveries {
                delivery.wait(DEADLINE).unwrap();
            }
            assert_eq!(listener.try_recv().unwrap_err(), RecvError::Empty);
        }
        manager.remove("s").unwrap();
    }
    manager.shutdown(DEADLINE).unwrap();
}

#[test]
fn properties_arrive() {
    let (_broker, manager) = ready("s");
    let listener = manager.listen("p").unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    let properties = MessageProperties {
        payload_is_text: true,
        content_type: Some("text/plain".into()),
        response_topic: Some("answers".into()),
        correlation_data: Some("7".into()),
        user: vec![("k".into(), "v".into()), ("k".into(), "w".into())],
    };
    let message = Message { message_expiry_s: Some(60), ..Message::new("p", "x").properties(properties) };
    manager.publish_to("s", message.clone()).unwrap().wait(DEADLINE).unwrap();
    let received = listener.recv(DEADLINE).unwrap();
    assert_eq!(received.properties, message.properties);
    assert!(received.message_expiry_s.is_some_and(|left| left <= 60));
    assert_eq!(&*received.session, "s");
}

#[test]
fn a_paused_route_loses_nothing_and_a_dropping_one_counts() {
    const MESSAGES: u32 = 50_000;
    let (_broker, manager) = ready("writer");
    let address = _broker.addresses()[0];
    for name in ["patient", "dropping"] {
        manager.add(session(name, address)).unwrap().wait(DEADLINE).unwrap();
    }
    let options = |overflow| RouteOptions::new("n").capacity(100).overflow(overflow);
    let patient = manager.listen_to("patient", options(Overflow::Pause)).unwrap();
    let dropping = manager.listen_to("dropping", options(Overflow::DropOldest)).unwrap();
    patient.wait_subscribed(DEADLINE).unwrap();
    dropping.wait_subscribed(DEADLINE).unwrap();
    let writer = manager.get("writer").unwrap();
    let publisher = std::thread::spawn(move || {
        let deliveries: Vec<_> =
            (0..MESSAGES).map(|n| writer.publish(numbered(n, QoS::AtLeastOnce)).unwrap()).collect();
        for delivery in deliveries {
            delivery.wait(DEADLINE).unwrap();
        }
    });
    for n in 0..MESSAGES {
        assert_eq!(patient.recv(DEADLINE).unwrap().payload[..], n.to_be_bytes());
    }
    publisher.join().unwrap();
    assert_eq!(patient.dropped(), 0);
    // The last one is there at the end, and each is either there, taken, or counted.
    let mut taken = 0;
    loop {
        let message = dropping.recv(DEADLINE).unwrap();
        taken += 1;
        if message.payload[..] == (MESSAGES - 1).to_be_bytes() {
            break;
        }
    }
    assert_eq!(taken + dropping.dropped(), u64::from(MESSAGES));
}

#[test]
fn a_withholding_route_slows_the_broker_and_loses_nothing() {
    const MESSAGES: u32 = 20_000;
    let (broker, manager) = ready("writer");
    let slow = manager.add(session("slow", broker.addresses()[0]).receive_maximum(16)).unwrap();
    let options = RouteOptions::new("n").capacity(4).overflow(Overflow::Withhold);
    let listener = slow.listen(options).unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    let writer = manager.get("writer").unwrap();
    let publisher = std::thread::spawn(move || {
        for n in 0..MESSAGES {
            writer.send(numbered(n, QoS::AtLeastOnce)).unwrap();
        }
    });
    for n in 0..MESSAGES {
        assert!(listener.route().waiting() <= 4 + 16);
        assert_eq!(listener.recv(DEADLINE).unwrap().payload[..], n.to_be_bytes());
    }
    publisher.join().unwrap();
    assert_eq!(listener.dropped(), 0);
}

#[test]
fn what_is_not_acknowledged_comes_again() {
    let broker = broker();
    let manager = ringmq::client::Manager::new().unwrap();
    let builder = session("s", broker.addresses()[0]).manual_acks().session_expiry(DEADLINE);
    let session = manager.add(builder).unwrap();
    let listener = session.listen("n").unwrap();
    session.wait(DEADLINE).unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    for n in 0..2 {
        session.publish(numbered(n, QoS::AtLeastOnce)).unwrap().wait(DEADLINE).unwrap();
    }
    listener.recv(DEADLINE).unwrap().ack();
    let kept = listener.recv(DEADLINE).unwrap();
    assert_eq!((kept.payload[3], kept.dup), (1, false));
    // In order after the acknowledgement, which so is through.
    session.publish(numbered(9, QoS::AtMostOnce)).unwrap().wait(DEADLINE).unwrap();
    assert_eq!(listener.recv(DEADLINE).unwrap().payload[3], 9);
    session.disconnect();
    session.connect();
    let mut again = listener.recv(DEADLINE).unwrap();
    assert_eq!((again.payload[3], again.dup), (1, true));
    again.ack();
}

#[test]
fn handlers_that_block_or_panic_harm_only_themselves() {
    let (_broker, manager) = ready("s");
    let (open, gate) = channel::<()>();
    let blocked = manager.handle("x", move |_| assert!(gate.recv().is_err())).unwrap();
    let panicking = manager.handle("x", |message: Received| assert_ne!(message.payload, "2")).unwrap();
    let (seen, received) = channel();
    let inside = manager.clone();
    let good = manager.handle("x", move |message: Received| {
        // Handlers may publish, and wait.
        let answer = Message::new("answer", message.payload.clone()).qos(QoS::AtLeastOnce);
        inside.publish_to("s", answer).unwrap().wait(DEADLINE).unwrap();
        seen.send(message.payload.clone()).unwrap();
    });
    let good = good.unwrap();
    good.wait_subscribed(DEADLINE).unwrap();
    let answers = manager.listen("answer").unwrap();
    answers.wait_subscribed(DEADLINE).unwrap();
    for n in 1..=3 {
        manager.publish_to("s", Message::new("x", n.to_string())).unwrap().wait(DEADLINE).unwrap();
    }
    for n in 1..=3 {
        assert_eq!(received.recv_timeout(DEADLINE).unwrap(), n.to_string());
        assert_eq!(answers.recv(DEADLINE).unwrap().payload, n.to_string());
    }
    drop(open);
    manager.shutdown(DEADLINE).unwrap();
    assert_eq!((panicking.panics(), good.panics(), blocked.dropped()), (1, 0, 0));
}

#[test]
fn tasks_of_any_runtime_may_do_it_all() {
    let (_broker, manager) = ready("s");
    block_on(async {
        manager.ready("s").await.unwrap();
        manager.all_ready().await.unwrap();
        let listener = manager.listen(RouteOptions::new("n").qos(QoS::ExactlyOnce)).unwrap();
        listener.route().subscribed().await.unwrap();
        let session = manager.get("s").unwrap();
        for n in 0..100_u32 {
            let delivery = session.publish_async(numbered(n, QoS::ExactlyOnce)).await.unwrap();
            delivery.await.unwrap();
            assert_eq!(listener.recv_async().await.unwrap().payload[..], n.to_be_bytes());
        }
        manager.shutdown(DEADLINE).unwrap();
        assert!(listener.recv_async().await.is_none());
    });
}

#[test]
fn one_of_two_routes_on_a_filter_stops() {
    let (_broker, manager) = ready("s");
    let one = manager.listen("t").unwrap();
    let two = manager.listen("t").unwrap();
    two.wait_subscribed(DEADLINE).unwrap();
    let publish = |payload: &'static str| {
        let message = Message::new("t", payload).qos(QoS::AtLeastOnce);
        manager.publish_to("s", message).unwrap().wait(DEADLINE).unwrap()
    };
    publish("1");
    assert_eq!(one.recv(DEADLINE).unwrap().payload, "1");
    assert_eq!(two.recv(DEADLINE).unwrap().payload, "1");
    drop(one);
    publish("2");
    assert_eq!(two.recv(DEADLINE).unwrap().payload, "2");
    until(|| manager.get("s").unwrap().metrics().subscriptions == 1);
    drop(two);
    let answer = publish("3");
    assert_eq!(answer, ringmq::ReasonCode::NoMatchingSubscribers, "the subscription has ended");
}

#[test]
fn a_shutdown_says_goodbye() {
    let (broker, manager) = ready("s");
    let will = ringmq::client::Will { topic: "gone".into(), ..Default::default() };
    manager.add(session("willing", broker.addresses()[0]).will(will)).unwrap();
    let watcher = broker.subscribe("gone", QoS::AtMostOnce).unwrap();
    manager.wait_all(DEADLINE).unwrap();
    let session = manager.get("s").unwrap();
    manager.shutdown(DEADLINE).unwrap();
    assert_eq!(session.status(), Status::Removed);
    assert!(matches!(session.publish(Message::new("t", "")), Err(Error::Gone)));
    assert!(matches!(manager.add(crate::session("x", broker.addresses()[0])), Err(Error::Gone)));
    manager.shutdown(DEADLINE).unwrap();
    drop(broker.publish(ringmq::Message::new("gone", "marker")).unwrap());
    let first = watcher.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(first.payload[..], *b"marker", "no will: each session sent a DISCONNECT");
}
