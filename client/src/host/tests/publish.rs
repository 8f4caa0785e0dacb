//! Publications, MQTT 5 sections 3.3 to 3.7, 4.3, 4.4 and 4.9.

use ringmq_codec::{QoS, Version};

use super::{Setup, check};
use crate::link::{Number, Restored};
use crate::message::Message;
use crate::options::{LostSession, SessionOptions};

/// Connected, in a session that outlives its connections.
const UP: &str = "
    add
      = connecting 0
      = dials 0
    accept
      > CONNECT v5 id=s expiry=100
    < CONNACK
      = connected 0
      = ready
";

fn keeping(options: &mut SessionOptions) {
    options.clean_start = false;
    options.session_expiry_s = 100;
}

#[track_caller]
fn check_up(transcript: &str) {
    Setup::new(keeping).check(&format!("{UP}{transcript}"));
}

const AGAIN: &str = "
    cut
      = lost: the connection was lost; try 1 in 2000 ms
    +2s
      = connecting 0
      = dials 0
    accept
      > CONNECT v5 id=s expiry=100
";

#[test]
fn publications_wait_for_a_connection_in_order() {
    check(
        "
        publish a = early
        add
          = connecting 0
          = dials 0
        publish a q1 = one
        publish a = two
        publish a q2 = three
        accept
          > CONNECT v5 id=s clean
        publish a = four
        < CONNACK
          = connected 0
          = ready
          > PUBLISH a = early
          > PUBLISH a q1 #1 = one
          > PUBLISH a = two
          > PUBLISH a q2 #2 = three
          > PUBLISH a = four
          = p1: Success
          = p3: Success
          = p5: Success",
    );
}

/// Beyond the bound the program is told so.
#[test]
fn offline_publications_are_bounded() {
    Setup::new(|options| options.offline_messages_max = 2).check(
        "
        add
          = connecting 0
          = dials 0
        publish a = one
        publish a q1 = two
        publish a = three
          = p3: the session holds 2 messages that wait to be sent, as many as it may: wait, or raise the bound
        accept
          > CONNECT v5 id=s clean
        < CONNACK
          = connected 0
          = ready
          > PUBLISH a = one
          > PUBLISH a q1 #1 = two
          = p1: Success
        publish a = four
          > PUBLISH a = four
          = p4: Success",
    );
}

/// [MQTT-3.3.4-9]: the server's Receive Maximum, and ours. What waits behind keeps its place, at QoS 0 too.
#[test]
fn the_window_bounds_what_is_in_flight() {
    for (ours, theirs) in [(2, 100), (100, 2)] {
        Setup::new(|options| options.inflight_messages_max = ours).check(&format!(
            "
            add
              = connecting 0
              = dials 0
            accept
              > CONNECT v5 id=s clean
            < CONNACK rmax={theirs}
              = connected 0
              = ready
            publish a q1 = one
              > PUBLISH a q1 #1 = one
            publish a q2 = two
              > PUBLISH a q2 #2 = two
            publish a q1 = three
            publish a = four
            < PUBREC #2
              > PUBREL #2
            < PUBACK #1
              > PUBLISH a q1 #3 = three
              > PUBLISH a = four
              = p1: Success
              = p4: Success
            publish a q1 = five
            < PUBCOMP #2
              > PUBLISH a q1 #4 = five
              = p2: Success"
        ));
    }
}

#[test]
fn what_the_server_says_is_told() {
    check_up(
        "
        publish a q1 = one
          > PUBLISH a q1 #1 = one
        publish a q1 = two
          > PUBLISH a q1 #2 = two
        publish a q2 = three
          > PUBLISH a q2 #3 = three
        < PUBACK #1 0x10
          = p1: No matching subscribers
        < PUBACK #2 0x97
          = p2: the broker refused: Quota exceeded
        < PUBREC #3 0x87
          = p3: the broker refused: Not authorized
        # What is not known may be late.
        < PUBACK #2
        < PUBCOMP #3
        < PUBREC #3
          > PUBREL #3 0x92",
    );
}

