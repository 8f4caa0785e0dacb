//! CONNECT and CONNACK, MQTT 5 sections 3.1 and 3.2.

use std::net::SocketAddr;

use ringmq_turn::{ConnInfo, ListenerId};

use crate::common::{Setup, check, in_every_version};

/// [MQTT-3.1.4-5], [MQTT-3.2.0-1], [MQTT-3.2.2-1], [MQTT-3.12.4-1], [MQTT311-3.1.4-4],
/// [MQTT311-3.2.0-1], [MQTT311-3.12.4-1]
#[test]
fn every_version_is_welcome() {
    in_every_version(
        "
        a < CONNECT {v} id=a clean keep=60
        a > CONNACK
        a < PINGREQ
        a > PINGRESP
        traffic clients=1 sessions=1
        a < DISCONNECT
        a > closed
        traffic clients=0 sessions=0 violations=0",
    );
}

/// What follows a CONNECT in the same bytes is taken once it is accepted.
#[test]
fn a_client_need_not_wait_for_connack() {
    in_every_version(
        "
        b < CONNECT {v} id=b clean
        b > CONNACK
        b < SUBSCRIBE #1 t q1
        b > SUBACK #1 q1
        a << CONNECT {v} id=somebody clean
        a << PINGREQ
        a < PUBLISH t q1 #2 = early
        a > CONNACK
        a > PINGRESP
        a > PUBACK #2
        b > PUBLISH t q1 #1 = early
        b < PUBACK #1",
    );
}

/// [MQTT-3.1.0-1], [MQTT-3.14.0-1], [MQTT311-3.1.0-1]: nothing but CONNECT comes first.
#[test]
fn a_connection_begins_with_connect() {
    for first in [
        "PUBLISH t = x",
        "PUBLISH t q1 #1 = x",
        "PUBACK #1",
        "SUBSCRIBE #1 t",
        "UNSUBSCRIBE #1 t",
        "PINGREQ",
        "DISCONNECT",
        "AUTH 0x18 auth=x",
        "hex 20 02 00 00",
        "hex 00 00",
    ] {
        check(&format!(
            "
            a << {first}
            a < CONNECT v5 id=a clean
            a > closed
            traffic violations=1 sessions=0"
        ));
    }
}

/// [MQTT-3.1.0-2], [MQTT-3.2.0-2], [MQTT311-3.1.0-2]
#[test]
fn a_second_connect_ends_the_connection() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < CONNECT v5 id=a clean
        a > DISCONNECT 0x82
        a > closed
        b < CONNECT v311 id=b clean
        b > CONNACK
        b < CONNECT v311 id=b clean
        b > closed
        traffic sessions=0",
    );
}

/// [MQTT-3.1.2-2], [MQTT311-3.1.2-2], [MQTT-3.2.2-6], [MQTT-3.2.2-7]: a version that does not exist.
#[test]
fn an_unknown_version_is_told_so() {
    check(
        "
        a < packet v5 10 \"MQTT\" 06 02 00 00 00 00 01 'a'
        a > CONNACK 0x84
        a > closed
        b < packet v311 10 \"MQTT\" 03 02 00 00 00 00 01 'b'
        b > CONNACK 0x84
        b > closed
        c < packet v311 10 \"MQIsdp\" 04 02 00 00 00 00 01 'c'
        c > CONNACK 0x84
        c > closed
        traffic violations=3 sessions=0",
    );
}

/// A client of MQTT 5 understands a CONNACK, whatever its CONNECT lacks. [MQTT-3.1.4-1]
#[test]
fn a_malformed_connect_of_version_5_is_told_why() {
    for (connect, reason, why) in [
        ("packet 10 \"MQTT\" 05 03 00 00 00 00 01 'a'", "0x81", "reserved flag [MQTT-3.1.2-3]"),
        ("packet 11 \"MQTT\" 05 02 00 00 00 00 01 'a'", "0x81", "fixed header flags [MQTT-3.1.2-12]"),
        ("packet 10 \"MQTT\" 05 02 00 00 05 27 00 00 00 00 00 01 'a'", "0x82", "Maximum Packet Size 0"),
        ("packet 10 \"MQTT\" 05 02 00 00 03 21 00 00 00 01 'a'", "0x82", "Receive Maximum 0"),
        ("packet 10 \"MQTT\" 05 02 00 00 05 11 00 00 00 01 00 01 'a' 00", "0x81", "bytes behind the end"),
        ("packet 10 \"MQTT\" 05 02 00 00 05 11 00 00 00 01 00 02 'a'", "0x81", "a string past the end"),
        (
            "packet 10 \"MQTT\" 05 02 00 00 0a 11 00 00 00 01 11 00 00 00 01 00 01 'a'",
            "0x82",
            "a property twice",
        ),
        ("packet 10 \"MQTT\" 05 02 00 00 03 23 00 01 00 01 'a'", "0x81", "a property of PUBLISH"),
    ] {
        println!("{why}");
        check(&format!(
            "
            a << {connect}
            a < CONNECT v5 id=a clean
            a > CONNACK {reason}
            a > closed
            "
        ));
    }
}

