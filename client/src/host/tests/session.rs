//! What the program has a session do, and authentication (MQTT 5 section 4.12).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::program::Inbox;
use super::{Setup, check};
use crate::auth::{AuthError, Authenticator, Exchange};
use crate::link::Overflow;
use crate::options::{LostSession, SessionOptions};

#[test]
fn a_session_is_left_and_taken_up_again() {
    check(
        "
        add
          = connecting 0
          = dials 0
        disconnect
          = disconnected
          = gives up dialing
        disconnect
        reconnect
        +1000s
        connect
          = connecting 0
          = dials 0
        connect
        refuse
          = lost: mqtt://one: nobody listens there; try 1 in 2000 ms
        disconnect
          = disconnected
        +1000s
        connect
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s clean
        reconnect
          = disconnected
          = connecting 0
          = dials 0
          > closed
        accept
          > CONNECT v5 id=s clean
        < CONNACK
          = connected 0
          = ready
        connect
        disconnect
          = disconnected
          > DISCONNECT
          > closed
        publish a = x
        connect
          = connecting 0
          = dials 0
        remove
          = removed
          = gives up dialing
          = p1: the session is gone",
    );
}

/// What was published before the program left goes first.
#[test]
fn a_disconnect_follows_what_was_published() {
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
        stalls
        publish a q1 = one
        publish a = two
          = p2: Success
        shutdown
          = removed
          > PUBLISH a q1 #1 = one
          > PUBLISH a = two
          > DISCONNECT
          > closed
          = p1: the session is gone",
    );
}

/// What a burst needed is given back when nothing happened for a while.
#[test]
fn an_idle_session_owns_no_buffers() {
    let inbox = Inbox::new("in/#", Overflow::DropNewest, usize::MAX);
    let mut stage = Setup::new(|_| {}).route(inbox).stage();
    stage.play(
        "
        add
          = connecting 0
          = dials 0
        publish out = early
        publish out q2 = early
        subscribe in/#
        accept
          > CONNECT v5 id=s clean
        < CONNACK rmax=2
          = connected 0
          > SUBSCRIBE #61441 in/# q0
          > PUBLISH out = early
          > PUBLISH out q2 #1 = early
          = p1: Success
        < SUBACK #61441 0x00
          = ready
          = s1: Success
        publish out q1 = one
          > PUBLISH out q1 #2 = one
        publish out q1 = two
        publish out = three
        < PUBACK #2
          > PUBLISH out q1 #3 = two
          > PUBLISH out = three
          = p3: Success
          = p5: Success
        < PUBREC #1
          > PUBREL #1
        < PUBCOMP #1
          = p2: Success
        < PUBACK #3
          = p4: Success
        < PUBLISH in/a q2 #7 = x
          > PUBREC #7
          = in/# gets in/a q2 = x
        < PUBREL #7
          > PUBCOMP #7",
    );
    let slot = *stage.host.by_id.values().next().unwrap();
    assert!(stage.host.sessions[slot].machine.room() > 0 && stage.host.sessions[slot].glue.routes.is_some());
    stage.play(
        "
        +60s
          > PINGREQ
        < PINGRESP",
    );
    assert_eq!(stage.host.sessions[slot].machine.room(), 0);
    assert!(stage.host.sessions[slot].glue.routes.is_none());
    stage.finish();
}

#[test]
fn metrics_count() {
    let inbox = Inbox::new("#", Overflow::DropNewest, usize::MAX);
    let mut stage = Setup::new(|options| options.lost_session = LostSession::Fail).route(inbox).stage();
    stage.play(
        "
        add
          = connecting 0
          = dials 0
        refuse
          = lost: mqtt://one: nobody listens there; try 1 in 2000 ms
        +2s
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s clean
        < CONNACK pmax=1000
          = connected 0
          = ready
        publish out q1 = one
          > PUBLISH out q1 #1 = one
        publish out = two
          > PUBLISH out = two
          = p2: Success
        < PUBACK #1 0x97
          = p1: the broker refused: Quota exceeded
        subscribe a
          > SUBSCRIBE #61441 a q0
        subscribe b
          > SUBSCRIBE #61442 b q0
        < SUBACK #61441 0x00
          = s1: Success
        < SUBACK #61442 0x87
          = s2: the broker refused: Not authorized
        < PUBLISH in = three
          = # gets in = three",
    );
    let metrics = &stage.shared.metrics;
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    // PUBLISH of 13 and 11 bytes; topic and payload of 7.
    assert_eq!((load(&metrics.messages_sent), load(&metrics.bytes_sent)), (2, 24));
    assert_eq!((load(&metrics.messages_received), load(&metrics.bytes_received)), (1, 7));
    assert_eq!((load(&metrics.errors), load(&metrics.reconnects)), (3, 0));
    assert_eq!(metrics.subscriptions.load(Ordering::Relaxed), 1);
    assert!(load(&metrics.last_message_ms) > 0 && load(&metrics.last_error_ms) > 0);
    assert_eq!(stage.shared.broker_packet_bytes_max.load(Ordering::Relaxed), 1000);
    stage.play(
        "
        cut
          = lost: the connection was lost; try 1 in 2000 ms
        +2s
          = connecting 0
          = dials 0
        accept
          > CONNECT v5 id=s
        < CONNACK present response=answers/
          = connected 0 present
          > SUBSCRIBE #61443 b q0",
    );
    let metrics = &stage.shared.metrics;
    assert_eq!((load(&metrics.errors), load(&metrics.reconnects)), (4, 1));
    let information = stage.shared.response_information.lock().unwrap().clone();
    assert_eq!(information.as_deref(), Some("answers/"));
    stage.finish();
}

