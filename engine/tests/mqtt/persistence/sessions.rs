//! Sessions and their subscriptions.

use super::check;

/// [MQTT-4.1.0-1], [MQTT311-4.1.0-1]: with No Local, Retain As Published, QoS and identifiers.
#[test]
fn sessions_and_subscriptions_survive() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 sub=7 one/+ q1 nl rap, two q2
        a > SUBACK #1 q1 q2
        a < SUBSCRIBE #2 sub=9 $share/g/three q1
        a > SUBACK #2 q1
        b < CONNECT v311 id=b
        b > CONNACK
        b < SUBSCRIBE #1 two
        b > SUBACK #1 q0
        c < CONNECT v31 id=c
        c > CONNACK
        c < SUBSCRIBE #1 # q1
        c > SUBACK #1 q1
        traffic sessions=3 subscriptions=5 clients=3
        killed
        traffic sessions=3 subscriptions=5 clients=0
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        b < CONNECT v311 id=b
        b > CONNACK present
        a < PUBLISH one/x = own
        b < PUBLISH one/x retain = kept
        a > PUBLISH one/x retain sub=7 = kept
        b < PUBLISH two q2 #1 = both
        a > PUBLISH two q2 #1 sub=7 = both
        b > PUBLISH two = both
        b > PUBREC #1
        b < PUBLISH three q1 #2 = shared
        a > PUBLISH three q1 #2 sub=9 = shared
        b > PUBACK #2
        c < CONNECT v31 id=c
        c > CONNACK
        c > PUBLISH two q1 #1 = both
        c > PUBLISH three q1 #2 = shared",
    );
}

#[test]
fn what_was_unsubscribed_or_changed_stays_so() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 sub=1 one q1, two q1, $share/g/three q1, four q2 rap
        a > SUBACK #1 q1 q1 q1 q2
        a < UNSUBSCRIBE #2 one, $share/g/three
        a > UNSUBACK #2 ok ok
        a < SUBSCRIBE #3 four q1
        a > SUBACK #3 q1
        killed
        traffic subscriptions=2
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < PUBLISH one q1 #1 = x
        b > PUBACK #1 0x10
        b < PUBLISH two q1 #2 = x
        b > PUBACK #2
        b < PUBLISH three q1 #3 = x
        b > PUBACK #3 0x10
        b < PUBLISH four q2 #4 retain = x
        b > PUBREC #4
        # Also after the second start.
        killed
        traffic subscriptions=2
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        a > PUBLISH two q1 #1 dup sub=1 = x
        a > PUBLISH four q1 #2 dup = x",
    );
}

/// What ends with its connection ends with the process too. [MQTT-4.1.0-2], [MQTT311-3.1.2-6]
#[test]
fn a_session_of_one_connection_does_not_survive() {
    for connect in ["v5 id=a", "v5 id=a clean", "v311 id=a clean", "v31 id=a clean"] {
        check(&format!(
            "
            a < CONNECT {connect}
            a > CONNACK
            a < SUBSCRIBE #1 t q1, $share/g/t q1
            a > SUBACK #1 q1 q1
            killed
            traffic sessions=0 subscriptions=0
            a < CONNECT v311 id=a
            a > CONNACK
            b < CONNECT v5 id=b clean
            b > CONNACK
            b < PUBLISH t q1 #1 = x
            b > PUBACK #1 0x10"
        ));
    }
}

/// [MQTT-3.1.2-23]: the interval goes on while the broker does not run. A client that was connected to the
/// last counts as gone when the next process begins.
#[test]
fn expiry_counts_while_the_broker_is_down() {
    check(
        "
        a < CONNECT v5 id=a expiry=100
        a > CONNACK
        b < CONNECT v5 id=b expiry=100
        b > CONNACK
        c < CONNECT v311 id=c
        c > CONNACK
        p < CONNECT v5 id=p clean
        p > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        a cut
        p < PUBLISH t q1 #1 = x
        p > PUBACK #1
        +40s
        killed 40s
        ledger queued=1
        +19s
        traffic sessions=3
        +2s
        traffic sessions=2 message_bytes=0
        ledger queued=0 session_ended=1
        +70s
        killed
        # Now b has been away for 91 seconds.
        +8s
        traffic sessions=2
        +2s
        traffic sessions=1
        a < CONNECT v5 id=a
        a > CONNACK
        b < CONNECT v5 id=b
        b > CONNACK
        c < CONNECT v311 id=c
        c > CONNACK present",
    );
}

