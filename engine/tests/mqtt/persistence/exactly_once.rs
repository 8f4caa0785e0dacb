//! QoS 2 in both directions.

use super::check;

/// [MQTT-4.3.3-5], [MQTT-4.3.3-6], [MQTT-4.4.0-1], [MQTT311-4.4.0-1]: after PUBREC the message is not sent
/// again, PUBREL is.
#[test]
fn a_received_message_is_only_released() {
    for connect in ["v5 id=a expiry=600", "v311 id=a"] {
        let transcript = "
            a < CONNECT {c}
            a > CONNACK
            a < SUBSCRIBE #1 t q2
            a > SUBACK #1 q2
            p < CONNECT v5 id=p clean
            p > CONNACK
            p << PUBLISH t q2 #1 = one
            p << PUBLISH t q2 #2 = two
            p << PUBLISH t q2 #3 = three
            p < PUBLISH t q2 #4 = four
            a > PUBLISH t q2 #1 = one
            a > PUBLISH t q2 #2 = two
            a > PUBLISH t q2 #3 = three
            a > PUBLISH t q2 #4 = four
            p > PUBREC #1
            p > PUBREC #2
            p > PUBREC #3
            p > PUBREC #4
            a < PUBREC #2
            a > PUBREL #2
            a < PUBREC #3
            a > PUBREL #3
            a < PUBCOMP #3
            killed
            ledger queued=3
            a < CONNECT {c}
            a > CONNACK present
            a > PUBREL #2
            a > PUBLISH t q2 #1 dup = one
            a > PUBLISH t q2 #4 dup = four
            a < PUBREC #1
            a > PUBREL #1
            a < PUBCOMP #1
            killed
            a < CONNECT {c}
            a > CONNACK present
            a > PUBREL #2
            a > PUBLISH t q2 #4 dup = four
            a < PUBREC #4
            a > PUBREL #4
            killed
            ledger queued=2
            traffic message_bytes=0
            a < CONNECT {c}
            a > CONNACK present
            a > PUBREL #2
            a > PUBREL #4
            a < PUBCOMP #2
            a < PUBCOMP #4
            killed
            ledger queued=0
            a < CONNECT {c}
            a > CONNACK present
            p < CONNECT v5 id=p clean
            p > CONNACK
            p < PUBLISH t q2 #1 = five
            a > PUBLISH t q2 #5 = five
            p > PUBREC #1";
        check(&transcript.replace("{c}", connect));
    }
}

/// [MQTT-4.3.3-10], [MQTT-4.3.3-12], [MQTT311-4.3.3-2]: what was taken before the kill is not given out a
/// second time, on no shard.
#[test]
fn a_repeated_publication_is_not_taken_twice() {
    for connect in ["v5 id=p expiry=600", "v311 id=p"] {
        let transcript = "
            a < CONNECT v5 id=a expiry=600
            a > CONNACK
            a < SUBSCRIBE #1 t q2
            a > SUBACK #1 q2
            b < CONNECT v5 id=b expiry=600
            b > CONNACK
            b < SUBSCRIBE #1 t q1
            b > SUBACK #1 q1
            c < CONNECT v5 id=c expiry=600
            c > CONNACK
            c < SUBSCRIBE #1 $share/g/t q1
            c > SUBACK #1 q1
            p < CONNECT {c}
            p > CONNACK
            p < PUBLISH t q2 #7 retain = once
            a > PUBLISH t q2 #1 = once
            b > PUBLISH t q1 #1 = once
            c > PUBLISH t q1 #1 = once
            p > PUBREC #7
            killed
            p < CONNECT {c}
            p > CONNACK present
            p < PUBLISH t q2 #7 retain dup = once
            p > PUBREC #7
            ledger queued=3 received=0
            p < PUBLISH t q2 #7 retain dup = once
            p > PUBREC #7
            ledger queued=3 received=0
            p < PUBREL #7
            p > PUBCOMP #7
            a < CONNECT v5 id=a expiry=600
            a > CONNACK present
            a > PUBLISH t q2 #1 dup = once
            b < CONNECT v5 id=b expiry=600
            b > CONNACK present
            b > PUBLISH t q1 #1 dup = once
            c < CONNECT v5 id=c expiry=600
            c > CONNACK present
            c > PUBLISH t q1 #1 dup = once
            killed
            # The identifier is free for another message.
            p < CONNECT {c}
            p > CONNACK present
            p < PUBLISH t q2 #7 = twice
            p > PUBREC #7
            ledger queued=6 received=1
            a < CONNECT v5 id=a expiry=600
            a > CONNACK present
            a > PUBLISH t q2 #1 dup = once
            a > PUBLISH t q2 #2 = twice";
        check(&transcript.replace("{c}", connect));
    }
}

