//! When the oldest segments are written anew, and when they go.

use crate::format::SEGMENT_HEADER_BYTES;
use crate::{Compaction, Disk, SegmentId};

use super::SegmentLog;

/// At least so many bytes are copied in a turn while a compaction is under way.
const COPIED_BYTES_MIN: u64 = 8 * 1024;

/// The state of compaction.
///
/// It goes in cycles: one begins when the disk holds too much, and ends when it does not any more or when
/// all that there was at its beginning has been written anew. A cycle consists of compactions, each of a few
/// segments, so that what is copied does not itself take much more disk than there was.
#[derive(Debug)]
pub(super) struct Compacting {
    /// What the compaction under way is to write anew.
    under_way: Option<SegmentId>,
    /// What lay below this segment was written anew, all of it when there were so many records.
    told_before: SegmentId,
    told_records: u64,
    /// Segments below this one are compacted in any case.
    forced_before: SegmentId,
    /// The segment that was written to when the cycle under way began.
    cycle_end: Option<SegmentId>,
    /// How much was appended or became garbage since the last cycle began, and until there is reason to
    /// look whether that is too much.
    changed_bytes: u64,
    look_at_bytes: u64,
    state_bytes: u64,
    appended_bytes_at_turn: u64,
    /// What is appended from here to the end of the turn is compaction's own.
    appended_bytes_before_copying: Option<u64>,
    copied_bytes: u64,
}

/// What a policy needs to know of a segment.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: SegmentId,
    disk_bytes: u64,
    live_bytes: u64,
}

/// What the policy decides by.
#[derive(Clone, Copy, Debug)]
struct Measure {
    /// There is no room for more segments: whatever can be gained is.
    full: bool,
    /// Bytes of segments that are not written to.
    sealed_bytes: u64,
    /// Of living messages and other records.
    live_bytes: u64,
    /// Of living records that are not messages.
    state_bytes: u64,
    segment_bytes: u64,
    /// The most bytes that a compaction may copy.
    room_bytes: u64,
}

impl Measure {
    /// Whether the disk holds too much: well below twice of what lives, so that it is not more before
    /// something comes of it.
    fn is_too_much(&self) -> bool {
        let live = self.live_bytes;
        let bound = (live + live / 2 + self.segment_bytes / 2).min(live * 2);
        self.sealed_bytes > if self.full { bound.min(live + self.segment_bytes) } else { bound }
    }

    /// Whether it is not worth to go on. Without room, it is for whatever can be gained, but not to move
    /// things about when that is nothing.
    fn is_enough(&self, sealed_bytes: u64) -> bool {
        let spare = if self.full { self.segment_bytes } else { u64::MAX };
        sealed_bytes <= self.live_bytes + spare.min(self.live_bytes / 4)
    }

    /// How many of the candidates to compact.
    fn choose(&self, candidates: &[Candidate]) -> usize {
        // In parts, so that a part is gone before the next one is copied.
        let copied_max = self.segment_bytes.max(self.live_bytes / 4).min(self.room_bytes);
        let (mut count, mut taken_bytes, mut copied_bytes) = (0, 0, 0);
        for candidate in candidates {
            let cost = candidate.live_bytes + self.state_share(candidate);
            if copied_bytes + cost > if count == 0 { self.room_bytes } else { copied_max } {
                break;
            }
            count += 1;
            taken_bytes += candidate.disk_bytes;
            copied_bytes += cost;
            if self.is_enough(self.sealed_bytes - taken_bytes + copied_bytes) {
                break;
            }
        }
        // What room there is must not be spent on less. To gain nothing is worth it where it gets at what
        // lies behind.
        if self.full && taken_bytes < copied_bytes { 0 } else { count }
    }

    /// How much state may have to be told anew for a segment, if it is spread evenly.
    fn state_share(&self, candidate: &Candidate) -> u64 {
        let product = u128::from(self.state_bytes) * u128::from(candidate.disk_bytes);
        (product / u128::from(self.sealed_bytes.max(1))) as u64
    }
}

impl Compacting {
    pub(super) fn new(forced_before: SegmentId) -> Self {
        Self {
            under_way: None,
            told_before: SegmentId(0),
            told_records: 0,
            forced_before,
            cycle_end: None,
            // What was found was never looked at.
            changed_bytes: u64::MAX / 2,
            look_at_bytes: 0,
            state_bytes: 0,
            appended_bytes_at_turn: 0,
            appended_bytes_before_copying: None,
            copied_bytes: 0,
        }
    }

    /// What is compacted lies below this segment.
    pub(super) fn before(&self) -> SegmentId {
        self.under_way.unwrap_or_default()
    }

    /// So many bytes of a message became garbage.
    #[inline]
    pub(super) fn released(&mut self, bytes: usize) {
        self.changed_bytes += bytes as u64;
    }

    pub(super) fn copied(&mut self, bytes: usize) {
        self.copied_bytes += bytes as u64;
    }

    pub(super) fn copied_bytes(&self) -> u64 {
        self.copied_bytes
    }

    #[inline]
    pub(super) fn turn_over(&mut self, appended_bytes: u64) {
        let before_copying = self.appended_bytes_before_copying.take().unwrap_or(appended_bytes);
        self.changed_bytes += before_copying - self.appended_bytes_at_turn;
        self.appended_bytes_at_turn = appended_bytes;
    }