#[test]
fn a_session_may_expire_while_the_broker_is_down() {
    check(
        "
        a < CONNECT v5 id=a expiry=10
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        b < CONNECT v5 id=b expiry=4294967295
        b > CONNACK
        a cut
        killed 11s
        traffic sessions=1 subscriptions=0
        killed 100000000s
        a < CONNECT v5 id=a
        a > CONNACK
        b < CONNECT v5 id=b
        b > CONNACK present",
    );
}

/// [MQTT-3.1.2-4], [MQTT311-3.1.2-6]: with all that it had, and for good.
#[test]
fn a_clean_start_ends_what_was_stored() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        b < CONNECT v5 id=b clean
        b > CONNACK
        a cut
        b < PUBLISH t q1 #1 = old
        b > PUBACK #1
        killed
        a < CONNECT v5 id=a clean expiry=600
        a > CONNACK
        ledger session_ended=1 queued=0
        a < SUBSCRIBE #1 u q1
        a > SUBACK #1 q1
        killed
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < PUBLISH t q1 #1 = nobody
        b > PUBACK #1 0x10
        b < PUBLISH u q1 #2 = new
        b > PUBACK #2
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        a > PUBLISH u q1 #1 = new",
    );
}

/// Section 3.14.2.2.2: the interval of the last connection is the one that counts.
#[test]
fn a_goodbye_may_end_the_session() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < DISCONNECT expiry=0
        a > closed
        b < CONNECT v5 id=b expiry=600
        b > CONNACK
        b < DISCONNECT expiry=10
        b > closed
        c < CONNECT v5 id=c expiry=600
        c > CONNACK
        c cut
        c < CONNECT v5 id=c
        c > CONNACK present
        d < CONNECT v5 id=d
        d > CONNACK
        d cut
        d < CONNECT v5 id=d expiry=600
        d > CONNACK
        traffic sessions=3
        killed
        # That of c was to end with its connection.
        traffic sessions=2
        +11s
        traffic sessions=1
        c < CONNECT v5 id=c
        c > CONNACK
        d < CONNECT v5 id=d
        d > CONNACK present",
    );
}

/// [MQTT-3.1.4-3]: after a takeover there is one session, whose it is now.
#[test]
fn a_takeover_leaves_one_session() {
    check(
        "
        a < CONNECT v5 id=x expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        b < CONNECT v5 id=x expiry=600
        a > DISCONNECT 0x8e
        a > closed
        b > CONNACK present
        killed
        traffic sessions=1 subscriptions=1
        b < CONNECT v5 id=x expiry=600
        b > CONNACK present
        c < CONNECT v5 id=x clean expiry=600
        b > DISCONNECT 0x8e
        b > closed
        c > CONNACK
        c < SUBSCRIBE #1 u q1
        c > SUBACK #1 q1
        killed
        traffic sessions=1 subscriptions=1
        c < CONNECT v5 id=x expiry=600
        c > CONNACK present
        c < PUBLISH t = nobody
        c < PUBLISH u = x
        c > PUBLISH u = x",
    );
}

/// A session may be told by many processes one after the other.
#[test]
fn many_starts_change_nothing() {
    let mut transcript = String::from(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 sub=5 t q1
        a > SUBACK #1 q1\n",
    );
    for n in 1..=10 {
        transcript += &format!(
            "killed
            p < CONNECT v311 id=p clean
            p > CONNACK
            p < PUBLISH t q1 #1 = {n}
            p > PUBACK #1
            ledger queued={n}\n"
        );
    }
    transcript += "a < CONNECT v5 id=a expiry=600\na > CONNACK present\n";
    for n in 1..=10 {
        let dup = if n < 10 { " dup" } else { "" };
        transcript += &format!("a > PUBLISH t q1 #{n}{dup} sub=5 = {n}\n");
    }
    check(&transcript);
}
