//! Retained messages. MQTT 5 sections 3.3.1.3 and 3.8.3.1.

use crate::common::{Setup, check, in_every_version};

/// [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-7], [MQTT-3.3.1-8], [MQTT-3.3.1-9], [MQTT-3.3.1-12],
/// [MQTT311-3.3.1-5], [MQTT311-3.3.1-6], [MQTT311-3.3.1-8], [MQTT311-3.3.1-9], [MQTT311-3.3.1-10],
/// [MQTT311-3.3.1-11], [MQTT311-3.3.1-12]
#[test]
fn a_retained_message_waits_for_subscribers() {
    in_every_version(
        "
        p < CONNECT {v} id=p clean
        p > CONNACK
        live < CONNECT {v} id=live clean
        live > CONNACK
        live < SUBSCRIBE #1 t q1
        live > SUBACK #1 q1
        p < PUBLISH t retain = one
        live > PUBLISH t = one
        traffic retained=1
        a < CONNECT {v} id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        a > PUBLISH t retain = one
        # It is replaced by another, not by one without the flag.
        p < PUBLISH t retain = two
        live > PUBLISH t = two
        a > PUBLISH t = two
        p < PUBLISH t = three
        live > PUBLISH t = three
        a > PUBLISH t = three
        b < CONNECT {v} id=b clean
        b > CONNACK
        b < SUBSCRIBE #1 +
        b > SUBACK #1 q0
        b > PUBLISH t retain = two
        # An empty one is delivered, and clears it.
        p < PUBLISH t retain
        live > PUBLISH t
        a > PUBLISH t
        b > PUBLISH t
        traffic retained=0 message_bytes=0
        c < CONNECT {v} id=c clean
        c > CONNACK
        c < SUBSCRIBE #1 t
        c > SUBACK #1 q0",
    );
}

/// [MQTT311-3.3.1-7], [MQTT-3.3.1-5], [MQTT-3.8.4-8]: stored with its QoS, replayed at the lower one.
#[test]
fn a_retained_message_keeps_its_qos() {
    in_every_version(
        "
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH t q2 #1 retain = two
        p > PUBREC #1 0x10
        p < PUBLISH u q1 #2 retain = one
        p > PUBACK #2 0x10
        p < PUBLISH v retain = zero
        a < CONNECT {v} id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        a > PUBLISH t q2 #1 retain = two
        a < SUBSCRIBE #2 t q1
        a > SUBACK #2 q1
        a > PUBLISH t q1 #2 retain = two
        a < SUBSCRIBE #3 t
        a > SUBACK #3 q0
        a > PUBLISH t retain = two
        a < SUBSCRIBE #4 u q2
        a > SUBACK #4 q2
        a > PUBLISH u q1 #3 retain = one
        a < SUBSCRIBE #5 v q2
        a > SUBACK #5 q2
        a > PUBLISH v retain = zero",
    );
}

/// [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11], [MQTT-3.8.4-4]: Retain Handling 0, 1 and 2, for a
/// new subscription and for one that is there.
#[test]
fn retain_handling_says_when_they_are_sent() {
    for (handling, at_first, again) in [("", true, true), ("rh1", true, false), ("rh2", false, false)] {
        let sent = |is_sent: bool| if is_sent { "a > PUBLISH t retain = x" } else { "" };
        check(&format!(
            "
            p < CONNECT v5 id=p clean
            p > CONNACK
            p < PUBLISH t retain = x
            a < CONNECT v5 id=a expiry=60
            a > CONNACK
            a < SUBSCRIBE #1 t {handling}
            a > SUBACK #1 q0
            {}
            a < SUBSCRIBE #2 t {handling}
            a > SUBACK #2 q0
            {}
            # A resumed session is sent none by itself, and still has the subscription.
            a cut
            a < CONNECT v5 id=a expiry=60
            a > CONNACK present
            a < SUBSCRIBE #3 t {handling}
            a > SUBACK #3 q0
            {}
            a < UNSUBSCRIBE #4 t
            a > UNSUBACK #4 ok
            a < SUBSCRIBE #5 t {handling}
            a > SUBACK #5 q0
            {}",
            sent(at_first),
            sent(again),
            sent(again),
            sent(at_first),
        ));
    }
}

/// [MQTT-3.3.1-12], [MQTT-3.3.1-13]: Retain As Published, live and from the queue.
#[test]
fn retain_as_published_keeps_the_flag() {
    check(
        "
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a < SUBSCRIBE #1 t rap q1
        a > SUBACK #1 q1
        b < CONNECT v5 id=b expiry=60
        b > CONNACK
        b < SUBSCRIBE #1 t q1
        b > SUBACK #1 q1
        p < CONNECT v311 id=p clean
        p > CONNACK
        p < PUBLISH t retain = 1
        a > PUBLISH t retain = 1
        b > PUBLISH t = 1
        p < PUBLISH t = 2
        a > PUBLISH t = 2
        b > PUBLISH t = 2
        a cut
        b cut
        p < PUBLISH t q1 #3 retain = 3
        p > PUBACK #3
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present
        a > PUBLISH t q1 #1 retain = 3
        b < CONNECT v5 id=b expiry=60
        b > CONNACK present
        b > PUBLISH t q1 #1 = 3",
    );
}

/// [MQTT311-3.1.2-7]: retained messages belong to nobody's session.
#[test]
fn a_retained_message_outlives_its_publisher() {
    in_every_version(
        "
        p < CONNECT {v} id=p clean
        p > CONNACK
        p < PUBLISH t retain = x
        p < DISCONNECT
        p > closed
        p < CONNECT {v} id=p clean
        p > CONNACK
        traffic retained=1
        p < SUBSCRIBE #1 t
        p > SUBACK #1 q0
        p > PUBLISH t retain = x",
    );
}

