//! Acknowledgements that promise to survive a loss of power: they wait for the sync.

use ringmq_sim::Crash;
use ringmq_storage::Level;
use ringmq_turn::{ConnInfo, ListenerId};

use crate::common::{Broker, Setup};

#[track_caller]
fn check(transcript: &str) {
    Setup::new().synced().check(transcript);
}

/// Everything else goes on meanwhile, and the order of the answers is kept. [MQTT-4.6.0-2]
#[test]
fn acknowledgements_wait_for_the_sync() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        a cut
        w < CONNECT v5 id=w clean
        w > CONNACK
        w < SUBSCRIBE #1 # q1
        w > SUBACK #1 q1
        p < CONNECT v5 id=p clean
        p > CONNACK
        syncs fail
        p < PUBLISH t q1 #1 = one
        w > PUBLISH t q1 #1 = one
        p < PUBLISH t q2 #2 = two
        w > PUBLISH t q1 #2 = two
        # Nobody keeps this one, but its answer comes after those.
        p < PUBLISH u q1 #3 = three
        w > PUBLISH u q1 #3 = three
        p < PUBLISH u = four
        w > PUBLISH u = four
        p < PINGREQ
        p > PINGRESP
        +60s
        ledger queued=5
        syncs work
        +10s
        p > PUBACK #1
        p > PUBREC #2
        p > PUBACK #3
        power lost
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        a > PUBLISH t q1 #1 dup = one
        a > PUBLISH t q2 #2 dup = two",
    );
}

/// The sync of one turn serves all who wait.
#[test]
fn many_acknowledgements_wait_for_one_sync() {
    let mut transcript = String::from(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        a cut
        p < CONNECT v5 id=p clean
        p > CONNACK\n",
    );
    for n in 1..100 {
        transcript += &format!("p << PUBLISH t q1 #{n} = {n}\n");
    }
    transcript += "p < PUBLISH t q1 #100 = 100\n";
    for n in 1..=100 {
        transcript += &format!("p > PUBACK #{n}\n");
    }
    for shards in [1, 2, 4] {
        let mut broker = Setup::new().synced().start(shards);
        broker.play(&transcript);
        assert!(broker.log_figures().commits < 30, "{:?}", broker.log_figures());
        broker.finish();
    }
}

/// A session's subscriptions and will are kept before the client hears that they are.
#[test]
fn subscriptions_wait_too() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        b < CONNECT v5 id=b
        b > CONNACK
        syncs fail
        a < SUBSCRIBE #1 t q1
        a < PUBLISH t = one
        a > PUBLISH t = one
        # This session ends with its connection: nothing is written of it.
        b < SUBSCRIBE #1 t q1
        b > SUBACK #1 q1
        syncs work
        +10s
        a > SUBACK #1 q1
        syncs fail
        a < UNSUBSCRIBE #2 t
        syncs work
        +10s
        a > UNSUBACK #2 ok
        power lost
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        traffic subscriptions=0",
    );
}

/// What is sent at QoS 2 must be known after a loss of power, lest another message goes under its
/// identifier. [MQTT-4.3.3-1]
#[test]
fn qos_2_is_sent_after_its_sync() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        p < CONNECT v5 id=p expiry=600
        p > CONNACK
        syncs fail
        p < PUBLISH t q1 #1 = one
        a > PUBLISH t q1 #1 = one
        p < PUBLISH t q2 #2 = two
        # It stands behind the second one. [MQTT-4.6.0-6]
        p < PUBLISH t q1 #3 = three
        p < PUBLISH t = four
        a > PUBLISH t = four
        syncs work
        +10s
        a > PUBLISH t q2 #2 = two
        a > PUBLISH t q1 #3 = three
        p > PUBACK #1
        p > PUBREC #2
        p > PUBACK #3
        power lost
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        a > PUBLISH t q1 #1 dup = one
        a > PUBLISH t q2 #2 dup = two
        a > PUBLISH t q1 #3 dup = three",
    );
}

/// One who gets PUBREL or PUBCOMP forgets: the broker must not have to ask again.
#[test]
fn the_steps_of_qos_2_wait_too() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        p < CONNECT v5 id=p expiry=600
        p > CONNACK
        p < PUBLISH t q2 #7 = x
        a > PUBLISH t q2 #1 = x
        p > PUBREC #7
        syncs fail
        a < PUBREC #1
        p < PUBREL #7
        a < PINGREQ
        a > PINGRESP
        syncs work
        +10s
        a > PUBREL #1
        p > PUBCOMP #7
        power lost
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        a > PUBREL #1
        p < CONNECT v5 id=p expiry=600
        p > CONNACK present
        p < PUBREL #7
        p > PUBCOMP #7 0x92
        a < PUBCOMP #1
        ledger delivered=1 queued=0",
    );
}

/// A repetition is not answered before what it repeats is safe.
#[test]
fn a_repeated_publication_waits_like_the_first() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        p < CONNECT v5 id=p expiry=600
        p > CONNACK
        syncs fail
        p < PUBLISH t q2 #7 = x
        a > PUBLISH t q1 #1 = x
        p cut
        p < CONNECT v5 id=p expiry=600
        p > CONNACK present
        p < PUBLISH t q2 #7 dup = x
        syncs work
        +10s
        p > PUBREC #7
        ledger received=1",
    );
}

