use super::{reading, text, written::Written};
use crate::SegmentId;

const ABOUT_ME: &str = "records about client \"me\" are damaged: what it subscribed to or waits for may be \
                        incomplete or outdated";

/// What is read from a log without damage.
fn check(script: &str, expected: &[&str]) {
    let log = Written::new(script);
    let reading = reading(&log);
    assert_eq!(text(&log, &reading), expected.join("\n"), "{script}");
    assert_eq!(reading.recovered.damage, [], "{script}");
    assert_eq!(reading.next_record, log.next, "{script}");
}

/// The same, with what is said of damage and losses. `change` changes the segments' bytes.
fn check_damage(script: &str, change: fn(&mut Written), expected: &[&str], told: &[&str]) {
    let mut log = Written::new(script);
    change(&mut log);
    let reading = reading(&log);
    assert_eq!(text(&log, &reading), expected.join("\n"), "{script}");
    let damage = reading.recovered.damage.iter().map(|damage| {
        let records = damage.records.map_or("?".to_owned(), |records| records.to_string());
        let torn = if damage.torn_tail { " torn" } else { "" };
        format!("{}:{}+{} {records}{torn}: {}", damage.segment.0, damage.place, damage.bytes, damage.seems)
    });
    let said: Vec<_> = damage.chain(reading.recovered.losses.iter().cloned()).collect();
    assert_eq!(said.join("\n"), told.join("\n"), "{script}");
}

#[test]
fn an_empty_log_holds_nothing() {
    check("", &[]);
}

#[test]
fn sessions_are_as_they_were_last_told() {
    check("begin 1 me", &["1 me expiry=60 next=0"]);
    check("begin 1 me 5 77", &["1 me expiry=60 closed=77 next=5"]);
    check("begin 1 me; close 1 9", &["1 me expiry=50 closed=9 next=0"]);
    check("begin 1 me; close 1 9; resume 1 3", &["1 me expiry=3 next=0"]);
    check("begin 2 b \n begin 1 a", &["1 a expiry=60 next=0", "2 b expiry=60 next=0"]);
    check("begin 1 me \n end 1 \n sub 1 a \n resume 1 4", &[]);
    check("begin 1 me \n --- \n end 1", &[]);
    check("resume 1 4 \n sub 1 a \n take 1 2 \n will 1 w", &[]);
    check("begin 1 me \n begin 2 me", &["1 me expiry=60 next=0", "2 me expiry=60 next=0"]);
}

#[test]
fn subscriptions_come_and_go() {
    check("begin 1 me; sub 1 a; sub 1 b/#; sub 1 a", &["1 me expiry=60 next=0 sub=a sub=b/#"]);
    check("begin 1 me; sub 1 a; sub 1 b; unsub 1 a; unsub 1 c", &["1 me expiry=60 next=0 sub=b"]);
    check(
        "begin 1 me; begin 2 you; sub 1 a; sub 2 a; unsub 2 a",
        &["1 me expiry=60 next=0 sub=a", "2 you expiry=60 next=0"],
    );
}

#[test]
fn wills_and_packet_ids_come_and_go() {
    check("begin 1 me; will 1 w; close 1 5", &["1 me expiry=50 closed=5 next=0 will=w"]);
    check("begin 1 me; will 1 w; will 1 x", &["1 me expiry=60 next=0 will=x"]);
    check("begin 1 me; will 1 w; nowill 1", &["1 me expiry=60 next=0"]);
    check("begin 1 me; will 1 w; close 1 5; resume 1 8", &["1 me expiry=8 next=0"]);
    check(
        "begin 1 me; take 1 9 44; take 1 3; take 1 4; rel 1 4",
        &["1 me expiry=60 next=0 taken=3/0 taken=9/44"],
    );
    check("came 5 \n came 6 \n went 5 \n came 4", &["came 4", "came 6"]);
}

#[test]
fn a_session_that_is_told_anew_keeps_its_messages_only() {
    let before =
        "begin 1 me; sub 1 a; will 1 w; take 1 9 \n msg m t; q 1 0 m \n msg n t; q 1 1 n \n recv 1 1";
    check(&format!("{before} \n begin 1 me 2"), &["1 me expiry=60 next=2 0:t=m"]);
    check(
        &format!("{before} \n --- \n begin 1 me 2; sub 1 b; will 1 x; take 1 3; recv 1 1"),
        &["1 me expiry=60 next=2 sub=b will=x taken=3/0 0:t=m 1:received"],
    );
    check(&format!("{before} \n begin 1 me 2; sub 1 a"), &["1 me expiry=60 next=2 sub=a 0:t=m"]);
}

