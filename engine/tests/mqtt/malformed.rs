//! What breaks the rules, and what its sender is told. MQTT 5 section 4.13.

use crate::common::check;

/// [MQTT-4.13.1-1], [MQTT-4.13.2-1], [MQTT-3.14.4-1], [MQTT-3.14.4-2], [MQTT-3.14.2-2]: MQTT 5 has a reason
/// for everything, and the connection ends.
#[test]
fn a_fault_in_mqtt_5_is_answered_with_its_reason() {
    for (packet, reason, why) in [
        ("hex 00 00", "0x81", "packet type 0"),
        ("hex 20 03 00 00 00", "0x82", "CONNACK is for servers"),
        ("packet 90 00 01 00 00", "0x82", "SUBACK is for servers"),
        ("packet b0 00 01 00 00", "0x82", "UNSUBACK is for servers"),
        ("hex d0 00", "0x82", "PINGRESP is for servers"),
        ("packet 42 00 01", "0x81", "PUBACK's flags [MQTT-2.1.3-1]"),
        ("packet 60 00 01", "0x81", "PUBREL's flags [MQTT-3.6.1-1]"),
        ("packet 80 00 01 00 \"t\" 00", "0x81", "SUBSCRIBE's flags [MQTT-3.8.1-1]"),
        ("packet a0 00 01 00 \"t\"", "0x81", "UNSUBSCRIBE's flags [MQTT-3.10.1-1]"),
        ("hex c1 00", "0x81", "PINGREQ's flags [MQTT-2.1.3-1]"),
        ("hex e1 00", "0x81", "DISCONNECT's flags [MQTT-3.14.1-1]"),
        ("packet f1 18 00", "0x81", "AUTH's flags [MQTT-3.15.1-1]"),
        ("packet 36 \"t\" 00 01 00", "0x81", "QoS 3 [MQTT-3.3.1-4]"),
        ("packet 38 \"t\" 00", "0x81", "DUP at QoS 0 [MQTT-3.3.1-2]"),
        ("packet 32 \"t\" 00 00 00", "0x82", "identifier 0 [MQTT-2.2.1-3]"),
        ("PUBLISH a/+ = x", "0x90", "a wildcard in a name [MQTT-3.3.2-2] [MQTT-4.7.0-1]"),
        ("packet 30 \"a/#\" 00", "0x90", "a wildcard in a name [MQTT-3.3.2-2] [MQTT-4.7.0-1]"),
        ("PUBLISH - = x", "0x82", "an empty name [MQTT-4.7.3-1]"),
        ("packet 30 00 01 00 00", "0x81", "a null character [MQTT-1.5.4-2] [MQTT-4.7.3-2]"),
        ("packet 30 00 01 ff 00", "0x81", "a name that is no UTF-8 [MQTT-1.5.4-1] [MQTT-3.3.2-1]"),
        ("packet 30 00 03 ed a0 80 00", "0x81", "half a surrogate pair [MQTT-1.5.4-1]"),
        ("packet 30 00 05 't' 00", "0x81", "a name past the end of the packet"),
        ("packet 32 \"t\" 00", "0x81", "no room for an identifier"),
        ("packet 30 \"t\" 05 01", "0x81", "properties past the end of the packet"),
        ("packet 30 \"t\" 80 00", "0x81", "a length that is too long [MQTT-1.5.5-1]"),
        ("hex 30 84 00 00 01 't' 00", "0x81", "a length that is too long [MQTT-1.5.5-1]"),
        ("hex 30 ff ff ff ff 01", "0x81", "a length of five bytes [MQTT-1.5.5-1]"),
        ("packet 30 \"t\" 02 7f 00", "0x81", "an unknown property"),
        ("packet 30 \"t\" 03 13 00 01", "0x81", "a property of CONNACK"),
        ("packet 30 \"t\" 04 01 00 01 00", "0x82", "a property twice"),
        ("packet 30 \"t\" 02 01 02", "0x82", "a Payload Format Indicator of 2"),
        ("PUBLISH t alias=0", "0x94", "alias 0 [MQTT-3.3.2-8]"),
        ("PUBLISH t sub=7", "0x82", "a client's subscription identifier [MQTT-3.3.4-6]"),
        ("PUBLISH t rt=a/+", "0x82", "a wildcard in a response topic [MQTT-3.3.2-14]"),
        ("packet 30 \"t\" 04 08 00 01 ff", "0x81", "a response topic that is no UTF-8 [MQTT-3.3.2-13]"),
        ("packet 30 \"t\" 04 03 00 01 ff", "0x81", "a content type that is no UTF-8 [MQTT-3.3.2-19]"),
        ("packet 30 \"t\" 07 26 00 01 ff 00 01 'v'", "0x81", "a name that is no UTF-8 [MQTT-1.5.7-1]"),
        ("packet 30 \"t\" 07 26 00 01 'k' 00 01 ff", "0x81", "a value that is no UTF-8 [MQTT-1.5.7-1]"),
        ("packet 40 00 00", "0x82", "an identifier of 0"),
        ("packet 40 00 01 01", "0x82", "a PUBACK's reason [MQTT-3.4.2-1]"),
        ("packet 50 00 01 92", "0x82", "a PUBREC's reason [MQTT-3.5.2-1]"),
        ("packet 62 00 01 80", "0x82", "a PUBREL's reason [MQTT-3.6.2-1]"),
        ("packet 70 00 01 80", "0x82", "a PUBCOMP's reason [MQTT-3.7.2-1]"),
        ("packet 40 00 01 00 05 1f \"a\"", "0x81", "properties past the end of the packet"),
        ("packet 40 00 01 00 08 1f \"a\" 1f \"b\"", "0x82", "two reason strings [MQTT-3.4.2-2]"),
        ("packet 50 00 01 00 08 1f \"a\" 1f \"b\"", "0x82", "two reason strings [MQTT-3.5.2-2]"),
        ("packet 62 00 01 00 08 1f \"a\" 1f \"b\"", "0x82", "two reason strings [MQTT-3.6.2-2]"),
        ("packet 70 00 01 00 08 1f \"a\" 1f \"b\"", "0x82", "two reason strings [MQTT-3.7.2-2]"),
        ("SUBSCRIBE #1 ", "0x82", "no filter [MQTT-3.8.3-2] [MQTT-3.8.3-3]"),
        ("SUBSCRIBE #0 t", "0x82", "identifier 0 [MQTT-2.2.1-3]"),
        ("SUBSCRIBE #1 sub=0 t", "0x82", "subscription identifier 0"),
        ("packet 82 00 01 04 0b 01 0b 02 \"t\" 00", "0x82", "two subscription identifiers"),
        ("packet 82 00 01 00 00 01 ff 00", "0x81", "a filter that is no UTF-8 [MQTT-3.8.3-1]"),
        ("packet 82 00 01 00 \"t\" 40", "0x81", "a reserved option [MQTT-3.8.3-5]"),
        ("packet 82 00 01 00 \"t\" 80", "0x81", "a reserved option [MQTT-3.8.3-5]"),
        ("packet 82 00 01 00 \"t\" 03", "0x82", "a Maximum QoS of 3"),
        ("packet 82 00 01 00 \"t\" 30", "0x82", "Retain Handling 3"),
        ("packet 82 00 01 00 \"t\"", "0x81", "a filter without options"),
        ("SUBSCRIBE #1 $share/g/t nl", "0x82", "No Local on a shared one [MQTT-3.8.3-4]"),
        ("UNSUBSCRIBE #1 ", "0x82", "no filter [MQTT-3.10.3-2]"),
        ("packet a2 00 01 00 00 01 ff", "0x81", "a filter that is no UTF-8 [MQTT-3.10.3-1]"),
        ("packet e0 01", "0x82", "a DISCONNECT's reason [MQTT-3.14.2-1]"),
        ("packet e0 00 08 1f \"a\" 1f \"b\"", "0x82", "two reason strings [MQTT-3.14.2-3]"),
        ("packet e0 00 0a 11 00 00 00 01 11 00 00 00 01", "0x82", "a property twice"),
        ("packet f0 01", "0x82", "an AUTH's reason [MQTT-3.15.2-1]"),
        ("packet f0 18 00", "0x82", "an AUTH without a method"),
        ("hex c0 01 00", "0x81", "a PINGREQ with a body"),
    ] {
        println!("{why}");
        check(&format!(
            "
            a < CONNECT v5 id=a clean
            a > CONNACK
            a << {packet}
            # What comes behind a fault is not looked at.
            a < PINGREQ
            a > DISCONNECT {reason}
            a > closed
            traffic violations=1 partial_bytes=0 sessions=0 subscriptions=0"
        ));
    }
}

