//! Forwarders of the client between brokers that run, stop, stall and die.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringmq::{Broker, Message as Local, Subscription};
use ringmq_client::{
    Backoff, DropReason, FailReason, Filter, ForwardQos, Forwarder, ForwarderStats, LoopGuard, Manager,
    Message, Overflow, QoS, ReasonCode, RouteOptions, Session, SessionBuilder, Source, Transform, Version,
};

const SECONDS: Duration = Duration::from_secs(30);

fn broker_at(address: &str) -> Broker {
    Broker::builder().listen(address.parse().unwrap()).shards(1).start().unwrap()
}

fn broker() -> Broker {
    broker_at("127.0.0.1:0")
}

fn quick(name: &str, address: SocketAddr) -> SessionBuilder {
    let backoff = Backoff { first_ms: 20, max_ms: 50, factor_percent: 150, jitter: true };
    SessionBuilder::quick(name, format!("mqtt://{address}")).backoff(backoff)
}

fn local(topic: &str, payload: impl Into<Vec<u8>>) -> Local {
    Local::new(topic, payload.into()).qos(QoS::AtLeastOnce)
}

fn publish(broker: &Broker, message: Local) {
    broker.publish(message).unwrap().wait(SECONDS).unwrap();
}

fn text(payload: &[u8]) -> String {
    String::from_utf8(payload.to_vec()).unwrap()
}