/// What nobody has to remember is acknowledged at once.
#[test]
fn messages_without_a_session_do_not_wait() {
    check(
        "
        a < CONNECT v5 id=a
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        p < CONNECT v5 id=p
        p > CONNACK
        syncs fail
        p < PUBLISH t q1 #1 = one
        a > PUBLISH t q1 #1 = one
        p > PUBACK #1
        p < PUBLISH t q2 #2 = two
        a > PUBLISH t q2 #2 = two
        p > PUBREC #2
        p < PUBREL #2
        p > PUBCOMP #2
        a < PUBREC #2
        a > PUBREL #2
        p < PUBLISH u q1 #3 = nobody
        p > PUBACK #3 0x10
        # A retained one is to be kept.
        p < PUBLISH u q1 #4 retain = nobody
        syncs work
        +10s
        p > PUBACK #4 0x10
        power lost
        traffic retained=1",
    );
}

/// Every listener has its own level.
#[test]
fn a_listener_may_promise_less() {
    let setup =
        Setup { level: Level::Written, levels: vec![Level::Synced, Level::Memory], ..Setup::new().on_disk() };
    for shards in [1, 2, 4] {
        let mut broker = setup.start(shards);
        for (name, listener) in [("synced", 0), ("memory", 1), ("written", 2)] {
            broker
                .open_as(name, ConnInfo { listener: ListenerId(listener), remote: None, over_limit: false });
            broker.play(&format!("{name} < CONNECT v5 id={name} clean\n{name} > CONNACK"));
        }
        broker.play(
            "
            a < CONNECT v5 id=a expiry=600
            a > CONNACK
            a < SUBSCRIBE #1 t q1
            a > SUBACK #1 q1
            a cut
            syncs fail
            synced < PUBLISH t q1 #1 = 1
            memory < PUBLISH t q1 #1 = 2
            memory > PUBACK #1
            written < PUBLISH t q1 #1 = 3
            written > PUBACK #1
            syncs work
            +10s
            synced > PUBACK #1",
        );
        broker.finish();
    }
}

/// Two subscribers and a publisher that was not answered yet, when all of it ends.
fn unanswered(setup: &Setup, shards: usize) -> Broker {
    let mut broker = setup.start(shards);
    broker.play(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        b < CONNECT v5 id=b expiry=600
        b > CONNACK
        b < SUBSCRIBE #1 t q2
        b > SUBACK #1 q2
        p < CONNECT v5 id=p expiry=600
        p > CONNACK
        syncs fail
        p < PUBLISH t q2 #7 = x
        killed",
    );
    broker
}

/// Whatever is left of a publication, after its repetition it is there.
fn repeated(mut broker: Broker) -> Broker {
    broker.play("p < CONNECT v5 id=p expiry=600\np > CONNACK present");
    assert_eq!(broker.answers("p < PUBLISH t q2 #7 dup = x"), ["p > PUBREC #7"]);
    broker.play("p < PUBREL #7\np > PUBCOMP #7");
    broker
}

/// Each subscriber gets it once.
fn is_there_once(mut broker: Broker) {
    broker.play("ledger queued=2");
    for name in ["a", "b"] {
        let lines = broker.answers(&format!("{name} < CONNECT v5 id={name} expiry=600"));
        let lines: Vec<_> = lines.iter().map(|line| line.replace(" dup", "")).collect();
        assert_eq!(lines, [format!("{name} > CONNACK present"), format!("{name} > PUBLISH t q2 #1 = x")]);
    }
    broker.finish();
}

/// [MQTT-4.3.3-10]: a kill leaves all that was written, on every shard.
#[test]
fn a_publication_that_was_not_answered_is_there_once_after_a_kill() {
    for shards in [1, 2, 4] {
        is_there_once(repeated(unanswered(&Setup::new().synced(), shards)));
    }
}

/// A loss of power leaves all of it, or nothing.
#[test]
fn a_publication_that_was_not_answered_is_there_once_after_a_loss_of_power() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..100 {
        let setup = Setup { seed, killed_by: Crash::PowerLoss, ..Setup::new().synced() };
        let broker = unanswered(&setup, 1);
        match broker.figures().0.queued {
            0 => lost += 1,
            2 => kept += 1,
            some => panic!("{some} of 2 copies are left"),
        }
        is_there_once(repeated(broker));
    }
    assert!(kept > 3 && lost > 3, "{kept} were there after the loss of power, {lost} not");
}

/// Of several shards each has its own disk: one may have lost the publication, and the other not.
#[test]
fn a_publication_to_several_shards_is_there_after_a_loss_of_power() {
    for seed in 0..50 {
        for shards in [2, 4] {
            let setup = Setup { seed, killed_by: Crash::PowerLoss, ..Setup::new().synced() };
            let mut broker = repeated(unanswered(&setup, shards));
            for name in ["a", "b"] {
                let lines = broker.answers(&format!("{name} < CONNECT v5 id={name} expiry=600"));
                let copies = lines.iter().filter(|line| line.contains("PUBLISH t q2")).count();
                assert!((1..=2).contains(&copies), "{lines:?}");
            }
            broker.finish();
        }
    }
}