/// [MQTT311-4.8.0-1], [MQTT311-3.14.4-2]: older versions are not told why.
#[test]
fn a_fault_in_mqtt_3_ends_the_connection() {
    for (packet, why) in [
        ("hex 00 00", "packet type 0"),
        ("hex f0 00", "packet type 15"),
        ("hex 20 02 00 00", "CONNACK is for servers"),
        ("packet 90 00 01 00", "SUBACK is for servers"),
        ("packet b0 00 01", "UNSUBACK is for servers"),
        ("hex d0 00", "PINGRESP is for servers"),
        ("packet 60 00 01", "PUBREL's flags [MQTT311-3.6.1-1] [MQTT311-2.2.2-2]"),
        ("packet 80 00 01 \"t\" 00", "SUBSCRIBE's flags [MQTT311-3.8.1-1] [MQTT311-2.2.2-1]"),
        ("packet a0 00 01 \"t\"", "UNSUBSCRIBE's flags [MQTT311-3.10.1-1]"),
        ("hex c1 00", "PINGREQ's flags [MQTT311-2.2.2-2]"),
        ("hex e1 00", "DISCONNECT's flags [MQTT311-3.14.1-1]"),
        ("packet 36 \"t\" 00 01", "QoS 3 [MQTT311-3.3.1-4]"),
        ("packet 38 \"t\"", "DUP at QoS 0 [MQTT311-3.3.1-2]"),
        ("packet 32 \"t\" 00 00", "identifier 0 [MQTT311-2.3.1-1]"),
        ("PUBLISH a/+ = x", "a wildcard in a name [MQTT311-3.3.2-2]"),
        ("packet 30 \"a/#\"", "a wildcard in a name [MQTT311-3.3.2-2]"),
        ("PUBLISH - = x", "an empty name [MQTT311-4.7.3-1]"),
        ("packet 30 00 01 00", "a null character [MQTT311-4.7.3-2] [MQTT311-1.5.3-2]"),
        ("packet 30 00 01 ff", "a name that is no UTF-8 [MQTT311-1.5.3-1] [MQTT311-3.3.2-1]"),
        ("packet 30 00 03 ed a0 80", "half a surrogate pair [MQTT311-1.5.3-1]"),
        ("packet 40 00 00", "identifier 0"),
        ("packet 40 00 01 00", "a reason, which 3.1.1 does not know"),
        ("SUBSCRIBE #1 ", "no filter [MQTT311-3.8.3-3]"),
        ("packet 82 00 01 00 01 ff 00", "a filter that is no UTF-8 [MQTT311-3.8.3-1]"),
        ("packet 82 00 01 \"t\" 03", "QoS 3 [MQTT311-3.8.3-4]"),
        ("packet 82 00 01 \"t\" 04", "a reserved bit [MQTT311-3.8.3-4]"),
        ("UNSUBSCRIBE #1 ", "no filter [MQTT311-3.10.3-2]"),
        ("packet a2 00 01 00 01 ff", "a filter that is no UTF-8 [MQTT311-3.10.3-1]"),
        ("hex e0 01 00", "a DISCONNECT with a body"),
        ("hex c0 01 00", "a PINGREQ with a body"),
    ] {
        println!("{why}");
        check(&format!(
            "
            a < CONNECT v311 id=a clean
            a > CONNACK
            a << {packet}
            a < PINGREQ
            a > closed
            traffic violations=1 partial_bytes=0 sessions=0 subscriptions=0"
        ));
    }
}

