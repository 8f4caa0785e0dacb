//! SUBSCRIBE and UNSUBSCRIBE, MQTT 5 sections 3.8 to 3.11.

use std::fmt::Write;

use ringmq_codec::{SubscriptionOptions, Version};

use super::{Setup, check};
use crate::link::{Restored, Wanted};
use crate::options::SessionOptions;

const UP: &str = "
    add
      = connecting 0
      = dials 0
    accept
      > CONNECT v5 id=s clean
    < CONNACK
      = connected 0
      = ready
";

/// What is asked for before there is a connection goes in one packet, and the session is ready once all is
/// answered.
#[test]
fn many_filters_go_in_one_packet() {
    check(
        "
        add
          = connecting 0
          = dials 0
        subscribe b q1
        subscribe a q2 nl rap rh2
        subscribe c sub=5
        subscribe d sub=5
        accept
          > CONNECT v5 id=s clean
        < CONNACK
          = connected 0
          > SUBSCRIBE #61441 b q1, a q2 nl rap rh2
          > SUBSCRIBE #61442 sub=5 c q0, d q0
        < SUBACK #61441 0x01 0x87
          = s1: Granted QoS 1
          = s2: the broker refused: Not authorized
        < SUBACK #61442 0x00 0x00
          = ready
          = s3: Success
          = s4: Success
        # Not a second time on this connection.
        subscribe e
          > SUBSCRIBE #61443 e q0
        < SUBACK #61443 0x00
          = s5: Success",
    );
}

/// Up to the server's Maximum Packet Size.
#[test]
fn packets_of_filters_fit() {
    let mut transcript = String::from(
        "
        add
          = connecting 0
          = dials 0\n",
    );
    for nth in 0..5 {
        writeln!(transcript, "subscribe filter/{nth}").unwrap();
    }
    transcript += "
        subscribe ffffffffffffffffffffffffffffffffffffffff
        accept
          > CONNECT v5 id=s clean
        < CONNACK pmax=40
          = connected 0
          > SUBSCRIBE #61441 filter/0 q0, filter/1 q0
          > SUBSCRIBE #61442 filter/2 q0, filter/3 q0
          > SUBSCRIBE #61443 filter/4 q0
          = s6: the message makes a packet of 56 bytes, more than the 40 that are allowed";
    check(&transcript);
}

/// On each connection to a server that does not know the session.
#[test]
fn subscriptions_come_back() {
    check(&format!(
        "{UP}
        subscribe a q1
          > SUBSCRIBE #61441 a q1
        < SUBACK #61441 0x01
          = s1: Granted QoS 1
        subscribe b
          > SUBSCRIBE #61442 b q0
        < SUBACK #61442 0x87
          = s2: the broker refused: Not authorized
        subscribe c
          > SUBSCRIBE #61443 c q0
        unsubscribe a
          > UNSUBSCRIBE #61444 a
        subscribe d
          > SUBSCRIBE #61445 d q0
        cut
          = lost: the connection was lost; try 1 in 2000 ms
          = u1: Success
        unsubscribe d
          = s4: the broker refused: No subscription existed
          = u2: Success
        unsubscribe never
          = u3: Success
        +2s
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s
        < CONNACK
          = connected 0
          > SUBSCRIBE #61446 c q0, b q0
        < SUBACK #61446 0x00 0x00
          = ready
          = s3: Success
        cut
          = lost: the connection was lost; try 1 in 2000 ms
        unsubscribe b
          = u4: Success
        +2s
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s
        # It knows them, and has to be told of the end.
        < CONNACK present
          = connected 0 present
          > UNSUBSCRIBE #61447 b
        < UNSUBACK #61447 0x00
          = ready"
    ));
}

#[test]
fn subscriptions_end_with_a_lost_session_if_so_wanted() {
    Setup::new(|options| options.resume_subscriptions = false).check(&format!(
        "{UP}
        subscribe a
          > SUBSCRIBE #61441 a q0
        < SUBACK #61441 0x00
          = s1: Success
        cut
          = lost: the connection was lost; try 1 in 2000 ms
        subscribe b
        +2s
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s
        < CONNACK
          = connected 0
          > SUBSCRIBE #61442 b q0"
    ));
}

