//! Shared subscriptions. MQTT 5 section 4.8.2.

use crate::common::{Setup, check};

/// How many messages each of the members got.
fn shares(lines: &[String]) -> std::collections::BTreeMap<String, usize> {
    let mut shares = std::collections::BTreeMap::new();
    for line in lines.iter().filter(|line| line.contains(" > PUBLISH ")) {
        *shares.entry(line.split(' ').next().unwrap().to_owned()).or_default() += 1;
    }
    shares
}

/// [MQTT-4.8.2-1], [MQTT-4.8.2-2]: every message goes to one member, and every member has its part.
#[test]
fn members_share_the_messages() {
    for shards in [1, 2, 4] {
        let mut broker = Setup::new().start(shards);
        for n in 0..5 {
            broker.play(&format!(
                "
                m{n} < CONNECT v5 id=m{n} clean
                m{n} > CONNACK
                m{n} < SUBSCRIBE #1 $share/g/t/+ q0
                m{n} > SUBACK #1 q0"
            ));
        }
        broker.play(
            "
            p < CONNECT v311 id=p clean
            p > CONNACK",
        );
        let mut lines = Vec::new();
        for n in 0..1000 {
            lines.extend(broker.answers(&format!("p < PUBLISH t/{n} q{} #{} = x", n % 2 + 1, n + 1)));
        }
        let shares = shares(&lines);
        assert_eq!(shares.values().sum::<usize>(), 1000, "each message once");
        assert_eq!(shares.len(), 5);
        assert!(shares.values().all(|share| (100..300).contains(share)), "{shares:?}");
        broker.play("ledger received=1000 copies=1000 delivered=1000");
        broker.finish();
    }
}

/// Groups of one filter, and filters of one group, are independent.
#[test]
fn groups_are_independent() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q1, $share/h/t, $share/g/+
        a > SUBACK #1 q1 q0 q0
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < SUBSCRIBE #1 t q2
        b > SUBACK #1 q2
        p < CONNECT v311 id=p clean
        p > CONNACK
        p < PUBLISH other/t = x
        p < PUBLISH t q2 #1 = x
        b > PUBLISH t q2 #1 = x
        a > PUBLISH t q1 #1 = x
        a > PUBLISH t = x
        a > PUBLISH t = x
        p > PUBREC #1",
    );
}

/// [MQTT-4.8.2-3]: at the QoS that this member was granted, with its identifier.
#[test]
fn a_member_has_its_own_options() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 sub=4 $share/g/t rap q1
        a > SUBACK #1 q1
        p < CONNECT v311 id=p clean
        p > CONNACK
        p < PUBLISH t q2 #1 retain = x
        a > PUBLISH t q1 #1 retain sub=4 = x
        p > PUBREC #1
        a < SUBSCRIBE #2 sub=5 $share/g/t
        a > SUBACK #2 q0
        p < PUBLISH t q1 #2 = y
        a > PUBLISH t sub=5 = y
        p > PUBACK #2",
    );
}

/// [MQTT-3.8.3-4]
#[test]
fn no_local_does_not_go_with_sharing() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t nl
        a > DISCONNECT 0x82
        a > closed",
    );
}

/// Messages go to members that are connected; only when there is none do they wait, at QoS 1 and 2.
#[test]
fn a_member_that_is_away_is_passed_over() {
    check(
        "
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q1
        a > SUBACK #1 q1
        b < CONNECT v5 id=b expiry=60
        b > CONNACK
        b < SUBSCRIBE #1 $share/g/t q1
        b > SUBACK #1 q1
        p < CONNECT v311 id=p clean
        p > CONNACK
        a cut
        p < PUBLISH t q1 #1 = 1
        b > PUBLISH t q1 #1 = 1
        p > PUBACK #1
        p < PUBLISH t q1 #2 = 2
        b > PUBLISH t q1 #2 = 2
        p > PUBACK #2
        b < PUBACK #1
        b < PUBACK #2
        b < DISCONNECT expiry=0
        b > closed
        p < PUBLISH t q1 #3 = 3
        p > PUBACK #3
        p < PUBLISH t = nobody
        ledger queued=1 no_subscriber=1
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present
        a > PUBLISH t q1 #1 = 3",
    );
}

/// What waits for a member is given to others when it goes, and what it did not acknowledge at QoS 1 is
/// when its session ends.
#[test]
fn messages_of_a_member_that_leaves_go_to_others() {
    check(
        "
        a < CONNECT v5 id=a rmax=1
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q1
        a > SUBACK #1 q1
        p < CONNECT v311 id=p clean
        p > CONNACK
        p < PUBLISH t q1 #1 = 1
        a > PUBLISH t q1 #1 = 1
        p > PUBACK #1
        p < PUBLISH t q1 #2 = 2
        p > PUBACK #2
        p < PUBLISH t q1 #3 = 3
        p > PUBACK #3
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < SUBSCRIBE #1 $share/g/t q1
        b > SUBACK #1 q1
        ledger queued=3
        a cut
        b > PUBLISH t q1 #1 = 1
        b > PUBLISH t q1 #2 = 2
        b > PUBLISH t q1 #3 = 3
        b < PUBACK #1
        b < PUBACK #2
        b < PUBACK #3
        ledger delivered=3 queued=0 dropped=0",
    );
}

