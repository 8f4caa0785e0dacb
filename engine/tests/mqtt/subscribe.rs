//! SUBSCRIBE, UNSUBSCRIBE and what they match. MQTT 5 sections 3.8 to 3.11 and 4.7.

use crate::common::{Setup, check, in_every_version};

/// [MQTT-3.8.4-1], [MQTT-3.8.4-2], [MQTT-3.8.4-5], [MQTT-3.8.4-6], [MQTT-3.8.4-7], [MQTT-3.9.2-1],
/// [MQTT-3.9.3-1], [MQTT-3.9.3-2], [MQTT-2.2.1-6], [MQTT311-3.8.4-1], [MQTT311-3.8.4-2],
/// [MQTT311-3.8.4-4], [MQTT311-3.8.4-5], [MQTT311-3.9.3-1], [MQTT311-3.9.3-2], [MQTT311-2.3.1-7],
/// [MQTT-3.2.2-9]
#[test]
fn every_filter_has_its_answer() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #513 a q2, b/# q1, +/c, a#, $share/g/t q1, $share/g, x/+y, #/x q2
        a > SUBACK #513 q2 q1 q0 0x8f q1 0x8f 0x8f 0x8f
        traffic subscriptions=4
        b < CONNECT v311 id=b clean
        b > CONNACK
        b < SUBSCRIBE #513 a q2, b/# q1, +/c, a#, #/x q2
        b > SUBACK #513 q2 q1 q0 0x80 0x80
        traffic subscriptions=7",
    );
}

/// [MQTT-3.10.4-1], [MQTT-3.10.4-4], [MQTT-3.10.4-5], [MQTT-3.10.4-6], [MQTT-3.11.2-1], [MQTT-3.11.3-1],
/// [MQTT-3.11.3-2], [MQTT311-3.10.4-1], [MQTT311-3.10.4-2], [MQTT311-3.10.4-4], [MQTT311-3.10.4-5],
/// [MQTT311-3.10.4-6]
#[test]
fn an_unsubscription_ends_just_its_filter() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t, t/+ q1, $share/g/t q1
        a > SUBACK #1 q0 q1 q1
        a < UNSUBSCRIBE #2 t, t/#, T, $share/h/t, a#, t
        a > UNSUBACK #2 ok 0x11 0x11 0x11 0x8f 0x11
        traffic subscriptions=2
        a < PUBLISH t/1 = x
        a > PUBLISH t/1 = x
        a < UNSUBSCRIBE #3 $share/g/t, t/+
        a > UNSUBACK #3 ok ok
        a < PUBLISH t = x
        a < PUBLISH t/1 = x
        traffic subscriptions=0
        b < CONNECT v311 id=b clean
        b > CONNACK
        b < UNSUBSCRIBE #9 never, there
        b > UNSUBACK #9",
    );
}

/// [MQTT-3.10.4-3], [MQTT311-3.10.4-3]: what was sent, or waits, before an UNSUBSCRIBE is still delivered.
#[test]
fn an_unsubscription_does_not_undo_what_was_sent() {
    check(
        "
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        a < PUBLISH t q2 #1 = x
        a > PUBLISH t q2 #1 = x
        a > PUBREC #1
        a < UNSUBSCRIBE #2 t
        a > UNSUBACK #2 ok
        a cut
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present
        a > PUBLISH t q2 #1 dup = x
        a < PUBREC #1
        a > PUBREL #1
        a < PUBCOMP #1
        ledger delivered=1 queued=0",
    );
}

/// [MQTT-3.8.4-3], [MQTT311-3.8.4-3]: the same filter again replaces the options, and no message is
/// delivered twice.
#[test]
fn the_same_filter_again_replaces_the_subscription() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 sub=1 t q2, t q1
        a > SUBACK #1 q2 q1
        a < SUBSCRIBE #2 sub=2 t q0
        a > SUBACK #2 q0
        a < PUBLISH t q1 #1 = x
        a > PUBLISH t sub=2 = x
        a > PUBACK #1
        a < SUBSCRIBE #3 t nl q1
        a > SUBACK #3 q1
        a < PUBLISH t = x
        traffic subscriptions=1",
    );
}

