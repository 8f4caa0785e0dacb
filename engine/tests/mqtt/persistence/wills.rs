//! Wills of clients that were connected when the process was killed, and of those that had gone before.

use super::check;

/// A session that waits for wills, before each transcript.
fn with_a_witness(transcript: &str) -> String {
    format!(
        "
        w < CONNECT v5 id=w expiry=1000000
        w > CONNACK
        w < SUBSCRIBE #1 will/# q1 rap
        w > SUBACK #1 q1
        w cut
        {transcript}"
    )
}

/// The witness comes back.
const W: &str = "
        w < CONNECT v5 id=w expiry=1000000
        w > CONNACK present";

/// [MQTT-3.1.2-8], [MQTT311-3.1.2-8]: the connection ended with the process, and without a goodbye.
#[test]
fn a_will_is_published_after_a_kill() {
    for connect in
        ["v31 id=a clean", "v31 id=a", "v311 id=a clean", "v311 id=a", "v5 id=a", "v5 id=a expiry=600"]
    {
        check(
            &with_a_witness(&format!(
                "
            a < CONNECT {connect} will=will/a:gone will.q1
            a > CONNACK
            killed
            ledger received=1 queued=1
            {W}
            w > PUBLISH will/a q1 #1 = gone
            w < PUBACK #1
            # Once.
            killed
            ledger received=0
            a < CONNECT v5 id=a
            {W}",
            ))
            .replace(
                "a < CONNECT v5 id=a\n",
                &format!(
                    "a < CONNECT v5 id=a\na > CONNACK{}\n",
                    if matches!(connect, "v31 id=a" | "v311 id=a" | "v5 id=a expiry=600") {
                        " present"
                    } else {
                        ""
                    }
                ),
            ),
        );
    }
}

/// [MQTT-3.1.2-9], [MQTT-3.1.2-15], [MQTT-3.1.3-10]: with its properties in their order, and retained.
#[test]
fn a_will_is_published_as_it_was_left() {
    check(&with_a_witness(&format!(
        "
        a < CONNECT v5 id=a clean will=will/a:gone will.q2 will.retain will.prop=k:2 will.prop=k:1 will.ct=t will.rt=r will.cd=c will.pfi=1 will.expiry=60
        a > CONNACK
        killed 100s
        traffic retained=1
        {W}
        w > PUBLISH will/a q1 #1 retain expiry=60 prop=k:2 prop=k:1 ct=t rt=r cd=c pfi=1 = gone
        b < CONNECT v311 id=b clean
        b > CONNACK
        b < SUBSCRIBE #1 will/+ q2
        b > SUBACK #1 q2
        b > PUBLISH will/a q2 #1 retain = gone"
    )));
}

/// [MQTT-3.14.4-3], [MQTT311-3.14.4-3], [MQTT-3.1.2-10]
#[test]
fn a_will_that_is_gone_stays_gone() {
    for version in ["v31 id=a", "v311 id=a", "v5 id=a expiry=600"] {
        let present = if version.starts_with("v31 ") { "" } else { " present" };
        check(&with_a_witness(&format!(
            "
            # Dropped by a goodbye.
            a < CONNECT {version} will=will/a:one will.q1
            a > CONNACK
            a < DISCONNECT
            a > closed
            killed
            ledger received=0
            # Replaced by a connection without one.
            a < CONNECT {version} will=will/a:two will.q1
            a > CONNACK{present}
            a < DISCONNECT
            a > closed
            a < CONNECT {version}
            a > CONNACK{present}
            killed
            ledger received=0
            # Published before.
            a < CONNECT {version} will=will/a:three will.q1
            a > CONNACK{present}
            a cut
            killed
            ledger received=0 queued=1
            +100s
            {W}
            w > PUBLISH will/a q1 #1 dup = three"
        )));
    }
}

