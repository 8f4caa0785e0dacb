//! Sessions that outlive their connections. MQTT 5 sections 3.1.2.4, 3.1.2.11.2, 4.1 and 4.4.

use crate::common::{Setup, check, in_every_version};

/// [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.2.2-2], [MQTT-3.2.2-3], [MQTT-3.1.4-4], [MQTT-4.1.0-1],
/// [MQTT311-3.1.2-4], [MQTT311-3.1.2-6], [MQTT311-3.2.2-1], [MQTT311-3.2.2-2], [MQTT311-3.2.2-3],
/// [MQTT311-3.1.4-3]
#[test]
fn a_session_is_resumed_or_begins_anew() {
    for (kept, clean) in [
        ("v5 id=a expiry=60", "v5 id=a clean expiry=60"),
        ("v311 id=a", "v311 id=a clean"),
        ("v5 id=a expiry=60", "v311 id=a clean"),
        ("v311 id=a", "v5 id=a clean"),
    ] {
        let transcript = "
            a < CONNECT {kept}
            a > CONNACK
            a < SUBSCRIBE #1 t q1
            a > SUBACK #1 q1
            a < DISCONNECT
            a > closed
            a < CONNECT {kept}
            a > CONNACK present
            a < PUBLISH t = x
            a > PUBLISH t = x
            a cut
            traffic sessions=1 subscriptions=1
            a < CONNECT {clean}
            a > CONNACK
            a < PUBLISH t = x
            traffic sessions=1 subscriptions=0";
        check(&transcript.replace("{kept}", kept).replace("{clean}", clean));
    }
}

/// MQTT 3.1 has no flag for it, but its sessions are resumed all the same.
#[test]
fn a_session_of_mqtt_3_1_is_resumed() {
    check(
        "
        a < CONNECT v31 id=a
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        a cut
        a < CONNECT v31 id=a
        a > CONNACK
        a < PUBLISH t = x
        a > PUBLISH t = x",
    );
}

/// [MQTT-3.1.2-23], [MQTT-4.1.0-2], [MQTT311-3.1.2-6]: a session ends with its connection, unless the
/// client asks for more.
#[test]
fn a_session_may_end_with_its_connection() {
    for connect in ["v5 id=a", "v5 id=a clean", "v311 id=a clean", "v31 id=a clean"] {
        for end in ["a cut", "a hangs up", "a < DISCONNECT\na > closed"] {
            check(&format!(
                "
                a < CONNECT {connect}
                a > CONNACK
                a < SUBSCRIBE #1 t q1, $share/g/t q1
                a > SUBACK #1 q1 q1
                {end}
                traffic sessions=0 subscriptions=0
                a < CONNECT v5 id=a
                a > CONNACK"
            ));
        }
    }
}

/// [MQTT-4.1.0-2], [MQTT-3.1.2-23]
#[test]
fn a_session_expires() {
    check(
        "
        a < CONNECT v5 id=a expiry=10
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        b < CONNECT v5 id=b clean
        b > CONNACK
        # While connected it stays.
        +60s
        a cut
        b < PUBLISH t q1 #1 = x
        b > PUBACK #1
        +9900ms
        ledger queued=1
        +200ms
        traffic sessions=1 subscriptions=0 message_bytes=0
        ledger queued=0 session_ended=1
        a < CONNECT v5 id=a expiry=10
        a > CONNACK
        # A return in time starts the interval anew.
        a cut
        +9s
        a < CONNECT v5 id=a expiry=10
        a > CONNACK present
        +60s
        a cut
        +9900ms
        traffic sessions=2
        +200ms
        traffic sessions=1",
    );
}

/// Section 3.1.2.11.2: 0xFFFFFFFF does not expire, nor do sessions of older versions.
#[test]
fn a_session_may_last_for_ever() {
    check(
        "
        a < CONNECT v5 id=a expiry=4294967295
        a > CONNACK
        b < CONNECT v311 id=b
        b > CONNACK
        a cut
        b cut
        +100000000s
        a < CONNECT v5 id=a
        a > CONNACK present
        b < CONNECT v311 id=b
        b > CONNACK present",
    );
}