/// A replacement is not one more.
#[test]
fn subscriptions_are_bounded() {
    Setup::with(|limits| limits.subscriptions_max = 2).check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 a, b, c, $share/g/a
        a > SUBACK #1 q0 q0 0x97 0x97
        a < SUBSCRIBE #2 a q1
        a > SUBACK #2 q1
        a < UNSUBSCRIBE #3 b
        a > UNSUBACK #3 ok
        a < SUBSCRIBE #4 $share/g/a, c
        a > SUBACK #4 q0 0x97
        a < SUBSCRIBE #5 $share/g/a q2
        a > SUBACK #5 q2",
    );
}

/// [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.2-1], [MQTT-3.3.2-3], [MQTT311-4.7.1-1],
/// [MQTT311-4.7.1-2], [MQTT311-4.7.1-3], [MQTT311-4.7.2-1]
#[test]
fn filters_match_what_they_should() {
    for (filter, matched, others) in [
        ("#", "a a/b /a a/ /", "$a $a/b"),
        ("+", "a", "/ a/b $a"),
        ("a/#", "a a/ a/b a/b/c", "b ab A A/b"),
        ("a/+", "a/b a/", "a a/b/c"),
        ("+/+", "/ a/ /a a/b", "a $a/b a/b/c"),
        ("+/a/#", "b/a b/a/c /a", "a $a/a"),
        ("a/+/c", "a/b/c a//c", "a/c a/b/b/c"),
        ("$a/#", "$a $a/b", "a a/b"),
        ("$a/+", "$a/b", "$a"),
        ("a", "a", "/a a/ b"),
    ] {
        let mut transcript = format!(
            "
            s < CONNECT v311 id=s clean
            s > CONNACK
            s < SUBSCRIBE #1 {filter}
            s > SUBACK #1 q0
            p < CONNECT v5 id=p clean
            p > CONNACK\n"
        );
        for topic in matched.split(' ') {
            transcript += &format!("p < PUBLISH {topic} = x\ns > PUBLISH {topic} = x\n");
        }
        for topic in others.split(' ') {
            transcript += &format!("p < PUBLISH {topic} = x\n");
        }
        check(&transcript);
    }
}

/// [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4], [MQTT311-3.3.5-1]: one copy, at the highest of the
/// QoS that match, with all the identifiers; live and queued.
#[test]
fn overlapping_subscriptions_give_one_copy() {
    check(
        "
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a < SUBSCRIBE #1 sub=1 a/b
        a > SUBACK #1 q0
        a < SUBSCRIBE #2 sub=268435455 a/+ q2
        a > SUBACK #2 q2
        a < SUBSCRIBE #3 sub=3 # q1, other q2
        a > SUBACK #3 q1 q2
        a < SUBSCRIBE #4 +/b q0
        a > SUBACK #4 q0
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < PUBLISH a/b q2 #1 = x
        a > PUBLISH a/b q2 #1 sub=1 sub=3 sub=268435455 = x
        b > PUBREC #1
        b < PUBLISH a/b = y
        a > PUBLISH a/b sub=1 sub=3 sub=268435455 = y
        b < PUBLISH b/b q2 #2 = z
        a > PUBLISH b/b q1 #2 sub=3 = z
        b > PUBREC #2
        a cut
        b < PUBLISH a/b q1 #3 = w
        b > PUBACK #3
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present
        a > PUBLISH a/b q2 #1 dup sub=1 sub=3 sub=268435455 = x
        a > PUBLISH b/b q1 #2 dup sub=3 = z
        a > PUBLISH a/b q1 #3 sub=1 sub=3 sub=268435455 = w
        ledger received=4 copies=4",
    );
}

/// [MQTT-3.3.4-5]: a shared subscription is another one, with a copy of its own.
#[test]
fn a_shared_subscription_overlaps_with_nothing() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 sub=1 t q1
        a > SUBACK #1 q1
        a < SUBSCRIBE #2 sub=2 $share/g/t q1
        a > SUBACK #2 q1
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < PUBLISH t q1 #1 = x
        a > PUBLISH t q1 #1 sub=1 = x
        a > PUBLISH t q1 #2 sub=2 = x
        b > PUBACK #1",
    );
}

