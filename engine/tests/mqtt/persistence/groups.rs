//! Shared subscriptions.

use super::check;

/// Members that are away are members still, and what waits for the group waits with them.
#[test]
fn messages_wait_for_the_members_of_a_group() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q1
        a > SUBACK #1 q1
        p < CONNECT v311 id=p clean
        p > CONNACK
        a cut
        p < PUBLISH t q1 #1 = 1
        p > PUBACK #1
        killed
        p < CONNECT v311 id=p clean
        p > CONNACK
        p < PUBLISH t q2 #2 = 2
        p > PUBREC #2
        ledger queued=2
        # Somebody who is there goes first.
        b < CONNECT v5 id=b expiry=600
        b > CONNACK
        b < SUBSCRIBE #1 $share/g/t q1
        b > SUBACK #1 q1
        p < PUBLISH t q1 #3 = 3
        b > PUBLISH t q1 #1 = 3
        p > PUBACK #3
        b < PUBACK #1
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        a > PUBLISH t q1 #1 dup = 1
        a > PUBLISH t q1 #2 = 2",
    );
}

/// What a member left behind when its session ends goes to others, whatever process gave it to that member.
#[test]
fn messages_of_a_session_that_ends_go_to_others() {
    check(
        "
        a < CONNECT v5 id=a expiry=100 rmax=1
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q1
        a > SUBACK #1 q1
        p < CONNECT v311 id=p clean
        p > CONNACK
        p < PUBLISH t q1 #1 = 1
        a > PUBLISH t q1 #1 = 1
        p > PUBACK #1
        p < PUBLISH t q1 #2 = 2
        p > PUBACK #2
        killed
        b < CONNECT v5 id=b expiry=600
        b > CONNACK
        b < SUBSCRIBE #1 $share/g/t q1
        b > SUBACK #1 q1
        ledger queued=2
        +99s
        +2s
        b > PUBLISH t q1 #1 = 1
        b > PUBLISH t q1 #2 = 2
        traffic sessions=1
        killed
        ledger queued=2
        b < CONNECT v5 id=b expiry=600
        b > CONNACK present
        b > PUBLISH t q1 #1 dup = 1
        b > PUBLISH t q1 #2 dup = 2
        b < PUBACK #1
        b < PUBACK #2
        killed
        ledger queued=0
        traffic message_bytes=0",
    );
}

/// What was not sent to a member that went away is with another when the process is killed, and stays there.
#[test]
fn what_moved_to_another_member_stays_there() {
    check(
        "
        a < CONNECT v5 id=a expiry=600 rmax=1
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q1
        a > SUBACK #1 q1
        p < CONNECT v311 id=p clean
        p > CONNACK
        p < PUBLISH t q1 #1 = 1
        a > PUBLISH t q1 #1 = 1
        p > PUBACK #1
        p < PUBLISH t q1 #2 = 2
        p > PUBACK #2
        b < CONNECT v5 id=b expiry=600
        b > CONNACK
        b < SUBSCRIBE #1 $share/g/t q1
        b > SUBACK #1 q1
        a cut
        b > PUBLISH t q1 #1 = 2
        killed
        ledger queued=2
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        a > PUBLISH t q1 #1 dup = 1
        b < CONNECT v5 id=b expiry=600
        b > CONNACK present
        b > PUBLISH t q1 #1 dup = 2
        # The place of the one that moved is not used again.
        b cut
        p < CONNECT v311 id=p clean
        p > CONNACK
        p < PUBLISH t q1 #1 = 3
        a > PUBLISH t q1 #3 = 3
        p > PUBACK #1",
    );
}

/// [MQTT-4.8.2-4], [MQTT-4.8.2-5]: a QoS 2 message that a member may have is completed with that member.
#[test]
fn a_qos_2_message_stays_with_its_member() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q2
        a > SUBACK #1 q2
        p < CONNECT v311 id=p clean
        p > CONNACK
        p < PUBLISH t q2 #1 = 1
        a > PUBLISH t q2 #1 = 1
        p > PUBREC #1
        a < PUBREC #1
        a > PUBREL #1
        killed
        b < CONNECT v5 id=b expiry=600
        b > CONNACK
        b < SUBSCRIBE #1 $share/g/t q2
        b > SUBACK #1 q2
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        a > PUBREL #1
        a < PUBCOMP #1
        ledger delivered=1 queued=0",
    );
}

/// The same for what was sent before the kill and waits for room after it: its packet id is the member's.
#[test]
fn a_qos_2_message_that_was_sent_once_stays_with_its_member() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q2
        a > SUBACK #1 q2
        p < CONNECT v311 id=p clean
        p > CONNACK
        p < PUBLISH t q2 #1 = 1
        a > PUBLISH t q2 #1 = 1
        p > PUBREC #1
        p < PUBLISH t q2 #2 = 2
        a > PUBLISH t q2 #2 = 2
        p > PUBREC #2
        killed
        b < CONNECT v5 id=b expiry=600
        b > CONNACK
        b < SUBSCRIBE #1 $share/g/t q2
        b > SUBACK #1 q2
        a < CONNECT v5 id=a expiry=600 rmax=1
        a > CONNACK present
        a > PUBLISH t q2 #1 dup = 1
        a cut
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        a > PUBLISH t q2 #1 dup = 1
        a > PUBLISH t q2 #2 dup = 2
        ledger queued=2",
    );
}
