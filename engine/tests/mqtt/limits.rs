//! What each side may ask of the other, and what happens at, below and above it.

use ringmq_engine::{Limits, OverflowPolicy};
use ringmq_sim::Network;

use crate::common::{Setup, check};

/// [MQTT-3.2.2-15], section 3.2.2.3.6: in bytes of the whole packet.
#[test]
fn the_servers_maximum_packet_size_holds() {
    let setup = Setup::with(|limits| limits.packet_bytes_max = 64);
    setup.check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < PUBLISH t q1 #1 = x*55
        a > PUBACK #1 0x10
        a < PUBLISH t = x*58
        a < PUBLISH t = x*59
        a > DISCONNECT 0x95
        a > closed
        b < CONNECT v311 id=b clean
        b > CONNACK
        b < PUBLISH t = x*59
        b < PUBLISH t = x*60
        b > closed
        # The size is known long before the packet is there.
        c < CONNECT v5 id=c clean
        c > CONNACK
        c < hex 30 3f
        c > DISCONNECT 0x95
        c > closed
        ledger received=3",
    );
}

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25]: live, in the queue and after a reconnect, what is too large is
/// dropped as if it had been sent.
#[test]
fn the_clients_maximum_packet_size_holds() {
    check(
        "
        a < CONNECT v5 id=a expiry=60 pmax=30
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        b < CONNECT v311 id=b clean
        b > CONNACK
        b < PUBLISH t = x*24
        a > PUBLISH t = xxxxxxxxxxxxxxxxxxxxxxxx
        b < PUBLISH t = x*25
        b < PUBLISH t q1 #1 = y*22
        a > PUBLISH t q1 #1 = yyyyyyyyyyyyyyyyyyyyyy
        b > PUBACK #1
        b < PUBLISH t q2 #2 = y*23
        b > PUBREC #2
        ledger queued=1 packet_too_large=2
        a cut
        b < PUBLISH t q1 #3 = z*22
        b > PUBACK #3
        b < PUBLISH t q1 #4 = z*23
        b > PUBACK #4
        a < CONNECT v5 id=a expiry=60 pmax=29
        a > CONNACK present
        ledger queued=0 packet_too_large=5
        b < PUBLISH t q1 #5 = z
        a > PUBLISH t q1 #5 = z
        b > PUBACK #5",
    );
}

/// [MQTT-3.1.2-24]: a run of messages is sorted out one by one, and other receivers have all of them.
#[test]
fn one_large_message_among_small_ones_is_left_out() {
    check(
        "
        a < CONNECT v5 id=a clean pmax=30
        a > CONNACK
        a < SUBSCRIBE #1 t
        a > SUBACK #1 q0
        w < CONNECT v5 id=w clean
        w > CONNACK
        w < SUBSCRIBE #1 t
        w > SUBACK #1 q0
        b < CONNECT v5 id=b clean
        b > CONNACK
        b << PUBLISH t = 1
        b << PUBLISH t = x*100
        b < PUBLISH t = 2
        a > PUBLISH t = 1
        a > PUBLISH t = 2
        w > PUBLISH t = 1
        w > PUBLISH t = x*100
        w > PUBLISH t = 2
        ledger copies=6 delivered=5 packet_too_large=1",
    );
}

/// [MQTT-3.9.2-2], [MQTT-3.11.2-2], [MQTT-3.1.2-24]: an answer that has to be larger than the client
/// takes is not sent; there is nothing to be said then but goodbye.
#[test]
fn a_long_answer_is_not_sent_to_a_client_that_takes_short_ones() {
    let filters: Vec<_> = (0..30).map(|n| format!("f{n}")).collect();
    check(&format!(
        "
        a < CONNECT v5 id=a clean pmax=20
        a > CONNACK
        a < SUBSCRIBE #1 {short}
        a > SUBACK #1 q0 q0 q0
        a < SUBSCRIBE #2 {long}
        a > DISCONNECT 0x95
        a > closed
        b < CONNECT v5 id=b clean pmax=20
        b > CONNACK
        b < UNSUBSCRIBE #2 {long}
        b > DISCONNECT 0x95
        b > closed",
        short = filters[..3].join(", "),
        long = filters.join(", "),
    ));
}