fn next(subscription: &Subscription) -> (String, String) {
    let message = subscription.recv_timeout(SECONDS).unwrap();
    (message.topic.to_string(), text(&message.payload))
}

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SECONDS;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {SECONDS:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn check_sum(stats: &ForwarderStats) {
    let known = stats.sent + stats.dropped() + stats.failed() + stats.in_progress();
    assert_eq!(stats.received, known, "{stats:?}");
}

#[test]
fn every_message_has_one_fate() {
    let (one, two, out) = (broker(), broker(), broker());
    let manager = Manager::new().unwrap();
    let sources = [&one, &two].map(|broker| {
        let address = broker.addresses()[0];
        manager.add(quick(&format!("from-{address}"), address)).unwrap()
    });
    let targets = ["x", "y"].map(|name| manager.add(quick(name, out.addresses()[0])).unwrap());
    let forwarder = Forwarder::builder("all")
        .source(Source::new(&sources[0], RouteOptions::new("a/#").qos(QoS::ExactlyOnce)).and("b/+"))
        .source(Source::new(&sources[1], "a/#"))
        .target(&targets[0])
        .target(&targets[1])
        .map("a/#", "out/{#}")
        .filter(!Filter::payload_contains("drop"))
        .transform(Transform::json_get("$.v").unwrap())
        .qos(ForwardQos::AtMost(QoS::AtLeastOnce))
        .overflow(Overflow::Pause)
        .buffer(50)
        .window(30)
        .start()
        .unwrap();
    manager.wait_all(SECONDS).unwrap();
    forwarder.wait_subscribed(SECONDS).unwrap();
    assert!(forwarder.is_connected() && forwarder.is_running());
    let arrived = out.subscribe("#", QoS::AtLeastOnce).unwrap();

    let each = 500;
    std::thread::scope(|scope| {
        for broker in [&one, &two] {
            scope.spawn(move || {
                for number in 0..each {
                    let (topic, payload) = match number % 5 {
                        0 => ("b/x", "{}".to_owned()),
                        1 => ("a/x", "drop".to_owned()),
                        2 => ("a/x", "no JSON".to_owned()),
                        _ => ("a/x", format!(r#"{{"v":{number}}}"#)),
                    };
                    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number % 3];
                    broker
                        .publish(Local::new(topic, payload.into_bytes()).qos(qos))
                        .unwrap()
                        .wait(SECONDS)
                        .unwrap();
                }
            });
        }
        // The sum holds at any time.
        let expected = 2 * each as u64 - each as u64 / 5;
        until("all messages came", || {
            let stats = forwarder.stats();
            check_sum(&stats);
            stats.received == expected && stats.in_progress() == 0
        });
    });
    let stats = forwarder.stop(SECONDS);
    check_sum(&stats);
    let each = each as u64;
    assert_eq!(stats.in_progress(), 0);
    assert_eq!(stats.dropped_for(DropReason::Unmapped), each / 5, "b/+ of the first source");
    assert_eq!(stats.dropped_for(DropReason::Filtered), 2 * each / 5);
    assert_eq!(stats.failed_for(FailReason::Transform), 2 * each / 5);
    assert_eq!(stats.sent, 2 * 2 * each / 5);
    // Each target got each message, of each source in order.
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..2 * stats.sent {
        let (topic, payload) = next(&arrived);
        assert_eq!(topic, "out/x");
        *last.entry(payload).or_default() += 1;
    }
    assert!(last.values().all(|count| *count == 4), "two sources, two targets: {last:?}");
    assert_eq!(last.len(), 2 * each as usize / 5);
    let text = manager.prometheus();
    for line in [
        format!("mqtt_forwarder_messages_received_total{{forwarder=\"all\"}} {}", stats.received),
        format!("mqtt_forwarder_messages_sent_total{{forwarder=\"all\"}} {}", stats.sent),
        format!(
            "mqtt_forwarder_messages_dropped_total{{forwarder=\"all\",reason=\"filtered\"}} {}",
            2 * each / 5
        ),
        format!(
            "mqtt_forwarder_messages_failed_total{{forwarder=\"all\",reason=\"transform\"}} {}",
            2 * each / 5
        ),
        "mqtt_forwarder_buffer{forwarder=\"all\"} 0".to_owned(),
        "mqtt_forwarder_connected{forwarder=\"all\"} 1".to_owned(),
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    drop(forwarder);
    assert!(!manager.prometheus().contains("mqtt_forwarder"), "it is gone");
}

#[test]
fn what_makes_no_sense_is_refused_with_a_remedy() {
    let manager = Manager::new().unwrap();
    // Nobody needs to be connected to.
    let add =
        |name: &str| manager.add(SessionBuilder::quick(name, format!("mqtt://{name}")).paused()).unwrap();
    let (from, to) = (add("from"), add("to"));
    let whole = || Forwarder::builder("f").source(Source::new(&from, "a/#")).target(&to);
    whole().build().unwrap();
    for (builder, why) in [
        (Forwarder::builder("").source(Source::new(&from, "a")).target(&to), "give it some characters"),
        (Forwarder::builder("f").target(&to), "a source and a target"),
        (Forwarder::builder("f").source(Source::new(&from, "a")), "a source and a target"),
        (whole().buffer(0), "room for one message"),
        (whole().window(0), "from 1 to 61439"),
        (whole().window(61_440), "from 1 to 61439"),
        (whole().loop_guard(LoopGuard::Hops(0)), "give 1 at least"),
        (whole().loop_guard(LoopGuard::TopicPrefix(String::new())), "the beginning of a topic name"),
        (whole().loop_guard(LoopGuard::TopicPrefix("a/+".into())), "the beginning of a topic name"),
        (whole().map("a/+", "b/{2}"), "{2} names nothing"),
        (whole().map("a/#/b", "c"), "# must be the whole last level"),
        (whole().source(Source::new(&from, "b/+").and("b/x")), "overlaps with \"b/+\""),
        (whole().source(Source::new(&from, "b/x").and("$share/g/b/+")), "overlaps with \"b/x\""),
        (whole().source(Source::new(&from, "b/#/x")), "# must be the whole last level"),
        (whole().source(Source::new(&to, "b")), "feeds its own source"),
    ] {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn metadata_and_retain_go_along_in_order() {
    let (near, far) = (broker(), broker());
    let manager = Manager::new().unwrap();
    let from = manager.add(quick("from", near.addresses()[0])).unwrap();
    let to = manager.add(quick("to", far.addresses()[0])).unwrap();
    let reader = manager.add(quick("reader", far.addresses()[0])).unwrap();
    let listener = reader.listen(RouteOptions::new("#").retain_as_published()).unwrap();
    listener.wait_subscribed(SECONDS).unwrap();
    let forwarder =
        Forwarder::builder("f").source(Source::new(&from, "t/#")).target(&to).metadata().start().unwrap();
    forwarder.wait_subscribed(SECONDS).unwrap();
    for number in 0..100 {
        let message = Message::new(format!("t/{number}"), "p").qos(QoS::AtLeastOnce);
        from.send(if number % 2 == 0 { message.retained() } else { message }).unwrap();
    }
    for number in 0..100 {
        let message = listener.recv(SECONDS).unwrap();
        assert_eq!(message.topic, *format!("t/{number}"));
        assert_eq!(message.retain, number % 2 == 0, "{number}");
        assert_eq!(message.qos, QoS::AtLeastOnce);
        let user = &message.properties.as_ref().unwrap().user;
        let value =
            |name: &str| user.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert_eq!(value("mqtt-forwarder-source"), Some("from"));
        assert_eq!(value("mqtt-forwarder-topic"), Some(message.topic.as_str()));
        assert!(value("mqtt-forwarder-received-ms").unwrap().parse::<u64>().unwrap() > 1_600_000_000_000);
        assert_eq!(value("mqtt-forwarder-hops"), Some("1"));
    }
}

#[test]
fn messages_go_round_no_further_than_the_guard_allows() {
    let (here, there) = (broker(), broker());
    let manager = Manager::new().unwrap();
    let one = manager.add(quick("here", here.addresses()[0])).unwrap();
    let two = manager.add(quick("there", there.addresses()[0])).unwrap();
    let way = |name: &str, from: &Session, to: &Session| {
        let builder = Forwarder::builder(name).source(Source::new(from, "t")).target(to);
        builder.loop_guard(LoopGuard::Hops(3)).start().unwrap()
    };
    let (forth, back) = (way("forth", &one, &two), way("back", &two, &one));
    forth.wait_subscribed(SECONDS).unwrap();
    back.wait_subscribed(SECONDS).unwrap();
    let arrived = here.subscribe("t", QoS::AtLeastOnce).unwrap();
    publish(&here, local("t", "x"));
    until("the loop ended", || back.stats().dropped_for(DropReason::Loop) == 1);
    // here, forth, back, forth, dropped on the way back.
    assert_eq!((forth.stats().sent, back.stats().sent), (2, 1));
    assert_eq!([next(&arrived), next(&arrived)], [("t".into(), "x".into()), ("t".into(), "x".into())]);
    assert!(arrived.try_recv().is_err());

    // Within one broker it is refused when it is described.
    let builder =
        Forwarder::builder("self").source(Source::new(&one, "t/+")).target(&one).map("t/+", "t/{1}");
    let error = builder.build().unwrap_err().to_string();
    assert!(error.contains("feeds its own source"), "{error}");
}

#[test]
fn mqtt_3_with_a_prefix() {
    let (here, there) = (broker(), broker());
    let manager = Manager::new().unwrap();
    for (version, from, to) in [(Version::V311, "a", "b"), (Version::V31, "c", "d")] {
        let add = |name: &str, broker: &Broker| {
            manager.add(quick(name, broker.addresses()[0]).version(version)).unwrap()
        };
        let (from, to) = (add(from, &here), add(to, &there));
        let way = |name: &str, from: &Session, to: &Session| {
            let builder =
                Forwarder::builder(name).source(Source::new(from, "#")).target(to).map("#", "via/{#}");
            builder.loop_guard(LoopGuard::TopicPrefix("via/".into())).start().unwrap()
        };
        let (forth, back) = (way("forth", &from, &to), way("back", &to, &from));
        forth.wait_subscribed(SECONDS).unwrap();
        back.wait_subscribed(SECONDS).unwrap();
        let arrived = there.subscribe("via/#", QoS::AtLeastOnce).unwrap();
        publish(&here, local("t", "x"));
        assert_eq!(next(&arrived), ("via/t".into(), "x".into()));
        until("it was not sent back", || back.stats().dropped_for(DropReason::Loop) == 1);
        let error = Forwarder::builder("m").source(Source::new(&from, "t")).target(&to).metadata().build();
        assert!(error.unwrap_err().to_string().contains("leave metadata away"));
    }
}

#[test]
fn a_stopped_forwarder_is_started_again() {
    let (near, far) = (broker(), broker());
    let manager = Manager::new().unwrap();
    let from = manager.add(quick("from", near.addresses()[0])).unwrap();
    let to = manager.add(quick("to", far.addresses()[0])).unwrap();
    let arrived = far.subscribe("t", QoS::AtLeastOnce).unwrap();
    let forwarder = Forwarder::builder("f").source(Source::new(&from, "t")).target(&to).build().unwrap();
    assert!(!forwarder.is_running());
    for round in 0..3_u64 {
        forwarder.start().unwrap();
        forwarder.start().unwrap();
        assert!(forwarder.is_running());
        forwarder.wait_subscribed(SECONDS).unwrap();
        publish(&near, local("t", format!("{round}")));
        assert_eq!(next(&arrived), ("t".into(), format!("{round}")));
        let stats = forwarder.stop(SECONDS);
        assert!(!forwarder.is_running());
        assert_eq!((stats.received, stats.sent, stats.in_progress()), (round + 1, round + 1, 0));
        // Nobody is subscribed now.
        publish(&near, local("t", "lost"));
    }
    assert!(arrived.try_recv().is_err());
}

/// A broker that accepts connections and subscriptions, and acknowledges no message. Tells how many it got.
fn silent_broker() -> (SocketAddr, Arc<AtomicU64>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&count);
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(got @ 1..) = stream.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..got]);
            // The test's packets are shorter than 128 bytes, but for the CONNECT perhaps.
            while bytes.len() >= 2 {
                let (length, head) = if bytes[1] < 128 {
                    (usize::from(bytes[1]), 2)
                } else {
                    (usize::from(bytes[1] & 127) + 128 * usize::from(bytes[2]), 3)
                };
                if bytes.len() < head + length {
                    break;
                }
                match bytes[0] >> 4 {
                    1 => stream.write_all(&[0x20, 3, 0, 0, 0]).unwrap(),
                    3 => drop(told.fetch_add(1, Ordering::SeqCst)),
                    _ => {}
                }
                bytes.drain(..head + length);
            }
        }
    });
    (address, count, thread)
}