#[test]
fn queues_hold_what_was_not_completed() {
    let queued = "begin 1 me \n msg a t; q 1 7 a; msg b t; q 1 8 b \n msg c u; q 1 9 c";
    check(queued, &["1 me expiry=60 next=10 7:t=a 8:t=b 9:u=c"]);
    check(&format!("{queued} \n done 1 8"), &["1 me expiry=60 next=10 7:t=a 9:u=c"]);
    check(&format!("{queued} \n recv 1 7 \n done 1 9"), &["1 me expiry=60 next=10 7:received 8:t=b"]);
    check(&format!("{queued} \n recv 1 7 \n done 1 7; done 1 8"), &["1 me expiry=60 next=10 9:u=c"]);
    check(
        "msg a t; begin 1 me; begin 2 you; q 1 0 a ids; q 2 5 a ids $share/g/t",
        &["1 me expiry=60 next=1 0:t=a[7, 9]", "2 you expiry=60 next=6 5:t=a[7, 9]$share/g/t"],
    );
}

#[test]
fn a_message_that_compaction_moved_is_where_it_lies_now() {
    let moved = "begin 1 me; msg a t; q 1 0 a; msg b t; q 1 1 b \n --- \n msg a u; q 1 0 a";
    check(moved, &["1 me expiry=60 next=2 0:u=a 1:t=b"]);
    // The segments before are gone, and the session is told behind its messages.
    let mut log = Written::new("begin 1 me; msg a t; msg b t; q 1 0 a; q 1 1 b; msg c t; q 1 2 c");
    log.begin_segment(SegmentId(5));
    log.go_on(
        "msg d t; q 1 3 d \n done 1 2 \n msg b t; q 1 1 b \n msg a t; q 1 0 a \n begin 1 me 4; sub 1 x",
    );
    log.segments.remove(0);
    let reading = reading(&log);
    assert_eq!(text(&log, &reading), "1 me expiry=60 next=4 sub=x 0:t=a 1:t=b 3:t=d");
    assert!(reading.recovered.damage.is_empty() && reading.recovered.losses.is_empty());
    assert_eq!(reading.recovered.sessions[0].told_in, SegmentId(5));
    assert_eq!(reading.references.len(), 3);
}

#[test]
fn sessions_that_were_never_begun_hold_nothing() {
    check("msg a t; q 1 0 a", &[]);
    check("msg a t; q 1 0 a \n done 1 0 \n end 1", &[]);
}

#[test]
fn the_last_retained_message_of_a_topic_counts() {
    check("msg a t; ret a \n msg b u; ret b \n msg c t; ret c", &["retained t=c", "retained u=b"]);
    check("msg a t; ret a \n clear t \n clear u", &[]);
    check("msg a t; ret a \n clear t \n msg b t; ret b", &["retained t=b"]);
}

#[test]
fn a_unit_goes_over_batches_and_segments() {
    check("begin 1 me | sub 1 a | sub 1 b", &["1 me expiry=60 next=0 sub=a sub=b"]);
    check("begin 1 me | sub 1 a |---| sub 1 b \n sub 1 c", &["1 me expiry=60 next=0 sub=a sub=b sub=c"]);
}

#[test]
fn a_unit_without_end_is_cut_off() {
    let script = "begin 1 me; sub 1 a \n sub 1 b | sub 1 c |---| sub 1 d";
    check_damage(
        script,
        |log| drop(log.segments.pop()),
        &["1 me expiry=60 next=0 sub=a"],
        &[
            "4:144+40 1 torn: sound records: 1 subscription (\"b\"), of a unit that was not finished",
            "4:184+40 1 torn: sound records: 1 subscription (\"c\"), of a unit that was not finished",
        ],
    );
    let mut log = Written::new(script);
    log.segments.pop();
    let found = reading(&log);
    assert_eq!((found.next_record, found.extents[0].used), (2, 144));
    // The cut does not reach the disk, but what is written behind it does.
    log.begin_segment(SegmentId(5));
    log.next = 2;
    log.go_on("sub 1 e");
    let again = reading(&log);
    assert_eq!(text(&log, &again), "1 me expiry=60 next=0 sub=a sub=e");
    assert!(again.recovered.damage.iter().all(|damage| !damage.torn_tail), "{:?}", again.recovered.damage);
}

/// Changes a bit.
fn flip(log: &mut Written, segment: usize, place: usize) {
    log.segments[segment].1[place] ^= 4;
}

#[test]
fn damage_is_told_and_the_rest_is_read() {
    let script = "begin 1 me; sub 1 a \n sub 1 b \n msg m t; q 1 0 m \n --- \n msg n t; q 1 1 n \n sub 1 c";
    check_damage(
        script,
        |log| flip(log, 0, 180),
        &["1 me expiry=60 next=2 sub=a sub=c 0:t=m 1:t=n"],
        &["4:144+40 1: damaged records: 1 subscription (\"f\")", ABOUT_ME],
    );
    check_damage(
        script,
        |log| flip(log, 0, 3),
        &["1 me expiry=60 next=2 sub=a sub=b sub=c 0:t=m 1:t=n"],
        &["4:0+64 ?: the header of the segment"],
    );
    check_damage(
        script,
        |log| flip(log, 0, 300),
        &["1 me expiry=60 next=2 sub=a sub=b sub=c 0:t=m 1:t=n"],
        &["4:248+56 0: unfinished records: 40 bytes that are no records"],
    );
    check_damage(
        script,
        |log| flip(log, 0, 100),
        &[],
        &[
            "4:64+80 ?: damaged records: 1 session (\"me\"), 1 subscription (\"a\")",
            "2 messages that waited for a session of unknown clients are lost",
        ],
    );
    check_damage(script, |log| drop(log.segments.remove(0)), &[], &[]);
}

