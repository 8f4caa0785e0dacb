//! PUBLISH and its acknowledgements, in both directions. MQTT 5 sections 3.3 to 3.7 and 4.3.

use crate::common::{Setup, check, in_every_version};

/// [MQTT-4.3.1-1], [MQTT-2.2.1-2], [MQTT311-4.3.1-1], [MQTT311-2.3.1-5]
#[test]
fn qos_0_is_sent_and_forgotten() {
    in_every_version(
        "
        a < CONNECT {v} id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        b < CONNECT {v} id=b clean
        b > CONNACK
        b < PUBLISH t = hello
        a > PUBLISH t = hello
        b < PUBLISH t
        a > PUBLISH t
        ledger received=2 copies=2 delivered=2 queued=0",
    );
}

/// [MQTT-4.3.2-1], [MQTT-4.3.2-2], [MQTT-4.3.2-3], [MQTT-4.3.2-4], [MQTT-2.2.1-5], [MQTT-3.3.4-1],
/// [MQTT311-4.3.2-1], [MQTT311-4.3.2-2], [MQTT311-2.3.1-6], [MQTT311-3.3.4-1]
#[test]
fn qos_1_is_acknowledged_both_ways() {
    in_every_version(
        "
        a < CONNECT {v} id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        b < CONNECT {v} id=b clean
        b > CONNACK
        b < PUBLISH t q1 #17 = hello
        a > PUBLISH t q1 #1 = hello
        b > PUBACK #17
        ledger delivered=0 queued=1
        a < PUBACK #1
        ledger delivered=1 queued=0 message_bytes=0",
    );
}

/// [MQTT-4.3.3-1], [MQTT-4.3.3-2], [MQTT-4.3.3-3], [MQTT-4.3.3-4], [MQTT-4.3.3-5], [MQTT-4.3.3-8],
/// [MQTT-4.3.3-11], [MQTT311-4.3.3-1], [MQTT311-4.3.3-2]
#[test]
fn qos_2_is_acknowledged_in_two_steps_both_ways() {
    in_every_version(
        "
        a < CONNECT {v} id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        b < CONNECT {v} id=b clean
        b > CONNACK
        b < PUBLISH t q2 #5 = hello
        a > PUBLISH t q2 #1 = hello
        b > PUBREC #5
        b < PUBREL #5
        b > PUBCOMP #5
        a < PUBREC #1
        a > PUBREL #1
        ledger delivered=0 queued=1
        a < PUBCOMP #1
        ledger delivered=1 queued=0 message_bytes=0",
    );
}

/// [MQTT-3.8.4-8], [MQTT311-3.8.4-6]: the lower of the publisher's QoS and the one granted.
#[test]
fn the_lower_qos_counts() {
    in_every_version(
        "
        a0 < CONNECT {v} id=a0 clean
        a0 > CONNACK
        a0 < SUBSCRIBE #1 t
        a0 > SUBACK #1 q0
        a1 < CONNECT {v} id=a1 clean
        a1 > CONNACK
        a1 < SUBSCRIBE #1 t q1
        a1 > SUBACK #1 q1
        a2 < CONNECT {v} id=a2 clean
        a2 > CONNACK
        a2 < SUBSCRIBE #1 t q2
        a2 > SUBACK #1 q2
        b < CONNECT {v} id=b clean
        b > CONNACK
        b < PUBLISH t = 0
        a0 > PUBLISH t = 0
        a1 > PUBLISH t = 0
        a2 > PUBLISH t = 0
        b < PUBLISH t q1 #1 = 1
        a0 > PUBLISH t = 1
        a1 > PUBLISH t q1 #1 = 1
        a2 > PUBLISH t q1 #1 = 1
        b > PUBACK #1
        b < PUBLISH t q2 #1 = 2
        a0 > PUBLISH t = 2
        a1 > PUBLISH t q1 #2 = 2
        a2 > PUBLISH t q2 #2 = 2
        b > PUBREC #1
        ledger received=3 copies=9 delivered=5 queued=4",
    );
}

/// [MQTT-3.3.1-1], [MQTT-3.3.1-3], [MQTT-4.3.2-5], [MQTT311-3.3.1-3]: after PUBACK an identifier stands
/// for a new message, DUP or not, and DUP is not passed on.
#[test]
fn at_qos_1_a_repeated_identifier_is_a_new_message() {
    in_every_version(
        "
        a < CONNECT {v} id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        b < CONNECT {v} id=b clean
        b > CONNACK
        b < PUBLISH t q1 #1 = one
        a > PUBLISH t q1 #1 = one
        b > PUBACK #1
        b < PUBLISH t q1 #1 dup = two
        a > PUBLISH t q1 #2 = two
        b > PUBACK #1",
    );
}

