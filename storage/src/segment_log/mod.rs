//! The log on disk: records in segments.

mod backlog;
mod commit;
mod compact;
mod references;
mod supply;
mod table;
#[cfg(test)]
mod tests;
mod writing;

use std::io;
use std::time::Duration;

use ringmq_turn::{SyncFailure, SyncRequest, SyncTicket};

use crate::format::{SEGMENT_HEADER_BYTES, decode, encode, encoded_len};
use crate::found::{Found, LogOptions};
use crate::{
    Compaction, Disk, Level, Log, LogError, LogFigures, LogOffset, MessageView, Record, Segment, SegmentId,
};

use backlog::Backlog;
use commit::Commits;
use compact::Compacting;
use references::References;
use supply::Supply;
use table::Table;
use writing::Writing;

/// A [`Log`] in segments of a [`Disk`].
///
/// Records are written straight into the last segment, which is mapped; nothing waits for the disk but a
/// turn that fills two segments at once.
pub struct SegmentLog<D: Disk> {
    disk: D,
    options: LogOptions,
    segments: Table<D::Segment>,
    writing: Writing,
    supply: Supply<D::Segment>,
    backlog: Backlog,
    references: References,
    commits: Commits,
    compacting: Compacting,
}

impl<D: Disk> SegmentLog<D> {
    /// A new log on an empty disk.
    ///
    /// # Errors
    /// The first segment cannot be made.
    pub fn new(disk: D, options: LogOptions) -> io::Result<Self> {
        let found = Found {
            segments: Vec::new(),
            next_record: 0,
            next_segment: SegmentId(0),
            compact_past: SegmentId(0),
        };
        Self::start(disk, options, found)
    }

    /// A log that goes on behind what was found, in a new segment. [`SegmentLog::adopt`] is still to be
    /// told of the references to what was found.
    pub(crate) fn start(mut disk: D, options: LogOptions, found: Found<D::Segment>) -> io::Result<Self> {
        let bytes = options.segment_bytes;
        assert!(
            bytes.is_multiple_of(4096) && bytes <= crate::SEGMENT_BYTES_MAX,
            "{bytes} is no segment size"
        );
        let mut segments = Table::new();
        let (mut kept, mut empty) = (Vec::new(), Vec::new());
        for found in found.segments {
            if found.used > SEGMENT_HEADER_BYTES { kept.push(found) } else { empty.push(found) }
        }
        for found in &mut kept {
            if found.used < found.segment.len() {
                found.segment.cut(found.used)?;
            }
        }
        let first = kept.first().map_or(found.next_segment, |found| found.id);
        segments.fill(kept, found.next_record);
        let head = disk.create(found.next_segment, bytes)?;
        for found in empty {
            disk.remove(found.id, found.segment);
        }
        let mut log = Self {
            disk,
            options,
            segments,
            writing: Writing::new(found.next_record),
            supply: Supply::new(SegmentId(found.next_segment.0 + 1)),
            backlog: Backlog::default(),
            references: References::default(),
            commits: Commits::new(first),
            compacting: Compacting::new(found.compact_past),
        };
        log.begin_segment(found.next_segment, head);
        Ok(log)
    }

    /// Counts a reference to a message that was found.
    ///
    /// # Panics
    /// When there is no such segment.
    pub(crate) fn adopt(&mut self, at: LogOffset) {
        if self.references.adopt(at, self.options.segment_bytes) {
            self.segments.refer_first(at);
        } else {
            self.segments.refer_again(at);
        }
    }
}

impl<D: Disk> Log for SegmentLog<D> {
    #[inline]
    fn keep(&mut self, message: &MessageView<'_>) -> Result<LogOffset, LogError> {
        let record = Record::Message(*message);
        let bytes = encoded_len(&record);
        let Some(place) = self.place_message(bytes) else {
            return Err(LogError::Full { bytes });
        };
        let at = LogOffset::at(self.segments.head_id(), place);
        let head = self.segments.head_mut();
        encode(&record, &mut head.segment[place..place + bytes]);
        self.segments.refer_in_head(bytes);
        Ok(at)
    }

    #[inline]
    fn message(&self, at: LogOffset) -> MessageView<'_> {
        match decode(self.segments.from(at)) {
            Ok((Record::Message(view), _)) => view,
            other => panic!("there is no message at {at:?}, but {other:?}"),
        }
    }

    #[inline]
    fn retain(&mut self, at: LogOffset) {
        self.segments.refer_again(at);
        self.references.add(at);
    }

    #[inline]
    fn release(&mut self, at: LogOffset) {
        self.give_back(at);
    }

    #[inline]
    fn append(&mut self, record: Record<'_>) {
        debug_assert!(!matches!(record, Record::Message(_)), "messages are kept");
        let bytes = encoded_len(&record);
        match self.place(bytes) {
            Some(place) => encode(&record, &mut self.segments.head_mut().segment[place..place + bytes]),
            None => self.wait_with(&record, bytes),
        }
    }

    #[inline]
    fn end_unit(&mut self) {
        self.unit_ends();
    }

    fn turn_over(&mut self) {
        self.unit_ends();
        self.seal_turn();
        self.references.adopted();
        self.tend_supply();
        self.flush_backlog();
        self.remove_dead();
        self.commits.turn_over();
        self.expect_writes();
        self.compacting.turn_over(self.writing.appended_bytes());
    }

    fn wants_turn(&self) -> bool {
        self.is_supply_unsettled()
    }

    #[inline]
    fn appended(&self) -> u64 {
        self.writing.placed() + self.backlog.records()
    }

    #[inline]
    fn reached(&self, level: Level) -> u64 {
        match level {
            Level::Memory => self.appended(),
            // The rest of it is sealed by the end of the turn, but for a unit whose end has no room.
            Level::Written if self.backlog.is_empty() => self.writing.placed(),
            Level::Written => self.writing.written(),
            Level::Synced => self.commits.synced_records(),
        }
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.lacks_room()
    }

    fn want_synced(&mut self) {
        self.commits.wait_for(self.appended());
    }

    fn sync(&mut self) -> Option<SyncRequest> {
        self.next_sync()
    }

    fn synced(&mut self, ticket: SyncTicket, outcome: Result<Duration, SyncFailure>) {
        self.sync_ended(ticket, outcome);
    }

    fn held_bytes(&self) -> u64 {
        self.backlog.held_bytes() + self.references.held_bytes() + self.segments.held_bytes()
    }

    fn head(&self) -> SegmentId {
        self.segments.head_id()
    }

    fn compaction(&mut self, state_bytes: u64) -> Option<Compaction> {
        self.next_compaction(state_bytes)
    }

    fn relocate(&mut self, at: LogOffset) -> LogOffset {
        self.copy_forward(at)
    }

    fn compacted(&mut self) {
        self.compaction_ends();
    }

    fn figures(&self) -> LogFigures {
        LogFigures {
            disk_bytes: self.disk_bytes(),
            live_bytes: self.segments.live_bytes(),
            appended_bytes: self.writing.appended_bytes(),
            copied_bytes: self.compacting.copied_bytes(),
            full: self.lacks_room(),
            ..self.commits.figures()
        }
    }
}