#[test]
fn an_answer_that_does_not_fit_is_a_breach() {
    for (sent, answer, what) in [
        ("q1", "PUBREC", "PUBREC 1 answers a message that was sent at QoS 1"),
        ("q2", "PUBACK", "PUBACK 1 answers a message that was sent at QoS 2"),
        ("q2", "PUBCOMP", "PUBCOMP 1 came before PUBREL was sent"),
    ] {
        check_up(&format!(
            "
            publish a {sent} = x
              > PUBLISH a {sent} #1 = x
            < {answer} #1
              = lost: the broker broke the protocol: {what}; try 1 in 2000 ms
              > DISCONNECT 0x82
              > closed"
        ));
    }
}

/// [MQTT-4.4.0-1]: in the order of the original ones, and as many at once as the server takes now.
#[test]
fn a_session_that_is_present_goes_on() {
    check_up(&format!(
        "
        publish a q1 = one
          > PUBLISH a q1 #1 = one
        publish a q2 = two
          > PUBLISH a q2 #2 = two
        publish a q2 = three
          > PUBLISH a q2 #3 = three
        publish a q1 = four
          > PUBLISH a q1 #4 = four
        < PUBREC #2
          > PUBREL #2
        {AGAIN}
        publish a = five
        < CONNACK present rmax=2
          = connected 0 present
          = ready
          > PUBREL #2
          > PUBLISH a q1 #1 dup = one
        < PUBACK #1
          > PUBLISH a q2 #3 dup = three
          = p1: Success
        < PUBCOMP #2
          > PUBLISH a q1 #4 dup = four
          > PUBLISH a = five
          = p2: Success
          = p5: Success
        < PUBACK #4
          = p4: Success
        < PUBREC #3
          > PUBREL #3
        < PUBCOMP #3
          = p3: Success"
    ));
}

/// Everything is new to the server, also what it had received: it may not have published that yet.
#[test]
fn a_session_that_was_lost_begins_anew() {
    check_up(&format!(
        "
        publish a q1 = one
          > PUBLISH a q1 #1 = one
        publish a q2 = two
          > PUBLISH a q2 #2 = two
        publish a q2 = three
          > PUBLISH a q2 #3 = three
        < PUBREC #2
          > PUBREL #2
        {AGAIN}
        < CONNACK
          = connected 0
          = ready
          > PUBLISH a q1 #1 = one
          > PUBLISH a q2 #2 = two
          > PUBLISH a q2 #3 = three
        < PUBACK #1
          = p1: Success"
    ));
    Setup::new(|options| {
        keeping(options);
        options.lost_session = LostSession::Fail;
    })
    .check(&format!(
        "{UP}
        publish a q1 = one
          > PUBLISH a q1 #1 = one
        publish a q2 = two
          > PUBLISH a q2 #2 = two
        < PUBREC #2
          > PUBREL #2
        {AGAIN}
        publish a q1 = three
        < CONNACK
          = connected 0
          = ready
          > PUBLISH a q1 #3 = three
          = p1: the broker lost the session: whether the message arrived is not known
          = p2: the broker lost the session: whether the message arrived is not known"
    ));
}

/// MQTT 3.1 has no word for it: what is in flight is sent again in any case.
#[test]
fn mqtt_31_does_not_say_whether_a_session_is_present() {
    Setup::new(|options| {
        options.version = Version::V31;
        options.clean_start = false;
    })
    .check(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v31 id=s
        < CONNACK
          = connected 0
          = ready
        publish a q1 = one
          > PUBLISH a q1 #1 = one
        subscribe b
          > SUBSCRIBE #61441 b q0
        subscribe c
          > SUBSCRIBE #61442 c q0
        < SUBACK #61441 0x00
          = s1: Success
        < SUBACK #61442 0x00
          = s2: Success
        cut
          = lost: the connection was lost; try 1 in 2000 ms
        unsubscribe c
          = u1: Success
        +2s
          = connecting 0
          = dials 0
        accept
          > CONNECT v31 id=s
        < CONNACK
          = connected 0
          > UNSUBSCRIBE #61443 c
          > SUBSCRIBE #61444 b q0
          > PUBLISH a q1 #1 dup = one
        < PUBACK #1
          = p1: Success",
    );
}