/// [MQTT-3.1.2-1], [MQTT-3.1.4-1], [MQTT-3.1.4-6], [MQTT311-3.1.2-1], [MQTT311-3.1.4-1],
/// [MQTT311-3.1.4-5], [MQTT311-3.2.2-6]: what is not MQTT gets no answer, and what comes after it is not looked at.
#[test]
fn a_malformed_connect_is_not_answered() {
    for (connect, why) in [
        ("packet 10 \"HTTP\" 05 02 00 00 00 00 00", "another protocol [MQTT-3.1.2-1]"),
        ("packet 10 \"mqtt\" 05 02 00 00 00 00 01 'a'", "the name in lower case [MQTT-3.1.2-1]"),
        ("packet 10 \"MQTT\" 04 03 00 00 00 01 'a'", "reserved flag [MQTT311-3.1.2-3]"),
        (
            "packet 10 \"MQTT\" 04 0a 00 00 00 01 'a'",
            "Will QoS without a will [MQTT-3.1.2-7] [MQTT311-3.1.2-11] [MQTT311-3.1.2-13]",
        ),
        ("packet 10 \"MQTT\" 04 22 00 00 00 01 'a'", "Will Retain without a will [MQTT-3.1.2-8]"),
        ("packet 10 \"MQTT\" 04 22 00 00 00 01 'a'", "the same [MQTT-3.1.2-13] [MQTT311-3.1.2-15]"),
        ("packet 10 \"MQTT\" 04 1e 00 00 00 01 'a'", "Will QoS 3 [MQTT311-3.1.2-14]"),
        (
            "packet 10 \"MQTT\" 04 06 00 00 00 01 'a'",
            "no will behind its flag [MQTT-3.1.2-9] [MQTT-3.1.2-6] [MQTT311-3.1.2-9]",
        ),
        ("packet 10 \"MQTT\" 04 82 00 00 00 01 'a'", "no user name [MQTT-3.1.2-17] [MQTT311-3.1.2-19]"),
        ("packet 10 \"MQTT\" 04 c2 00 00 00 01 'a' \"u\"", "no password [MQTT-3.1.2-19] [MQTT311-3.1.2-21]"),
        (
            "packet 10 \"MQTT\" 04 02 00 00 00 01 'a' \"u\"",
            "a user name unasked [MQTT-3.1.2-16] [MQTT311-3.1.2-18]",
        ),
        (
            "packet 10 \"MQTT\" 04 82 00 00 00 01 'a' \"u\" \"p\"",
            "a password unasked [MQTT-3.1.2-18] [MQTT311-3.1.2-20]",
        ),
        ("packet 10 \"MQTT\" 04 42 00 00 00 01 'a' \"p\"", "a password without a user [MQTT311-3.1.2-22]"),
        ("packet 10 \"MQTT\" 04 02 00 00 00 01 ff", "a client id that is no UTF-8 [MQTT311-3.1.3-4]"),
        ("packet 10 \"MQTT\" 04 02 00 00 00 01 00", "a null character [MQTT-1.5.4-2] [MQTT311-1.5.3-2]"),
        (
            "packet 10 \"MQTT\" 04 82 00 00 00 01 'a' 00 01 ff",
            "a user name that is no UTF-8 [MQTT-3.1.3-12] [MQTT311-3.1.3-11]",
        ),
        (
            "packet 10 \"MQTT\" 04 06 00 00 00 01 'a' 00 01 ff 00 00",
            "a will topic that is no UTF-8 [MQTT-3.1.3-11] [MQTT311-3.1.3-10]",
        ),
        ("hex 10 80 80 80 80 01", "a length of five bytes [MQTT-1.5.5-1]"),
    ] {
        println!("{why}");
        check(&format!(
            "
            a << {connect}
            a < CONNECT v5 id=a clean
            a > closed
            traffic violations=1 sessions=0 partial_bytes=0"
        ));
    }
}