/// [MQTT-3.4.2-2], [MQTT-3.4.2-3], [MQTT-3.5.2-2], [MQTT-3.5.2-3], [MQTT-3.6.2-2], [MQTT-3.6.2-3],
/// [MQTT-3.7.2-2], [MQTT-3.7.2-3], [MQTT-3.9.2-2], [MQTT-3.11.2-2], [MQTT-3.1.2-29]: acknowledgements
/// explain nothing beyond their reason code.
#[test]
fn acknowledgements_stay_short() {
    for connect in ["", "pmax=16", "problems=0"] {
        check(&format!(
            "
            a < CONNECT v5 id=a clean {connect}
            a > CONNACK
            a < PUBLISH t q1 #1
            a > PUBACK #1 0x10
            a < PUBLISH t q2 #2
            a > PUBREC #2 0x10
            a < PUBREL #3
            a > PUBCOMP #3 0x92
            a < PUBREC #4
            a > PUBREL #4 0x92
            a < SUBSCRIBE #5 a#
            a > SUBACK #5 0x8f
            a < UNSUBSCRIBE #6 a
            a > UNSUBACK #6 0x11"
        ));
    }
}

/// [MQTT-3.3.4-8], [MQTT-3.3.4-9]: what is not completed counts; versions without the property are not
/// held to it.
#[test]
fn the_servers_receive_maximum_holds() {
    Setup::with(|limits| limits.receive_maximum = 2).check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < PUBLISH t q2 #1
        a > PUBREC #1 0x10
        a < PUBLISH t q2 #2
        a > PUBREC #2 0x10
        a < PUBLISH t
        a < PUBLISH t q2 #2 dup
        a > PUBREC #2
        a < PUBREL #1
        a > PUBCOMP #1
        a < PUBLISH t q2 #3
        a > PUBREC #3 0x10
        a < PUBLISH t q2 #4
        a > DISCONNECT 0x93
        a > closed
        b < CONNECT v5 id=b clean
        b > CONNACK
        b < PUBLISH t q2 #1
        b > PUBREC #1 0x10
        b < PUBLISH t q1 #2
        b > PUBACK #2 0x10
        b < PUBLISH t q1 #3
        b > PUBACK #3 0x10
        b < PUBLISH t q2 #4
        b > PUBREC #4 0x10
        b < PUBLISH t q1 #5
        b > DISCONNECT 0x93
        b > closed
        c < CONNECT v311 id=c clean
        c > CONNACK
        c < PUBLISH t q2 #1
        c > PUBREC #1
        c < PUBLISH t q2 #2
        c > PUBREC #2
        c < PUBLISH t q2 #3
        c > PUBREC #3",
    );
}

/// Section 4.9: each connection has the whole window, whatever earlier ones left open.
#[test]
fn the_servers_receive_maximum_begins_anew() {
    Setup::with(|limits| limits.receive_maximum = 2).check(
        "
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a < PUBLISH t q2 #1
        a > PUBREC #1 0x10
        a < PUBLISH t q2 #2
        a > PUBREC #2 0x10
        a cut
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present
        a < PUBLISH t q2 #3
        a > PUBREC #3 0x10
        a < PUBREL #1
        a > PUBCOMP #1
        a < PUBREL #2
        a > PUBCOMP #2
        a < PUBLISH t q2 #4
        a > PUBREC #4 0x10
        a < PUBLISH t q2 #5
        a > DISCONNECT 0x93
        a > closed",
    );
}