#[test]
fn what_the_target_has_not_acknowledged_comes_again_after_the_program_died() {
    let (near, far) = (broker(), broker());
    let (stalled, got, _thread) = silent_broker();
    let arrived = far.subscribe("t", QoS::AtLeastOnce).unwrap();
    let source = |address| quick("from", address).resume().session_expiry(Duration::from_secs(3600));
    let count = 2_000;
    {
        let manager = Manager::new().unwrap();
        let from = manager.add(source(near.addresses()[0])).unwrap();
        let to = manager.add(quick("to", stalled)).unwrap();
        let builder = Forwarder::builder("f").source(Source::new(&from, "t")).target(&to);
        let forwarder = builder.window(100).buffer(100).start().unwrap();
        forwarder.wait_subscribed(SECONDS).unwrap();
        for number in 0..count {
            publish(&near, local("t", format!("{number}")));
        }
        until("the window is full", || got.load(Ordering::SeqCst) == 100);
        // More than window and buffer hold: they wait unacknowledged, as many as the broker sends ahead.
        until("many were received", || forwarder.stats().received > 400);
        let stats = forwarder.stats();
        check_sum(&stats);
        assert_eq!((stats.sent, stats.in_progress()), (0, stats.received));
        // And now the program dies; the forwarder neither drains nor acknowledges.
        drop(forwarder);
        drop(to);
        manager.shutdown(Duration::from_millis(100)).unwrap();
    }
    let manager = Manager::new().unwrap();
    let to = manager.add(quick("to", far.addresses()[0])).unwrap();
    // The source connects when its forwarder is there to take what comes.
    let from = manager.add(source(near.addresses()[0]).paused()).unwrap();
    let forwarder = Forwarder::builder("f").source(Source::new(&from, "t")).target(&to).start().unwrap();
    from.connect();
    let mut all: Vec<u64> = Vec::new();
    while (all.len() as u64) < count {
        all.push(next(&arrived).1.parse().unwrap());
    }
    assert!(all.iter().copied().eq(0..count), "all of them, in order: {all:?}");
    let stats = forwarder.stop(SECONDS);
    assert_eq!((stats.received, stats.sent), (count, count));
}