/// Section 3.8.3.1, No Local: a client's own messages stay away, through each filter by itself.
#[test]
fn no_local_keeps_own_messages_away() {
    check(
        "
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a < SUBSCRIBE #1 t nl q2
        a > SUBACK #1 q2
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < SUBSCRIBE #1 t nl
        b > SUBACK #1 q0
        a < PUBLISH t = mine
        b > PUBLISH t = mine
        a < PUBLISH t q1 #1 = mine
        b > PUBLISH t = mine
        a > PUBACK #1
        b < PUBLISH t q1 #2 = yours
        a > PUBLISH t q1 #1 = yours
        b > PUBACK #2
        # It goes with the client id.
        a2 < CONNECT v5 id=a expiry=60
        a > DISCONNECT 0x8e
        a > closed
        a2 > CONNACK present
        a2 > PUBLISH t q1 #1 dup = yours
        a2 < PUBLISH t = mine
        b > PUBLISH t = mine
        # Another filter lets it through.
        a2 < SUBSCRIBE #2 +
        a2 > SUBACK #2 q0
        a2 < PUBLISH t = mine
        a2 > PUBLISH t = mine
        b > PUBLISH t = mine",
    );
}

/// A message that is published behind an UNSUBACK, or before a SUBACK, goes where the answers say.
#[test]
fn subscriptions_take_effect_in_order() {
    in_every_version(
        "
        a < CONNECT {v} id=a clean
        a > CONNACK
        b < CONNECT {v} id=b clean
        b > CONNACK
        a < SUBSCRIBE #1 t
        a > SUBACK #1 q0
        b < PUBLISH t = 1
        a > PUBLISH t = 1
        a < UNSUBSCRIBE #2 t
        a > UNSUBACK #2{ok}
        b < PUBLISH t = 2
        a < SUBSCRIBE #3 t
        a > SUBACK #3 q0
        b < PUBLISH t = 3
        a > PUBLISH t = 3",
    );
}

/// Filters are refused that have more levels than the configuration allows.
#[test]
fn levels_are_bounded() {
    Setup::with(|limits| limits.topic_levels_max = 3).check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 a/b/c, a/b/c/d, ///, #
        a > SUBACK #1 q0 0x8f 0x8f q0
        a < PUBLISH a/b/c = x
        a > PUBLISH a/b/c = x
        a < PUBLISH a/b/c/d = x
        a > DISCONNECT 0x90
        a > closed
        b < CONNECT v5 id=b clean will=a/b/c/d:x
        b > CONNACK 0x90
        b > closed",
    );
}

/// [MQTT-3.3.4-4]: the identifiers are those of the subscriptions when the message came.
#[test]
fn a_queued_message_keeps_the_identifiers_it_matched() {
    check(
        "
        a < CONNECT v5 id=a expiry=60 rmax=1
        a > CONNACK
        a < SUBSCRIBE #1 sub=1 t q1
        a > SUBACK #1 q1
        a < SUBSCRIBE #1 sub=2 + q1
        a > SUBACK #1 q1
        a < PUBLISH t q1 #1 = 1
        a > PUBLISH t q1 #1 sub=1 sub=2 = 1
        a > PUBACK #1
        a < SUBSCRIBE #1 sub=3 + q1
        a > SUBACK #1 q1
        a < PUBLISH t q1 #1 = 2
        a > PUBACK #1
        a < UNSUBSCRIBE #2 +, t
        a > UNSUBACK #2 ok ok
        a < SUBSCRIBE #3 sub=9 # q1
        a > SUBACK #3 q1
        a < PUBLISH t q1 #1 = 3
        a > PUBACK #1
        a < PUBACK #1
        a > PUBLISH t q1 #2 sub=1 sub=3 = 2
        a < PUBACK #2
        a > PUBLISH t q1 #3 sub=9 = 3
        a < PUBACK #3
        a cut
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present",
    );
}
