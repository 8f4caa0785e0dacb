//! Brokers that are not there, are killed, come back empty, stall, and take turns.

use std::time::{Duration, Instant};

use ringmq::QoS;
use ringmq::client::{
    Backoff, ConnectError, Error, EventKind, Message, Received, RouteOptions, SessionBuilder, Status, Version,
};

use crate::broker::{Broker, Kind, Setup};
use crate::proxy::Proxy;
use crate::{DEADLINE, EVERY_QOS, manager, number, numbered, session, session_at, wait_for};

const V: Version = Version::V311;

#[test]
fn a_session_is_ready_once_its_broker_is_there() {
    for kind in Kind::ALL {
        let setup = Setup::new(kind);
        let manager = manager();
        let events = manager.events();
        let session = manager.add(session_at("early", setup.url(V), V)).unwrap();
        let listener = session.listen("t").unwrap();
        wait_for(&events, "early", |kind| matches!(kind, EventKind::Reconnecting { attempt: 2, .. }));
        let broker = setup.start();
        session.wait(DEADLINE).unwrap();
        listener.wait_subscribed(DEADLINE).unwrap();
        session.publish(Message::new("t", "x").qos(QoS::AtLeastOnce)).unwrap().wait(DEADLINE).unwrap();
        assert_eq!(listener.recv(DEADLINE).unwrap().payload, "x", "{broker:?}");
        manager.shutdown(DEADLINE).unwrap();
    }
}

#[test]
fn all_works_again_after_the_broker_was_killed_and_came_back_empty() {
    for kind in Kind::ALL {
        let mut broker = Broker::new(kind);
        let network = Proxy::new(broker.address(V));
        let manager = manager();
        let events = manager.events();
        manager.add(session("one", &broker, V)).unwrap();
        manager.add(session("two", &broker, V)).unwrap();
        let writer = manager.add(session_at("writer", network.url(), V)).unwrap();
        let all = manager.listen_to("one", RouteOptions::new("all/#")).unwrap();
        let own = manager.listen_to("two", "own/+").unwrap();
        let (seen, handled) = std::sync::mpsc::channel();
        let handle = move |message: Received| seen.send(message.payload.clone()).unwrap();
        let handler = manager.handle_to("two", RouteOptions::new("h"), handle).unwrap();
        for round in 0..3_u32 {
            for name in ["one", "two"] {
                manager.wait(name, DEADLINE).unwrap();
            }
            for route in [all.route(), own.route(), &handler] {
                route.wait_subscribed(DEADLINE).unwrap();
            }
            // Before the first round nothing waits; later what was published during the outage does.
            network.refuse(false);
            writer.wait(DEADLINE).unwrap();
            for topic in ["all/1", "own/1", "h"] {
                let delivery = writer.publish(numbered(topic, round, QoS::AtLeastOnce)).unwrap();
                delivery.wait(DEADLINE).unwrap();
            }
            if round > 0 {
                for n in 0..100 {
                    assert_eq!(number(&all.recv(DEADLINE).unwrap()), n, "{broker:?}: queued, in order");
                }
            }
            assert_eq!(number(&all.recv(DEADLINE).unwrap()), round, "{broker:?}");
            assert_eq!(number(&own.recv(DEADLINE).unwrap()), round, "{broker:?}");
            assert_eq!(handled.recv_timeout(DEADLINE).unwrap()[..], round.to_be_bytes(), "{broker:?}");
            if round == 2 {
                break;
            }
            while events.try_recv().is_ok() {}
            network.refuse(true);
            broker.kill();
            for name in ["writer", "one", "two"] {
                let lost = |kind: &EventKind| matches!(kind, EventKind::Disconnected { why: Some(_) });
                // Each has its queue of events to itself: what others did meanwhile is not waited for.
                while manager.status(name) == Some(Status::Ready) {
                    let event = events.recv(DEADLINE).unwrap();
                    if &*event.session == name && lost(&event.kind) {
                        break;
                    }
                }
            }
            for n in 0..100 {
                drop(writer.publish(numbered("all/2", n, QoS::AtLeastOnce)).unwrap());
            }
            broker.start();
        }
        assert_eq!(all.dropped() + own.dropped() + handler.dropped(), 0);
        manager.shutdown(DEADLINE).unwrap();
    }
}