/// [MQTT-4.3.3-11], [MQTT311-4.3.3-2]
#[test]
fn a_release_survives() {
    for (connect, unknown) in [("v5 id=p expiry=600", " 0x92"), ("v311 id=p", "")] {
        let transcript = "
            a < CONNECT v5 id=a expiry=600
            a > CONNACK
            a < SUBSCRIBE #1 t q2
            a > SUBACK #1 q2
            p < CONNECT {c}
            p > CONNACK
            p < PUBLISH t q2 #7 = x
            a > PUBLISH t q2 #1 = x
            p > PUBREC #7
            killed
            p < CONNECT {c}
            p > CONNACK present
            p < PUBREL #7
            p > PUBCOMP #7
            killed
            p < CONNECT {c}
            p > CONNACK present
            # PUBCOMP was lost.
            p < PUBREL #7
            p > PUBCOMP #7{unknown}
            p < PUBLISH t q2 #7 = y
            p > PUBREC #7
            p < PUBLISH t q2 #8 = z
            p > PUBREC #8
            ledger received=2 queued=3";
        check(&transcript.replace("{c}", connect).replace("{unknown}", unknown));
    }
}

/// What a session took is forgotten with the session.
#[test]
fn a_new_session_has_taken_nothing() {
    check(
        "
        p < CONNECT v5 id=p expiry=10
        p > CONNACK
        p < PUBLISH t q2 #1 = x
        p > PUBREC #1 0x10
        q < CONNECT v5 id=q expiry=600
        q > CONNACK
        q < PUBLISH t q2 #1 = x
        q > PUBREC #1 0x10
        r < CONNECT v5 id=r
        r > CONNACK
        r < PUBLISH t q2 #1 = x
        r > PUBREC #1 0x10
        killed
        +11s
        p < CONNECT v5 id=p expiry=10
        p > CONNACK
        p < PUBLISH t q2 #1 = x
        p > PUBREC #1 0x10
        q < CONNECT v5 id=q clean expiry=600
        q > CONNACK
        q < PUBLISH t q2 #1 = x
        q > PUBREC #1 0x10
        r < CONNECT v5 id=r expiry=600
        r > CONNACK
        r < PUBLISH t q2 #1 = x
        r > PUBREC #1 0x10
        ledger received=3",
    );
}

/// [MQTT-3.3.4-9]: identifiers that an earlier process took are not held against this connection's window.
#[test]
fn the_receive_maximum_of_the_broker_begins_anew() {
    let setup = crate::common::Setup::with(|limits| limits.receive_maximum = 2).on_disk();
    setup.check(
        "
        p < CONNECT v5 id=p expiry=600
        p > CONNACK
        p << PUBLISH t q2 #1 = x
        p < PUBLISH t q2 #2 = x
        p > PUBREC #1 0x10
        p > PUBREC #2 0x10
        killed
        p < CONNECT v5 id=p expiry=600
        p > CONNACK present
        p << PUBLISH t q2 #1 dup = x
        p < PUBLISH t q2 #2 dup = x
        p > PUBREC #1
        p > PUBREC #2
        p << PUBREL #1
        p < PUBREL #2
        p > PUBCOMP #1
        p > PUBCOMP #2
        p << PUBLISH t q2 #3 = x
        p < PUBLISH t q2 #4 = x
        p > PUBREC #3 0x10
        p > PUBREC #4 0x10",
    );
}