/// Section 3.14.2.2.2: DISCONNECT may change the interval, but not raise it from 0.
#[test]
fn disconnect_may_change_the_expiry() {
    check(
        "
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a < DISCONNECT expiry=10
        a > closed
        +9900ms
        traffic sessions=1
        +200ms
        traffic sessions=0
        a < CONNECT v5 id=a expiry=10
        a > CONNACK
        a < DISCONNECT expiry=60
        a > closed
        +59s
        traffic sessions=1
        +2s
        traffic sessions=0
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a < DISCONNECT expiry=0
        a > closed
        traffic sessions=0 violations=0
        a < CONNECT v5 id=a
        a > CONNACK
        a < DISCONNECT expiry=1
        a > DISCONNECT 0x82
        a > closed
        traffic sessions=0 violations=1
        a < CONNECT v5 id=a
        a > CONNACK
        a < DISCONNECT expiry=0
        a > closed
        traffic sessions=0 violations=1",
    );
}

/// The expiry counts from the last connection's, not the first's.
#[test]
fn a_resumed_session_takes_the_new_interval() {
    check(
        "
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a cut
        a < CONNECT v5 id=a
        a > CONNACK present
        a cut
        traffic sessions=0
        a < CONNECT v311 id=a
        a > CONNACK
        a cut
        a < CONNECT v5 id=a expiry=5
        a > CONNACK present
        a cut
        +6s
        traffic sessions=0",
    );
}

/// [MQTT-3.1.2-5], [MQTT-4.5.0-1], [MQTT-4.6.0-6], [MQTT311-3.1.2-5], [MQTT311-4.5.0-1],
/// [MQTT311-4.6.0-6]
#[test]
fn a_hundred_messages_wait_in_order() {
    for (kept, wanted) in [("v5 id=a expiry=600", 2), ("v311 id=a", 2), ("v31 id=a", 1), ("v311 id=a", 1)] {
        let mut transcript = format!(
            "
            a < CONNECT {kept}
            a > CONNACK
            a < SUBSCRIBE #1 t q{wanted}
            a > SUBACK #1 q{wanted}
            b < CONNECT v5 id=b clean
            b > CONNACK
            a cut
            b < PUBLISH t = qos 0 does not wait\n"
        );
        let mut drained = String::new();
        for n in 1..=100 {
            let qos = n % 2 + 1;
            let ack = if qos == 1 { "PUBACK" } else { "PUBREC" };
            transcript += &format!("b < PUBLISH t q{qos} #{n} = {n}\nb > {ack} #{n}\n");
            let sent = qos.min(wanted);
            drained += &format!("a > PUBLISH t q{sent} #{n} = {n}\n");
        }
        let present = if kept.starts_with("v31 ") { "" } else { " present" };
        check(&format!(
            "{transcript}
            ledger queued=100 offline=1
            a < CONNECT {kept}
            a > CONNACK{present}
            {drained}
            ledger queued=100"
        ));
    }
}

