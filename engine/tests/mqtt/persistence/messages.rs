//! Messages that wait for their clients, and those that were under way.

use ringmq_engine::{Limits, OverflowPolicy};

use super::check;
use crate::common::Setup;

fn on_disk(change: impl FnOnce(&mut Limits)) -> Setup {
    Setup::with(change).on_disk()
}

/// [MQTT-3.1.2-5], [MQTT-4.5.0-1], [MQTT-4.6.0-6], [MQTT311-3.1.2-5], [MQTT311-4.6.0-6]. Any of them may
/// have been sent as far as the next process knows: DUP says so. [MQTT-3.3.1-1]
#[test]
fn a_hundred_messages_wait_in_order() {
    let mut transcript = String::from(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 sub=1 t/# q2
        a > SUBACK #1 q2
        p < CONNECT v5 id=p clean
        p > CONNACK
        a cut\n",
    );
    let mut drained = String::new();
    for n in 1..=100 {
        let qos = n % 2 + 1;
        let ack = if qos == 1 { "PUBACK" } else { "PUBREC" };
        transcript += &format!("p < PUBLISH t/{n} q{qos} #{n} prop=n:{n} = {n}\np > {ack} #{n}\n");
        if n == 50 {
            transcript += "killed\np < CONNECT v5 id=p clean\np > CONNACK\n";
        }
        drained += &format!("a > PUBLISH t/{n} q{qos} #{n} dup sub=1 prop=n:{n} = {n}\n");
    }
    check(&format!(
        "{transcript}
        killed
        ledger queued=100
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        {drained}
        ledger queued=100"
    ));
}

/// What could not have been sent is not called a duplicate.
#[test]
fn messages_beyond_the_window_are_no_duplicates() {
    on_disk(|limits| limits.inflight_messages_max = 2).check(
        "
        a < CONNECT v311 id=a
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        p < CONNECT v5 id=p clean
        p > CONNACK
        p << PUBLISH t q1 #1 = 1
        p << PUBLISH t q1 #2 = 2
        p << PUBLISH t q1 #3 = 3
        p < PUBLISH t q1 #4 = 4
        a > PUBLISH t q1 #1 = 1
        a > PUBLISH t q1 #2 = 2
        p > PUBACK #1
        p > PUBACK #2
        p > PUBACK #3
        p > PUBACK #4
        killed
        a < CONNECT v311 id=a
        a > CONNACK present
        a > PUBLISH t q1 #1 dup = 1
        a > PUBLISH t q1 #2 dup = 2
        a < PUBACK #1
        a > PUBLISH t q1 #3 = 3
        a < PUBACK #2
        a > PUBLISH t q1 #4 = 4",
    );
}

/// [MQTT-4.4.0-1], [MQTT-3.3.1-1], [MQTT311-4.4.0-1]: once more, under the identifiers that the client knows.
#[test]
fn qos_1_under_way_is_sent_again() {
    for connect in ["v5 id=a expiry=600", "v311 id=a"] {
        let transcript = "
            a < CONNECT {c}
            a > CONNACK
            a < SUBSCRIBE #1 t q1
            a > SUBACK #1 q1
            p < CONNECT v5 id=p clean
            p > CONNACK
            p << PUBLISH t q1 #1 = one
            p << PUBLISH t q1 #2 = two
            p < PUBLISH t q1 #3 = three
            a > PUBLISH t q1 #1 = one
            a > PUBLISH t q1 #2 = two
            a > PUBLISH t q1 #3 = three
            p > PUBACK #1
            p > PUBACK #2
            p > PUBACK #3
            a < PUBACK #2
            killed
            a < CONNECT {c}
            a > CONNACK present
            a > PUBLISH t q1 #1 dup = one
            a > PUBLISH t q1 #3 dup = three
            a < PUBACK #3
            p < CONNECT v5 id=p clean
            p > CONNACK
            p < PUBLISH t q1 #1 = four
            a > PUBLISH t q1 #4 = four
            p > PUBACK #1
            killed
            a < CONNECT {c}
            a > CONNACK present
            a > PUBLISH t q1 #1 dup = one
            a > PUBLISH t q1 #4 dup = four
            a < PUBACK #1
            a < PUBACK #4
            ledger delivered=2 queued=0
            traffic message_bytes=0
            killed
            a < CONNECT {c}
            a > CONNACK present
            a < PUBLISH t q1 #9 = five
            a > PUBLISH t q1 #5 = five
            a > PUBACK #9";
        check(&transcript.replace("{c}", connect));
    }
}

/// [MQTT-3.3.4-7]: the bound is that of the connection after the start.
#[test]
fn the_receive_maximum_holds_after_a_kill() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        p < CONNECT v5 id=p clean
        p > CONNACK
        p << PUBLISH t q1 #1 = 1
        p << PUBLISH t q1 #2 = 2
        p < PUBLISH t q1 #3 = 3
        a > PUBLISH t q1 #1 = 1
        a > PUBLISH t q1 #2 = 2
        a > PUBLISH t q1 #3 = 3
        p > PUBACK #1
        p > PUBACK #2
        p > PUBACK #3
        killed
        a < CONNECT v5 id=a expiry=600 rmax=1
        a > CONNACK present
        a > PUBLISH t q1 #1 dup = 1
        a < PUBACK #1
        a > PUBLISH t q1 #2 dup = 2
        a < PUBACK #2
        a > PUBLISH t q1 #3 dup = 3",
    );
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6]: while the broker is down as well.
#[test]
fn messages_expire_while_the_broker_is_down() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        p < CONNECT v5 id=p clean
        p > CONNACK
        a cut
        p < PUBLISH t q1 #1 expiry=50 = short
        p > PUBACK #1
        p < PUBLISH t q1 #2 expiry=100 = long
        p > PUBACK #2
        p < PUBLISH t q1 #3 = for ever
        p > PUBACK #3
        +20s
        killed 40s
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        a > PUBLISH t q1 #2 dup expiry=40 = long
        a > PUBLISH t q1 #3 dup = for ever
        ledger expired=1 queued=2",
    );
}