/// [MQTT-4.3.3-10], [MQTT-4.3.3-12], [MQTT311-3.3.5-1]: until PUBREL an identifier stands for one message.
#[test]
fn at_qos_2_a_repeated_identifier_is_the_same_message() {
    in_every_version(
        "
        a < CONNECT {v} id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        b < CONNECT {v} id=b clean
        b > CONNACK
        b < PUBLISH t q2 #9 = once
        a > PUBLISH t q2 #1 = once
        b > PUBREC #9
        b < PUBLISH t q2 #9 dup = once
        b > PUBREC #9
        b < PUBREL #9
        b > PUBCOMP #9
        b < PUBLISH t q2 #9 = again
        a > PUBLISH t q2 #2 = again
        b > PUBREC #9
        ledger received=2",
    );
}

/// [MQTT-3.6.2-1], [MQTT-3.7.2-1], sections 3.6.2.1 and 3.7.2.1: identifiers that nobody knows are
/// answered all the same, or the other side would repeat itself for ever.
#[test]
fn unknown_identifiers_are_answered() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < PUBREL #7
        a > PUBCOMP #7 0x92
        a < PUBREC #7
        a > PUBREL #7 0x92
        a < PUBACK #7
        a < PUBCOMP #7
        b < CONNECT v311 id=b clean
        b > CONNACK
        b < PUBREL #7
        b > PUBCOMP #7
        b < PUBREC #7
        b > PUBREL #7
        b < PUBACK #7
        b < PUBCOMP #7
        a < PINGREQ
        a > PINGRESP",
    );
}

/// [MQTT-4.4.0-2], [MQTT-4.3.3-3], [MQTT-2.2.1-4]: what a client refuses is done with.
#[test]
fn a_client_may_refuse_a_message() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        b < CONNECT v5 id=b clean
        b > CONNACK
        b << PUBLISH t q2 #1 = x
        b < PUBLISH t q1 #2 = y
        a > PUBLISH t q2 #1 = x
        a > PUBLISH t q1 #2 = y
        b > PUBREC #1
        b > PUBACK #2
        a < PUBREC #1 0x97 why=full
        a < PUBACK #2 0x80
        ledger queued=0 refused=1
        # Its identifier is free, and unknown.
        a < PUBREC #1
        a > PUBREL #1 0x92",
    );
}

/// [MQTT-3.4.2-1], [MQTT-3.5.2-1]: MQTT 5 says when nobody is there to have a message.
#[test]
fn a_publisher_is_told_that_nobody_subscribed() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < PUBLISH t q1 #1 = x
        a > PUBACK #1 0x10
        a < PUBLISH t q2 #2 = x
        a > PUBREC #2 0x10
        a < PUBREL #2
        a > PUBCOMP #2
        b < CONNECT v311 id=b clean
        b > CONNACK
        b < PUBLISH t q1 #1 = x
        b > PUBACK #1
        a < PUBLISH t = x
        ledger received=4 no_subscriber=4",
    );
}

/// [MQTT-4.3.3-9]: what was refused was not taken, so its identifier stands for a new message.
#[test]
fn a_refused_identifier_is_free() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t
        a > SUBACK #1 q0
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < PUBLISH $SYS/x q2 #1 = x
        b > PUBREC #1 0x87
        b < PUBLISH t q2 #1 = y
        a > PUBLISH t = y
        b > PUBREC #1
        b < PUBREL #1
        b > PUBCOMP #1
        b < PUBLISH $SYS/x q1 #1 = x
        b > PUBACK #1 0x87
        # Older versions know no refusal.
        c < CONNECT v311 id=c clean
        c > CONNACK
        c < PUBLISH $SYS/x q2 #1 = x
        c > PUBREC #1
        c < PUBREL #1
        c > PUBCOMP #1
        ledger reserved_topic=3",
    );
}