/// [MQTT-4.4.0-1], [MQTT-3.3.1-1], [MQTT-4.3.3-6], [MQTT-4.6.0-1], [MQTT-4.1.0-1], [MQTT311-4.4.0-1],
/// [MQTT311-4.6.0-1], [MQTT311-3.3.1-1], [MQTT311-4.1.0-1], [MQTT311-4.6.0-4]: what was in flight is sent
/// again with DUP and its old identifiers, in order, before anything new; after PUBREC only PUBREL is.
#[test]
fn what_was_in_flight_is_sent_again() {
    for connect in ["v5 id=a expiry=60", "v311 id=a"] {
        let transcript = "
            a < CONNECT {c}
            a > CONNACK
            a < SUBSCRIBE #1 t q2
            a > SUBACK #1 q2
            b < CONNECT v5 id=b clean
            b > CONNACK
            b << PUBLISH t q1 #1 = one
            b << PUBLISH t q2 #2 = two
            b << PUBLISH t q1 #3 = three
            b << PUBLISH t q2 #4 = four
            b < PUBLISH t q2 #5 = five
            a > PUBLISH t q1 #1 = one
            a > PUBLISH t q2 #2 = two
            a > PUBLISH t q1 #3 = three
            a > PUBLISH t q2 #4 = four
            a > PUBLISH t q2 #5 = five
            b > PUBACK #1
            b > PUBREC #2
            b > PUBACK #3
            b > PUBREC #4
            b > PUBREC #5
            a < PUBACK #3
            a < PUBREC #4
            a > PUBREL #4
            a < PUBREC #5
            a > PUBREL #5
            a < PUBCOMP #5
            a cut
            b < PUBLISH t q1 #6 = six
            b > PUBACK #6
            a < CONNECT {c}
            a > CONNACK present
            a > PUBREL #4
            a > PUBLISH t q1 #1 dup = one
            a > PUBLISH t q2 #2 dup = two
            a > PUBLISH t q1 #6 = six
            a < PUBACK #1
            a < PUBCOMP #4
            a < PUBREC #2
            a > PUBREL #2
            # Again and again.
            a cut
            a < CONNECT {c}
            a > CONNACK present
            a > PUBREL #2
            a > PUBLISH t q1 #6 dup = six
            a < PUBCOMP #2
            a < PUBACK #6
            ledger delivered=6 queued=0 message_bytes=0";
        check(&transcript.replace("{c}", connect));
    }
}

/// [MQTT-4.4.0-1]: without a new connection nothing is sent again, however long it takes.
#[test]
fn nothing_is_sent_again_on_one_connection() {
    check(
        "
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        a < PUBLISH t q1 #1 = x
        a > PUBLISH t q1 #1 = x
        a > PUBACK #1
        +1000s
        a < PINGREQ
        a > PINGRESP",
    );
}

/// [MQTT-4.3.3-10], [MQTT-3.1.2-5]: what a client published at QoS 2 is known again on its next
/// connection, and delivered once.
#[test]
fn a_publisher_may_repeat_itself_after_a_reconnect() {
    for connect in ["v5 id=b expiry=60", "v311 id=b"] {
        let transcript = "
            a < CONNECT v5 id=a clean
            a > CONNACK
            a < SUBSCRIBE #1 t q2
            a > SUBACK #1 q2
            b < CONNECT {c}
            b > CONNACK
            b < PUBLISH t q2 #7 = once
            a > PUBLISH t q2 #1 = once
            b > PUBREC #7
            b cut
            b < CONNECT {c}
            b > CONNACK present
            b < PUBLISH t q2 #7 dup = once
            b > PUBREC #7
            b < PUBREL #7
            b > PUBCOMP #7
            b cut
            b < CONNECT {c}
            b > CONNACK present
            # Repeated because PUBCOMP was lost.
            b < PUBREL #7
            b > PUBCOMP #7{unknown}
            ledger received=1";
        let unknown = if connect.starts_with("v5") { " 0x92" } else { "" };
        check(&transcript.replace("{c}", connect).replace("{unknown}", unknown));
    }
}

/// Section 3.1.2.11.3: the limit is the new connection's; [MQTT-3.3.4-7].
#[test]
fn the_receive_maximum_holds_after_a_reconnect() {
    check(
        "
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        b < CONNECT v5 id=b clean
        b > CONNACK
        b << PUBLISH t q1 #1 = one
        b << PUBLISH t q2 #2 = two
        b < PUBLISH t q1 #3 = three
        a > PUBLISH t q1 #1 = one
        a > PUBLISH t q2 #2 = two
        a > PUBLISH t q1 #3 = three
        b > PUBACK #1
        b > PUBREC #2
        b > PUBACK #3
        a cut
        b < PUBLISH t q1 #4 = four
        b > PUBACK #4
        a < CONNECT v5 id=a expiry=60 rmax=1
        a > CONNACK present
        a > PUBLISH t q1 #1 dup = one
        a < PUBACK #1
        a > PUBLISH t q2 #2 dup = two
        a < PUBREC #2
        a > PUBREL #2
        a < PUBCOMP #2
        a > PUBLISH t q1 #3 dup = three
        a < PUBACK #3
        a > PUBLISH t q1 #4 = four",
    );
}

