//! No room, and room again.

use super::*;
use crate::{Level, LogError};

fn fill(log: &mut TestLog) -> Vec<LogOffset> {
    let mut kept = Vec::new();
    while !log.is_full() {
        kept.push(log.keep(&view(&[1; 100])).unwrap());
        log.end_unit();
        turn_over(log);
    }
    kept
}

#[test]
fn publishers_are_held_back_before_there_is_no_room_and_all_goes_on_when_there_is() {
    let (mut log, disk) = new_log();
    disk.borrow_mut().room = 3;
    let kept = fill(&mut log);
    assert!(log.figures().full);
    assert!(log.head() == SegmentId(2) && log.writing.at() < 1000, "nearly a segment is left");

    let error = loop {
        match log.keep(&view(&[2; 100])) {
            Ok(_) => log.end_unit(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LogError::Full { bytes: 120 }), "{error:?}");
    let used = log.writing.at();
    assert!(used > SEGMENT_BYTES / 5 && used <= SEGMENT_BYTES / 4, "what is under way had room: {used}");
    let before = log.appended();
    // State goes on, beyond what there is room for.
    for _ in 0..2000 {
        log.append(completed(log.appended()));
        log.append(completed(log.appended()));
        log.end_unit();
    }
    turn_over(&mut log);
    assert_eq!(log.appended(), before + 4000);
    assert!(log.reached(Level::Written) > before && log.reached(Level::Written) < log.appended());
    assert!(log.held_bytes() > 10_000);
    assert_eq!(for_each_record(&log, |_, _, _| {}), log.reached(Level::Written));
    assert!(log.keep(&view(b"x")).is_err(), "it would overtake what waits");
    assert_eq!(log.message(kept[0]).payload, [1; 100]);

    disk.borrow_mut().room = 100;
    for _ in 0..1000 {
        turn_over(&mut log);
    }
    assert!(!log.is_full());
    assert_eq!(log.reached(Level::Written), log.appended());
    let whole = for_each_record(&log, |number, _, record| match record {
        Record::Completed { number: written, .. } => assert_eq!(written.0, number),
        Record::Message(_) => {}
        other => panic!("{other:?} was not written"),
    });
    assert_eq!(whole, log.appended());
    assert!(log.keep(&view(b"x")).is_ok());
}

#[test]
fn a_unit_that_waits_in_part_is_absent_until_it_is_whole() {
    let (mut log, disk) = new_log();
    disk.borrow_mut().room = 1;
    turn_over(&mut log);
    log.append(completed(0));
    turn_over(&mut log);
    for number in 1..1000 {
        log.append(completed(number));
    }
    log.end_unit();
    turn_over(&mut log);
    assert_eq!(for_each_record(&log, |_, _, _| {}), 1);
    assert_eq!((log.reached(Level::Written), log.appended()), (1, 1000));
    log.want_synced();
    turn_over(&mut log);
    assert_eq!(log.reached(Level::Synced), 1);
    disk.borrow_mut().room = 100;
    (0..200).for_each(|_| turn_over(&mut log));
    assert_eq!(for_each_record(&log, |_, _, _| {}), 1000);
    assert_eq!((log.reached(Level::Written), log.reached(Level::Synced)), (1000, 1000));
}

#[test]
fn a_limit_is_a_full_disk() {
    let (disk, handle) = MemoryDisk::new();
    let options = LogOptions { bytes_max: 3 * SEGMENT_BYTES as u64 + 1, ..OPTIONS };
    let mut log = SegmentLog::new(disk, options).unwrap();
    let kept = fill(&mut log);
    assert_eq!(handle.borrow().exist.len(), 3);
    assert_eq!(log.figures().disk_bytes, 3 * SEGMENT_BYTES as u64);

    // All messages go: what is left needs no more than the last segment.
    kept.into_iter().for_each(|at| log.release(at));
    turn_over(&mut log);
    let due = log.compaction(100).unwrap();
    assert_eq!(due.before, SegmentId(2));
    log.compacted();
    (0..100).for_each(|_| turn_over(&mut log));
    assert!(!log.is_full());
    assert_eq!(handle.borrow().removed, [SegmentId(0), SegmentId(1)]);
    assert_eq!(log.figures().disk_bytes, SEGMENT_BYTES as u64);
}

#[test]
fn without_room_a_message_is_not_copied_but_stays() {
    let (mut log, disk) = new_log();
    disk.borrow_mut().room = 2;
    let kept = fill(&mut log);
    kept[1..].iter().for_each(|at| log.release(*at));
    turn_over(&mut log);
    let due = log.compaction(0).unwrap();
    assert_eq!(due.before, SegmentId(1));
    while log.writing.at() < SEGMENT_BYTES {
        log.append(completed(0));
        if !log.backlog.is_empty() {
            break;
        }
    }
    assert_eq!(log.relocate(kept[0]), kept[0]);
    log.compacted();
    (0..10).for_each(|_| turn_over(&mut log));
    assert_eq!(log.message(kept[0]).payload, [1; 100]);
}