/// [MQTT-3.1.3-4], [MQTT-3.1.3-6], [MQTT-3.1.3-7], [MQTT-3.2.2-16], [MQTT311-3.1.3-6]
#[test]
fn a_client_without_an_id_is_given_one() {
    check(
        "
        a < CONNECT v5 clean
        a > CONNACK assigned
        b < CONNECT v5
        b > CONNACK assigned
        c < CONNECT v311 clean
        c > CONNACK
        # Three ids, three sessions.
        traffic sessions=3
        a < DISCONNECT
        a > closed
        traffic sessions=2",
    );
}

/// [MQTT-3.1.3-5], [MQTT-3.1.3-8], [MQTT311-3.1.3-7], [MQTT311-3.1.3-8], [MQTT311-3.1.3-9]: before
/// MQTT 5 an empty id needs a clean session, and in 3.1 there is none.
#[test]
fn an_empty_id_is_refused_where_none_can_be_given() {
    check(
        "
        a < CONNECT v311
        a > CONNACK 0x85
        a > closed
        b < CONNECT v31 clean
        b > CONNACK 0x85
        b > closed
        traffic sessions=0",
    );
}

/// [MQTT-3.1.3-3], [MQTT-3.1.3-2], [MQTT311-3.1.3-2], [MQTT311-3.1.3-3], [MQTT311-3.1.3-5]
#[test]
fn ids_of_any_length_are_taken() {
    for id in ["1", "abcdefghijklmnopqrstuvw", "0123456789ABCDEFXYZ", &"long".repeat(100), "grüße/+#"] {
        in_every_version(&format!(
            "
            a < CONNECT {{v}} id={id} clean
            a > CONNACK
            traffic sessions=1"
        ));
    }
}

/// [MQTT-3.1.4-3], [MQTT311-3.1.4-2]: the id says whose session it is, whichever connection uses it.
#[test]
fn the_same_id_takes_the_session_over() {
    check(
        "
        a < CONNECT v5 id=x expiry=60
        a > CONNACK
        b < CONNECT v5 id=x expiry=60
        a > DISCONNECT 0x8e
        a > closed
        b > CONNACK present
        c < CONNECT v311 id=x
        b > DISCONNECT 0x8e
        b > closed
        c > CONNACK present
        # 3.1.1 has no packet to say so.
        d < CONNECT v311 id=x clean
        c > closed
        d > CONNACK
        traffic sessions=1 clients=1",
    );
}

/// [MQTT-3.2.2-22], [MQTT-3.1.2-21]: within its bounds, a client's Keep Alive is left as it is.
#[test]
fn the_server_bounds_the_keep_alive() {
    Setup::with(|limits| limits.keep_alive_s_max = 30).check(
        "
        a < CONNECT v5 id=a clean keep=60
        a > CONNACK keep=30
        b < CONNECT v5 id=b clean keep=0
        b > CONNACK keep=30
        c < CONNECT v5 id=c clean keep=30
        c > CONNACK
        d < CONNECT v311 id=d clean keep=60
        d > CONNACK
        +46s
        a > DISCONNECT 0x8d
        a > closed
        b > DISCONNECT 0x8d
        b > closed
        c > DISCONNECT 0x8d
        c > closed
        +45s
        d > closed",
    );
}

/// [MQTT-3.1.2-22], [MQTT-3.1.2-11], [MQTT-3.2.2-22], [MQTT311-3.1.2-24], [MQTT311-4.1.0-2]
#[test]
fn silence_ends_a_connection_after_one_and_a_half_keep_alives() {
    check(
        "
        a < CONNECT v5 id=a clean keep=10
        a > CONNACK
        b < CONNECT v311 id=b clean keep=10
        b > CONNACK
        c < CONNECT v31 id=c clean keep=0
        c > CONNACK
        +14900ms
        a < PINGREQ
        a > PINGRESP
        b < PUBLISH t = x
        +14900ms
        +200ms
        a > DISCONNECT 0x8d
        a > closed
        b > closed
        +100000s
        traffic clients=1 sessions=1",
    );
}