/// Where the brokers are, for a process that only forwards.
const CHILD: &str = "RINGMQ_TEST_FORWARDER";

/// Not a test by itself: what the processes run that the next test kills.
#[test]
fn forwards_until_it_is_killed() {
    let Ok(addresses) = std::env::var(CHILD) else { return };
    let (near, far) = addresses.split_once(' ').unwrap();
    let manager = Manager::new().unwrap();
    let to = manager.add(quick("to", far.parse().unwrap())).unwrap();
    let from =
        quick("from", near.parse().unwrap()).resume().session_expiry(Duration::from_secs(3600)).paused();
    let from = manager.add(from).unwrap();
    let builder = Forwarder::builder("f").source(Source::new(&from, "t")).target(&to);
    let _forwarder = builder.window(64).buffer(64).start().unwrap();
    from.connect();
    // Its parent lives shorter than this only if it fails.
    std::thread::sleep(2 * SECONDS);
}

#[test]
fn killed_again_and_again_it_loses_nothing() {
    let (near, far) = (broker(), broker());
    let addresses = format!("{} {}", near.addresses()[0], far.addresses()[0]);
    let arrived = far.subscribe("t", QoS::AtLeastOnce).unwrap();
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "forwards_until_it_is_killed"]).env(CHILD, &addresses);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut child = start();
    let probe = || near.publish(local("t", "probe")).unwrap().wait(SECONDS).unwrap();
    until("the first has subscribed", || probe() == ReasonCode::Success);

    let count = 4_000;
    let mut seen = vec![false; count];
    let (mut distinct, mut repeated) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..count).for_each(|number| publish(&near, local("t", format!("{number}")))));
        for kill_at in (1..=7).map(|round| round * count / 8).chain([count]) {
            while distinct < kill_at {
                let Ok(number) = next(&arrived).1.parse::<usize>() else { continue };
                let is_first = !std::mem::replace(&mut seen[number], true);
                distinct += usize::from(is_first);
                repeated += usize::from(!is_first);
            }
            // SIGKILL: nothing of it says goodbye.
            child.kill().unwrap();
            child.wait().unwrap();
            child = start();
        }
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(seen.iter().all(|seen| *seen));
    // Each time at most what was under way.
    assert!(repeated <= 8 * 64, "{repeated} arrived twice");
}