/// [MQTT-3.3.2-6]: what is left of a message's life, and the end of it.
#[test]
fn messages_expire_while_they_wait() {
    check_up(
        "
        publish a expiry=5 = at once
          > PUBLISH a expiry=5 = at once
          = p1: Success
        cut
          = lost: the connection was lost; try 1 in 2000 ms
        publish a q1 expiry=4 = one
        publish a expiry=2 = two
        publish a expiry=10 = three
        +1500ms
        +500ms
          = connecting 0
          = dials 0
          = p3: the message expired before it could be sent
        refuse
          = lost: mqtt://one: nobody listens there; try 2 in 3000 ms
        +2s
          = p2: the message expired before it could be sent
        +1s
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s expiry=100
        < CONNACK present
          = connected 0 present
          = ready
          > PUBLISH a expiry=5 = three
          = p4: Success",
    );
}

#[test]
fn properties_travel() {
    check_up(
        "
        publish a q1 retain text ct=text/plain rt=answers cd=7 prop=a:b expiry=9 = x
          > PUBLISH a q1 #1 retain expiry=9 pfi=1 ct=text/plain rt=answers cd=7 prop=a:b = x",
    );
    Setup::new(|options| options.version = Version::V311).check(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v311 id=s clean
        < CONNACK
          = connected 0
          = ready
        publish a q1 retain text ct=text/plain rt=answers cd=7 prop=a:b expiry=9 = x
          > PUBLISH a q1 #1 retain = x
        publish a = x*5000
          > PUBLISH a = x*5000
          = p2: Success",
    );
}

/// [MQTT-3.2.2-11], [MQTT-3.2.2-14], [MQTT-3.2.2-15]: refused before it is sent.
#[test]
fn what_the_server_does_not_take_is_not_sent() {
    check(
        "
        add
          = connecting 0
          = dials 0
        publish a q2 = early
        accept
          > CONNECT v5 id=s clean
        < CONNACK qmax=1 no-retain pmax=40
          = connected 0
          = ready
          = p1: the broker refused: QoS not supported
        publish a retain = x
          = p2: the broker refused: Retain not supported
        publish a = x*34
          > PUBLISH a = xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
          = p3: Success
        publish a = x*35
          = p4: the message makes a packet of 41 bytes, more than the 40 that are allowed
        publish a q1 = x
          > PUBLISH a q1 #2 = x",
    );
}

/// [MQTT-3.3.2-8] to [MQTT-3.3.2-12]: as many as both want, anew on each connection.
#[test]
fn topic_aliases_shorten_what_is_sent() {
    Setup::new(|options| {
        keeping(options);
        options.topic_aliases_out_max = 2;
    })
    .check(&format!(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s expiry=100
        < CONNACK amax=5 pmax=30
          = connected 0
          = ready
        publish a q1 = 1
          > PUBLISH a q1 #1 alias=1 = 1
        publish a = 2
          > PUBLISH - alias=1 = 2
          = p2: Success
        publish b = 3
          > PUBLISH b alias=2 = 3
          = p3: Success
        publish a = 4
          > PUBLISH - alias=1 = 4
          = p4: Success
        publish c = 5
          > PUBLISH c alias=2 = 5
          = p5: Success
        # With an alias it would not fit.
        publish bbbbbbbbbbbbbbbbbbbbbbbb = 6
          > PUBLISH bbbbbbbbbbbbbbbbbbbbbbbb = 6
          = p6: Success
        {AGAIN}
        < CONNACK present amax=1
          = connected 0 present
          = ready
          > PUBLISH a q1 #1 dup alias=1 = 1"
    ));
}

/// Above the backlog nothing is sent, until the server has taken it.
#[test]
fn a_server_that_does_not_read_is_not_written_to() {
    check_up(
        "
        stalls
        publish a = x*300000
          = p1: Success
        publish a = two
        publish a q1 = three
        drains
          > PUBLISH a = x*300000
          > PUBLISH a = two
          > PUBLISH a q1 #1 = three
          = p2: Success",
    );
}

/// PUBREL waits for the store: after a crash the message must not be published again.
#[test]
fn a_release_waits_for_the_store() {
    Setup::new(keeping).stored(Restored::default()).check(&format!(
        "{UP}
        publish a q2 = one
          > PUBLISH a q2 #1 = one
        publish a q1 = two
          > PUBLISH a q1 #2 = two
        < PUBREC #1
          = stores released 0
        < PUBACK #2
          = p2: Success
          = stores completed 1
        stored 1
          > PUBREL #1
        < PUBCOMP #1
          = p1: Success
          = stores completed 0"
    ));
}

