//! Wills. MQTT 5 sections 3.1.2.5 and 3.1.3.2.

use crate::common::check;

/// A subscriber to the will's topic, before each transcript.
fn with_a_witness(transcript: &str) -> String {
    format!(
        "
        w < CONNECT v5 id=w clean
        w > CONNACK
        w < SUBSCRIBE #1 will/# q2 rap
        w > SUBACK #1 q2
        {transcript}"
    )
}

/// [MQTT-3.1.2-10], [MQTT-3.1.2-14], [MQTT-3.1.2-22], [MQTT311-3.1.2-8], [MQTT311-3.1.2-16]:
/// a connection that ends without DISCONNECT, whatever the reason.
#[test]
fn a_will_is_published_when_a_connection_fails() {
    for version in ["v31", "v311", "v5"] {
        let v5 = version == "v5";
        let told = |reason: &str| {
            if v5 { format!("a > DISCONNECT {reason}\na > closed") } else { "a > closed".into() }
        };
        for end in [
            "a cut".to_owned(),
            "a hangs up".to_owned(),
            format!("+16s\n{}", told("0x8d")),
            format!("a < hex 3f 00\n{}", told("0x81")),
            format!("a < CONNECT {version} id=a clean\n{}", told("0x82")),
        ] {
            check(&with_a_witness(&format!(
                "
                a < CONNECT {version} id=a clean keep=10 will=will/a:gone
                a > CONNACK
                {end}
                w > PUBLISH will/a = gone
                ledger received=1
                traffic retained=0"
            )));
        }
    }
}

/// [MQTT-3.14.4-3], [MQTT311-3.14.4-3], [MQTT311-3.1.2-10], [MQTT-3.14.4-1], [MQTT-3.14.4-2]
#[test]
fn a_goodbye_drops_the_will() {
    for version in ["v31", "v311", "v5"] {
        check(&with_a_witness(&format!(
            "
            a < CONNECT {version} id=a clean will=will/a:gone
            a > CONNACK
            a << DISCONNECT
            # What follows is not looked at.
            a < PUBLISH will/b = x
            a > closed
            +100s
            ledger received=0"
        )));
    }
}

/// Section 3.14.2.1: with any other reason the client wants it published, with 0x04 expressly.
#[test]
fn a_disconnect_may_ask_for_the_will() {
    for reason in ["0x04", "0x80", "0x93"] {
        check(&with_a_witness(&format!(
            "
            a < CONNECT v5 id=a clean will=will/a:gone
            a > CONNACK
            a < DISCONNECT {reason}
            a > closed
            w > PUBLISH will/a = gone"
        )));
    }
}

/// [MQTT-3.1.2-6], [MQTT-3.1.2-9], [MQTT-3.1.2-15], [MQTT-3.1.3-10], [MQTT311-3.1.2-17]: with its QoS,
/// retained, with its properties in their order.
#[test]
fn a_will_is_published_as_it_was_left() {
    check(&with_a_witness(
        "
        a < CONNECT v5 id=a clean will=will/a:gone will.q2 will.retain will.prop=k:2 will.prop=k:1 will.ct=t will.rt=r will.cd=c will.pfi=1 will.expiry=60
        a > CONNACK
        a cut
        w > PUBLISH will/a q2 #1 retain expiry=60 prop=k:2 prop=k:1 ct=t rt=r cd=c pfi=1 = gone
        traffic retained=1
        b < CONNECT v311 id=b clean
        b > CONNACK
        b < SUBSCRIBE #1 will/+ q1
        b > SUBACK #1 q1
        b > PUBLISH will/a q1 #1 retain = gone",
    ));
}

/// [MQTT-3.1.3-9], [MQTT-3.1.2-10], [MQTT311-3.1.2-12]: a client that is back in time has no will published, its new will counts.
#[test]
fn a_return_in_time_cancels_a_delayed_will() {
    check(&with_a_witness(
        "
        a < CONNECT v5 id=a expiry=60 will=will/a:one will.delay=10
        a > CONNACK
        a cut
        +9900ms
        a < CONNECT v5 id=a expiry=60 will=will/a:two will.delay=10
        a > CONNACK present
        +60s
        a cut
        +9900ms
        +200ms
        w > PUBLISH will/a = two
        +60s
        # Without a new will there is none.
        a < CONNECT v5 id=a expiry=60 will=will/a:three will.delay=10
        a > CONNACK
        a cut
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present
        a cut
        +100s
        ledger received=1",
    ));
}