/// Each filter of a SUBSCRIBE has its own replay, as if it had come alone; identifiers are its own.
#[test]
fn every_new_subscription_is_sent_what_it_matches() {
    check(
        "
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH a/1 retain = 1
        p < PUBLISH b/1 retain = 2
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 sub=5 a/+, b/#, none
        a > SUBACK #1 q0 q0 q0
        a > PUBLISH a/1 retain sub=5 = 1
        a > PUBLISH b/1 retain sub=5 = 2
        # A subscription that overlaps with others is sent them again, for itself alone.
        a < SUBSCRIBE #2 sub=6 a/1
        a > SUBACK #2 q0
        a > PUBLISH a/1 retain sub=6 = 1",
    );
}

/// [MQTT-4.7.2-1]
#[test]
fn leading_wildcards_see_no_dollar_topics() {
    check(
        "
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH $x/1 retain = hidden
        p < PUBLISH x/1 retain = seen
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 #
        a > SUBACK #1 q0
        a > PUBLISH x/1 retain = seen
        a < SUBSCRIBE #2 +/1
        a > SUBACK #2 q0
        a > PUBLISH x/1 retain = seen
        a < SUBSCRIBE #3 $x/+
        a > SUBACK #3 q0
        a > PUBLISH $x/1 retain = hidden",
    );
}

/// Section 4.8.2: shared subscriptions are not sent retained messages.
#[test]
fn a_shared_subscription_is_sent_none() {
    check(
        "
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH t retain = x
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q1
        a > SUBACK #1 q1",
    );
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6]: a retained message expires like any other.
#[test]
fn retained_messages_expire() {
    check(
        "
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH t expiry=10 retain = x
        +4s
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t
        a > SUBACK #1 q0
        a > PUBLISH t retain expiry=6 = x
        +7s
        a < SUBSCRIBE #1 t
        a > SUBACK #1 q0
        a < SUBSCRIBE #1 #
        a > SUBACK #1 q0
        traffic retained=0",
    );
}

/// Replays of many messages come in chunks, and all of them do.
#[test]
fn ten_thousand_retained_messages_are_replayed() {
    for shards in [1, 4] {
        let mut broker = Setup::new().start(shards);
        broker.play(
            "
            p < CONNECT v5 id=p clean
            p > CONNACK",
        );
        for n in 0..10_000 {
            broker.play(&format!("p < PUBLISH t/{n} retain = {n}"));
        }
        broker.play(
            "
            traffic retained=10000
            a < CONNECT v5 id=a clean
            a > CONNACK",
        );
        let lines = broker.answers("a < SUBSCRIBE #1 t/+");
        assert_eq!(lines[0], "a > SUBACK #1 q0");
        let mut replayed: Vec<u32> =
            lines[1..].iter().map(|line| line.rsplit_once(" = ").unwrap().1.parse().unwrap()).collect();
        replayed.sort();
        assert_eq!(replayed, (0..10_000).collect::<Vec<_>>());
        broker.finish();
    }
}

/// [MQTT-3.10.4-1]: a replay ends with its subscription.
#[test]
fn what_is_unsubscribed_is_not_replayed() {
    for shards in [1, 2, 4] {
        let mut broker = Setup::new().start(shards);
        broker.play(
            "
            p < CONNECT v5 id=p clean
            p > CONNACK
            a < CONNECT v5 id=a clean
            a > CONNACK",
        );
        for n in 0..10_000 {
            broker.play(&format!("p < PUBLISH t/{n} retain = {n}"));
        }
        broker.play("a << SUBSCRIBE #1 t/+ q1");
        let lines = broker.answers("a < UNSUBSCRIBE #2 t/+");
        let end = lines.iter().position(|line| line == "a > UNSUBACK #2 ok").unwrap();
        let behind = lines[end..].iter().filter(|line| line.contains("PUBLISH")).count();
        assert_eq!(behind, 0, "with {shards} shards");
        broker.finish();
    }
}

/// Beyond the bounds new topics are not retained; those that are can be replaced and cleared.
#[test]
fn retained_messages_are_bounded() {
    Setup::with(|limits| limits.retained_messages_max = 2).shards(&[1]).check(
        "
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH a retain = 1
        p < PUBLISH b retain = 1
        p < PUBLISH c q1 #1 retain = 1
        p > PUBACK #1 0x10
        traffic retained=2
        p < PUBLISH a retain = 2
        p < PUBLISH b retain
        p < PUBLISH c retain = 2
        a < CONNECT v311 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 a, b, c
        a > SUBACK #1 q0 q0 q0
        a > PUBLISH a retain = 2
        a > PUBLISH c retain = 2",
    );
}

/// The broker's own figures are retained messages that clients cannot forge.
#[test]
fn the_brokers_figures_are_retained() {
    for shards in [1, 2, 4] {
        let mut broker = Setup { sys_interval_ms: 10_000, ..Setup::new() }.start(shards);
        broker.play(
            "
            a < CONNECT v5 id=a clean
            a > CONNACK
            +11s
            a < SUBSCRIBE #1 $SYS/broker/clients/connected
            a > SUBACK #1 q0
            a > PUBLISH $SYS/broker/clients/connected retain = 1",
        );
        broker.play(&format!(
            "
            a < SUBSCRIBE #2 $SYS/broker/shards
            a > SUBACK #2 q0
            a > PUBLISH $SYS/broker/shards retain = {shards}
            a < PUBLISH $SYS/broker/shards retain = 99
            a < SUBSCRIBE #3 $SYS/broker/shards
            a > SUBACK #3 q0
            a > PUBLISH $SYS/broker/shards retain = {shards}"
        ));
    }
}
