//! CONNECT and CONNACK, MQTT 5 sections 3.1 and 3.2, and what precedes and follows them.

use std::sync::Arc;

use bytes::Bytes;
use ringmq_codec::{QoS, Version};

use super::{Setup, check};
use crate::auth::{AuthError, Credentials, CredentialsProvider, CredentialsSource};
use crate::message::MessageProperties;
use crate::options::{SessionOptions, Will};

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

/// [MQTT-3.1.0-1] in the three versions.
#[test]
fn every_version_connects() {
    for (version, name) in [(Version::V31, "v31"), (Version::V311, "v311"), (Version::V5, "v5")] {
        Setup::new(|options| options.version = version).check(&format!(
            "
            add
              = connecting 0
              = dials 0
            accept
              > CONNECT {name} id=s clean
            < CONNACK
              = connected 0
              = ready
            publish t q1 = one
              > PUBLISH t q1 #1 = one
            < PUBACK #1
              = p1: Success
            remove
              = removed
              > DISCONNECT
              > closed"
        ));
    }
}

/// Every option that is for the server.
#[test]
fn options_are_in_the_connect() {
    let connects = |change: fn(&mut SessionOptions), expected: &str| {
        Setup::new(change).check(&format!(
            "
            add
              = connecting 0
              = dials 0
            accept
              > CONNECT {expected}"
        ));
    };
    connects(|options| options.client_id = "other".into(), "v5 id=other clean");
    connects(|options| options.clean_start = false, "v5 id=s");
    connects(|options| options.session_expiry_s = 300, "v5 id=s clean expiry=300");
    connects(|options| options.keep_alive_s = 7, "v5 id=s clean keep=7");
    connects(|options| options.receive_maximum = 20, "v5 id=s clean rmax=20");
    connects(|options| options.packet_bytes_max = 5000, "v5 id=s clean pmax=5000");
    connects(|options| options.topic_alias_maximum = 3, "v5 id=s clean amax=3");
    connects(|options| options.request_response_information = true, "v5 id=s clean responses=1");
    connects(|options| options.request_problem_information = false, "v5 id=s clean problems=0");
    connects(
        |options| options.connect_user_properties = vec![("a".into(), "b".into()), ("a".into(), "c".into())],
        "v5 id=s clean prop=a:b prop=a:c",
    );
    connects(
        |options| {
            options.credentials = CredentialsSource::Fixed(Box::new(Credentials {
                user: Some("u".into()),
                password: Some(Bytes::from_static(b"p")),
            }));
        },
        "v5 id=s clean user=u pass=p",
    );
    connects(
        |options| {
            options.version = Version::V311;
            options.clean_start = false;
            options.will = Some(Box::new(Will {
                topic: "w".into(),
                payload: Bytes::from_static(b"gone"),
                qos: QoS::AtLeastOnce,
                retain: true,
                ..Will::default()
            }));
        },
        "v311 id=s will=w:gone will.q1 will.retain",
    );
    connects(
        |options| {
            options.will = Some(Box::new(Will {
                topic: "w".into(),
                payload: Bytes::from_static(b"gone"),
                delay_s: 5,
                message_expiry_s: Some(60),
                properties: MessageProperties {
                    payload_is_text: true,
                    content_type: Some("text".into()),
                    response_topic: Some("r".into()),
                    correlation_data: Some(Bytes::from_static(b"c")),
                    user: vec![("a".into(), "b".into())],
                },
                ..Will::default()
            }));
        },
        "v5 id=s clean will=w:gone will.q0 will.delay=5 will.expiry=60 will.pfi=1 will.ct=text will.rt=r will.cd=c \
         will.prop=a:b",
    );
}

/// The first connection as all others: addresses in turn, then a wait that grows.
#[test]
fn addresses_are_tried_in_order_and_waits_grow() {
    let two = |options: &mut SessionOptions| options.addresses = vec!["mqtt://a".into(), "mqtt://b".into()];
    Setup::new(two).check(
        "
        add
          = connecting 0
          = dials 0
        refuse
          = lost: mqtt://a: nobody listens there; try 1 in 0 ms
          = connecting 1
          = dials 1
        refuse
          = lost: mqtt://b: nobody listens there; try 2 in 2000 ms
        +1999ms
        +1ms
          = connecting 0
          = dials 0
        refuse
          = lost: mqtt://a: nobody listens there; try 3 in 0 ms
          = connecting 1
          = dials 1
        refuse
          = lost: mqtt://b: nobody listens there; try 4 in 3000 ms
        +3s
          = connecting 0
          = dials 0
        refuse
          = lost: mqtt://a: nobody listens there; try 5 in 0 ms
          = connecting 1
          = dials 1
        accept
          > CONNECT v5 id=s clean
        < CONNACK
          = connected 1
          = ready
        # A connection that worked begins anew.
        cut
          = lost: the connection was lost; try 1 in 2000 ms
        connect
          = connecting 0
          = dials 0",
    );
}