/// [MQTT-3.3.4-7], [MQTT-3.3.4-10], [MQTT-4.9.0-1], [MQTT-4.9.0-2], [MQTT-4.9.0-3]: the window opens with PUBACK, PUBCOMP
/// and a PUBREC that refuses, and QoS 0 needs none.
#[test]
fn the_clients_receive_maximum_holds() {
    check(
        "
        a < CONNECT v5 id=a clean rmax=2
        a > CONNACK
        a < SUBSCRIBE #1 t q2
        a > SUBACK #1 q2
        b < CONNECT v311 id=b clean
        b > CONNACK
        b << PUBLISH t q1 #1 = 1
        b << PUBLISH t q2 #2 = 2
        b << PUBLISH t q2 #3 = 3
        b << PUBLISH t q1 #4 = 4
        b < PUBLISH t q1 #5 = 5
        a > PUBLISH t q1 #1 = 1
        a > PUBLISH t q2 #2 = 2
        b > PUBACK #1
        b > PUBREC #2
        b > PUBREC #3
        b > PUBACK #4
        b > PUBACK #5
        b < PUBLISH t = 0
        a > PUBLISH t = 0
        a < PINGREQ
        a > PINGRESP
        a < PUBREC #2
        a > PUBREL #2
        a < PUBCOMP #2
        a > PUBLISH t q2 #3 = 3
        a < PUBREC #3 0x97
        a > PUBLISH t q1 #4 = 4
        a < PUBACK #1
        a > PUBLISH t q1 #5 = 5
        # An acknowledgement of nothing opens nothing.
        a < PUBACK #1
        a < PUBACK #9
        b < PUBLISH t q1 #6 = 6
        b > PUBACK #6
        a < PUBACK #4
        a > PUBLISH t q1 #6 = 6
        ledger delivered=4 queued=2 refused=1",
    );
}

/// Clients that name no limit have the configuration's.
#[test]
fn the_window_is_bounded_by_the_configuration_too() {
    Setup::with(|limits| limits.inflight_messages_max = 1).check(
        "
        a < CONNECT v311 id=a clean
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        a << PUBLISH t q1 #1 = 1
        a < PUBLISH t q1 #2 = 2
        a > PUBLISH t q1 #1 = 1
        a > PUBACK #1
        a > PUBACK #2
        a < PUBACK #1
        a > PUBLISH t q1 #2 = 2",
    );
}

/// [MQTT-3.3.2-7], [MQTT-3.3.2-8], [MQTT-3.3.2-10], [MQTT-3.3.2-12], [MQTT-3.2.2-17], [MQTT-3.2.2-18],
/// [MQTT-3.3.2-9]
#[test]
fn topic_aliases_of_a_client() {
    Setup::with(|limits| limits.topic_alias_maximum = 2).check(
        "
        s < CONNECT v5 id=s clean
        s > CONNACK
        s < SUBSCRIBE #1 #
        s > SUBACK #1 q0
        a < CONNECT v5 id=a expiry=60
        a > CONNACK
        a << PUBLISH one alias=1 = 1
        a << PUBLISH two alias=2 = 2
        a << PUBLISH - alias=1 = 3
        a << PUBLISH - alias=2 prop=k:v = 4
        a << PUBLISH three alias=1 = 5
        a << PUBLISH - alias=1 = 6
        a < PUBLISH one = 7
        s > PUBLISH one = 1
        s > PUBLISH two = 2
        s > PUBLISH one = 3
        s > PUBLISH two prop=k:v = 4
        s > PUBLISH three = 5
        s > PUBLISH three = 6
        s > PUBLISH one = 7
        # The next connection knows none of them.
        a cut
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present
        a < PUBLISH - alias=1 = x
        a > DISCONNECT 0x94
        a > closed",
    );
    for (fault, reason) in [
        ("PUBLISH t alias=3 = x", "0x94"),
        ("PUBLISH t alias=65535 = x", "0x94"),
        ("PUBLISH t alias=0 = x", "0x94"),
        ("PUBLISH - alias=2 = x", "0x94"),
        ("PUBLISH - = x", "0x82"),
        ("PUBLISH a/+ alias=2 = x", "0x90"),
    ] {
        Setup::with(|limits| limits.topic_alias_maximum = 2).check(&format!(
            "
            a < CONNECT v5 id=a clean
            a > CONNACK
            a < {fault}
            a > DISCONNECT {reason}
            a > closed"
        ));
    }
}

