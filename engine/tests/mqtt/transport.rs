//! Connections that end below MQTT: a fault of their transport is as good as a cut, and counted.

use crate::common::{Setup, check, in_every_version};

/// [MQTT-3.1.2-8], [MQTT311-3.1.2-8]: whatever ends a connection without a DISCONNECT, its will is published.
#[test]
fn a_fault_of_the_transport_publishes_the_will() {
    in_every_version(
        "
        w < CONNECT {v} id=w clean
        w > CONNACK
        w < SUBSCRIBE #1 gone
        w > SUBACK #1 q0
        a < CONNECT {v} id=a clean will=gone:alas
        a > CONNACK
        a misbehaves frame_text
        w > PUBLISH gone = alas
        traffic frame_text=1 clients=1 violations=0",
    );
}

#[test]
fn a_session_outlives_a_fault_of_the_transport() {
    check(
        "
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        a misbehaves tls_record
        p < CONNECT v311 id=p clean
        p > CONNACK
        p < PUBLISH t q1 #1 = kept
        p > PUBACK #1
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present
        a > PUBLISH t q1 #1 = kept
        a < PUBACK #1
        traffic tls_record=1",
    );
}

/// A connection that never opened leaves a number and nothing else.
#[test]
fn what_is_turned_away_is_counted_by_reason() {
    check(
        "
        turned away timed_out
        turned away certificate
        turned away certificate
        turned away gone
        traffic timed_out=1 certificate=2 gone=1 not_tls=0 violations=0 clients=0 sessions=0
        # One that said nothing yet is no client either.
        a < hex 10
        a misbehaves websocket_frame
        traffic websocket_frame=1 violations=0 clients=0 partial_bytes=0",
    );
}

#[test]
fn every_reason_is_a_figure() {
    for shards in [1, 2, 4] {
        let mut broker = Setup { sys_interval_ms: 10_000, ..Setup::new() }.start(shards);
        broker.play(
            "
            turned away not_tls
            turned away frame_too_large
            turned away frame_too_large
            +11s
            a < CONNECT v5 id=a clean
            a > CONNACK
            a < SUBSCRIBE #1 $SYS/broker/transport/ended/not_tls
            a > SUBACK #1 q0
            a > PUBLISH $SYS/broker/transport/ended/not_tls retain = 1
            a < SUBSCRIBE #2 $SYS/broker/transport/ended/frame_too_large
            a > SUBACK #2 q0
            a > PUBLISH $SYS/broker/transport/ended/frame_too_large retain = 2
            a < SUBSCRIBE #3 $SYS/broker/transport/ended/timed_out
            a > SUBACK #3 q0
            a > PUBLISH $SYS/broker/transport/ended/timed_out retain = 0",
        );
    }
}
