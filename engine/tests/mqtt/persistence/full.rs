//! A log without room: publishers at QoS 1 and 2 are refused, and everything else goes on.

use crate::common::{Broker, Setup};

/// Fills the log with messages of a kilobyte for a client that is away, and answers how many it has taken.
fn fill(broker: &mut Broker) -> usize {
    broker.play(
        "
        a < CONNECT v5 id=a expiry=6000
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        a cut
        w < CONNECT v5 id=w clean
        w > CONNACK
        w < SUBSCRIBE #1 live q1
        w > SUBACK #1 q1
        p < CONNECT v5 id=p clean
        p > CONNACK",
    );
    for n in 1..1000 {
        match broker.answers(&format!("p < PUBLISH t q1 #1 prop=n:{n} = x*1000")).concat().as_str() {
            "p > PUBACK #1" => {}
            "p > PUBACK #1 0x97" => return n - 1,
            other => panic!("after {n} messages: {other}"),
        }
    }
    panic!("it is never full");
}

/// Publications go through again; how many had to be tried.
fn wait_for_room(broker: &mut Broker) {
    for _ in 0..20 {
        broker.play("+1s");
        match broker.answers("p < PUBLISH t q1 #1 = room").concat().as_str() {
            "p > PUBACK #1" => return,
            "p > PUBACK #1 0x97" => {}
            other => panic!("{other}"),
        }
    }
    panic!("there is never room again: {:?}", broker.log_figures());
}

/// The client that was away takes all that waits for it, and says so.
fn drain(broker: &mut Broker, dup: &str, count: usize) {
    let lines = broker.answers("a < CONNECT v5 id=a expiry=6000");
    let expected = (1..=count).map(|n| format!("a > PUBLISH t q1 #{n}{dup} prop=n:{n} = x*1000"));
    let expected: Vec<_> = std::iter::once("a > CONNACK present".to_owned()).chain(expected).collect();
    assert_eq!(lines, expected);
    for n in 1..count {
        broker.play(&format!("a << PUBACK #{n}"));
    }
    broker.play(&format!("a < PUBACK #{count}\nledger queued=0"));
    broker.play("a cut");
}

/// Four segments for each shard.
fn narrow() -> Setup {
    Setup::new().on_disk_of(4 * 64 * 1024)
}

fn in_each_shape(run: impl Fn(Broker)) {
    for shards in [1, 2, 4] {
        run(narrow().start(shards));
        run(Setup { piece_bytes: 7, ..narrow() }.start(shards));
        run(Setup { level: ringmq_storage::Level::Synced, ..narrow() }.start(shards));
    }
}

#[test]
fn publishers_are_refused_and_the_rest_goes_on() {
    in_each_shape(|mut broker| {
        let count = fill(&mut broker);
        assert!((50..260).contains(&count), "{count} messages of a kilobyte");
        broker.play(
            "
            p < PUBLISH t q2 #2 = x
            p > PUBREC #2 0x97
            # An identifier that was refused is free.
            p < PUBLISH t q2 #2 = x
            p > PUBREC #2 0x97
            ledger storage_full=3
            old < CONNECT v311 id=old clean
            old > CONNACK
            old < PUBLISH t q1 #1 = x
            old > closed
            old < CONNECT v311 id=old clean
            old > CONNACK
            old < PUBLISH t q2 #1 = x
            old > closed
            ledger storage_full=5
            p < PUBLISH live = qos 0
            w > PUBLISH live = qos 0
            p < PINGREQ
            p > PINGRESP
            w < SUBSCRIBE #2 u q1, $share/g/u q1
            w > SUBACK #2 q1 q1
            w < UNSUBSCRIBE #3 u
            w > UNSUBACK #3 ok
            new < CONNECT v5 id=new expiry=600 will=live:gone
            new > CONNACK
            new < SUBSCRIBE #1 new q1
            new > SUBACK #1 q1
            new cut
            w > PUBLISH live = gone",
        );
        drain(&mut broker, "", count);
        wait_for_room(&mut broker);
        broker.play(
            "old < CONNECT v311 id=old clean\nold > CONNACK\nold < PUBLISH t q1 #1 = x\nold > PUBACK #1",
        );
        broker.finish();
    });
}

/// What was acknowledged before is there after a kill, and the log knows that it is full.
#[test]
fn nothing_is_lost_to_a_kill() {
    in_each_shape(|mut broker| {
        let count = fill(&mut broker);
        broker.play(&format!("killed\nledger queued={count}\np < CONNECT v5 id=p clean\np > CONNACK"));
        drain(&mut broker, " dup", count);
        wait_for_room(&mut broker);
        broker.finish();
    });
}

/// The same where the disk, which others use too, has no space.
#[test]
fn a_disk_without_space_is_a_full_log() {
    for shards in [1, 2, 4] {
        let mut broker = Setup::new().on_disk().start(shards);
        broker.play("the disk is full");
        let count = fill(&mut broker);
        broker.play("p < PUBLISH t q2 #2 = x\np > PUBREC #2 0x97");
        broker.play("the disk has room");
        wait_for_room(&mut broker);
        broker.play(&format!("p < PUBLISH t q2 #2 = x\np > PUBREC #2\nledger queued={}", count + 2));
        broker.finish();
    }
}

/// A retained message is refused where its topic's shard has no room.
#[test]
fn retained_messages_are_refused_too() {
    in_each_shape(|mut broker| {
        let count = fill(&mut broker);
        broker.play(
            "
            p < PUBLISH r q1 #1 retain = x
            p > PUBACK #1 0x97
            traffic retained=0",
        );
        drain(&mut broker, "", count);
        wait_for_room(&mut broker);
        broker.play("p < PUBLISH r q1 #1 retain = x\np > PUBACK #1 0x10\ntraffic retained=1");
        broker.finish();
    });
}
