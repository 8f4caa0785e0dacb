//! Opens a log: reads what it holds, cuts its torn end, and lets it go on behind that.

mod outcome;
mod queue;
pub(crate) mod seems;
mod sessions;
mod valid;
pub(crate) mod views;
pub(crate) mod walk;

use std::io;
use std::ops::Range;

use crate::found::{Found, FoundSegment};
use crate::{
    Damage, Disk, LogOffset, LogOptions, Recovered, SEGMENT_BYTES_MAX, Segment, SegmentId, SegmentLog,
    StoreError,
};
use outcome::recovered;
use sessions::State;
use views::{View, Views};
use walk::{Extent, walk};

/// Offsets count segments in so many bits.
const SEGMENTS_MAX: u32 = 1 << 30;

/// Opens the log that a disk holds, or begins one.
///
/// # Errors
/// The disk cannot be read, or there is no space for a segment to write to.
pub fn open_log<D: Disk>(mut disk: D, options: LogOptions) -> Result<(SegmentLog<D>, Recovered), StoreError> {
    let mut segments = Segments::open(&mut disk)?;
    let Reading { mut recovered, references, next_record, extents, void } = segments.read();
    put_aside(&mut disk, &segments, &mut recovered.damage);
    segments.cut(&recovered.damage, void)?;
    let next_segment = SegmentId(segments.all.last().map_or(0, |(id, _)| id.0 + 1));
    let mut found = Found {
        segments: Vec::new(),
        next_record,
        next_segment,
        compact_past: damaged_up_to(&recovered.damage, &segments, &extents),
    };
    for ((id, segment), extent) in segments.all.into_iter().zip(extents) {
        if extent.is_empty() {
            disk.remove(id, segment);
        } else {
            found.segments.push(FoundSegment { id, segment, used: extent.used });
        }
    }
    if found.segments.is_empty() {
        // Higher than any number of a segment that a power loss may bring back: no segment has so many.
        found.next_record = u64::from(next_segment.0) << 32;
    }
    let mut log = SegmentLog::start(disk, options, found).map_err(StoreError::begin_segment)?;
    for at in references {
        log.adopt(at);
    }
    Ok((log, recovered))
}

/// All segments of a log, open.
pub(crate) struct Segments<S> {
    all: Vec<(SegmentId, S)>,
}

/// What a log holds, and where it ends.
pub(crate) struct Reading {
    pub(crate) recovered: Recovered,
    /// Every reference to a message, sorted.
    pub(crate) references: Vec<LogOffset>,
    pub(crate) next_record: u64,
    pub(crate) extents: Vec<Extent>,
    /// Batches that were left out though nothing is wrong with them.
    pub(crate) void: Vec<(SegmentId, Range<usize>)>,
}

impl<S: Segment> Segments<S> {
    pub(crate) fn open<D: Disk<Segment = S>>(disk: &mut D) -> Result<Self, StoreError> {
        let ids = disk.list().map_err(|source| StoreError::Unreadable { what: "a log".into(), source })?;
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            let opened = if id.0 < SEGMENTS_MAX - 1 { disk.open(id) } else { Err(no_such_number()) };
            let what = || format!("segment {:08x} of a log", id.0);
            all.push((id, opened.map_err(|source| StoreError::Unreadable { what: what(), source })?));
        }
        Ok(Self { all })
    }

    /// Their bytes.
    pub(crate) fn views(&self) -> Views<'_> {
        let all = self.all.iter();
        let views =
            all.map(|(id, bytes)| View { id: *id, bytes: &bytes[..bytes.len().min(SEGMENT_BYTES_MAX)] });
        Views::new(views.collect())
    }

    /// Reads all of it.
    pub(crate) fn read(&self) -> Reading {
        let hint = |index: usize| {
            for (_, segment) in self.all.iter().skip(index).take(2) {
                segment.read_ahead();
            }
        };
        read(&self.views(), &hint)
    }

    /// Makes zero, durably, what a crash left at the end of the log and what does not count any more: the
    /// next records have the numbers of those there, and no later start may see them in another light.
    fn cut(&mut self, damage: &[Damage], void: Vec<(SegmentId, Range<usize>)>) -> Result<(), StoreError> {
        let torn = damage.iter().filter(|damage| damage.torn_tail);
        let mut ranges: Vec<_> =
            torn.map(|torn| (torn.segment, torn.place..torn.place + torn.bytes)).chain(void).collect();
        ranges.sort_unstable_by_key(|(id, range)| (*id, range.start));
        for of_one in ranges.chunk_by(|a, b| a.0 == b.0) {
            let id = of_one[0].0;
            let Ok(index) = self.all.binary_search_by_key(&id, |(id, _)| *id) else { continue };
            let segment = &mut self.all[index].1;
            for (_, range) in of_one {
                segment[range.clone()].fill(0);
            }
            sync(segment).map_err(|source| {
                let what = format!("segment {:08x} of a log", id.0);
                StoreError::Unwritable { what, source }
            })?;
        }
        Ok(())
    }
}

/// Reads a log from its segments' bytes. `hint` is told the index of each segment before it is read.
pub(crate) fn read(views: &Views<'_>, hint: &dyn Fn(usize)) -> Reading {
    let mut state = State::new(views, hint);
    let mut walked = walk(views, &mut state);
    let (extents, void) = (std::mem::take(&mut walked.extents), std::mem::take(&mut walked.void));
    let next_record = walked.next_record;
    let (recovered, references) = recovered(state, walked);
    Reading { recovered, references, next_record, extents, void }
}

/// Puts damaged bytes where compaction does not take them away.
pub(crate) fn put_aside<D: Disk>(disk: &mut D, segments: &Segments<D::Segment>, damage: &mut [Damage]) {
    for damage in damage {
        let Ok(index) = segments.all.binary_search_by_key(&damage.segment, |(id, _)| *id) else { continue };
        let bytes = &segments.all[index].1[damage.place..damage.place + damage.bytes];
        let is_zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
        let was_unsealed = damage.torn_tail && is_zero(&bytes[..bytes.len().min(16)]);
        if was_unsealed || is_zero(bytes) {
            continue;
        }
        match disk.quarantine(damage.segment, damage.place, bytes) {
            Ok(path) => damage.quarantined = Some(path),
            // The log is of use all the same.
            Err(error) => tracing::warn!("damaged bytes could not be put aside: {error}"),
        }
    }
}

/// The segment behind the last one that is damaged and stays.
fn damaged_up_to<S>(damage: &[Damage], segments: &Segments<S>, extents: &[Extent]) -> SegmentId {
    let stays = |damage: &&Damage| {
        let index = segments.all.binary_search_by_key(&damage.segment, |(id, _)| *id);
        !damage.torn_tail && damage.bytes > 0 && index.is_ok_and(|index| !extents[index].is_empty())
    };
    damage.iter().filter(stays).map(|damage| SegmentId(damage.segment.0 + 1)).max().unwrap_or_default()
}

fn sync(segment: &mut impl Segment) -> io::Result<()> {
    match segment.sync_file().sync_data() {
        // What stands for the file of a simulated segment cannot be synced.
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error),
        Ok(()) | Err(_) => {
            segment.synced();
            Ok(())
        }
    }
}

fn no_such_number() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no segment has so high a number")
}

#[cfg(test)]
pub(crate) mod tests;