#[test]
fn a_store_that_fails_ends_the_connection() {
    Setup::new(keeping).stored(Restored::default()).check(&format!(
        "{UP}
        publish a q2 = one
          > PUBLISH a q2 #1 = one
        < PUBREC #1
          = stores released 0
        store fails
          = store failed: disk full
          = lost: the session's store failed: disk full; try 1 in 2000 ms
          > DISCONNECT 0x83
          > closed
        +2s
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s expiry=100
        < CONNACK present
          = connected 0 present
          = ready
          = stores released 0
        # It waits longer each time.
        store fails
          = store failed: disk full
          = lost: the session's store failed: disk full; try 2 in 3000 ms
          > DISCONNECT 0x83
          > closed
        +3s
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s expiry=100
        < CONNACK present
          = connected 0 present
          = ready
          = stores released 0
        stored
          > PUBREL #1
        < PUBCOMP #1
          = p1: Success
          = stores completed 0"
    ));
}

/// What an earlier run left: may have been sent or not.
#[test]
fn restored_publications_are_sent_again() {
    let message = |payload: &'static str, qos| Message::new("a", payload).qos(qos);
    let restored = || Restored {
        publications: vec![
            (Number(4), message("one", QoS::AtLeastOnce), false),
            (Number(6), message("two", QoS::ExactlyOnce), true),
            (Number(7), message("three", QoS::ExactlyOnce), false),
            // Too far from the first one to have been sent.
            (Number(61_444), message("four", QoS::AtLeastOnce), false),
        ],
        next: 61_445,
        resumes: true,
        ..Restored::default()
    };
    Setup::new(keeping).stored(restored()).check(
        "
        add
          = connecting 0
          = dials 0
        publish a q1 = five
        accept
          > CONNECT v5 id=s expiry=100
        < CONNACK present
          = connected 0 present
          = ready
          > PUBREL #7
          > PUBLISH a q1 #5 dup = one
          > PUBLISH a q2 #8 dup = three
        < PUBACK #5
          > PUBLISH a q1 #5 = four
          > PUBLISH a q1 #6 = five
          = stores completed 4
        < PUBCOMP #7
          = stores completed 6
        < PUBACK #6
          = p1: Success
          = stores completed 61445",
    );
    Setup::new(keeping).stored(restored()).check(
        "
        add
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s expiry=100
        < CONNACK
          = connected 0
          = ready
          > PUBLISH a q1 #5 = one
          > PUBLISH a q2 #8 = three
          = stores completed 6",
    );
}

/// What is left of their lives counts from now.
#[test]
fn restored_publications_expire() {
    let expiring = |number, seconds| {
        let message = Message::new("a", "x").qos(QoS::AtLeastOnce);
        (Number(number), Message { message_expiry_s: Some(seconds), ..message }, false)
    };
    let restored = Restored {
        publications: vec![expiring(0, 20), expiring(1, 0), expiring(61_440, 5), expiring(61_441, 30)],
        next: 61_442,
        resumes: true,
        ..Restored::default()
    };
    Setup::new(keeping).stored(restored).check(
        "
        add
          = connecting 0
          = dials 0
        +10s
          = stores completed 61440
        accept
          > CONNECT v5 id=s expiry=100
        # The server may have them already.
        < CONNACK present
          = connected 0 present
          = ready
          > PUBLISH a q1 #1 dup expiry=10 = x
          > PUBLISH a q1 #2 dup expiry=0 = x
        < PUBACK #1
          = stores completed 0
        < PUBACK #2
          > PUBLISH a q1 #2 expiry=20 = x
          = stores completed 1",
    );
}

/// What is gone settles everything.
#[test]
fn removing_a_session_settles_what_is_pending() {
    check_up(
        "
        publish a q1 = one
          > PUBLISH a q1 #1 = one
        publish a q2 = two
          > PUBLISH a q2 #2 = two
        < PUBREC #2
          > PUBREL #2
        subscribe f
          > SUBSCRIBE #61441 f q0
        unsubscribe g
          > UNSUBSCRIBE #61442 g
        remove
          = removed
          > DISCONNECT
          > closed
          = p1: the session is gone
          = p2: the session is gone
          = s1: the session is gone
          = u1: Success
        publish a = three
          = p3: the session is gone
        subscribe f
          = s2: the session is gone",
    );
    check(
        "
        add
          = connecting 0
          = dials 0
        publish a = one
        shutdown
          = removed
          = gives up dialing
          = p1: the session is gone",
    );
}