/// [MQTT-3.1.2-10], [MQTT-3.1.3-9]: the delay goes on while the broker does not run.
#[test]
fn a_delay_counts_while_the_broker_is_down() {
    check(&with_a_witness(&format!(
        "
        a < CONNECT v5 id=a expiry=600 will=will/a:a will.q1 will.delay=60
        a > CONNACK
        b < CONNECT v5 id=b expiry=600 will=will/b:b will.q1 will.delay=30
        b > CONNACK
        c < CONNECT v5 id=c expiry=600 will=will/c:c will.q1 will.delay=30
        c > CONNACK
        a cut
        b cut
        +20s
        killed 20s
        # That of b was due on the way, c's client is found to be gone now.
        ledger received=1
        +19s
        ledger received=1
        +2s
        ledger received=2
        +8s
        ledger received=2
        +2s
        ledger received=3
        {W}
        w > PUBLISH will/b q1 #1 = b
        w > PUBLISH will/a q1 #2 = a
        w > PUBLISH will/c q1 #3 = c"
    )));
}

/// [MQTT-3.1.3-9]: a client that is back before its delay has passed has no will published.
#[test]
fn a_return_in_time_cancels_a_will() {
    check(&with_a_witness(&format!(
        "
        a < CONNECT v5 id=a expiry=600 will=will/a:one will.q1 will.delay=60
        a > CONNACK
        killed 100s
        +59s
        a < CONNECT v5 id=a expiry=600 will=will/a:two will.q1 will.delay=60
        a > CONNACK present
        +600s
        ledger received=0
        # Its new one counts.
        killed
        +61s
        ledger received=1
        a < CONNECT v5 id=a expiry=600
        a > CONNACK present
        killed
        +600s
        ledger received=0
        {W}
        w > PUBLISH will/a q1 #1 dup = two"
    )));
}

/// Section 3.1.2.5: when the session ends first, its will is published then.
#[test]
fn a_will_is_published_when_its_session_ends() {
    check(&with_a_witness(&format!(
        "
        a < CONNECT v5 id=a expiry=10 will=will/a:a will.q1 will.delay=60
        a > CONNACK
        b < CONNECT v5 id=b expiry=600 will=will/b:b will.q1 will.delay=60
        b > CONNACK
        c < CONNECT v5 id=c will=will/c:c will.q1 will.delay=60
        c > CONNACK
        killed
        # That of c ended with its connection.
        ledger received=1
        traffic sessions=3
        +11s
        ledger received=2
        traffic sessions=2
        b < CONNECT v5 id=b clean
        b > CONNACK
        ledger received=3
        {W}
        w > PUBLISH will/c q1 #1 = c
        w > PUBLISH will/a q1 #2 = a
        w > PUBLISH will/b q1 #3 = b"
    )));
}

/// Clients are told of a shutdown; their wills are published at the next start, when everybody else has
/// been heard of.
#[test]
fn a_shutdown_keeps_wills_for_the_next_start() {
    check(&with_a_witness(&format!(
        "
        a < CONNECT v311 id=a clean will=will/a:a will.q1
        a > CONNACK
        b < CONNECT v5 id=b expiry=600 will=will/b:b will.q1 will.delay=60
        b > CONNACK
        b < SUBSCRIBE #1 t q1
        b > SUBACK #1 q1
        shutdown
        a > closed
        b > DISCONNECT 0x8b
        b > closed
        ledger received=0
        killed 30s
        ledger received=1
        traffic sessions=2
        +29s
        ledger received=1
        +2s
        ledger received=2
        {W}
        w > PUBLISH will/a q1 #1 = a
        w > PUBLISH will/b q1 #2 = b
        b < CONNECT v5 id=b expiry=600
        b > CONNACK present
        w < PUBLISH t = x
        b > PUBLISH t = x"
    )));
}

/// A takeover's will is the new connection's.
#[test]
fn the_will_of_the_last_connection_counts() {
    check(&with_a_witness(&format!(
        "
        a < CONNECT v5 id=x expiry=600 will=will/x:one will.q1 will.delay=30
        a > CONNACK
        b < CONNECT v5 id=x expiry=600 will=will/x:two will.q1 will.delay=30
        a > DISCONNECT 0x8e
        a > closed
        b > CONNACK present
        killed
        +31s
        ledger received=1
        {W}
        w > PUBLISH will/x q1 #1 = two"
    )));
}