/// A session that changes its version keeps what the other one understands.
#[test]
fn properties_survive_for_whom_they_mean_something() {
    check(
        "
        a < CONNECT v311 id=a
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        p < CONNECT v5 id=p clean
        p > CONNACK
        a cut
        p < PUBLISH t q1 #1 pfi=1 ct=text rt=r cd=c prop=k:2 prop=k:1 = x
        p > PUBACK #1
        killed
        a < CONNECT v311 id=a
        a > CONNACK present
        a > PUBLISH t q1 #1 dup = x
        killed
        a < CONNECT v5 id=a
        a > CONNACK present
        a > PUBLISH t q1 #1 dup pfi=1 ct=text rt=r cd=c prop=k:2 prop=k:1 = x",
    );
}

/// The identifiers of all subscriptions that a message matched. [MQTT-3.3.4-3], [MQTT-3.3.4-4]
#[test]
fn several_identifiers_survive() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 sub=300 t/# q1
        a > SUBACK #1 q1
        a < SUBSCRIBE #2 sub=20 t/+ q2
        a > SUBACK #2 q2
        a < SUBSCRIBE #3 sub=1 t/x
        a > SUBACK #3 q0
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH t/x q2 #1 = x
        a > PUBLISH t/x q2 #1 sub=1 sub=20 sub=300 = x
        p > PUBREC #1
        p < PUBLISH t/y q1 #2 = y
        a > PUBLISH t/y q1 #2 sub=20 sub=300 = y
        p > PUBACK #2
        killed
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        a > PUBLISH t/x q2 #1 dup sub=1 sub=20 sub=300 = x
        a > PUBLISH t/y q1 #2 dup sub=20 sub=300 = y
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH t/z q1 #1 = z
        a > PUBLISH t/z q1 #3 sub=20 sub=300 = z
        p > PUBACK #1",
    );
}

/// The bounds count what the last process left.
#[test]
fn a_queue_stays_bounded_after_a_kill() {
    let before = "
        a < CONNECT v311 id=a
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        p < CONNECT v5 id=p clean
        p > CONNACK
        a cut
        p < PUBLISH t q1 #1 = 1
        p > PUBACK #1
        p < PUBLISH t q1 #2 = 2
        p > PUBACK #2
        killed
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH t q1 #3 = 3
        p > PUBACK #3
        p < PUBLISH t q1 #4 = 4
        p > PUBACK #4
        ledger queued=3 queue_full=1
        killed
        ledger queued=3
        a < CONNECT v311 id=a
        a > CONNACK present";
    for (overflow, kept) in [(OverflowPolicy::DropNewest, [1, 2, 3]), (OverflowPolicy::DropOldest, [2, 3, 4])]
    {
        let kept = kept.map(|n| format!("a > PUBLISH t q1 #{n} dup = {n}\n")).concat();
        let setup = on_disk(|limits| {
            limits.queue_messages_max = 3;
            limits.overflow = overflow;
        });
        setup.check(&format!("{before}\n{kept}"));
    }
}

#[test]
fn a_queue_stays_bounded_in_bytes() {
    on_disk(|limits| limits.queue_bytes_max = 2000).check(
        "
        a < CONNECT v311 id=a
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        p < CONNECT v5 id=p clean
        p > CONNACK
        a cut
        p < PUBLISH t q1 #1 = x*1500
        p > PUBACK #1
        killed
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH t q1 #1 = y*1500
        p > PUBACK #1
        p < PUBLISH t q1 #2 = z*100
        p > PUBACK #2
        ledger queued=2 queue_full=1
        a < CONNECT v311 id=a
        a > CONNACK present
        a > PUBLISH t q1 #1 dup = x*1500
        a > PUBLISH t q1 #2 = z*100
        a < PUBACK #1
        a < PUBACK #2
        a cut
        # There is room again.
        p < PUBLISH t q1 #3 = y*1500
        p > PUBACK #3
        ledger queued=1 queue_full=1",
    );
}

/// [MQTT-3.1.2-24]: what is too large for the client of today is dropped then.
#[test]
fn the_maximum_packet_size_holds_after_a_kill() {
    check(
        "
        a < CONNECT v5 id=a expiry=600
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        p < CONNECT v311 id=p clean
        p > CONNACK
        p < PUBLISH t q1 #1 = x*100
        a > PUBLISH t q1 #1 = x*100
        p > PUBACK #1
        p < PUBLISH t q2 #2 = small
        a > PUBLISH t q2 #2 = small
        p > PUBREC #2
        killed
        a < CONNECT v5 id=a expiry=600 pmax=50
        a > CONNACK present
        a > PUBLISH t q2 #2 dup = small
        ledger queued=1 packet_too_large=1
        killed
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        a > PUBLISH t q2 #2 dup = small",
    );
}