/// [MQTT-3.1.2-26], [MQTT-3.1.2-27], [MQTT-3.3.2-11], [MQTT-3.3.2-10]
#[test]
fn topic_aliases_for_a_client() {
    check(
        "
        a < CONNECT v5 id=a expiry=60 amax=2
        a > CONNACK
        a < SUBSCRIBE #1 # q1
        a > SUBACK #1 q1
        none < CONNECT v5 id=none clean
        none > CONNACK
        none < SUBSCRIBE #1 c
        none > SUBACK #1 q0
        b < CONNECT v311 id=b clean
        b > CONNACK
        b << PUBLISH a = 1
        b << PUBLISH b = 2
        b << PUBLISH c = 3
        b << PUBLISH a q1 #1 = 4
        b < PUBLISH b = 5
        a > PUBLISH a alias=1 = 1
        a > PUBLISH b alias=2 = 2
        a > PUBLISH c = 3
        a > PUBLISH - q1 #1 alias=1 = 4
        a > PUBLISH - alias=2 = 5
        none > PUBLISH c = 3
        b > PUBACK #1
        a cut
        a < CONNECT v5 id=a expiry=60 amax=1
        a > CONNACK present
        a > PUBLISH a q1 #1 dup alias=1 = 4
        b < PUBLISH a = 6
        a > PUBLISH - alias=1 = 6
        a cut
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present
        a > PUBLISH a q1 #1 dup = 4",
    );
}

/// An alias is left out where its three bytes more would be too many. [MQTT-3.1.2-24]
#[test]
fn an_alias_does_not_make_a_packet_too_large() {
    check(
        "
        a < CONNECT v5 id=a clean amax=2 pmax=30
        a > CONNACK
        a < SUBSCRIBE #1 t
        a > SUBACK #1 q0
        b < CONNECT v311 id=b clean
        b > CONNACK
        b < PUBLISH t = x*24
        a > PUBLISH t = xxxxxxxxxxxxxxxxxxxxxxxx
        b < PUBLISH t = x
        a > PUBLISH t alias=1 = x
        b < PUBLISH t = x
        a > PUBLISH - alias=1 = x",
    );
}

fn overflowing(overflow: OverflowPolicy) -> Setup {
    Setup::with(|limits| {
        limits.queue_messages_max = 2;
        limits.overflow = overflow;
    })
}

/// Four messages for a client that is away and a queue of two.
const FOUR_FOR_A_QUEUE_OF_TWO: &str = "
    a < CONNECT v311 id=a
    a > CONNACK
    a < SUBSCRIBE #1 t q1
    a > SUBACK #1 q1
    b < CONNECT v311 id=b clean
    b > CONNACK
    a cut
    b << PUBLISH t q1 #1 = 1
    b << PUBLISH t q1 #2 = 2
    b << PUBLISH t q1 #3 = 3
    b < PUBLISH t q1 #4 = 4
    b > PUBACK #1
    b > PUBACK #2
    b > PUBACK #3
    b > PUBACK #4
    ledger received=4 queued=2 queue_full=2
    a < CONNECT v311 id=a
    a > CONNACK present\n";

#[test]
fn a_full_queue_drops_the_newest() {
    overflowing(OverflowPolicy::DropNewest).check(&format!(
        "{FOUR_FOR_A_QUEUE_OF_TWO}
        a > PUBLISH t q1 #1 = 1
        a > PUBLISH t q1 #2 = 2"
    ));
}

#[test]
fn a_full_queue_drops_the_oldest() {
    overflowing(OverflowPolicy::DropOldest).check(&format!(
        "{FOUR_FOR_A_QUEUE_OF_TWO}
        a > PUBLISH t q1 #3 = 3
        a > PUBLISH t q1 #4 = 4"
    ));
}