#[test]
fn a_broker_that_stalls_is_left_and_found_again() {
    for kind in Kind::ALL {
        let broker = Broker::new(kind);
        let manager = manager();
        let events = manager.events();
        let builder = session("s", &broker, V)
            .keep_alive(Duration::from_secs(1))
            .ping_timeout(Duration::from_millis(500))
            .connect_timeout(Duration::from_secs(1));
        let session = manager.add(builder).unwrap();
        let listener = session.listen("t").unwrap();
        session.wait(DEADLINE).unwrap();
        broker.stall();
        let lost = wait_for(&events, "s", |kind| matches!(kind, EventKind::Disconnected { .. }));
        let EventKind::Disconnected { why: Some(why) } = lost.kind else { panic!("{lost:?}") };
        assert_eq!(why, ConnectError::Unresponsive { after: Duration::from_millis(500) }, "{broker:?}");
        assert!(why.is_temporary() && why.is_timeout());
        // The system accepts connections for it; it just says nothing.
        wait_for(&events, "s", |kind| {
            matches!(kind, EventKind::Disconnected { why: Some(ConnectError::TimedOut { .. }) })
        });
        let waiting = session.publish(Message::new("t", "x").qos(QoS::AtLeastOnce)).unwrap();
        assert!(matches!(waiting.wait(Duration::ZERO), Err(Error::TimedOut(_))));
        broker.resume();
        session.wait(DEADLINE).unwrap();
        waiting.wait(DEADLINE).unwrap();
        listener.wait_subscribed(DEADLINE).unwrap();
        session.publish(Message::new("t", "y").qos(QoS::AtLeastOnce)).unwrap().wait(DEADLINE).unwrap();
        while listener.recv(DEADLINE).unwrap().payload != "y" {}
        manager.shutdown(DEADLINE).unwrap();
    }
}

#[test]
fn a_network_that_stalls_or_cuts_in_a_large_packet_loses_nothing() {
    use crate::proxy::{Cut, Way};
    for kind in Kind::ALL {
        let broker = Broker::new(kind);
        let network = Proxy::new(broker.address(V));
        let manager = manager();
        let reader = manager.add(session("reader", &broker, V)).unwrap();
        let listener = reader.listen("large").unwrap();
        let builder = session_at("writer", network.url(), V)
            .keep_alive(Duration::from_secs(1))
            .ping_timeout(Duration::from_millis(500));
        let writer = manager.add(builder).unwrap();
        manager.wait_all(DEADLINE).unwrap();
        listener.wait_subscribed(DEADLINE).unwrap();
        let events = manager.events();
        network.stall(true);
        wait_for(&events, "writer", |kind| matches!(kind, EventKind::Disconnected { why: Some(_) }));
        network.cut_now();
        network.stall(false);
        writer.wait(DEADLINE).unwrap();
        network.cut(Cut::Bytes(Way::ToBroker, 300_000));
        let payload: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        let delivery = writer.publish(Message::new("large", payload.clone()).qos(QoS::AtLeastOnce)).unwrap();
        delivery.wait(DEADLINE).unwrap();
        network.wait_for_cut();
        assert!(listener.recv(DEADLINE).unwrap().payload == payload, "{broker:?}: whole and unchanged");
        manager.shutdown(DEADLINE).unwrap();
    }
}

#[test]
fn sessions_go_to_the_broker_that_is_there() {
    for (first, second) in [(Kind::Mosquitto, Kind::Rumqttd), (Kind::Ringmq, Kind::Mosquitto)] {
        let mut brokers = [Broker::new(first), Broker::new(second)];
        let manager = manager();
        let builder = session("s", &brokers[0], V).broker(brokers[1].url(V));
        let session = manager.add(builder).unwrap();
        let listener = session.listen("t").unwrap();
        for (round, here) in [0, 1, 0, 1].into_iter().enumerate() {
            session.wait(DEADLINE).unwrap();
            listener.wait_subscribed(DEADLINE).unwrap();
            // It is at this one: a session that was there all the time hears it.
            let witness = manager.add(crate::session("witness", &brokers[here], V)).unwrap();
            let heard = witness.listen("t").unwrap();
            witness.wait(DEADLINE).unwrap();
            heard.wait_subscribed(DEADLINE).unwrap();
            let message = numbered("t", round as u32, QoS::AtLeastOnce);
            session.publish(message).unwrap().wait(DEADLINE).unwrap();
            for listener in [&listener, &heard] {
                assert_eq!(number(&listener.recv(DEADLINE).unwrap()), round as u32, "{brokers:?}");
            }
            manager.remove("witness").unwrap();
            if round == 3 {
                break;
            }
            let events = manager.events();
            brokers[here].kill();
            wait_for(&events, "s", |kind| matches!(kind, EventKind::Connected { .. }));
            brokers[here].start();
        }
        manager.shutdown(DEADLINE).unwrap();
    }
}

