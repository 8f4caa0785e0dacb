//! Messages of the server, MQTT 5 sections 3.3, 4.3 and 4.6, and what the program does with them.

use ringmq_codec::PacketId;

use super::Setup;
use super::program::Inbox;
use crate::link::{Overflow, Restored};
use crate::options::SessionOptions;

const UP: &str = "
    add
      = connecting 0
      = dials 0
    accept
      > CONNECT v5 id=s expiry=100{more}
    < CONNACK
      = connected 0
      = ready
";

const AGAIN: &str = "
    cut
      = lost: the connection was lost; try 1 in 2000 ms
    +2s
      = connecting 0
      = dials 0
    accept
      > CONNECT v5 id=s expiry=100
    < CONNACK present
      = connected 0 present
      = ready
";

fn keeping(options: &mut SessionOptions) {
    options.clean_start = false;
    options.session_expiry_s = 100;
}

fn up() -> String {
    UP.replace("{more}", "")
}

/// A session with a route for everything whose messages show at once.
fn listening() -> Setup {
    Setup::new(keeping).route(Inbox::new("#", Overflow::DropNewest, usize::MAX))
}

#[test]
fn messages_arrive_at_every_qos() {
    listening().check(&format!(
        "{}
        < PUBLISH a = zero
          = # gets a = zero
        < PUBLISH a q1 #1 retain = one
          > PUBACK #1
          = # gets a q1 retain = one
        < PUBLISH a q2 #2 = two
          > PUBREC #2
          = # gets a q2 = two
        < PUBREL #2
          > PUBCOMP #2
        # It is released: the id is free.
        < PUBLISH a q2 #2 = three
          > PUBREC #2
          = # gets a q2 = three
        < PUBREL #5
          > PUBCOMP #5 0x92
        < PUBLISH a pfi=1 ct=text rt=r cd=c prop=n:v expiry=7 sub=9 = x
          = # gets a expiry=7 sub=9 text ct=text rt=r cd=c prop=n:v = x",
        up()
    ));
}

/// [MQTT-4.3.3-10]: a QoS 2 message is given once, on whichever connections it comes.
#[test]
fn a_qos_2_message_that_comes_again_is_not_given_again() {
    listening().check(&format!(
        "{}
        < PUBLISH a q2 #2 = two
          > PUBREC #2
          = # gets a q2 = two
        < PUBLISH a q1 #1 = one
          > PUBACK #1
          = # gets a q1 = one
        {AGAIN}
        < PUBLISH a q2 #2 dup = two
          > PUBREC #2
        < PUBLISH a q1 #1 dup = one
          > PUBACK #1
          = # gets a q1 dup = one
        < PUBREL #2
          > PUBCOMP #2",
        up()
    ));
    // The server lost the session: it means another message.
    listening().check(&format!(
        "{}
        < PUBLISH a q2 #2 = two
          > PUBREC #2
          = # gets a q2 = two
        {}
        < PUBLISH a q2 #2 = other
          > PUBREC #2
          = # gets a q2 = other",
        up(),
        AGAIN.replace(" present", "")
    ));
}

/// [MQTT-3.3.4-9]
#[test]
fn more_than_the_receive_maximum_is_a_breach() {
    Setup::new(|options| {
        keeping(options);
        options.receive_maximum = 2;
    })
    .route(Inbox::new("#", Overflow::DropNewest, usize::MAX))
    .check(&format!(
        "{}
        < PUBLISH a q2 #1 = one
          > PUBREC #1
          = # gets a q2 = one
        < PUBLISH a q2 #2 = two
          > PUBREC #2
          = # gets a q2 = two
        < PUBREL #1
          > PUBCOMP #1
        < PUBLISH a q1 #3 = three
          > PUBACK #3
          = # gets a q1 = three
        < PUBLISH a q2 #4 = four
          > PUBREC #4
          = # gets a q2 = four
        < PUBLISH a q1 #5 = five
          = lost: the broker broke the protocol: more than 2 messages are not acknowledged; try 1 in 2000 ms
          > DISCONNECT 0x93
          > closed",
        UP.replace("{more}", " rmax=2")
    ));
}

/// [MQTT-3.2.2-15]: no more than we said.
#[test]
fn a_packet_that_is_too_large_is_a_breach() {
    Setup::new(|options| {
        keeping(options);
        options.packet_bytes_max = 20;
    })
    .check(&format!(
        "{}
        < PUBLISH t = x*14
        < PUBLISH t = x*15
          = lost: the broker broke the protocol: a packet of 21 bytes exceeds the limit of 20; try 1 in 2000 ms
          > DISCONNECT 0x95
          > closed",
        UP.replace("{more}", " pmax=20")
    ));
}

/// [MQTT-3.3.2-10]
#[test]
fn the_servers_topic_aliases_are_understood() {
    listening().check(&format!(
        "{}
        < PUBLISH a/b alias=1 = one
          = # gets a/b = one
        < PUBLISH - alias=1 = two
          = # gets a/b = two
        < PUBLISH c alias=1 = three
          = # gets c = three
        < PUBLISH - alias=1 = four
          = # gets c = four
        {AGAIN}
        < PUBLISH - alias=1 = five
          = lost: the broker broke the protocol: topic alias 1 was not given a topic; try 1 in 2000 ms
          > DISCONNECT 0x82
          > closed",
        up()
    ));
}