#[test]
fn a_full_queue_ends_the_connection() {
    overflowing(OverflowPolicy::Disconnect).check(
        "
        a < CONNECT v5 id=a expiry=60 rmax=1
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        b < CONNECT v311 id=b clean
        b > CONNACK
        b << PUBLISH t q1 #1 = 1
        b << PUBLISH t q1 #2 = 2
        b < PUBLISH t q1 #3 = 3
        a > PUBLISH t q1 #1 = 1
        b > PUBACK #1
        b > PUBACK #2
        b > PUBACK #3
        b < PUBLISH t q1 #4 = 4
        a > DISCONNECT 0x97
        a > closed
        b > PUBACK #4
        ledger queued=3 queue_full=1
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present
        a > PUBLISH t q1 #1 dup = 1
        a > PUBLISH t q1 #2 = 2
        a > PUBLISH t q1 #3 = 3",
    );
}

/// Bytes count as well as messages.
#[test]
fn a_queue_is_bounded_in_bytes() {
    Setup::with(|limits| limits.queue_bytes_max = 2000).check(
        "
        a < CONNECT v311 id=a
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        b < CONNECT v5 id=b clean
        b > CONNACK
        a cut
        b < PUBLISH t q1 #1 = x*1500
        b > PUBACK #1
        b < PUBLISH t q1 #2 = y*1500
        b > PUBACK #2
        b < PUBLISH t q1 #3 = z*100
        b > PUBACK #3
        a < CONNECT v311 id=a
        a > CONNACK present
        a > PUBLISH t q1 #1 = x*1500
        a > PUBLISH t q1 #2 = z*100
        ledger queue_full=1",
    );
}

/// A broker of small buffers.
fn narrow(change: impl FnOnce(&mut Limits)) -> Setup {
    let mut setup = Setup::with(change);
    setup.network = Network { backlog_high_bytes: 600, backlog_low_bytes: 200, ..Network::calm() };
    setup
}

/// A client that does not read is sent no more QoS 0 than the limit, and loses nothing of QoS 1.
#[test]
fn a_slow_consumer_loses_qos_0_only() {
    let setup = narrow(|limits| limits.outbox_bytes_max = 1000);
    for shards in [1, 2, 4] {
        let mut broker = setup.start(shards);
        broker.play(
            "
            a < CONNECT v5 id=a expiry=60
            a > CONNACK
            a < SUBSCRIBE #1 t q1
            a > SUBACK #1 q1
            other < CONNECT v5 id=other clean
            other > CONNACK
            other < SUBSCRIBE #1 t q0
            other > SUBACK #1 q0
            b < CONNECT v311 id=b clean
            b > CONNACK
            a stalls",
        );
        for n in 1..=30 {
            broker.play(&format!("b < PUBLISH t = {n:0100}\nother > PUBLISH t = {n:0100}"));
            broker.play(&format!(
                "b < PUBLISH t q1 #{n} = {n}
                other > PUBLISH t = {n}
                b > PUBACK #{n}"
            ));
        }
        let (ledger, _) = broker.figures();
        let dropped = ledger.dropped(ringmq_engine::DropReason::SlowConsumer);
        assert!((20..30).contains(&dropped), "{dropped} of 30 dropped");
        assert_eq!(ledger.copies, ledger.delivered + ledger.queued + dropped);
        let lines = broker.answers("a reads");
        let sent = |qos: &str| lines.iter().filter(|line| line.contains(qos)).count() as u64;
        assert_eq!(sent("PUBLISH t ="), 30 - dropped);
        assert_eq!(sent("PUBLISH t q1"), 30);
        broker.play("b < PUBLISH t = on\na > PUBLISH t = on\nother > PUBLISH t = on");
        broker.finish();
    }
}