/// MQTT 3 forgets a clean session.
#[test]
fn a_clean_session_subscribes_each_time() {
    let v311 = |options: &mut SessionOptions| options.version = Version::V311;
    Setup::new(v311).check(
        "
        add
          = connecting 0
          = dials 0
        subscribe a q1
        accept
          > CONNECT v311 id=s clean
        < CONNACK
          = connected 0
          > SUBSCRIBE #61441 a q1
        < SUBACK #61441 0x80
          = ready
          = s1: the broker refused: Unspecified error
        unsubscribe x
          > UNSUBSCRIBE #61442 x
        < UNSUBACK #61442
          = u1: Success
        cut
          = lost: the connection was lost; try 1 in 2000 ms
        +2s
          = connecting 0
          = dials 0
        accept
          > CONNECT v311 id=s clean
        < CONNACK
          = connected 0
          > SUBSCRIBE #61443 a q1
        < SUBACK #61443 0x01
          = ready",
    );
}

#[test]
fn the_newest_wish_for_a_filter_counts() {
    check(&format!(
        "{UP}
        subscribe a q0
          > SUBSCRIBE #61441 a q0
        subscribe a q2
          > SUBSCRIBE #61442 a q2
        < SUBACK #61441 0x00
          = s1: Success
        < SUBACK #61442 0x02
          = s2: Granted QoS 2
        cut
          = lost: the connection was lost; try 1 in 2000 ms
        +2s
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s
        < CONNACK
          = connected 0
          > SUBSCRIBE #61443 a q2"
    ));
}

/// Sections 3.2.2.3.11 to 3.2.2.3.13: refused before it is sent.
#[test]
fn what_the_server_does_not_have_is_not_asked_for() {
    check(
        "
        add
          = connecting 0
          = dials 0
        subscribe a/+
        subscribe b
        subscribe $share/g/c
        subscribe d sub=3
        accept
          > CONNECT v5 id=s clean
        < CONNACK no-wildcards no-shared no-subs
          = connected 0
          > SUBSCRIBE #61441 b q0
          = s1: the broker refused: Wildcard Subscriptions not supported
          = s3: the broker refused: Shared Subscriptions not supported
          = s4: the broker refused: Subscription Identifiers not supported
        < SUBACK #61441 0x00
          = ready
          = s2: Success
        # Another server may have it.
        cut
          = lost: the connection was lost; try 1 in 2000 ms
        +2s
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s
        < CONNACK present
          = connected 0 present
          > SUBSCRIBE #61442 $share/g/c q0, a/+ q0
          > SUBSCRIBE #61443 sub=3 d q0",
    );
}

/// A store learns what was granted, and an earlier run's subscriptions are this one's.
#[test]
fn stores_know_subscriptions() {
    let kept = |filter: &str| Wanted {
        filter: filter.into(),
        options: SubscriptionOptions::default(),
        subscription_id: 0,
    };
    let restored =
        Restored { subscriptions: vec![kept("old/1"), kept("old/2")], resumes: true, ..Restored::default() };
    Setup::new(|options| options.session_expiry_s = 9).stored(restored).check(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s expiry=9
        < CONNACK present
          = connected 0 present
          = ready
        subscribe new
          > SUBSCRIBE #61441 new q0
        < SUBACK #61441 0x00
          = s1: Success
          = stores subscribed new
        unsubscribe old/1
          > UNSUBSCRIBE #61442 old/1
          = stores unsubscribed old/1
        cut
          = lost: the connection was lost; try 1 in 2000 ms
          = u1: Success
        +2s
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s expiry=9
        < CONNACK
          = connected 0
          > SUBSCRIBE #61443 new q0, old/2 q0
        < SUBACK #61443 0x00 0x00
          = ready
          = stores subscribed new
          = stores subscribed old/2",
    );
}
