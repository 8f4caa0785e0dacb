//! CONNECT and CONNACK, MQTT 5 sections 3.1 and 3.2, and what precedes and follows them.

use super::{Setup, check};

#[test]
fn a_session_connects_publishes_and_subscribes() {
    check(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s clean
        < CONNACK
          = connected 0
          = ready
        publish t = zero
          > PUBLISH t = zero
          = p1: Success
        publish t q1 = one
          > PUBLISH t q1 #1 = one
        < PUBACK #1
          = p2: Success
        publish t q2 = two
          > PUBLISH t q2 #2 = two
        < PUBREC #2
          > PUBREL #2
        < PUBCOMP #2
          = p3: Success
        subscribe a/+ q1
          > SUBSCRIBE #61441 a/+ q1
        < SUBACK #61441 0x01
          = s1: Granted QoS 1
        < PUBLISH a/b q1 #7 = hello
          > PUBACK #7
        unsubscribe a/+
          > UNSUBSCRIBE #61442 a/+
        < UNSUBACK #61442 0x00
          = u1: Success
        disconnect
          = disconnected
          > DISCONNECT
          > closed",
    );
}