#[test]
fn tries_to_connect_come_at_growing_intervals() {
    let setup = Setup::new(Kind::Mosquitto);
    let manager = manager();
    let events = manager.events();
    let backoff = Backoff { first_ms: 100, max_ms: 300, factor_percent: 150, jitter: false };
    let before = Instant::now();
    manager.add(SessionBuilder::quick("s", setup.url(V)).backoff(backoff)).unwrap();
    let mut waited = Duration::ZERO;
    for (attempt, delay_ms) in (1..).zip([100, 150, 225, 300, 300]) {
        let event = wait_for(&events, "s", |kind| matches!(kind, EventKind::Reconnecting { .. }));
        let EventKind::Reconnecting { attempt: said, delay } = event.kind else { unreachable!() };
        assert_eq!((said, delay), (attempt, Duration::from_millis(delay_ms)));
        waited += delay;
        wait_for(&events, "s", |kind| matches!(kind, EventKind::Connecting { .. }));
        assert!(before.elapsed() >= waited, "{:?} is sooner than {waited:?}", before.elapsed());
    }
    // A connection that works begins it anew.
    let mut broker = setup.start();
    wait_for(&events, "s", |kind| matches!(kind, EventKind::Connected { .. }));
    broker.kill();
    let event = wait_for(&events, "s", |kind| matches!(kind, EventKind::Reconnecting { .. }));
    let EventKind::Reconnecting { attempt, delay } = event.kind else { unreachable!() };
    assert_eq!((attempt, delay), (1, Duration::from_millis(100)));
    manager.shutdown(DEADLINE).unwrap();
}

#[test]
fn jitter_stays_within_the_interval() {
    let setup = Setup::new(Kind::Mosquitto);
    let manager = manager();
    let events = manager.events();
    let backoff = Backoff { first_ms: 20, max_ms: 40, factor_percent: 200, jitter: true };
    manager.add(SessionBuilder::quick("s", setup.url(V)).backoff(backoff)).unwrap();
    let delays: Vec<Duration> = (0..30)
        .map(|_| {
            let event = wait_for(&events, "s", |kind| matches!(kind, EventKind::Reconnecting { .. }));
            let EventKind::Reconnecting { delay, .. } = event.kind else { unreachable!() };
            delay
        })
        .collect();
    assert!(delays[0] <= Duration::from_millis(20));
    assert!(delays.iter().all(|delay| *delay <= Duration::from_millis(40)), "{delays:?}");
    assert!(delays.iter().skip(1).any(|delay| *delay != delays[1]), "random: {delays:?}");
    manager.shutdown(DEADLINE).unwrap();
}

#[test]
fn waits_end_when_their_time_is_up() {
    let short = Duration::from_millis(50);
    let broker = Broker::new(Kind::Mosquitto);
    let nobody = Setup::new(Kind::Mosquitto);
    let manager = manager();
    let there = manager.add(session("there", &broker, V)).unwrap();
    let missing = manager.add(session_at("missing", nobody.url(V), V)).unwrap();
    there.wait(DEADLINE).unwrap();
    let listener = missing.listen("t").unwrap();
    let delivery = missing.publish(Message::new("t", "").qos(QoS::AtLeastOnce)).unwrap();
    let timed_out = [
        missing.wait(short).unwrap_err(),
        manager.wait("missing", short).unwrap_err(),
        manager.wait_all(short).unwrap_err(),
        listener.wait_subscribed(short).unwrap_err(),
        delivery.wait(short).unwrap_err(),
    ];
    for error in timed_out {
        assert!(error.is_timeout() && error.is_temporary(), "{error:?}");
        let wrapped = std::io::Error::other(Box::new(error));
        assert!(ringmq::client::is_timeout(&wrapped) && ringmq::client::is_temporary(&wrapped));
    }
    let broker = nobody.start();
    manager.wait_all(DEADLINE).unwrap();
    delivery.wait(DEADLINE).unwrap();
    drop(broker);
    manager.shutdown(DEADLINE).unwrap();
}

#[test]
fn what_is_published_offline_is_bounded_and_keeps_its_order() {
    for kind in Kind::ALL {
        let broker = Broker::new(kind);
        for qos in EVERY_QOS {
            let manager = manager();
            let reader = manager.add(session("reader", &broker, V)).unwrap();
            let listener = reader.listen(RouteOptions::new("n").qos(QoS::AtLeastOnce)).unwrap();
            let builder = session("writer", &broker, V).offline_messages_max(100).paused();
            let writer = manager.add(builder).unwrap();
            let deliveries: Vec<_> =
                (0..100).map(|n| writer.publish(numbered("n", n, qos)).unwrap()).collect();
            let error = writer.publish(numbered("n", 100, qos)).unwrap_err();
            assert!(matches!(error, Error::Full { held: 100 }) && error.is_temporary(), "{error}");
            reader.wait(DEADLINE).unwrap();
            listener.wait_subscribed(DEADLINE).unwrap();
            writer.connect();
            writer.wait(DEADLINE).unwrap();
            for delivery in &deliveries {
                delivery.wait(DEADLINE).unwrap();
            }
            writer.publish(numbered("n", 100, qos)).unwrap().wait(DEADLINE).unwrap();
            for n in 0..=100 {
                assert_eq!(number(&listener.recv(DEADLINE).unwrap()), n, "{broker:?} {qos:?}");
            }
            manager.shutdown(DEADLINE).unwrap();
        }
    }
}