/// A client that takes no answers is not read until it does; nothing is lost.
#[test]
fn a_client_that_takes_no_answers_is_not_read() {
    for (shards, outbox_bytes_max) in [(1, 1000), (2, 1000), (1, 100), (2, 100)] {
        let mut broker = narrow(|limits| limits.outbox_bytes_max = outbox_bytes_max).start(shards);
        broker.play(
            "
            a < CONNECT v5 id=a clean
            a > CONNACK
            a stalls",
        );
        for _ in 0..2000 {
            broker.play("a < PINGREQ");
        }
        let client = broker.client("a");
        assert!(broker.world.is_paused(client));
        assert!(broker.world.backlog_bytes(client) < 2000);
        assert_eq!(broker.answers("a reads").len(), 2000);
        assert!(!broker.world.is_paused(client));
        broker.play("a < PINGREQ\na > PINGRESP");
        broker.finish();
    }
}

/// What a packet says of its size is no reason to make room for it.
#[test]
fn an_announcement_of_256_megabytes_costs_nothing() {
    Setup::with(|limits| limits.packet_bytes_max = u32::MAX).check(
        "
        a < CONNECT v5 id=a clean
        a > CONNACK
        a < hex 30 ff ff ff 7f 00 01 't' 00 'abc'
        traffic partial_bytes=12 message_bytes=0
        a cut
        traffic partial_bytes=0
        # Before CONNECT, less is taken.
        b < hex 10 fc ff 0f
        b < hex \"MQTT\" 05
        traffic partial_bytes=11
        c < hex 10 fd ff 0f
        c > closed",
    );
}

/// Beyond the bound for all messages, those that would have to be kept are dropped and counted.
#[test]
fn memory_is_bounded() {
    Setup::with(|limits| limits.memory_bytes_max = 3000).shards(&[1]).check(
        "
        a < CONNECT v311 id=a
        a > CONNACK
        a < SUBSCRIBE #1 t q1
        a > SUBACK #1 q1
        b < CONNECT v5 id=b clean
        b > CONNACK
        a cut
        b < PUBLISH t q1 #1 = x*2000
        b > PUBACK #1
        b < PUBLISH t q1 #2 = x*2000
        b > PUBACK #2
        b < PUBLISH t q1 #3 = x*2000
        b > PUBACK #3 0x97
        old < CONNECT v311 id=old clean
        old > CONNACK
        old < PUBLISH t q1 #1 = x*2000
        old > closed
        b < PUBLISH t retain = x
        ledger queued=2 memory_full=2
        traffic retained=0
        a < CONNECT v311 id=a
        a > CONNACK present
        a > PUBLISH t q1 #1 = x*2000
        a > PUBLISH t q1 #2 = x*2000
        a < PUBACK #1
        a < PUBACK #2
        b < PUBLISH t q1 #4 = on
        a > PUBLISH t q1 #3 = on
        b > PUBACK #4",
    );
}

/// [MQTT-3.1.2-24]: the size of what goes by reference counts as well.
#[test]
fn large_messages_are_held_to_it_too() {
    check(
        "
        a < CONNECT v5 id=a expiry=60 pmax=100 amax=3
        a > CONNACK
        a < SUBSCRIBE #1 sub=3 t q1
        a > SUBACK #1 q1
        b < CONNECT v5 id=b clean pmax=5100 amax=1
        b > CONNACK
        b < SUBSCRIBE #1 sub=300 t q1
        b > SUBACK #1 q1
        p < CONNECT v5 id=p clean
        p > CONNACK
        p < PUBLISH t = x*5000
        b > PUBLISH t alias=1 sub=300 = x*5000
        p < PUBLISH t q1 #1 = x*5080
        b > PUBLISH - q1 #1 alias=1 sub=300 = x*5080
        p > PUBACK #1
        ledger packet_too_large=2
        a cut
        p < PUBLISH t q1 #1 = x*5080
        b > PUBLISH - q1 #2 alias=1 sub=300 = x*5080
        p > PUBACK #1
        a < CONNECT v5 id=a expiry=60 pmax=100
        a > CONNACK present
        ledger packet_too_large=3 queued=2",
    );
}
