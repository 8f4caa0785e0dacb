//! Who refers to what, and where it went.

use super::*;
use crate::found::{Found, FoundSegment};
use crate::{Disk, Level};

#[test]
fn a_message_lives_as_long_as_its_last_reference() {
    let (mut log, _) = new_log();
    let at = log.keep(&view(b"hello")).unwrap();
    let other = log.keep(&view(b"other")).unwrap();
    let live = log.figures().live_bytes;
    log.retain(at);
    log.retain(at);
    assert_eq!(log.message(at).payload, b"hello");
    log.release(at);
    log.release(at);
    assert_eq!(log.figures().live_bytes, live, "they are counted once");
    log.release(at);
    assert_eq!(log.figures().live_bytes, live / 2);
    log.release(other);
    assert_eq!(log.figures().live_bytes, 0);
}

#[test]
#[should_panic(expected = "once too often")]
fn a_reference_that_nobody_has_cannot_be_given_back() {
    let (mut log, _) = new_log();
    let at = log.keep(&view(b"hello")).unwrap();
    log.release(at);
    log.release(at);
}

/// A log with a message in a segment that is sealed and about to be compacted.
fn with_old_message(references: usize) -> (TestLog, LogOffset) {
    let (mut log, _) = new_log();
    let at = log.keep(&view(b"hello")).unwrap();
    (1..references).for_each(|_| log.retain(at));
    while log.head() == SegmentId(0) {
        log.append(completed(0));
        log.end_unit();
    }
    turn_over(&mut log);
    assert_eq!(log.compaction(0).map(|due| due.before), Some(SegmentId(1)));
    (log, at)
}

#[test]
fn all_references_move_to_one_copy() {
    let (mut log, at) = with_old_message(3);
    let copy = log.relocate(at);
    assert_ne!(copy.segment(), at.segment());
    assert_eq!((log.relocate(at), log.relocate(at)), (copy, copy));
    log.compacted();
    turn_over(&mut log);
    turn_over(&mut log);
    assert!(log.segments.get(SegmentId(0)).is_none(), "nothing is left there");
    assert_eq!(log.message(copy).payload, b"hello");
    (0..2).for_each(|_| log.release(copy));
    assert!(log.figures().live_bytes > 0);
    log.release(copy);
    assert_eq!((log.figures().live_bytes, log.held_bytes() < 10_000), (0, true));
}

#[test]
fn a_copy_stays_for_those_who_still_refer_to_the_original() {
    let (mut log, at) = with_old_message(2);
    let copy = log.relocate(at);
    log.release(copy);
    assert_eq!(log.relocate(at), copy, "it is still there");
    assert_eq!(log.message(copy).payload, b"hello");
    log.release(copy);
    assert_eq!(log.figures().live_bytes, 0);
}

#[test]
fn with_the_last_reference_to_the_original_goes_what_was_held_for_it() {
    let (mut log, at) = with_old_message(2);
    let copy = log.relocate(at);
    log.release(at);
    assert_eq!(log.message(copy).payload, b"hello");
    log.release(copy);
    assert_eq!(log.figures().live_bytes, 0);
}

#[test]
fn a_segment_stays_while_it_is_referred_to_and_until_what_was_told_is_synced() {
    let (mut log, at) = with_old_message(2);
    let copy = log.relocate(at);
    log.compacted();
    turn_over(&mut log);
    turn_over(&mut log);
    assert_eq!(log.message(at).payload, b"hello");
    log.release(at);
    log.turn_over();
    assert!(log.segments.get(SegmentId(0)).is_none());
    log.release(copy);

    let (mut log, at) = with_old_message(1);
    log.relocate(at);
    log.compacted();
    log.turn_over();
    log.turn_over();
    assert!(log.segments.get(SegmentId(0)).is_some(), "the copy is not synced");
    turn_over(&mut log);
    log.turn_over();
    assert!(log.segments.get(SegmentId(0)).is_none());
}

#[test]
fn what_was_found_is_adopted() {
    let (mut old, _) = new_log();
    let first = old.keep(&view(b"one")).unwrap();
    let second = old.keep(&view(b"two")).unwrap();
    old.turn_over();
    let used = old.writing.at();
    let segment = old.segments.head_mut().segment.0.clone();

    let (mut disk, handle) = MemoryDisk::new();
    let mut found = disk.create(SegmentId(0), SEGMENT_BYTES).unwrap();
    found.copy_from_slice(&segment);
    let empty = disk.create(SegmentId(7), SEGMENT_BYTES).unwrap();
    let segments = vec![
        FoundSegment { id: SegmentId(0), segment: found, used },
        FoundSegment { id: SegmentId(7), segment: empty, used: 0 },
    ];
    let (next_segment, compact_past) = (SegmentId(8), SegmentId(1));
    let found = Found { segments, next_record: 2, next_segment, compact_past };
    let mut log = SegmentLog::start(disk, OPTIONS, found).unwrap();
    assert_eq!(handle.borrow().removed, [SegmentId(7)], "it was empty");
    for at in [first, second, first] {
        log.adopt(at);
    }
    assert_eq!(log.figures().live_bytes, old.figures().live_bytes);
    assert_eq!(log.figures().disk_bytes, (used + SEGMENT_BYTES) as u64, "it was cut");
    assert_eq!((log.message(first).payload, log.message(second).payload), (&b"one"[..], &b"two"[..]));
    assert_eq!((log.appended(), log.reached(Level::Written), log.reached(Level::Synced)), (2, 2, 0));
    assert_eq!(log.compaction(0).map(|due| due.before), Some(SegmentId(1)), "as was asked for");
    let copy = log.relocate(second);
    assert_eq!(copy.segment(), SegmentId(8));
    log.append(completed(3));
    log.want_synced();
    turn_over(&mut log);
    assert_eq!(log.reached(Level::Synced), 4, "with what was found");
    log.release(first);
    log.release(first);
    log.release(copy);
    assert_eq!(log.figures().live_bytes, 0);
}
