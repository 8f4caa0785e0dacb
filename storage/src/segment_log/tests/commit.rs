//! What is synced counts, and nothing before.

use ringmq_turn::{SyncFailure, SyncRequest};

use super::*;
use crate::Level;

const FAILED: Result<Duration, SyncFailure> = Err(SyncFailure { errno: 5 });

fn requests(log: &mut TestLog) -> Vec<SyncRequest> {
    log.turn_over();
    std::iter::from_fn(|| log.sync()).collect()
}

fn succeed(log: &mut TestLog, request: &SyncRequest) {
    log.synced(request.ticket, Ok(Duration::from_micros(150)));
}

#[test]
fn a_sync_covers_what_was_sealed_when_it_was_asked_for() {
    let (mut log, _) = new_log();
    log.append(completed(0));
    assert!(requests(&mut log).is_empty(), "nobody waits");
    log.want_synced();
    let first = requests(&mut log);
    assert_eq!(first.len(), 1);
    log.append(completed(1));
    log.want_synced();
    assert!(requests(&mut log).is_empty(), "one at a time for each file");
    assert_eq!(log.reached(Level::Synced), 0);
    succeed(&mut log, &first[0]);
    assert_eq!(log.reached(Level::Synced), 1);
    let second = requests(&mut log);
    succeed(&mut log, &second[0]);
    assert_eq!(log.reached(Level::Synced), 2);
    assert!(requests(&mut log).is_empty());
    let figures = log.figures();
    assert_eq!((figures.commits, figures.commits_failed), (2, 0));
    assert_eq!(figures.commit_us.percentile_us(50), 256);
}

#[test]
fn of_several_files_the_oldest_counts_first() {
    let (mut log, _) = new_log();
    while log.head() < SegmentId(2) {
        log.append(completed(0));
        log.end_unit();
    }
    log.append(completed(0));
    let total = log.appended();
    log.want_synced();
    let syncs = requests(&mut log);
    assert_eq!(syncs.len(), 3);
    succeed(&mut log, &syncs[2]);
    succeed(&mut log, &syncs[1]);
    assert_eq!(log.reached(Level::Synced), 0);
    succeed(&mut log, &syncs[0]);
    assert_eq!(log.reached(Level::Synced), total);
}

#[test]
fn a_unit_in_two_files_is_synced_with_both() {
    let (mut log, _) = new_log();
    log.append(completed(0));
    log.turn_over();
    while log.head() == SegmentId(0) {
        log.append(completed(0));
    }
    log.want_synced();
    let syncs = requests(&mut log);
    assert_eq!(syncs.len(), 2);
    succeed(&mut log, &syncs[0]);
    assert_eq!(log.reached(Level::Synced), 1, "the unit's end is not there");
    succeed(&mut log, &syncs[1]);
    assert_eq!(log.reached(Level::Synced), log.appended());
}

#[test]
fn a_failed_sync_is_tried_again_and_less_and_less_often() {
    let (mut log, _) = new_log();
    log.append(completed(0));
    log.want_synced();
    let mut tries = 0;
    for _ in 0..200 {
        for request in requests(&mut log) {
            log.synced(request.ticket, FAILED);
            tries += 1;
        }
    }
    assert!((8..16).contains(&tries), "{tries}");
    assert_eq!((log.reached(Level::Synced), log.figures().commits_failed), (0, tries));
    log.append(completed(1));
    for _ in 0..100 {
        for request in requests(&mut log) {
            succeed(&mut log, &request);
        }
    }
    assert_eq!(log.reached(Level::Synced), 2, "it covers what came since");
    log.append(completed(2));
    log.want_synced();
    assert_eq!(requests(&mut log).len(), 1, "it is trusted again");
}

#[test]
#[should_panic(expected = "no sync that is under way")]
fn a_sync_that_was_not_asked_for_has_no_outcome() {
    let (mut log, _) = new_log();
    log.synced(ringmq_turn::SyncTicket(3), FAILED);
}
