//! Batches and units at the end of the log.

use crate::format::{BATCH_HEAD_BYTES, BATCH_SYNCED_BYTES, BatchHead, SEGMENT_HEADER_BYTES, segment_header};
use crate::{Disk, Record, Segment, SegmentId};

use super::SegmentLog;
use super::table::Slot;

/// A batch of so many bytes is sealed when its unit ends, so that a turn's last batch is short, and what
/// was just written is still in the cache for its checksum.
const SEALED_BYTES_MIN: usize = 4096;
/// A batch that gets larger than this is sealed even within a unit.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How far ahead of need bytes are made ready to be written.
const READY_BYTES: usize = 64 * 1024;

/// Where the log ends.
///
/// A record goes behind the open batch if it ends before `limit`; all else is for the slow path, which
/// therefore has a limit of zero where no batch is open.
#[derive(Debug)]
pub(super) struct Writing {
    /// Where the next record goes, in the last segment.
    at: usize,
    /// Where the head of the open batch goes; `at` if there is none.
    batch_at: usize,
    limit: usize,
    /// A unit that ends from here on has the batch sealed.
    seal_from: usize,
    /// The same as `limit` for messages, which leave more room for what must go on when the log is full.
    message_limit: usize,
    /// The number of the open batch's first record.
    batch_first: u64,
    /// How many records were synced, if the open batch says so.
    batch_synced: Option<u64>,
    /// Whether the last batch was sealed within a unit.
    batch_goes_on: bool,
    /// Records in segments.
    placed: u64,
    /// Of them, those before the unit under way.
    unit_first: u64,
    /// Of them, those in units that are sealed whole.
    written: u64,
    appended_bytes: u64,
    /// How far the segment knows of what is going to be written.
    expected_to: usize,
}

impl Writing {
    pub(super) fn new(records: u64) -> Self {
        Self {
            at: 0,
            batch_at: 0,
            limit: 0,
            seal_from: usize::MAX,
            message_limit: 0,
            batch_first: records,
            batch_synced: None,
            batch_goes_on: false,
            placed: records,
            unit_first: records,
            written: records,
            appended_bytes: 0,
            expected_to: 0,
        }
    }

    #[inline]
    pub(super) fn placed(&self) -> u64 {
        self.placed
    }

    #[inline]
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn appended_bytes(&self) -> u64 {
        self.appended_bytes
    }

    /// How many bytes of the last segment are used.
    #[inline]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    fn is_open(&self) -> bool {
        self.at > self.batch_at
    }

    #[inline]
    fn in_unit(&self) -> bool {
        self.placed > self.unit_first
    }

    #[inline]
    fn take(&mut self, bytes: usize) -> usize {
        let place = self.at;
        self.at += bytes;
        self.placed += 1;
        self.appended_bytes += bytes as u64;
        place
    }

    fn batch_head_bytes(&self) -> usize {
        BATCH_HEAD_BYTES + if self.batch_synced.is_some() { BATCH_SYNCED_BYTES } else { 0 }
    }

    /// The limit for messages follows whether there will be another segment.
    fn open(&mut self, bytes: usize, (segment_end, message_end): (usize, usize)) {
        debug_assert!(!self.is_open());
        self.batch_first = self.placed;
        self.at += self.batch_head_bytes();
        self.limit = (self.at + BATCH_BYTES_MAX.max(bytes)).min(segment_end);
        self.message_limit = self.limit.min(message_end);
        self.seal_from = self.batch_at + SEALED_BYTES_MIN;
    }
}

impl<D: Disk> SegmentLog<D> {
    /// A place for a record in the last segment.
    #[inline]
    pub(super) fn place(&mut self, bytes: usize) -> Option<usize> {
        if self.writing.at + bytes <= self.writing.limit {
            return Some(self.writing.take(bytes));
        }
        self.place_slowly(bytes, usize::MAX)
    }

    /// A place for a message.
    #[inline]
    pub(super) fn place_message(&mut self, bytes: usize) -> Option<usize> {
        if self.writing.at + bytes <= self.writing.message_limit {
            return Some(self.writing.take(bytes));
        }
        self.place_slowly(bytes, self.message_end())
    }

    #[cold]
    fn place_slowly(&mut self, bytes: usize, end: usize) -> Option<usize> {
        let place = self.backlog.is_empty() && self.make_room(bytes, end);
        place.then(|| self.writing.take(bytes))
    }

