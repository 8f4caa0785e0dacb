//! Units are whole or absent.

use super::*;
use crate::Level;

/// Writes units of all sizes, and looks at any time at what a killed process would leave.
fn units_survive_whole(seed: u64) {
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let (mut log, disk) = new_log();
    disk.borrow_mut().prompt = !seed.is_multiple_of(4);
    // Where units end, as numbers of records.
    let mut ends = vec![0];
    let payload = [7; 5000];
    let mut big = false;
    for _ in 0..300 {
        for _ in 0..1 + dice.below(6) {
            if dice.below(3) == 0 {
                let bytes = dice.below(if big { 5000 } else { 300 }) as usize;
                log.keep(&view(&payload[..bytes])).unwrap();
            } else {
                log.append(completed(log.appended()));
            }
            if dice.below(20) == 0 {
                check(&log, &ends);
            }
        }
        log.end_unit();
        ends.push(log.appended());
        check(&log, &ends);
        if dice.below(4) == 0 {
            log.turn_over();
            assert_eq!(log.reached(Level::Written), log.appended());
            assert_eq!(check(&log, &ends), log.appended());
        }
        big = dice.below(5) == 0;
    }
    assert!(disk.borrow().exist.len() > 3, "segments were filled");
}

/// Reads what is there. Answers how many records that are.
fn check(log: &TestLog, ends: &[u64]) -> u64 {
    let mut expected = 0;
    let whole = for_each_record(log, |number, _, record| {
        assert_eq!(number, expected);
        expected += 1;
        if let Record::Completed { number: written, .. } = record {
            assert_eq!(written.0, number);
        }
    });
    assert_eq!(whole, expected);
    assert!(ends.binary_search(&whole).is_ok(), "{whole} is in the middle of a unit");
    assert!(whole >= log.writing.written(), "{whole} is less than what was sealed");
    whole
}

#[test]
fn units_are_whole_or_absent_across_segment_ends() {
    (0..40).for_each(units_survive_whole);
}

#[test]
fn a_unit_larger_than_a_segment_is_whole_or_absent() {
    let (mut log, _) = new_log();
    log.append(completed(0));
    log.end_unit();
    for number in 1..5000 {
        log.append(completed(number));
    }
    assert_eq!(for_each_record(&log, |_, _, _| {}), 0, "the unit before lies in the same batch");
    assert_eq!(log.writing.written(), 0);
    log.end_unit();
    log.turn_over();
    assert_eq!(for_each_record(&log, |_, _, _| {}), 5000);
    assert_eq!(log.reached(Level::Written), 5000);
}

#[test]
fn the_next_segment_is_made_before_it_is_needed() {
    let (mut log, disk) = new_log();
    turn_over(&mut log);
    assert_eq!(disk.borrow().exist.len(), 1, "a log that is hardly used has one");
    for turn in 0..1000 {
        for _ in 0..10 {
            log.append(completed(turn));
        }
        turn_over(&mut log);
    }
    assert_eq!(disk.borrow().waits, 0);
    assert!(disk.borrow().exist.len() > 10);
}

#[test]
fn a_message_that_fits_no_segment_is_refused() {
    let (mut log, _) = new_log();
    assert!(log.keep(&view(&vec![0; SEGMENT_BYTES])).is_err());
    assert_eq!(log.appended(), 0);
    let at = log.keep(&view(&vec![9; SEGMENT_BYTES - 128])).unwrap();
    assert_eq!(log.message(at).payload.len(), SEGMENT_BYTES - 128);
}

#[test]
fn a_unit_that_finds_no_room_takes_none_with_it_that_ended_before() {
    for more in 0..200 {
        let (mut log, disk) = new_log();
        disk.borrow_mut().room = 1;
        // A single turn, so that nobody knows yet that there is no room.
        while log.writing.at() < SEGMENT_BYTES - 4000 {
            log.append(completed(0));
            log.end_unit();
        }
        for _ in 0..more {
            log.append(completed(0));
        }
        log.end_unit();
        let (ended, written) = (log.appended(), log.reached(Level::Written));
        for _ in 0..200 {
            log.append(completed(0));
        }
        log.end_unit();
        log.turn_over();
        assert!(written <= ended && log.appended() > ended);
        assert!(log.reached(Level::Written) >= written, "{} of {written}", log.reached(Level::Written));
        assert_eq!(for_each_record(&log, |_, _, _| {}), log.reached(Level::Written));
    }
}
