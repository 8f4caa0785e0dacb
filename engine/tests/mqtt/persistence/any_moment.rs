//! Kills at every step between a packet and its answers. What a client was answered holds; what it was not, it
//! repeats.

use ringmq_sim::{Crash, Network};
use ringmq_storage::Level;

use crate::common::{Broker, Setup};

/// Before each kill: two subscribers and a publisher, on several shards if there are several.
const BEFORE: &str = "
    a < CONNECT v5 id=a expiry=600
    a > CONNACK
    a < SUBSCRIBE #1 t q2
    a > SUBACK #1 q2
    b < CONNECT v5 id=b expiry=600
    b > CONNACK
    b < SUBSCRIBE #1 t q2
    b > SUBACK #1 q2
    p < CONNECT v5 id=p expiry=600
    p > CONNACK";

/// Sends a packet after a transcript, with a kill after no step, after one, and so on until nothing would have
/// happened any more. What comes then is told what had been received.
#[track_caller]
fn at_every_step(transcript: &str, sent: (&str, &str), after: impl Fn(Broker, Vec<String>)) {
    let slow =
        Network { sync_delay_ms: 1..=3, lane_delay_ms: 0..=2, client_delay_ms: 0..=1, ..Network::calm() };
    let setup = Setup::new().on_disk();
    let shapes = [
        setup.clone(),
        Setup { network: slow.clone(), ..setup.clone() },
        Setup { network: slow, level: Level::Synced, ..setup },
    ];
    for shards in [1, 2, 4] {
        for shape in &shapes {
            for seed in 0..2 {
                let mut rested = false;
                for steps in 0.. {
                    let mut broker = Setup { seed, ..shape.clone() }.start(shards);
                    broker.play(transcript);
                    let (lines, now) = broker.die_after(steps, sent);
                    after(broker, lines);
                    if rested {
                        break;
                    }
                    rested = now;
                }
            }
        }
    }
}

/// Everybody is back; what each of them gets for it.
fn reconnect(broker: &mut Broker, name: &str) -> Vec<String> {
    let lines = broker.answers(&format!("{name} < CONNECT v5 id={name} expiry=600"));
    assert_eq!(lines[0], format!("{name} > CONNACK present"));
    lines[1..].iter().map(|line| line.replace(" dup", "")).collect()
}

#[test]
fn qos_1_is_there_once_it_is_acknowledged() {
    at_every_step(BEFORE, ("p", "PUBLISH t q1 #7 = x"), |mut broker, lines| {
        let acknowledged = lines.contains(&"p > PUBACK #7".to_owned());
        for name in ["a", "b"] {
            let got = reconnect(&mut broker, name);
            let (copy, sent) = (format!("{name} > PUBLISH t q1 #1 = x"), got.len());
            assert!(sent >= usize::from(acknowledged) && sent <= 1, "{lines:?} {got:?}");
            assert!(got.iter().all(|line| *line == copy), "{got:?}");
            if lines.contains(&copy) {
                assert_eq!(got, [copy], "it was under way already");
            }
        }
        broker.finish();
    });
}

/// [MQTT-4.3.3-10]: the publisher repeats what it has no PUBREC for, and each subscriber gets one message.
#[test]
fn qos_2_is_there_once() {
    at_every_step(BEFORE, ("p", "PUBLISH t q2 #7 = x"), |mut broker, lines| {
        assert!(reconnect(&mut broker, "p").is_empty());
        if !lines.contains(&"p > PUBREC #7".to_owned()) {
            broker.play("p < PUBLISH t q2 #7 dup = x\np > PUBREC #7");
        }
        broker.play("p < PUBREL #7\np > PUBCOMP #7");
        for name in ["a", "b"] {
            assert_eq!(reconnect(&mut broker, name), [format!("{name} > PUBLISH t q2 #1 = x")]);
        }
        broker.finish();
    });
}

/// Once PUBCOMP is there, the identifier is free; without, PUBREL is repeated.
#[test]
fn a_released_identifier_is_used_again() {
    let before = format!(
        "{BEFORE}
        p < PUBLISH t q2 #7 = x
        a > PUBLISH t q2 #1 = x
        b > PUBLISH t q2 #1 = x
        p > PUBREC #7"
    );
    at_every_step(&before, ("p", "PUBREL #7"), |mut broker, lines| {
        assert!(reconnect(&mut broker, "p").is_empty());
        if lines.is_empty() {
            let answer = broker.answers("p < PUBREL #7").concat();
            assert!(["p > PUBCOMP #7", "p > PUBCOMP #7 0x92"].contains(&answer.as_str()), "{answer}");
        }
        broker.play("p < PUBLISH t q2 #7 = y\np > PUBREC #7\nledger received=1");
        for name in ["a", "b"] {
            let expected =
                [(1, "x"), (2, "y")].map(|(n, text)| format!("{name} > PUBLISH t q2 #{n} = {text}"));
            assert_eq!(reconnect(&mut broker, name), expected);
        }
        broker.finish();
    });
}