#[test]
fn what_takes_too_long_is_given_up() {
    Setup::new(|options| options.connect_timeout_ms = 5_000).check(
        "
        add
          = connecting 0
          = dials 0
        +4999ms
        +17ms
          = lost: mqtt://one: no connection within 5 s; try 1 in 2000 ms
          = gives up dialing
        +3s
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s clean
        +5s
          = lost: mqtt://one: no CONNACK within 5 s; try 2 in 3000 ms
          > closed",
    );
}

/// A refusal is final where trying again is of no use, but only if every address says so.
#[test]
fn refusals_are_final_or_not() {
    check(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s clean
        < CONNACK 0x89 why=later
          = lost: mqtt://one: the broker refused: Server busy (later); try 1 in 2000 ms
          > closed
        +2s
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s clean
        < CONNACK 0x86
          = lost: mqtt://one: the broker refused: Bad User Name or Password; given up
          > closed
        +1000s
        # The program may have it tried again.
        connect
          = connecting 0
          = dials 0",
    );
    let two = |options: &mut SessionOptions| options.addresses = vec!["mqtt://a".into(), "mqtt://b".into()];
    Setup::new(two).check(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s clean
        < CONNACK 0x87
          = lost: mqtt://a: the broker refused: Not authorized; try 1 in 0 ms
          = connecting 1
          = dials 1
          > closed
        refuse
          = lost: mqtt://b: nobody listens there; try 2 in 2000 ms
        +2s
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s clean
        < CONNACK 0x87
          = lost: mqtt://a: the broker refused: Not authorized; try 3 in 0 ms
          = connecting 1
          = dials 1
          > closed
        accept
          > CONNECT v5 id=s clean
        < CONNACK 0x8a
          = lost: mqtt://b: the broker refused: Banned; given up
          > closed",
    );
    Setup::new(|options| options.reconnect = false).check(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s clean
        < CONNACK
          = connected 0
          = ready
        cut
          = lost: the connection was lost; given up
        +1000s",
    );
}

/// MQTT 3's return codes 1 to 5.
#[test]
fn return_codes_of_mqtt_3_become_reason_codes() {
    for (code, said) in [
        ("84", "Unsupported Protocol Version; given up"),
        ("85", "Client Identifier not valid; given up"),
        ("88", "Server unavailable; try 1 in 2000 ms"),
        ("86", "Bad User Name or Password; given up"),
        ("87", "Not authorized; given up"),
    ] {
        for version in [Version::V31, Version::V311] {
            let name = if version == Version::V31 { "v31" } else { "v311" };
            Setup::new(|options| options.version = version).check(&format!(
                "
                add
                  = connecting 0
                  = dials 0
                accept
                  > CONNECT {name} id=s clean
                < CONNACK 0x{code}
                  = lost: mqtt://one: the broker refused: {said}
                  > closed"
            ));
        }
    }
    Setup::new(|options| options.version = Version::V311).check(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v311 id=s clean
        < hex 20 02 00 06
          = lost: the broker broke the protocol: reason code 0x06 does not belong in this packet; try 1 in 2000 ms
          > closed",
    );
}

/// [MQTT-3.1.3-7]: the server's choice stays the session's name.
#[test]
fn an_assigned_client_id_is_used_again() {
    Setup::new(|options| options.client_id = "".into()).check(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id= clean
        < CONNACK id=auto
          = connected 0
          = ready
        reconnect
          = disconnected
          = connecting 0
          = dials 0
          > DISCONNECT
          > closed
        accept
          > CONNECT v5 id=auto",
    );
}

/// [MQTT-3.1.2-21]
#[test]
fn the_servers_keep_alive_counts() {
    check(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s clean
        < CONNACK keep=10
          = connected 0
          = ready
        +9s
        +1s
          > PINGREQ
        < PINGRESP
        +10s
          > PINGREQ
        < PINGRESP",
    );
}

#[test]
fn a_server_that_is_silent_after_a_ping_is_given_up() {
    Setup::new(|options| options.ping_timeout_ms = 5_000).check(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s clean
        < CONNACK
          = connected 0
          = ready
        +30s
        # What is sent postpones the ping, but nothing was heard.
        publish t = x
          > PUBLISH t = x
          = p1: Success
        +30s
          > PINGREQ
        # Any bytes are a sign of life.
        +4s
        < PUBLISH t = y
        +4s
        +1s
          = lost: the broker did not answer a ping within 5 s; try 1 in 2000 ms
          > closed",
    );
    // Without a Keep Alive there are no pings.
    Setup::new(|options| options.keep_alive_s = 0).check(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s clean keep=0
        < CONNACK
          = connected 0
          = ready
        +100000s",
    );
}