#[test]
fn a_connection_has_to_say_connect_in_time() {
    check(
        "
        a < hex 10
        +9900ms
        b < hex 10 0d
        +200ms
        a > closed
        +9900ms
        b > closed
        c < CONNECT v5 id=c clean
        c > CONNACK
        +60s
        traffic violations=2 clients=1",
    );
}

/// [MQTT-4.12.0-1], [MQTT-3.1.4-2]
#[test]
fn an_unknown_authentication_method_is_refused() {
    check(
        "
        a < CONNECT v5 id=a clean auth=SCRAM-SHA-1
        a > CONNACK 0x8c
        a > closed
        traffic sessions=0",
    );
}

/// [MQTT-4.12.0-6], [MQTT-4.12.0-7]: without a method there is no AUTH.
#[test]
fn auth_without_a_method_is_an_error() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < AUTH 0x19 auth=x
        a > DISCONNECT 0x82
        a > closed
        b < CONNECT v311 id=b clean
        b > CONNACK
        b < hex f0 00
        b > closed",
    );
}

/// [MQTT-3.2.2-8], [MQTT311-3.2.2-4], [MQTT311-3.2.2-5]
#[test]
fn sessions_are_bounded() {
    Setup::with(|limits| limits.sessions_max = 1).shards(&[1]).check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        b < CONNECT v5 id=b clean
        b > CONNACK 0x97
        b > closed
        c < CONNECT v311 id=c clean
        c > CONNACK 0x88
        c > closed
        # Its own session is not one more.
        d < CONNECT v5 id=a clean
        a > DISCONNECT 0x8e
        a > closed
        d > CONNACK",
    );
}

#[test]
fn a_connection_too_many_is_told_so() {
    let mut broker = Setup::new().start(2);
    let remote = Some(SocketAddr::from(([127, 0, 0, 1], 4711)));
    let info = ConnInfo { listener: ListenerId(0), remote, over_limit: true };
    broker.open_as("a", info);
    broker.play(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK 0x97
        a > closed
        traffic sessions=0",
    );
    broker.finish();
}

/// [MQTT-3.1.2-23], section 3.1.2.11.2: the interval that is granted is told if it is another.
#[test]
fn the_session_expiry_interval_is_bounded() {
    Setup::with(|limits| limits.session_expiry_s_max = 100).check(
        "
        a < CONNECT v5 id=a expiry=100
        a > CONNACK
        b < CONNECT v5 id=b expiry=101
        b > CONNACK expiry=100
        c < CONNECT v5 id=c expiry=4294967295
        c > CONNACK expiry=100
        d < CONNECT v311 id=d
        d > CONNACK
        a hangs up
        b hangs up
        c hangs up
        d hangs up
        +99s
        traffic sessions=4
        +2s
        traffic sessions=0",
    );
}

/// [MQTT-3.1.2-24], [MQTT-3.2.2-16]: a CONNACK that the client says is too large for it is not sent.
#[test]
fn a_client_that_takes_no_connack_is_let_go() {
    check(
        "
        a < CONNECT v5 id=a clean pmax=15
        a > CONNACK 0x95
        a > closed
        b < CONNECT v5 id=b clean pmax=16
        b > CONNACK
        traffic sessions=1",
    );
}

/// [MQTT-3.1.2-28]: Response Information is not given, whether asked for or not.
#[test]
fn response_information_is_not_offered() {
    check(
        "
        a < CONNECT v5 id=a clean responses=1 problems=0 prop=a:b
        a > CONNACK",
    );
}

/// [MQTT-4.13.2-1]: a fault of one client does not matter to another.
#[test]
fn a_fault_ends_only_the_connection_it_is_on() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        b < CONNECT v5 id=b clean
        b > CONNACK
        a < hex 3f 00
        a > DISCONNECT 0x81
        a > closed
        b < PINGREQ
        b > PINGRESP",
    );
}

/// Section 4.13: clients of MQTT 5 are told that the server stops, and wills are not published for it.
#[test]
fn everybody_is_told_of_a_shutdown() {
    check(
        "
        a < CONNECT v5 id=a clean will=w:gone
        a > CONNACK
        b < CONNECT v311 id=b clean will=w:gone
        b > CONNACK
        c < CONNECT v5 id=c expiry=60
        c > CONNACK
        c < SUBSCRIBE #1 w q1
        c > SUBACK #1 q1
        d < hex 10
        shutdown
        a > DISCONNECT 0x8b
        a > closed
        b > closed
        c > DISCONNECT 0x8b
        c > closed
        d > closed
        ledger received=0",
    );
}