/// The same for a member whose session stays: what it was not sent is given to others, the rest waits.
#[test]
fn messages_of_a_member_that_is_away_go_to_others() {
    check(
        "
        a < CONNECT v5 id=a expiry=60 rmax=1
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q2
        a > SUBACK #1 q2
        p < CONNECT v311 id=p clean
        p > CONNACK
        p < PUBLISH t q2 #1 = 1
        a > PUBLISH t q2 #1 = 1
        p > PUBREC #1
        p < PUBLISH t q2 #2 = 2
        p > PUBREC #2
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < SUBSCRIBE #1 $share/g/t q2
        b > SUBACK #1 q2
        a cut
        b > PUBLISH t q2 #1 = 2
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present
        a > PUBLISH t q2 #1 dup = 1
        a < PUBREC #1
        a > PUBREL #1
        a < PUBCOMP #1
        ledger delivered=1 queued=1",
    );
}

/// [MQTT-4.8.2-4], [MQTT-4.8.2-5]: a QoS 2 message that a member was sent is completed with that member,
/// or with nobody.
#[test]
fn a_qos_2_message_stays_with_its_member() {
    check(
        "
        a < CONNECT v5 id=a expiry=10 rmax=1
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q2
        a > SUBACK #1 q2
        p < CONNECT v311 id=p clean
        p > CONNACK
        p < PUBLISH t q2 #1 = 1
        a > PUBLISH t q2 #1 = 1
        p > PUBREC #1
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < SUBSCRIBE #1 $share/g/t q2
        b > SUBACK #1 q2
        a cut
        a < CONNECT v5 id=a expiry=10
        a > CONNACK present
        a > PUBLISH t q2 #1 dup = 1
        a cut
        +11s
        ledger session_ended=1 queued=0 message_bytes=0
        b < PINGREQ
        b > PINGRESP",
    );
}

/// [MQTT-4.8.2-6]: what a member refuses is given to nobody else.
#[test]
fn a_refused_message_is_discarded() {
    check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q2
        a > SUBACK #1 q2
        p < CONNECT v311 id=p clean
        p > CONNACK
        p << PUBLISH t q2 #1 = 1
        p < PUBLISH t q1 #2 = 2
        a > PUBLISH t q2 #1 = 1
        a > PUBLISH t q1 #2 = 2
        p > PUBREC #1
        p > PUBACK #2
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < SUBSCRIBE #1 $share/g/t q2
        b > SUBACK #1 q2
        a < PUBREC #1 0x80
        a < PUBACK #2 0x80
        a cut
        ledger queued=0
        b < PINGREQ
        b > PINGRESP",
    );
}

/// When the last member's session ends, what waited for the group is dropped and counted.
#[test]
fn a_group_without_members_keeps_nothing() {
    check(
        "
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q1
        a > SUBACK #1 q1
        p < CONNECT v5 id=p clean
        p > CONNACK
        a cut
        p < PUBLISH t q1 #1 = 1
        p > PUBACK #1
        ledger queued=1
        +61s
        ledger queued=0 session_ended=1
        p < PUBLISH t q1 #2 = 2
        p > PUBACK #2 0x10
        traffic subscriptions=0 message_bytes=0",
    );
}

/// A member with a full window is passed over while another has room.
#[test]
fn a_member_with_room_is_preferred() {
    Setup::new().shards(&[1]).check(
        "
        a < CONNECT v5 id=a clean rmax=1
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/t q1
        a > SUBACK #1 q1
        b < CONNECT v5 id=b clean rmax=3
        b > CONNACK
        b < SUBSCRIBE #1 $share/g/t q1
        b > SUBACK #1 q1
        p < CONNECT v311 id=p clean
        p > CONNACK
        p << PUBLISH t q1 #1 = 1
        p << PUBLISH t q1 #2 = 2
        p << PUBLISH t q1 #3 = 3
        p < PUBLISH t q1 #4 = 4
        a > PUBLISH t q1 #1 = 1
        b > PUBLISH t q1 #1 = 2
        b > PUBLISH t q1 #2 = 3
        b > PUBLISH t q1 #3 = 4
        p > PUBACK #1
        p > PUBACK #2
        p > PUBACK #3
        p > PUBACK #4",
    );
}

/// [MQTT-4.7.2-1] holds for the filter within a shared subscription.
#[test]
fn groups_on_wildcards_see_no_dollar_topics() {
    check(
        "
        w < CONNECT v5 id=w clean
        w > CONNACK
        w < SUBSCRIBE #1 $share/g/#, $share/h/$x/+
        w > SUBACK #1 q0 q0
        w < PUBLISH $x/y = 1
        w > PUBLISH $x/y = 1
        w < PUBLISH x/y = 2
        w > PUBLISH x/y = 2",
    );
}