/// [MQTT-4.3.3-6]: whoever has PUBREL is not sent the message again.
#[test]
fn a_received_message_is_not_sent_again() {
    let before = format!(
        "{BEFORE}
        p < PUBLISH t q2 #7 = x
        a > PUBLISH t q2 #1 = x
        b > PUBLISH t q2 #1 = x
        p > PUBREC #7"
    );
    at_every_step(&before, ("a", "PUBREC #1"), |mut broker, lines| {
        let got = reconnect(&mut broker, "a").concat();
        let released = got == "a > PUBREL #1";
        assert!(released || lines.is_empty() && got == "a > PUBLISH t q2 #1 = x", "{lines:?} {got}");
        if !released {
            broker.play("a < PUBREC #1\na > PUBREL #1");
        }
        broker.play("a < PUBCOMP #1\nledger delivered=1 queued=1");
        broker.finish();
    });
}

/// A will is published, whenever the connection and the process end, and wherever its subscribers are. Once, or
/// where another shard had to have it, twice if the process ended before that said so.
#[test]
fn a_will_is_not_lost() {
    for id in ["p", "q", "r", "s"] {
        let before = format!(
            "
            w < CONNECT v5 id=w expiry=600
            w > CONNACK
            w < SUBSCRIBE #1 will q1
            w > SUBACK #1 q1
            w cut
            p < CONNECT v5 id={id} expiry=600 will=will:gone will.q1
            p > CONNACK"
        );
        at_every_step(&before, ("p", "DISCONNECT 0x04"), |mut broker, _| {
            let got = reconnect(&mut broker, "w");
            let copies = [1, 2].map(|number| format!("w > PUBLISH will q1 #{number} = gone"));
            let at_most = broker.world.shard_count().min(2);
            assert!((1..=at_most).contains(&got.len()) && copies.starts_with(&got), "{got:?}");
            broker.finish();
        });
    }
}

/// A session that begins anew has nothing of the old one, from CONNACK on.
#[test]
fn a_clean_start_is_clean() {
    at_every_step(
        &format!("{BEFORE}\na cut\np < PUBLISH t q1 #1 = x\nb > PUBLISH t q1 #1 = x\np > PUBACK #1"),
        ("a", "CONNECT v5 id=a clean expiry=600"),
        |mut broker, lines| {
            let answer = broker.answers("a < CONNECT v5 id=a expiry=600");
            match answer.len() {
                2 => assert!(lines.is_empty(), "{lines:?} {answer:?}"),
                1 => broker.play("ledger queued=1"),
                _ => panic!("{answer:?}"),
            }
            broker.finish();
        },
    );
}

/// Power loss where acknowledgements wait for syncs: what was acknowledged is there.
#[test]
fn acknowledged_means_synced() {
    for seed in 0..20 {
        for shards in [1, 2, 4] {
            let network = Network { sync_delay_ms: 0..=5, lane_delay_ms: 0..=2, ..Network::calm() };
            let setup = Setup { seed, network, killed_by: Crash::PowerLoss, ..Setup::new().synced() };
            for steps in 0.. {
                let mut broker = setup.start(shards);
                broker.play(BEFORE);
                let (lines, rested) = broker.die_after(steps, ("p", "PUBLISH t q1 #7 = x"));
                if lines.contains(&"p > PUBACK #7".to_owned()) {
                    broker.play("ledger queued=2");
                }
                broker.finish();
                if rested {
                    break;
                }
            }
        }
    }
}

/// What moves from one member of a group to another is with one of them; with both if the process ended before
/// the first heard that the other has it.
#[test]
fn what_moves_to_another_member_is_not_lost() {
    let before = "
        a < CONNECT v5 id=a expiry=600 rmax=1
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q1
        a > SUBACK #1 q1
        p < CONNECT v5 id=p expiry=600
        p > CONNACK
        p < PUBLISH t q1 #1 = 1
        a > PUBLISH t q1 #1 = 1
        p > PUBACK #1
        p < PUBLISH t q1 #2 = 2
        p > PUBACK #2
        p < PUBLISH t q1 #3 = 3
        p > PUBACK #3
        b < CONNECT v5 id=b expiry=600
        b > CONNACK
        b < SUBSCRIBE #1 $share/g/t q1
        b > SUBACK #1 q1";
    for goodbye in ["DISCONNECT", "DISCONNECT expiry=0"] {
        at_every_step(before, ("a", goodbye), |mut broker, _| {
            let mut got = reconnect(&mut broker, "b");
            got.extend(broker.answers("a < CONNECT v5 id=a expiry=600"));
            for n in 1..=3 {
                let copies = got.iter().filter(|line| line.ends_with(&format!(" = {n}"))).count();
                assert!((1..=2).contains(&copies), "{n} in {got:?}");
            }
            broker.finish();
        });
    }
}

/// [MQTT-3.3.1-5]
#[test]
fn a_retained_message_is_there_once_it_is_acknowledged() {
    for topic in ["one", "two", "three", "four"] {
        let before = format!(
            "
            p < CONNECT v5 id=p expiry=600
            p > CONNACK
            p < PUBLISH {topic} q1 #1 retain = old
            p > PUBACK #1 0x10"
        );
        let new = format!("PUBLISH {topic} q1 #2 retain = new");
        at_every_step(&before, ("p", &new), |mut broker, lines| {
            broker.play("n < CONNECT v5 id=n clean\nn > CONNACK\ntraffic retained=1");
            let got = broker.answers(&format!("n < SUBSCRIBE #1 {topic}"));
            let old = format!("n > PUBLISH {topic} retain = old");
            assert_eq!(got.len(), 2, "{got:?}");
            assert!(got[1] != old || lines.is_empty(), "{lines:?} {got:?}");
            broker.finish();
        });
    }
}