#[test]
fn a_server_that_takes_nothing_is_given_up() {
    Setup::new(|options| {
        options.write_timeout_ms = 5_000;
        options.keep_alive_s = 0;
    })
    .check(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s clean keep=0
        < CONNACK
          = connected 0
          = ready
        +100s
        stalls
        publish t = x
          = p1: Success
        +4s
        drains
          > PUBLISH t = x
        stalls
        publish t = y
          = p2: Success
        # It took the first one.
        +1s
        +4s
        +1s
          = lost: the broker took nothing of what was sent for 5 s; try 1 in 2000 ms
          > PUBLISH t = y
          > closed",
    );
}

/// [MQTT-3.2.2-2] and what else no server does.
#[test]
fn breaches_end_the_connection() {
    let up = "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT {v} id=s clean
        < CONNACK
          = connected 0
          = ready";
    for (packet, code, what) in [
        ("CONNACK", "0x82", "CONNACK came twice"),
        ("hex 82 06 00 01 00 00 01 74", "0x82", "Subscribe came, which only a client sends"),
        ("hex c0 00", "0x82", "PingReq came, which only a client sends"),
        ("hex 00 00", "0x81", "packet type 0 is reserved"),
        ("hex 30 ff ff ff ff", "0x81", "a variable byte integer is not minimal or too long"),
        ("hex 36 03 00 01 74", "0x81", "QoS 3"),
        ("PUBLISH a/# = x", "0x90", "the topic name holds a wildcard"),
        ("SUBACK #61441 0x00", "0x82", "SUBACK 61441 does not answer what was asked"),
        ("UNSUBACK #61441 0x00", "0x82", "UNSUBACK 61441 does not answer what was asked"),
        ("PUBLISH t alias=17 = x", "0x94", "topic alias 17 is above the maximum of 16"),
        ("PUBLISH - alias=3 = x", "0x82", "topic alias 3 was not given a topic"),
        ("AUTH 0x18 auth=x", "0x82", "AUTH came without an authentication under way"),
        ("PUBLISH - = x", "0x82", "the topic name is empty"),
    ] {
        let up = up.replace("{v}", "v5");
        check(&format!(
            "{up}
            < {packet}
              = lost: the broker broke the protocol: {what}; try 1 in 2000 ms
              > DISCONNECT {code}
              > closed"
        ));
    }
    // MQTT 3 has no words for it, and only a client says DISCONNECT there.
    for (packet, what) in [
        ("DISCONNECT", "Disconnect came, which only a client sends"),
        ("PUBLISH a/# = x", "the topic name holds a wildcard"),
    ] {
        let up = up.replace("{v}", "v311");
        Setup::new(|options| options.version = Version::V311).check(&format!(
            "{up}
            < {packet}
              = lost: the broker broke the protocol: {what}; try 1 in 2000 ms
              > closed"
        ));
    }
    for (packet, what) in [
        ("PUBLISH t = x", "Publish came before CONNACK"),
        ("CONNACK present", "CONNACK resumes a session after a clean start"),
        ("CONNACK auth=x", "an authentication that was not asked for"),
    ] {
        check(&format!(
            "
            add
              = connecting 0
              = dials 0
            accept
              > CONNECT v5 id=s clean
            < {packet}
              = lost: the broker broke the protocol: {what}; try 1 in 2000 ms
              > closed"
        ));
    }
}

/// [MQTT-3.14.4-1], section 4.11
#[test]
fn what_a_server_says_last_is_told() {
    let up = "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s clean
        < CONNACK
          = connected 0
          = ready";
    for (packet, what) in [
        ("DISCONNECT 0x8b why=upgrade", "Server shutting down (upgrade); try 1 in 2000 ms"),
        ("DISCONNECT 0x8e", "Session taken over; given up"),
        ("DISCONNECT 0x9c reference=other", "Use another server; try 1 in 2000 ms"),
        ("DISCONNECT 0xa0", "Maximum connect time; try 1 in 2000 ms"),
    ] {
        check(&format!(
            "{up}
            < {packet}
              = lost: the broker disconnected: {what}
              > closed"
        ));
    }
}

#[test]
fn credentials_are_fetched_for_every_connection() {
    #[derive(Debug)]
    struct Fetched;
    impl CredentialsProvider for Fetched {
        fn credentials(&self) -> Result<Credentials, AuthError> {
            unreachable!("the test answers")
        }
    }
    Setup::new(|options| options.credentials = CredentialsSource::Provider(Arc::new(Fetched))).check(
        "
        add
          = connecting 0
          = needs credentials
        credentials me secret
          = dials 0
        accept
          > CONNECT v5 id=s clean user=me pass=secret
        # They may be out of date.
        < CONNACK 0x87
          = lost: mqtt://one: the broker refused: Not authorized; try 1 in 2000 ms
          > closed
        credentials late too
        +2s
          = connecting 0
          = needs credentials
        credentials fail
          = lost: authentication failed: no token; try 2 in 3000 ms
        +3s
          = connecting 0
          = needs credentials
        +30s
          = lost: mqtt://one: no credentials within 30 s; try 3 in 4500 ms",
    );
}