/// [MQTT-3.1.2-29]: a client that wants no explanations is told the reason code all the same, and one
/// that takes only short packets gets a short one. [MQTT-3.14.2-3], [MQTT-3.14.2-4]
#[test]
fn explanations_are_left_out_where_they_are_not_wanted() {
    for (connect, explained) in
        [("", true), ("problems=1", true), ("problems=0", false), ("pmax=20", false), ("pmax=100", true)]
    {
        let mut broker = crate::common::Setup::new().start(2);
        broker.play(&format!("a < CONNECT v5 id=a clean {connect}\na > CONNACK"));
        let client = broker.client("a");
        broker.send_bytes(client, &[0x36, 0]);
        broker.world.run_until_idle();
        let received = broker.world.received(client).to_vec();
        assert_eq!(received.len() > 4, explained, "with {connect}: {received:?}");
        broker.play("+0s\na > DISCONNECT 0x81\na > closed");
        broker.finish();
    }
}

/// An empty filter is wrong, but not the packet. [MQTT-4.7.3-1], [MQTT311-4.7.3-1]
#[test]
fn an_empty_filter_is_refused_by_itself() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < packet 82 00 01 00 00 00 00 \"t\" 00
        a > SUBACK #1 0x8f q0
        a < packet a2 00 02 00 00 00 \"t\"
        a > UNSUBACK #2 0x8f ok",
    );
}

/// Packets before a fault are dealt with, those behind it are not.
#[test]
fn what_came_before_a_fault_counts() {
    // A violation in the middle of a run: what came before counts.
    check(
        "
        w < CONNECT v5 id=w clean
        w > CONNACK
        w < SUBSCRIBE #1 t
        w > SUBACK #1 q0
        a < CONNECT v5 id=a clean
        a > CONNACK
        a << PUBLISH t = 1
        a << PUBLISH t = 2
        a << hex 36 00
        a < PUBLISH t = 3
        a > DISCONNECT 0x81
        a > closed
        w > PUBLISH t = 1
        w > PUBLISH t = 2",
    );
}