    /// Opens a batch that has room for a record of so many bytes, which is to end before `end` if it goes
    /// into the last segment. Without room, nothing changes.
    fn make_room(&mut self, bytes: usize, end: usize) -> bool {
        let segment_end = self.segments.head().segment.len();
        let synced = self.commits.told();
        let needed = BATCH_HEAD_BYTES + if synced.is_some() { BATCH_SYNCED_BYTES } else { 0 } + bytes;
        if self.writing.at + needed > segment_end.min(end) {
            if SEGMENT_HEADER_BYTES + needed > self.options.segment_bytes {
                return false;
            }
            // What is spare when there will be no more is not for messages.
            if end < segment_end {
                return false;
            }
            let Some((id, segment)) = self.take_spare() else { return false };
            self.seal(self.writing.in_unit());
            self.begin_segment(id, segment);
        } else {
            self.seal(self.writing.in_unit());
        }
        let segment_end = self.segments.head().segment.len();
        self.writing.batch_synced = synced;
        self.writing.open(bytes, (segment_end, self.message_end()));
        if self.writing.at + (segment_end / 8).max(2 * SEALED_BYTES_MIN) > segment_end && !self.has_spare() {
            // There may be no room for the rest of a unit. Those before it must not wait with it.
            self.writing.seal_from = 0;
        }
        true
    }

    /// Puts a record aside that has no room.
    #[cold]
    pub(super) fn wait_with(&mut self, record: &Record<'_>, bytes: usize) {
        let needed = SEGMENT_HEADER_BYTES + BATCH_HEAD_BYTES + BATCH_SYNCED_BYTES + bytes;
        let possible = needed <= self.options.segment_bytes;
        assert!(possible, "no segment has room for a record of {bytes} bytes");
        if self.backlog.is_empty() {
            self.seal(self.writing.in_unit());
        }
        self.backlog.push(record);
    }

    /// Writes what waited, as far as there is room.
    pub(super) fn flush_backlog(&mut self) {
        while let Some(bytes) = self.backlog.front().map(<[u8]>::len) {
            if self.writing.at + bytes > self.writing.limit && !self.make_room(bytes, usize::MAX) {
                break;
            }
            let place = self.writing.take(bytes);
            if let Some(record) = self.backlog.front() {
                self.segments.head_mut().segment[place..place + bytes].copy_from_slice(record);
            }
            if self.backlog.pop(bytes) {
                self.writing.unit_first = self.writing.placed;
            }
        }
        self.seal(self.writing.in_unit());
    }

    /// Writes to a new segment from now on.
    pub(super) fn begin_segment(&mut self, id: SegmentId, mut segment: D::Segment) {
        segment[..SEGMENT_HEADER_BYTES].copy_from_slice(&segment_header(id));
        self.segments.push(id, Slot::new(segment, SEGMENT_HEADER_BYTES, self.writing.written));
        self.writing.at = SEGMENT_HEADER_BYTES;
        self.writing.batch_at = SEGMENT_HEADER_BYTES;
        self.writing.expected_to = SEGMENT_HEADER_BYTES;
    }

    #[inline]
    pub(super) fn unit_ends(&mut self) {
        if !self.backlog.is_empty() {
            return self.backlog.end_unit();
        }
        self.writing.unit_first = self.writing.placed;
        if self.writing.at >= self.writing.seal_from {
            self.seal(false);
        }
    }

    /// Seals what the turn wrote.
    pub(super) fn seal_turn(&mut self) {
        self.seal(self.writing.in_unit());
    }

    /// Writes the head of the open batch. If the unit goes on, what it was written before counts only
    /// once the rest is there.
    fn seal(&mut self, in_unit: bool) {
        let writing = &mut self.writing;
        if !writing.is_open() {
            return;
        }
        let id = self.segments.head_id();
        let synced = writing.batch_synced;
        let slot = self.segments.head_mut();
        let body_at = writing.batch_at + BATCH_HEAD_BYTES;
        let (before, rest) = slot.segment.split_at_mut(body_at);
        if let Some(synced) = synced {
            rest[..BATCH_SYNCED_BYTES].copy_from_slice(&synced.to_le_bytes());
        }
        let body = &rest[..writing.at - body_at];
        let (length, goes_on, first) = (body.len(), writing.batch_goes_on, writing.batch_first);
        let head = BatchHead { length, continues: in_unit, goes_on, first, synced };
        before[writing.batch_at..].copy_from_slice(&head.encode(id, body));
        slot.sealed_to = writing.at;
        (writing.batch_at, writing.batch_goes_on) = (writing.at, in_unit);
        (writing.limit, writing.message_limit, writing.seal_from) = (0, 0, usize::MAX);
        if !in_unit {
            slot.sealed_records = writing.placed;
            writing.written = writing.placed;
        }
    }

    /// Where messages end in the last segment: before its end if there will be no other for them.
    pub(super) fn message_end(&self) -> usize {
        let bytes = self.segments.head().segment.len();
        match self.supply.is_refused() {
            false => bytes,
            true if self.segments.sealed() > 0 => bytes / 4,
            true => bytes / 4 * 3,
        }
    }

    /// Has the bytes made ready that are written next. A spare segment was made ready as a whole; the
    /// first one is not, since a broker that is hardly used would hold its memory for nothing.
    #[inline]
    pub(super) fn expect_writes(&mut self) {
        let writing = &mut self.writing;
        if writing.at + READY_BYTES > writing.expected_to {
            let from = writing.expected_to.max(writing.at);
            writing.expected_to = writing.at + 2 * READY_BYTES;
            self.segments.head_mut().segment.expect_writes(from..writing.expected_to);
        }
    }
}
