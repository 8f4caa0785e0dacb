//! What recovery hands to the log that goes on behind it.

use crate::SegmentId;

/// A segment that was read.
#[derive(Debug)]
pub(crate) struct FoundSegment<S> {
    /// Its number.
    pub(crate) id: SegmentId,
    /// Its bytes.
    pub(crate) segment: S,
    /// How many of them are used.
    pub(crate) used: usize,
}

/// The segments of a log that was read, and where it goes on.
#[derive(Debug)]
pub(crate) struct Found<S> {
    /// Lowest first.
    pub(crate) segments: Vec<FoundSegment<S>>,
    /// The number of the next record.
    pub(crate) next_record: u64,
    /// The number of the next segment.
    pub(crate) next_segment: SegmentId,
    /// Segments below this one are to be compacted at once, since they are damaged.
    pub(crate) compact_past: SegmentId,
}

/// What a log may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of a segment, a multiple of 4096 up to [`crate::SEGMENT_BYTES_MAX`].
    pub segment_bytes: usize,
    /// Bytes of all segments of the shard together beyond which the log is full; `u64::MAX` leaves it to
    /// the file system.
    pub bytes_max: u64,
}
