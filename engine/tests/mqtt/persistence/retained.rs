//! Retained messages.

use super::check;
use crate::common::Setup;

/// [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-7], [MQTT311-3.3.1-5], [MQTT311-3.3.1-10], also where a
/// session was the first to keep the message.
#[test]
fn retained_messages_survive() {
    check(
        "
        w < CONNECT v5 id=w expiry=600
        w > CONNACK
        w < SUBSCRIBE #1 x/+ q1
        w > SUBACK #1 q1
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH r/0 retain prop=k:v = zero
        p < PUBLISH r/1 q1 #1 retain = one
        p > PUBACK #1 0x10
        p < PUBLISH r/2 q2 #2 retain = old
        p > PUBREC #2 0x10
        p < PUBLISH r/2 q2 #3 retain = two
        p > PUBREC #3 0x10
        p < PUBLISH r/3 retain = cleared
        p < PUBLISH r/3 retain
        p < PUBLISH x/4 q1 #4 retain = four
        w > PUBLISH x/4 q1 #1 = four
        p > PUBACK #4
        w < PUBACK #1
        traffic retained=4
        killed
        traffic retained=4
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 r/0 q2
        a > SUBACK #1 q2
        a > PUBLISH r/0 retain prop=k:v = zero
        a < SUBSCRIBE #2 r/1 q2
        a > SUBACK #2 q2
        a > PUBLISH r/1 q1 #1 retain = one
        a < SUBSCRIBE #3 r/2 q2
        a > SUBACK #3 q2
        a > PUBLISH r/2 q2 #2 retain = two
        a < SUBSCRIBE #4 r/3 q2
        a > SUBACK #4 q2
        a < SUBSCRIBE #5 x/4 q2
        a > SUBACK #5 q2
        a > PUBLISH x/4 q1 #3 retain = four
        a < PUBLISH r/0 retain
        a > PUBLISH r/0
        a < PUBLISH r/1 retain = new
        a > PUBLISH r/1 = new
        killed
        traffic retained=3
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 r/0
        a > SUBACK #1 q0
        a < SUBSCRIBE #2 r/1
        a > SUBACK #2 q0
        a > PUBLISH r/1 retain = new",
    );
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6]
#[test]
fn retained_messages_expire_while_the_broker_is_down() {
    check(
        "
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH short retain expiry=50 = x
        p < PUBLISH long retain expiry=100 = x
        +20s
        killed 40s
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 short
        a > SUBACK #1 q0
        a < SUBSCRIBE #2 long
        a > SUBACK #2 q0
        a > PUBLISH long retain expiry=40 = x",
    );
}

/// The broker's own figures are made anew by each process.
#[test]
fn the_brokers_figures_are_not_stored() {
    for shards in [1, 2, 4] {
        let mut broker = Setup { sys_interval_ms: 10_000, ..Setup::new().on_disk() }.start(shards);
        broker.play(
            "
            p < CONNECT v5 id=p clean
            p > CONNACK
            p < PUBLISH t retain = x
            +20s",
        );
        assert!(broker.figures().1.retained > 10);
        broker.setup.sys_interval_ms = 0;
        broker.play(
            "
            killed
            traffic retained=1",
        );
        broker.finish();
    }
}

/// The bounds count what the last process left.
#[test]
fn they_stay_bounded() {
    Setup::with(|limits| limits.retained_messages_max = 2).on_disk().shards(&[1]).check(
        "
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH one retain = x
        p < PUBLISH two retain = x
        killed
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH three retain = x
        traffic retained=2
        p < PUBLISH two retain
        p < PUBLISH three retain = x
        traffic retained=2
        killed
        traffic retained=2
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < SUBSCRIBE #1 two, three
        p > SUBACK #1 q0 q0
        p > PUBLISH three retain = x",
    );
}