/// Says hello, answers each challenge with its echo, and wants to hear "bye".
#[derive(Debug)]
struct Echo;

#[derive(Debug)]
struct EchoExchange;

impl Authenticator for Echo {
    fn method(&self) -> &str {
        "ECHO"
    }

    fn begin(&self) -> Box<dyn Exchange> {
        Box::new(EchoExchange)
    }
}

impl Exchange for EchoExchange {
    fn first(&mut self) -> Result<Option<Vec<u8>>, AuthError> {
        Ok(Some(b"hello".to_vec()))
    }

    fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, AuthError> {
        if challenge == b"nonsense" {
            return Err(AuthError("that is no challenge".into()));
        }
        Ok(Some(challenge.to_vec()))
    }

    fn accepted(&mut self, data: Option<&[u8]>) -> Result<(), AuthError> {
        match data {
            Some(b"bye") => Ok(()),
            _ => Err(AuthError("the server did not prove itself".into())),
        }
    }
}

fn echoing(options: &mut SessionOptions) {
    options.authenticator = Some(Arc::new(Echo));
}

const OPEN: &str = "
    add
      = connecting 0
      = dials 0
    accept
      > CONNECT v5 id=s clean auth=ECHO data=hello
";

#[test]
fn both_sides_authenticate() {
    Setup::new(echoing).check(&format!(
        "{OPEN}
        < AUTH 0x18 auth=ECHO data=who
          > AUTH 0x18 auth=ECHO data=who
        < AUTH 0x18 auth=ECHO data=what
          > AUTH 0x18 auth=ECHO data=what
        < CONNACK auth=ECHO data=bye
          = connected 0
          = ready
        reauthenticate
          > AUTH 0x19 auth=ECHO data=hello
        reauthenticate
          = a2: re-authentication \"\" is not accepted: wait for the end of the one under way
        < AUTH 0x18 auth=ECHO data=again
          > AUTH 0x18 auth=ECHO data=again
        publish a = x
          > PUBLISH a = x
          = p1: Success
        < AUTH auth=ECHO data=bye
          = a1: Success
        reauthenticate
          > AUTH 0x19 auth=ECHO data=hello
        cut
          = lost: the connection was lost; try 1 in 2000 ms
          = a3: the connection was lost
        reauthenticate
          = a4: the connection was lost"
    ));
}

#[test]
fn authentication_fails_in_many_ways() {
    for (packets, what, code) in [
        ("CONNACK auth=ECHO data=wrong", "authentication failed: the server did not prove itself", ""),
        ("CONNACK auth=ECHO", "authentication failed: the server did not prove itself", ""),
        ("AUTH 0x18 auth=ECHO data=nonsense", "authentication failed: that is no challenge", ""),
        (
            "CONNACK",
            "the broker broke the protocol: the authentication method is none, where ECHO was asked for",
            "",
        ),
        (
            "AUTH 0x18 auth=OTHER data=x",
            "the broker broke the protocol: the authentication method is OTHER, where ECHO was asked for",
            "",
        ),
        ("AUTH auth=ECHO data=bye", "the broker broke the protocol: AUTH came with the reason Success", ""),
        (
            "AUTH 0x19 auth=ECHO",
            "the broker broke the protocol: AUTH came with the reason Re-authenticate",
            "",
        ),
    ] {
        assert!(code.is_empty(), "before CONNACK nothing can be said");
        Setup::new(echoing).check(&format!(
            "{OPEN}
            < {packets}
              = lost: {what}; try 1 in 2000 ms
              > closed"
        ));
    }
    for (packet, what, code, answer) in [
        (
            "AUTH auth=ECHO data=wrong",
            "authentication failed: the server did not prove itself",
            "0x87",
            "authentication failed: the server did not prove itself",
        ),
        (
            "AUTH 0x18 auth=ECHO data=nonsense",
            "authentication failed: that is no challenge",
            "0x87",
            "authentication failed: that is no challenge",
        ),
        (
            "AUTH 0x18 auth=OTHER",
            "the broker broke the protocol: the authentication method is OTHER, where ECHO was asked for",
            "0x82",
            "the connection was lost",
        ),
    ] {
        Setup::new(echoing).check(&format!(
            "{OPEN}
            < CONNACK auth=ECHO data=bye
              = connected 0
              = ready
            reauthenticate
              > AUTH 0x19 auth=ECHO data=hello
            < {packet}
              = lost: {what}; try 1 in 2000 ms
              > DISCONNECT {code}
              > closed
              = a1: {answer}"
        ));
    }
    // After the end of an exchange the server has nothing to ask.
    Setup::new(echoing).check(&format!(
        "{OPEN}
        < CONNACK auth=ECHO data=bye
          = connected 0
          = ready
        < AUTH 0x18 auth=ECHO data=x
          = lost: the broker broke the protocol: AUTH came without an authentication under way; try 1 in 2000 ms
          > DISCONNECT 0x82
          > closed"
    ));
    check(
        "
        add
          = connecting 0
          = dials 0
        reauthenticate
          = a1: re-authentication \"\" is not accepted: the session needs MQTT 5 and an authenticator",
    );
}