/// Section 3.1.2.5: when the session ends first, its will is published then.
#[test]
fn a_delayed_will_is_published_when_its_session_ends() {
    check(&with_a_witness(
        "
        a < CONNECT v5 id=a expiry=5 will=will/a:expired will.delay=60
        a > CONNACK
        a cut
        +4900ms
        +200ms
        w > PUBLISH will/a = expired
        +100s
        b < CONNECT v5 id=b will=will/b:at-once will.delay=60
        b > CONNACK
        b cut
        w > PUBLISH will/b = at-once
        c < CONNECT v5 id=c expiry=60 will=will/c:replaced will.delay=60
        c > CONNACK
        c cut
        c < CONNECT v5 id=c clean
        w > PUBLISH will/c = replaced
        c > CONNACK
        d < CONNECT v5 id=d expiry=60 will=will/d:shortened will.delay=60
        d > CONNACK
        d < DISCONNECT 0x04 expiry=0
        w > PUBLISH will/d = shortened
        d > closed
        +100s
        ledger received=4",
    ));
}

/// Sections 3.1.4 and 3.1.2.5: a takeover ends the old connection; its will is published unless the
/// session goes on and the will is delayed.
#[test]
fn a_takeover_publishes_the_will_of_the_old_connection() {
    check(&with_a_witness(
        "
        a < CONNECT v5 id=x expiry=60 will=will/x:one
        a > CONNACK
        b < CONNECT v5 id=x expiry=60 will=will/x:two will.delay=30
        w > PUBLISH will/x = one
        a > DISCONNECT 0x8e
        a > closed
        b > CONNACK present
        c < CONNECT v5 id=x expiry=60 will=will/x:three will.delay=30
        b > DISCONNECT 0x8e
        b > closed
        c > CONNACK present
        +100s
        d < CONNECT v5 id=x clean expiry=60 will=will/x:four will.delay=30
        w > PUBLISH will/x = three
        c > DISCONNECT 0x8e
        c > closed
        d > CONNACK
        e < CONNECT v311 id=x clean
        w > PUBLISH will/x = four
        d > DISCONNECT 0x8e
        d > closed
        e > CONNACK
        ledger received=3",
    ));
}

/// A will for a shared group whose member it was goes to another member.
#[test]
fn a_will_is_not_given_to_the_one_who_left() {
    check(
        "
        a < CONNECT v5 id=a expiry=60 will=w:gone
        a > CONNACK
        a < SUBSCRIBE #1 $share/g/w
        a > SUBACK #1 q0
        b < CONNECT v5 id=b expiry=60
        b > CONNACK
        b < SUBSCRIBE #1 $share/g/w
        b > SUBACK #1 q0
        a cut
        b > PUBLISH w = gone
        a < CONNECT v5 id=a expiry=60 will=w:gone
        a > CONNACK present
        a cut
        b > PUBLISH w = gone",
    );
}

/// Section 4.7.2: clients leave no wills on the broker's own topics.
#[test]
fn a_will_below_sys_is_refused() {
    check(
        "
        a < CONNECT v5 id=a clean will=$SYS/broker/version:forged will.retain
        a > CONNACK 0x87
        a > closed
        b < CONNECT v311 id=b clean will=$SYS/x:forged
        b > CONNACK 0x87
        b > closed
        c < CONNECT v311 id=c clean will=$SYSTEM/x:fine
        c > CONNACK
        traffic sessions=1",
    );
}

/// [MQTT-3.3.2-6]: a will's life begins when it is published.
#[test]
fn a_delayed_will_has_its_whole_life_before_it() {
    check(&with_a_witness(
        "
        a < CONNECT v5 id=a expiry=60 will=will/a:x will.delay=10 will.expiry=20
        a > CONNACK
        a cut
        +9900ms
        +200ms
        w > PUBLISH will/a expiry=20 = x",
    ));
}

/// What a client sent before it went is delivered, then its will.
#[test]
fn what_was_sent_before_the_end_counts() {
    check(
        "
        w < CONNECT v5 id=w clean
        w > CONNACK
        w < SUBSCRIBE #1 # q1
        w > SUBACK #1 q1
        a < CONNECT v5 id=a clean will=w:gone
        a > CONNACK
        a << PUBLISH t q1 #1 = 1
        a << PUBLISH t q2 #2 = 2
        a < hex
        w > PUBLISH t q1 #1 = 1
        w > PUBLISH t q1 #2 = 2
        a > PUBACK #1
        a > PUBREC #2
        a hangs up
        w > PUBLISH w = gone",
    );
}

/// A will reaches every subscriber, the one who left it included.
#[test]
fn a_client_may_wait_for_its_own_will() {
    check(
        "
        a < CONNECT v5 id=a expiry=60 will=w:gone will.q1 will.retain
        a > CONNACK
        a < SUBSCRIBE #1 w q1 nl rap, +/# q2
        a > SUBACK #1 q1 q2
        a cut
        a < CONNECT v5 id=a expiry=60
        a > CONNACK present
        a > PUBLISH w q1 #1 retain = gone",
    );
}