/// [MQTT-4.6.0-2], [MQTT-4.6.0-3]: in order of receipt, whatever the program does first.
#[test]
fn the_program_acknowledges() {
    let manual = |options: &mut SessionOptions| {
        keeping(options);
        options.manual_acks = true;
    };
    let routes = || {
        Setup::new(manual).route(Inbox::new("a/#", Overflow::Withhold, 100)).route(Inbox::new(
            "b/#",
            Overflow::Withhold,
            100,
        ))
    };
    routes().check(&format!(
        "{}
        < PUBLISH a/1 q1 #1 = one
        < PUBLISH b/1 q2 #2 = two
        < PUBLISH a/1 q1 #3 = three
        < PUBLISH a/1 = zero
        # Nobody wants it, so nobody can acknowledge it.
        < PUBLISH c q1 #4 = four
        ack b
          = b gives two
        take a
          = a gives one
        ack a
          = a gives three",
        up()
    ));
    routes().check(&format!(
        "{}
        < PUBLISH b/1 q2 #2 = two
        < PUBLISH a/1 q1 #3 = three
        ack a
          = a gives three
        ack b
          > PUBREC #2
          > PUBACK #3
          = b gives two
        < PUBREL #2
          > PUBCOMP #2",
        up()
    ));
    // What was not acknowledged comes again, and is the program's again.
    routes().check(&format!(
        "{}
        < PUBLISH b/1 q2 #2 = two
        take b
          = b gives two
        {AGAIN}
        < PUBLISH b/1 q2 #2 dup = two
        ack b
          > PUBREC #2
          = b gives two",
        up()
    ));
}

/// A full route slows the server down: what does not fit is kept, and acknowledged once it was taken.
#[test]
fn a_full_route_withholds_acknowledgements() {
    let routes = || Setup::new(keeping).route(Inbox::new("a/#", Overflow::Withhold, 1));
    routes().check(&format!(
        "{}
        < PUBLISH a/1 q1 #1 = one
          > PUBACK #1
        < PUBLISH a/1 q1 #2 = two
        < PUBLISH a/1 q2 #3 = three
        < PUBLISH a/1 = dropped
        take a
          = a gives one
        take a
          > PUBACK #2
          = a gives two
        take a
          > PUBREC #3
          = a gives three",
        up()
    ));
    // The route has it already: at QoS 2 it does not come twice.
    routes().check(&format!(
        "{}
        < PUBLISH a/1 q1 #1 = one
          > PUBACK #1
        < PUBLISH a/1 q2 #3 = three
        {AGAIN}
        < PUBLISH a/1 q2 #3 dup = three
          > PUBREC #3
        < PUBREL #3
          > PUBCOMP #3
        take a
          = a gives one
        take a
          = a gives three",
        up()
    ));
}

/// A route that acknowledges by itself does so when it likes.
#[test]
fn a_route_may_acknowledge_by_itself() {
    let inbox = Inbox { acknowledges: true, ..Inbox::new("a/#", Overflow::Pause, 100) };
    Setup::new(keeping).route(inbox).check(&format!(
        "{}
        < PUBLISH a/1 q1 #1 = one
        < PUBLISH a/1 = two
        < PUBLISH a/1 q1 #3 = three
        take a
          = a gives one
        take a
          = a gives two
        # The first one stands before it.
        ack a
          = a gives three",
        up()
    ));
}

/// Nothing is lost: the connection is not read until there is room.
#[test]
fn a_full_route_pauses_the_connection() {
    Setup::new(|options| {
        keeping(options);
        options.ping_timeout_ms = 5_000;
    })
    .route(Inbox::new("a/#", Overflow::Pause, 2))
    .check(&format!(
        "{}
        < PUBLISH a/1 q1 #1 = one
          > PUBACK #1
        < PUBLISH a/1 = two
          = paused
        # What the driver had received comes all the same.
        < PUBLISH a/1 = three
        # A server that is not heard is not given up.
        +60s
          > PINGREQ
        +100s
        take a
          = resumed
          = a gives one
        take a
          = a gives two
        take a
          = a gives three
        +4s
        < PINGRESP
        cut
          = lost: the connection was lost; try 1 in 2000 ms",
        up()
    ));
}

/// PUBREC waits for the store, and so does PUBCOMP: the server gives the id to another message then.
#[test]
fn acknowledgements_wait_for_the_store() {
    Setup::new(keeping)
        .stored(Restored { taken: vec![PacketId::new(9).unwrap()], resumes: true, ..Restored::default() })
        .route(Inbox::new("#", Overflow::DropNewest, usize::MAX))
        .check(&format!(
            "{}
            < PUBLISH a q2 #2 = two
              = # gets a q2 = two
              = stores taken 2
            < PUBLISH a q1 #3 = three
              = # gets a q1 = three
            stored
              > PUBREC #2
              > PUBACK #3
            < PUBREL #2
              = stores given 2
            stored
              > PUBCOMP #2
            # An earlier run took this one.
            < PUBLISH a q2 #9 dup = nine
              > PUBREC #9
            < PUBLISH a q2 #4 = four
              = # gets a q2 = four
              = stores taken 4
            {AGAIN}
            # The store has not said that it knows.
            < PUBLISH a q2 #4 dup = four
              > PUBREC #4",
            up().replace("< CONNACK", "< CONNACK present").replace("connected 0", "connected 0 present")
        ));
}