/// [MQTT-4.6.0-5], [MQTT-4.6.0-6], [MQTT311-4.6.0-5], [MQTT311-4.6.0-6], [MQTT311-4.6.0-2],
/// [MQTT311-4.6.0-3], [MQTT-4.6.0-2], [MQTT-4.6.0-3]
#[test]
fn a_thousand_pipelined_messages_stay_in_order() {
    for qos in ["", "q1 ", "q2 "] {
        let mut transcript = String::from(
            "
            a < CONNECT v5 id=a clean
            a > CONNACK
            a < SUBSCRIBE #1 t q2
            a > SUBACK #1 q2
            b < CONNECT v311 id=b clean
            b > CONNACK\n",
        );
        let (mut copies, mut acks) = (String::new(), String::new());
        for n in 1..=1000 {
            let id = if qos.is_empty() { String::new() } else { format!("#{n} ") };
            transcript += &format!("b << PUBLISH t {qos}{id}= {n}\n");
            copies += &format!("a > PUBLISH t {qos}{id}= {n}\n");
            acks += &match qos {
                "" => String::new(),
                "q1 " => format!("b > PUBACK #{n}\n"),
                _ => format!("b > PUBREC #{n}\n"),
            };
        }
        // All of it in one write, with nothing behind.
        check(&(transcript + "b < hex\n" + &copies + &acks));
    }
}

/// [MQTT-2.2.1-4], [MQTT311-2.3.1-4], [MQTT311-2.3.1-1]: identifiers are used again, but none that is
/// still in use.
#[test]
fn identifiers_are_used_again_once_they_are_free() {
    let mut broker = Setup::new().start(1);
    broker.play(
        "
        a < CONNECT v311 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        b < CONNECT v311 id=b clean
        b > CONNACK
        b < PUBLISH t q1 #1 = stays
        a > PUBLISH t q1 #1 = stays
        b > PUBACK #1",
    );
    for n in 2..=65_535 {
        broker.play(&format!(
            "
            b < PUBLISH t q1 #{n} = x
            a > PUBLISH t q1 #{n} = x
            b > PUBACK #{n}
            a < PUBACK #{n}"
        ));
    }
    broker.play(
        "
        b < PUBLISH t q1 #7 = waits
        b > PUBACK #7
        a < PUBACK #1
        a > PUBLISH t q1 #1 = waits
        a < PUBACK #1
        b < PUBLISH t q1 #8 = x
        a > PUBLISH t q1 #2 = x
        b > PUBACK #8",
    );
    broker.finish();
}

/// [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18],
/// [MQTT-3.3.2-20], [MQTT-2.2.2-1]: properties are forwarded unaltered and in their order, at every QoS,
/// live, queued and retained. Versions without them get the rest.
#[test]
fn properties_are_forwarded_as_they_came() {
    let properties = "prop=k:v rt=answer/to cd=c0ffee prop=k:v pfi=1 prop=k:w ct=text/plain prop=a:";
    let transcript = "
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        old < CONNECT v311 id=old clean
        old > CONNACK
        old < SUBSCRIBE #1 t
        old > SUBACK #1 q0
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < PUBLISH t {p} = 0
        a > PUBLISH t {p} = 0
        old > PUBLISH t = 0
        b < PUBLISH t q1 #1 {p} = 1
        a > PUBLISH t q1 #1 {p} = 1
        old > PUBLISH t = 1
        b > PUBACK #1
        a < PUBACK #1
        a cut
        b < PUBLISH t q2 #2 {p} = 2
        old > PUBLISH t = 2
        b > PUBREC #2
        b < PUBLISH t q1 #3 retain {p} = 3
        old > PUBLISH t = 3
        b > PUBACK #3
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present
        a > PUBLISH t q2 #2 {p} = 2
        a > PUBLISH t q1 #3 {p} = 3
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        a > PUBLISH t q1 #4 retain {p} = 3
        # What has none is sent none, at every QoS.
        old < PUBLISH t = 4
        a > PUBLISH t = 4
        old > PUBLISH t = 4";
    check(&transcript.replace("{p}", properties));
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6]: what waited too long is not delivered, and the rest is told how much
/// of its life is left.
#[test]
fn messages_expire() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < PUBLISH t expiry=10 = live
        a > PUBLISH t expiry=10 = live
        a cut
        b < PUBLISH t q1 #1 expiry=10 = short
        b > PUBACK #1
        b < PUBLISH t q1 #2 expiry=60 = long
        b > PUBACK #2
        b < PUBLISH t q1 #3 = endless
        b > PUBACK #3
        +20s
        ledger queued=3 expired=0
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        a > PUBLISH t q1 #2 expiry=40 = long
        a > PUBLISH t q1 #3 = endless
        ledger queued=2 expired=1",
    );
}