/// A session may change its version from one connection to the next.
#[test]
fn a_session_outlives_a_change_of_version() {
    check(
        "
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a < SUBSCRIBE #1 sub=9 t q2
        a > SUBACK #1 q2
        b < CONNECT v5 id=b clean
        b > CONNACK
        b << PUBLISH t q1 #1 prop=k:v expiry=60 = one
        b < PUBLISH t q2 #2 prop=k:v = two
        a > PUBLISH t q1 #1 expiry=60 sub=9 prop=k:v = one
        a > PUBLISH t q2 #2 sub=9 prop=k:v = two
        b > PUBACK #1
        b > PUBREC #2
        a < PUBREC #2
        a > PUBREL #2
        a cut
        b < PUBLISH t q1 #3 prop=k:v = three
        b > PUBACK #3
        a < CONNECT v311 id=a
        a > CONNACK present
        a > PUBREL #2
        a > PUBLISH t q1 #1 dup = one
        a > PUBLISH t q1 #3 = three
        a cut
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present
        a > PUBREL #2
        a > PUBLISH t q1 #1 dup expiry=60 sub=9 prop=k:v = one
        a > PUBLISH t q1 #3 dup sub=9 prop=k:v = three",
    );
}

/// A takeover resumes what the old connection had in flight.
#[test]
fn a_takeover_goes_on_where_the_old_connection_was() {
    check(
        "
        a < CONNECT v5 id=x expiry=60
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < PUBLISH t q1 #1 = one
        a > PUBLISH t q1 #1 = one
        b > PUBACK #1
        a2 < CONNECT v5 id=x expiry=60
        a > DISCONNECT 0x8e
        a > closed
        a2 > CONNACK present
        a2 > PUBLISH t q1 #1 dup = one
        a2 < PUBACK #1
        # Clean Start drops what was there.
        b < PUBLISH t q1 #2 = two
        a2 > PUBLISH t q1 #2 = two
        b > PUBACK #2
        a3 < CONNECT v5 id=x clean expiry=60
        a2 > DISCONNECT 0x8e
        a2 > closed
        a3 > CONNACK
        b < PUBLISH t q1 #3 = three
        b > PUBACK #3 0x10
        ledger delivered=1 session_ended=1 no_subscriber=1",
    );
}

/// What a client sends on behind its back is lost with the connection that it took over.
#[test]
fn ten_thousand_takeovers_leave_one_session() {
    let mut broker = Setup::new().start(4);
    broker.play(
        "
        a0 < CONNECT v5 id=x expiry=60
        a0 > CONNACK
        a0 < SUBSCRIBE #1 t q1
        a0 > SUBACK #1 q1",
    );
    for n in 1..=10_000 {
        let (old, new) = ((n - 1) % 2, n % 2);
        broker.play(&format!(
            "
            a{new} < CONNECT v5 id=x expiry=60
            a{old} > DISCONNECT 0x8e
            a{old} > closed
            a{new} > CONNACK present"
        ));
    }
    broker.play(
        "
        traffic sessions=1 clients=1 subscriptions=1
        a0 < PUBLISH t q1 #1 = alive
        a0 > PUBLISH t q1 #1 = alive
        a0 > PUBACK #1",
    );
    broker.finish();
}

/// Every version keeps its own rules; only the id counts.
#[test]
fn sessions_of_different_ids_do_not_meet() {
    in_every_version(
        "
        a < CONNECT {v} id=a clean
        a > CONNACK
        b < CONNECT {v} id=A clean
        b > CONNACK
        a < SUBSCRIBE #1 t
        a > SUBACK #1 q0
        b < PUBLISH t = x
        a > PUBLISH t = x
        traffic sessions=2",
    );
}

/// [MQTT-4.1.0-2]: with its session, an identifier is forgotten.
#[test]
fn an_expired_session_forgets_what_it_took() {
    check(
        "
        a < CONNECT v5 id=a expiry=5
        a > CONNACK
        a < PUBLISH t q2 #1 = x
        a > PUBREC #1 0x10
        a cut
        +6s
        a < CONNECT v5 id=a expiry=5
        a > CONNACK
        a < PUBLISH t q2 #1 = x
        a > PUBREC #1 0x10
        ledger received=2",
    );
}