    /// Whether so much has changed that another look may find something to do.
    fn is_look_due(&mut self, state_bytes: u64, segment_bytes: u64) -> bool {
        self.changed_bytes += self.state_bytes.saturating_sub(state_bytes);
        self.state_bytes = state_bytes;
        if self.cycle_end.is_none() && self.changed_bytes < segment_bytes / 4 {
            return false;
        }
        let due = self.changed_bytes >= self.look_at_bytes;
        if due {
            self.look_at_bytes = self.changed_bytes + segment_bytes / 64;
        }
        due
    }

    /// Whether there is reason for a compaction from `first` on.
    fn goes_on(&mut self, measure: &Measure, (first, head): (SegmentId, SegmentId)) -> bool {
        let goes_on = match self.cycle_end {
            None => measure.is_too_much(),
            Some(end) => first < end && !measure.is_enough(measure.sealed_bytes),
        };
        if !goes_on {
            self.cycle_end = None;
        } else if self.cycle_end.is_none() {
            self.cycle_end = Some(head);
            (self.changed_bytes, self.look_at_bytes) = (0, 0);
        }
        goes_on
    }
}

impl<D: Disk> SegmentLog<D> {
    /// The compaction that is under way, or the next one if there is reason for one.
    pub(super) fn next_compaction(&mut self, state_bytes: u64) -> Option<Compaction> {
        let before = match self.compacting.under_way {
            Some(before) => before,
            None => self.begin_compaction(state_bytes)?,
        };
        let appended = self.writing.appended_bytes();
        self.compacting.appended_bytes_before_copying.get_or_insert(appended);
        let in_turn = appended - self.compacting.appended_bytes_at_turn;
        let bytes = if self.supply.is_refused() {
            (in_turn * 2).max(COPIED_BYTES_MIN * 4)
        } else {
            (in_turn * self.pace(state_bytes)).max(COPIED_BYTES_MIN)
        };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Some(Compaction { before, bytes })
    }

    /// How many bytes are copied for each that is appended: as few as will do, so that a turn does not get
    /// much longer, and more when the disk holds more than it should.
    fn pace(&self, state_bytes: u64) -> u64 {
        let live = self.segments.live_bytes() + state_bytes;
        match self.segments.disk_bytes() - self.segments.head().disk_bytes {
            sealed if sealed > live * 5 / 2 => 4,
            sealed if sealed > live * 2 => 2,
            _ => 1,
        }
    }

    fn begin_compaction(&mut self, state_bytes: u64) -> Option<SegmentId> {
        let head = self.segments.head_id();
        if self.segments.sealed() == 0
            || !self.compacting.is_look_due(state_bytes, self.options.segment_bytes as u64)
        {
            return None;
        }
        let candidates = self.candidates();
        let first = candidates.first()?.id;
        let before = if first < self.compacting.forced_before {
            self.compacting.forced_before.min(head)
        } else {
            let measure = self.measure(&candidates, state_bytes);
            if !self.compacting.goes_on(&measure, (first, head)) {
                return None;
            }
            let last = measure.choose(&candidates).checked_sub(1)?;
            SegmentId(candidates[last].id.0 + 1)
        };
        self.compacting.under_way = Some(before);
        for candidate in candidates.iter().filter(|candidate| candidate.id < before) {
            if candidate.live_bytes > 0 {
                self.disk.expect_reads(candidate.id);
            }
        }
        Some(before)
    }

    /// The segments that a compaction could write anew, lowest first.
    fn candidates(&self) -> Vec<Candidate> {
        let head = self.segments.head_id();
        let told_before = self.compacting.told_before;
        let all = self.segments.iter().filter(|(id, slot)| {
            // Those that only wait to be removed are as good as gone.
            *id < head && (*id >= told_before || slot.references > 0)
        });
        all.map(|(id, slot)| Candidate { id, disk_bytes: slot.disk_bytes, live_bytes: slot.live_bytes })
            .collect()
    }

    fn measure(&self, candidates: &[Candidate], state_bytes: u64) -> Measure {
        Measure {
            full: self.supply.is_refused(),
            sealed_bytes: candidates.iter().map(|candidate| candidate.disk_bytes).sum(),
            live_bytes: self.segments.live_bytes() + state_bytes,
            state_bytes,
            segment_bytes: self.options.segment_bytes as u64,
            room_bytes: self.room_bytes() / 4 * 3,
        }
    }

    /// All that a compaction had to write anew is written.
    pub(super) fn compaction_ends(&mut self) {
        let before = self.compacting.under_way.take().expect("a compaction is under way");
        self.compacting.told_before = self.compacting.told_before.max(before);
        self.compacting.told_records = crate::Log::appended(self);
        self.commits.want(self.compacting.told_records);
        // The next one is decided at once.
        self.compacting.look_at_bytes = 0;
    }

    /// Removes the lowest segments, if they were written anew, that is synced, and nothing refers to them.
    ///
    /// They go in order: what a record takes back never lies before it.
    pub(super) fn remove_dead(&mut self) {
        while let Some((id, slot)) = self.segments.first()
            && id < self.compacting.told_before
            && slot.references == 0
            && self.commits.synced_records() >= self.compacting.told_records
            && self.has_batch_behind_first()
        {
            if let Some((id, segment)) = self.segments.pop_first() {
                self.give_away(id, segment);
            }
        }
    }

    /// Whether a later start finds in another segment than the first how far the numbers of records have come.
    fn has_batch_behind_first(&self) -> bool {
        self.segments.sealed() > 1 || self.segments.head().sealed_to > SEGMENT_HEADER_BYTES
    }
}
