//! Logs that are written anew while they are used.

use crate::common::Setup;

/// Long-lived sessions, retained messages and a long queue live on while thousands of messages pass by, in
/// segments that come and go, through several processes.
#[test]
fn what_lives_long_is_carried_along() {
    for shards in [1, 2, 4] {
        let mut broker = Setup::new().on_disk().start(shards);
        broker.play(
            "
            old < CONNECT v5 id=old expiry=4294967295
            old > CONNACK
            old < SUBSCRIBE #1 sub=3 rare/+ q2 rap, $share/g/never q1
            old > SUBACK #1 q2 q1
            half < CONNECT v5 id=half expiry=4294967295
            half > CONNACK
            half < SUBSCRIBE #1 half q2
            half > SUBACK #1 q2
            p < CONNECT v5 id=p expiry=4294967295 will=rare/will:gone will.q1 will.delay=5000
            p > CONNACK
            p < PUBLISH rare/1 q2 #1 retain prop=k:v = one
            old > PUBLISH rare/1 q2 #1 retain sub=3 prop=k:v = one
            p > PUBREC #1
            p < PUBLISH rare/2 q1 #2 = two
            old > PUBLISH rare/2 q1 #2 sub=3 = two
            p > PUBACK #2
            p < PUBLISH half q2 #3 = half
            half > PUBLISH half q2 #1 = half
            p > PUBREC #3
            half < PUBREC #1
            half > PUBREL #1
            old cut
            half cut
            p cut",
        );
        let mut sent = 0;
        for life in 0..3 {
            let present = if life == 0 { "" } else { " present" };
            broker.play(&format!(
                "
                a < CONNECT v5 id=a expiry=600
                a > CONNACK{present}
                q < CONNECT v5 id=q clean
                q > CONNACK"
            ));
            if life == 0 {
                broker.play("a < SUBSCRIBE #1 t q1\na > SUBACK #1 q1");
            }
            for n in 1..=1000 {
                sent += 1;
                broker.play(&format!(
                    "
                    q < PUBLISH t q1 #{n} = {n:0200}
                    a > PUBLISH t q1 #{sent} = {n:0200}
                    q > PUBACK #{n}
                    a < PUBACK #{sent}"
                ));
            }
            let figures = broker.log_figures();
            assert!(figures.appended_bytes > 200_000, "{figures:?}");
            assert!(figures.disk_bytes < 64 * 1024 * 5 * shards as u64, "{figures:?}");
            broker.play("killed");
        }
        broker.play(
            "
            traffic retained=1 sessions=4 subscriptions=4
            old < CONNECT v5 id=old expiry=600
            old > CONNACK present
            old > PUBLISH rare/1 q2 #1 dup retain sub=3 prop=k:v = one
            old > PUBLISH rare/2 q1 #2 dup sub=3 = two
            half < CONNECT v5 id=half expiry=600
            half > CONNACK present
            half > PUBREL #1
            p < CONNECT v5 id=p expiry=600
            p > CONNACK present
            # It was taken three processes ago.
            p < PUBLISH rare/1 q2 #1 dup retain prop=k:v = one
            p > PUBREC #1
            ledger received=0
            p < PUBREL #1
            p > PUBCOMP #1
            n < CONNECT v5 id=n clean
            n > CONNACK
            n < SUBSCRIBE #1 rare/#
            n > SUBACK #1 q0
            n > PUBLISH rare/1 retain prop=k:v = one",
        );
        broker.finish();
    }
}

/// A queue that is filled and emptied over and over keeps its numbers, and the disk its bounds.
#[test]
fn a_queue_may_be_drained_over_and_over() {
    for shards in [1, 2, 4] {
        let mut broker = Setup::new().on_disk().start(shards);
        broker.play("a < CONNECT v311 id=a\na > CONNACK\na < SUBSCRIBE #1 t q1\na > SUBACK #1 q1");
        let mut number = 0;
        for round in 0..6 {
            broker.play("a cut\np < CONNECT v5 id=p clean\np > CONNACK");
            for n in 1..=200 {
                broker.play(&format!("p < PUBLISH t q1 #{n} = {n:0500}\np > PUBACK #{n}"));
            }
            let dup = if round % 2 == 1 { " dup" } else { "" };
            if round % 2 == 1 {
                broker.play("killed");
            }
            let mut drained = String::from("a < CONNECT v311 id=a\na > CONNACK present\n");
            let mut acks = String::new();
            for n in 1..=200 {
                number += 1;
                drained += &format!("a > PUBLISH t q1 #{number}{dup} = {n:0500}\n");
                acks += &format!("a < PUBACK #{number}\n");
            }
            broker.play(&drained);
            broker.play(&acks);
            broker.play("ledger queued=0\ntraffic message_bytes=0\n+1s");
            if round % 2 == 0 {
                broker.play("p cut");
            }
            let figures = broker.log_figures();
            assert!(figures.disk_bytes < 64 * 1024 * 5 * shards as u64, "{figures:?}");
        }
        broker.finish();
    }
}
