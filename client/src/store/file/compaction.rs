//! Writing anew what lies in the oldest segments of the log, a slice at the end of each turn.
//!
//! A walk over all sessions. Whatever is added behind the walk's back lies at the head of the log, so one walk
//! is enough.

use ringmq_storage::{Compaction, Log, SegmentId, SessionRecord};

use super::book::{Book, Entry, queued};
use crate::store::Number;

/// What a look at something that need not be moved counts for, in bytes of the slice.
const LOOK_BYTES: usize = 8;
/// What moving something counts for beside its own bytes.
const MOVE_BYTES: usize = 64;

/// A walk, and how far it has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    before: SegmentId,
    /// At this session or the next behind it.
    session: SessionRecord,
    /// At its publications from this one on, once it was told itself.
    publication: Option<Number>,
}

impl Book {
    /// Does a slice of what there is to compact. Whether there is more.
    pub(super) fn compact(&mut self) -> bool {
        let state_bytes = self.state_bytes as u64;
        let Some(Compaction { before, bytes }) = self.log.compaction(state_bytes) else { return false };
        let mut walk = match self.walk.take() {
            Some(walk) if walk.before == before => walk,
            Some(_) | None => Walk { before, session: SessionRecord::default(), publication: None },
        };
        let mut left = bytes;
        while left > 0 {
            let goes_on = self.step(&mut walk, &mut left);
            self.log.end_unit();
            if !goes_on {
                self.log.compacted();
                return false;
            }
        }
        self.walk = Some(walk);
        true
    }

    /// Goes on with one session, until the slice is spent; whether there is more.
    fn step(&mut self, walk: &mut Walk, left: &mut usize) -> bool {
        let Some((&record, session)) = self.sessions.range(walk.session..).next() else { return false };
        if record != walk.session {
            walk.publication = None;
        }
        walk.session = record;
        spend(left, LOOK_BYTES);
        if walk.publication.is_none() {
            if session.told_in < walk.before {
                spend(left, MOVE_BYTES + session.state_bytes);
                self.tell(record);
            }
            walk.publication = Some(Number(0));
        }
        let from = walk.publication.unwrap_or(Number(0));
        let Some(session) = self.sessions.get_mut(&record) else { return true };
        for (number, entry) in session.publications.range_mut(from..) {
            if *left == 0 {
                walk.publication = Some(*number);
                return true;
            }
            spend(left, LOOK_BYTES);
            let Entry::Queued(at, queued_as) = *entry else { continue };
            if at.segment() < walk.before {
                spend(left, MOVE_BYTES + self.log.message(at).charged_bytes());
                let moved = self.log.relocate(at);
                *entry = Entry::Queued(moved, queued_as);
                self.log.append(queued(record, *number, (moved, queued_as)));
            }
        }
        // No other session has the next number.
        (walk.session, walk.publication) = (SessionRecord(record.0 + 1), None);
        true
    }
}

fn spend(left: &mut usize, bytes: usize) {
    *left = left.saturating_sub(bytes);
}