#[test]
fn a_bad_end_of_the_log_is_torn() {
    let script = "begin 1 me; sub 1 a \n --- \n sub 1 b";
    check_damage(
        script,
        |log| flip(log, 1, 80),
        &["1 me expiry=60 next=0 sub=a"],
        &["5:64+40 ? torn: damaged records: 24 bytes that are no records"],
    );
}

#[test]
fn a_unit_that_lost_a_part_is_dropped_as_a_whole() {
    check_damage(
        "begin 1 me \n sub 1 a | sub 1 b | sub 1 c \n sub 1 d",
        |log| flip(log, 0, 170),
        &["1 me expiry=60 next=0 sub=d"],
        &[
            "4:120+40 1: sound records: 1 subscription (\"a\"), of a unit that lost another part",
            "4:160+40 1: damaged records: 1 subscription (\"b\")",
            "4:200+40 1: sound records: 1 subscription (\"c\"), of a unit that lost another part",
            ABOUT_ME,
        ],
    );
}

#[test]
fn missing_segments_are_told_by_the_numbers() {
    check_damage(
        "begin 1 me \n --- \n msg m t; q 1 0 m \n --- \n ret m \n q 1 1 m \n sub 1 b",
        |log| drop(log.segments.remove(1)),
        &["1 me expiry=60 next=2 sub=b"],
        &[
            "6:64+0 2: nothing: what was written before this is missing",
            "a message that waited for client \"me\" is lost",
            "a message that was retained is lost",
        ],
    );
}

#[test]
fn a_record_that_refers_to_no_message_is_lost() {
    check_damage(
        "begin 1 me; q 1 3 !; msg m t; q 1 4 m; q 1 4 !; ret !",
        |_| {},
        &["1 me expiry=60 next=5 4:t=m"],
        &["a message that waited for client \"me\" is lost", "a message that was retained is lost"],
    );
}

#[test]
fn a_retained_message_that_was_replaced_and_compacted_is_no_loss() {
    let mut log = Written::new("msg a t |---| ret a \n msg b t; ret b");
    log.segments.remove(0);
    let recovered = reading(&log).recovered;
    assert_eq!((recovered.retained.len(), recovered.losses), (1, vec![]));
}

#[test]
fn the_rest_of_a_unit_stays_out_when_what_was_before_it_is_compacted() {
    let mut log = Written::new("begin 1 me \n sub 1 a |---| sub 1 b \n sub 1 c \n begin 2 you");
    flip(&mut log, 0, 130);
    let expected = "1 me expiry=60 next=0 sub=c\n2 you expiry=60 next=0";
    let found = reading(&log);
    assert_eq!(text(&log, &found), expected);
    assert_eq!(found.void, [(SegmentId(5), 64..104)]);
    assert!(found.recovered.damage.iter().all(|damage| !damage.torn_tail));
    // As opening does it.
    for (_, range) in found.void {
        log.segments[1].1[range].fill(0);
    }
    let again = reading(&log);
    assert_eq!(text(&log, &again), expected);
    assert_eq!(again.recovered.damage[1].seems, "bytes that became zero");
    log.segments.remove(0);
    assert_eq!(text(&log, &reading(&log)), "2 you expiry=60 next=0");
}

#[test]
fn the_rest_of_a_unit_at_the_end_is_torn() {
    let mut log = Written::new("begin 1 me \n sub 1 a |---| sub 1 b");
    flip(&mut log, 0, 130);
    let found = reading(&log);
    assert_eq!(text(&log, &found), "1 me expiry=60 next=0");
    assert!(found.recovered.damage.iter().all(|damage| damage.torn_tail));
    assert_eq!((found.next_record, found.extents[0].used, found.extents[1].used), (1, 120, 64));
}

#[test]
fn a_segment_that_begins_with_damage_is_read_whatever_was_lost_before_it() {
    check_damage(
        "begin 1 me \n sub 1 a; sub 1 b; sub 1 c; sub 1 d; sub 1 e; sub 1 f; sub 1 g \n --- \n came 1 \n sub 1 h",
        |log| {
            log.segments[0].1[120..].fill(0);
            flip(log, 1, 70);
        },
        &["1 me expiry=60 next=0 sub=h"],
        &["5:64+32 8: damaged records: 1 mark of a QoS 2 exchange"],
    );
}