#[test]
fn a_target_that_dies_and_comes_back_empty_gets_everything() {
    let near = broker();
    let far = broker();
    let address = far.addresses()[0];
    let manager = Manager::new().unwrap();
    let from = manager.add(quick("from", near.addresses()[0])).unwrap();
    let to = manager.add(quick("to", address)).unwrap();
    let builder = Forwarder::builder("f").source(Source::new(&from, "t")).target(&to);
    let forwarder = builder.buffer(100).window(50).start().unwrap();
    manager.wait_all(SECONDS).unwrap();
    forwarder.wait_subscribed(SECONDS).unwrap();
    let count = 3_000_u64;
    let mut seen = vec![false; count as usize];
    let mut note = |subscription: &Subscription, wait| {
        let got = subscription.recv_timeout(wait);
        got.map(|message| seen[text(&message.payload).parse::<usize>().unwrap()] = true).is_ok()
    };
    let mut far = Some(far);
    let mut arrived = far.as_ref().unwrap().subscribe("t", QoS::AtLeastOnce).unwrap();
    for number in 0..count {
        publish(&near, local("t", format!("{number}")));
        if number % 1_000 == 500 {
            // Whatever it had acknowledged, it had delivered.
            far.take().unwrap().shutdown(Duration::ZERO).unwrap();
            while note(&arrived, Duration::ZERO) {}
        }
        if number % 1_000 == 900 {
            let fresh = broker_at(&address.to_string());
            arrived = fresh.subscribe("t", QoS::AtLeastOnce).unwrap();
            far = Some(fresh);
        }
    }
    until("all were sent", || {
        check_sum(&forwarder.stats());
        forwarder.stats().sent == count
    });
    while note(&arrived, Duration::from_millis(200)) {}
    assert!(seen.iter().all(|seen| *seen), "none is lost");
    let stats = forwarder.stop(SECONDS);
    assert_eq!((stats.received, stats.in_progress()), (count, 0));
}

#[test]
fn while_the_target_is_away_the_policy_acts() {
    for (overflow, sent, dropped) in
        [(Overflow::Withhold, 100, 0), (Overflow::DropNewest, 10, 90), (Overflow::DropOldest, 10, 90)]
    {
        let near = broker();
        // Somebody has the port, and does not answer.
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        let manager = Manager::new().unwrap();
        let from = manager.add(quick("from", near.addresses()[0])).unwrap();
        let to = manager.add(quick("to", address).connect_timeout(Duration::from_millis(200))).unwrap();
        let builder = Forwarder::builder("f").source(Source::new(&from, "t")).target(&to);
        // The worker holds what it took when the target was away.
        let forwarder = builder.buffer(10).overflow(overflow).start().unwrap();
        forwarder.wait_subscribed(SECONDS).unwrap();
        for number in 0..100 {
            publish(&near, local("t", format!("{number}")));
        }
        until("all were received", || forwarder.stats().received == 100);
        let stats = forwarder.stats();
        check_sum(&stats);
        assert!(!forwarder.is_connected());
        assert_eq!(stats.dropped_for(DropReason::Overflow), dropped, "{overflow:?} {stats:?}");
        drop(port);
        let far = broker_at(&address.to_string());
        let arrived = far.subscribe("t", QoS::AtLeastOnce).unwrap();
        until("the rest was sent", || forwarder.stats().sent == sent);
        let first = if overflow == Overflow::DropOldest { 90 } else { 0 };
        for number in first..first + sent {
            assert_eq!(next(&arrived).1, format!("{number}"), "{overflow:?}");
        }
        let stats = forwarder.stop(SECONDS);
        assert_eq!(stats.in_progress(), 0);
    }
}