/// [MQTT-4.3.3-7], [MQTT-4.3.3-13]: what was sent once is sent again however late it is.
#[test]
fn what_was_sent_does_not_expire() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < PUBLISH t q2 #1 expiry=10 = x
        a > PUBLISH t q2 #1 expiry=10 = x
        b > PUBREC #1
        a cut
        +60s
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        a > PUBLISH t q2 #1 dup expiry=0 = x
        a < PUBREC #1
        a > PUBREL #1
        a < PUBCOMP #1
        ledger delivered=1 expired=0",
    );
}

/// Large payloads are passed on by reference, to every version and QoS.
#[test]
fn large_messages_arrive_whole() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        old < CONNECT v311 id=old
        old > CONNACK
        old < SUBSCRIBE #1 t q1
        old > SUBACK #1 q1
        b < CONNECT v31 id=b clean
        b > CONNACK
        b < PUBLISH t = x*50000
        a > PUBLISH t = x*50000
        old > PUBLISH t = x*50000
        old cut
        b < PUBLISH t q2 #1 = y*5000
        a > PUBLISH t q2 #1 = y*5000
        b > PUBREC #1
        old < CONNECT v311 id=old
        old > CONNACK present
        old > PUBLISH t q1 #1 = y*5000",
    );
}

/// [MQTT-3.3.2-3], [MQTT-4.7.3-4], [MQTT311-3.3.2-3], [MQTT311-4.7.3-4], [MQTT-1.5.4-3],
/// [MQTT311-1.5.3-3]: topics are compared byte for byte, and sent as they came.
#[test]
fn topics_are_not_normalised() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 /t, T, t/, t//, \u{feff}t, e\u{301}
        a > SUBACK #1 q0 q0 q0 q0 q0 q0
        b < CONNECT v311 id=b clean
        b > CONNACK
        b << PUBLISH t = 1
        b << PUBLISH /t = 2
        b << PUBLISH T = 3
        b << PUBLISH t/ = 4
        b << PUBLISH t// = 5
        b << PUBLISH //t = 6
        b << PUBLISH \u{feff}t = 7
        b << PUBLISH \u{e9} = 8
        b < PUBLISH e\u{301} = 9
        a > PUBLISH /t = 2
        a > PUBLISH T = 3
        a > PUBLISH t/ = 4
        a > PUBLISH t// = 5
        a > PUBLISH \u{feff}t = 7
        a > PUBLISH e\u{301} = 9
        ledger no_subscriber=3",
    );
}

/// [MQTT-4.5.0-1], [MQTT311-4.5.0-1]: everybody who subscribed has it, wherever they are.
#[test]
fn a_message_reaches_every_subscriber_once() {
    let mut subscribers = String::new();
    let mut copies = String::new();
    for n in 0..20 {
        subscribers += &format!(
            "s{n} < CONNECT v311 id=s{n} clean
            s{n} > CONNACK
            s{n} < SUBSCRIBE #1 t/+ q1, t/# q0
            s{n} > SUBACK #1 q1 q0\n"
        );
        copies += &format!("s{n} > PUBLISH t/1 q1 #1 = x\n");
    }
    check(&format!(
        "{subscribers}
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < PUBLISH t/1 q1 #1 = x
        {copies}
        b > PUBACK #1
        ledger received=1 copies=20"
    ));
}

/// MQTT 3.1 has a DUP flag on SUBSCRIBE, UNSUBSCRIBE and PUBREL.
#[test]
fn version_3_1_marks_repeated_requests() {
    check(
        "
        a < CONNECT v31 id=a clean
        a > CONNACK
        a < packet 8a 00 01 \"t\" 01
        a > SUBACK #1 q1
        a < PUBLISH t q2 #1 = x
        a > PUBLISH t q1 #1 = x
        a > PUBREC #1
        a < packet 6a 00 01
        a > PUBCOMP #1
        a < packet aa 00 02 \"t\"
        a > UNSUBACK #2",
    );
}

/// [MQTT-3.3.2-6], at both ends of its range.
#[test]
fn a_life_may_be_very_short_or_very_long() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        a < PUBLISH t q1 #1 expiry=0 = x
        a > PUBLISH t q1 #1 expiry=0 = x
        a > PUBACK #1
        a < PUBLISH t expiry=4294967295 = y
        a > PUBLISH t expiry=4294967295 = y
        +100s",
    );
}
