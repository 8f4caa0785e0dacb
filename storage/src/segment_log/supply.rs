//! Where the next segment comes from, and what happens if there is none.

use std::collections::VecDeque;
use std::io;

use crate::{Disk, SegmentId};

use super::SegmentLog;

/// After so many turns without room, the disk is asked again.
const RETRY_TURNS: u32 = 64;

/// A log in which so many segments' worth lives keeps a second spare one.
///
/// With that, compaction can copy a segment that lives as a whole even when there is no more room, and get
/// at what is dead behind it. A smaller log would hold too much disk for what lives in it.
const RESERVE_FROM_SEGMENTS: u64 = 4;
/// And gives it back when less lives than this.
const RESERVE_TO_SEGMENTS: u64 = 3;

/// A turn that appends less is quiet.
const QUIET_BYTES: u64 = 16 * 1024;
/// After so many quiet turns, a segment is not kept to be used again.
const QUIET_TURNS: u32 = 64;

/// The segments that come after the one that is written to.
#[derive(Debug)]
pub(super) struct Supply<S> {
    ready: VecDeque<(SegmentId, S)>,
    making: Option<SegmentId>,
    next: SegmentId,
    /// There are fewer spares than there should be, since there is no room.
    refused: bool,
    /// So many bytes there were when there was last no room for more.
    bytes_when_refused: u64,
    /// Turns until the disk is asked again.
    retry_in: u32,
    /// How often a turn had to wait for a segment.
    waits: u64,
    /// How much had been appended by the last turn, and for how many turns hardly anything was.
    appended_bytes: u64,
    quiet_turns: u32,
}

impl<S> Supply<S> {
    pub(super) fn new(next: SegmentId) -> Self {
        Self {
            ready: VecDeque::new(),
            making: None,
            next,
            refused: false,
            bytes_when_refused: u64::MAX,
            retry_in: 0,
            waits: 0,
            appended_bytes: 0,
            quiet_turns: 0,
        }
    }

    fn spares(&self) -> usize {
        self.ready.len() + usize::from(self.making.is_some())
    }

    #[inline]
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    fn take_number(&mut self) -> SegmentId {
        let id = self.next;
        self.next = SegmentId(id.0 + 1);
        id
    }
}

impl<D: Disk> SegmentLog<D> {
    /// Bytes of all segments, spare ones included.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.segments.disk_bytes() + (self.supply.spares() * self.options.segment_bytes) as u64
    }

    /// Whether publishers have to be held back, so that what is under way has room.
    ///
    /// It is so as soon as no further segment can be made, which is found out when the one that is written
    /// to is new. What is left of it is for acknowledgements and for compaction, which makes room.
    #[inline]
    pub(super) fn lacks_room(&self) -> bool {
        self.supply.refused
    }

    #[inline]
    fn is_half_used(&self) -> bool {
        self.writing.at() > self.segments.head().segment.len() / 2
    }

    /// Whether the next segment is there already.
    pub(super) fn has_spare(&self) -> bool {
        !self.supply.ready.is_empty()
    }

    /// How many bytes can still be written, as far as is known.
    pub(super) fn room_bytes(&self) -> u64 {
        if !self.backlog.is_empty() {
            return 0;
        }
        let unused = self.segments.head().segment.len() - self.writing.at();
        let ready = self.supply.ready.len() * self.options.segment_bytes;
        let bytes_max = self.options.bytes_max.min(self.supply.bytes_when_refused);
        bytes_max.saturating_sub(self.disk_bytes()).saturating_add((unused + ready) as u64)
    }

    /// How many spare segments there should be.
    fn spares_wanted(&self) -> usize {
        let live = self.segments.live_bytes() / self.options.segment_bytes as u64;
        if live >= RESERVE_FROM_SEGMENTS || (live >= RESERVE_TO_SEGMENTS && self.supply.spares() == 2) {
            return 2;
        }
        // A log of several segments is one that gets used, and the earlier it knows that the disk is full
        // the more room is left to go on with.
        usize::from(self.segments.sealed() > 0 || self.is_half_used())
    }

    /// Does away with a segment that is not needed any more. While much is written it becomes the next one:
    /// a file that has its blocks and pages costs a fraction of one that has to get them.
    pub(super) fn give_away(&mut self, id: SegmentId, segment: D::Segment) {
        self.supply.retry_in = 0;
        let again = self.supply.making.is_none()
            && self.supply.spares() <= self.spares_wanted()
            && self.supply.quiet_turns < QUIET_TURNS
            && !self.supply.refused
            && segment.len() == self.options.segment_bytes;
        if again {
            let next = self.supply.take_number();
            self.disk.recycle((id, segment), next);
            self.supply.making = Some(next);
        } else {
            self.disk.remove(id, segment);
        }
    }

    fn note_quiet_turns(&mut self) {
        let appended = self.writing.appended_bytes();
        let quiet = appended - self.supply.appended_bytes < QUIET_BYTES;
        self.supply.quiet_turns = if quiet { self.supply.quiet_turns.saturating_add(1) } else { 0 };
        self.supply.appended_bytes = appended;
    }

    /// Whether a segment is being made, or there is one more than there has to be when little is written.
    pub(super) fn is_supply_unsettled(&self) -> bool {
        self.supply.making.is_some() || self.supply.ready.len() > self.spares_wanted().max(1)
    }

    /// Takes the segment that was made, and begins to make the next one in time.
    pub(super) fn tend_supply(&mut self) {
        self.note_quiet_turns();
        if let Some(id) = self.supply.making {
            if let Some(outcome) = self.disk.prepared() {
                self.spare_made(id, outcome);
            }
            return;
        }
        let wanted = self.spares_wanted();
        if self.supply.refused && self.supply.ready.len() >= wanted {
            tracing::info!("the log has room again");
            self.supply.refused = false;
        }
        if self.supply.ready.len() >= wanted {
            let kept = if self.supply.quiet_turns < QUIET_TURNS { wanted + 1 } else { wanted };
            if self.supply.ready.len() > kept.max(1)
                && let Some((id, segment)) = self.supply.ready.pop_back()
            {
                self.disk.remove(id, segment);
            }
            return;
        }
        if self.supply.retry_in > 0 {
            self.supply.retry_in -= 1;
            return;
        }
        if self.is_beyond(self.options.bytes_max) {
            return self.refuse(None);
        }
        let id = self.supply.take_number();
        self.disk.prepare(id, self.options.segment_bytes);
        self.supply.making = Some(id);
    }

    /// Whether another segment would be more than so many bytes.
    fn is_beyond(&self, bytes_max: u64) -> bool {
        self.disk_bytes() + self.options.segment_bytes as u64 > bytes_max
    }

    fn spare_made(&mut self, id: SegmentId, outcome: io::Result<D::Segment>) {
        self.supply.making = None;
        match outcome {
            Ok(segment) => {
                self.supply.ready.push_back((id, segment));
                if self.disk_bytes() > self.supply.bytes_when_refused {
                    self.supply.bytes_when_refused = u64::MAX;
                }
                self.supply.retry_in = 0;
            }
            Err(error) => self.refuse(Some(error)),
        }
    }

    /// There is no room for another segment.
    fn refuse(&mut self, error: Option<io::Error>) {
        self.supply.bytes_when_refused = self.disk_bytes();
        self.supply.retry_in = RETRY_TURNS;
        if self.supply.refused || self.supply.ready.len() >= self.spares_wanted() {
            return;
        }
        self.supply.refused = true;
        match error {
            Some(error) => tracing::warn!("the log gets no more space: {error}"),
            None => tracing::warn!("the log has reached its limit of {} bytes", self.options.bytes_max),
        }
    }

    /// The next segment to write to: a spare one, waited for if it is not ready; or one that is made now.
    pub(super) fn take_spare(&mut self) -> Option<(SegmentId, D::Segment)> {
        if self.supply.ready.is_empty() {
            if let Some(id) = self.supply.making {
                self.supply.waits += 1;
                let outcome = self.disk.await_prepared();
                self.spare_made(id, outcome);
            } else if self.supply.refused && self.is_beyond(self.supply.bytes_when_refused) {
                return None;
            } else if self.is_beyond(self.options.bytes_max) {
                self.refuse(None);
            } else {
                self.supply.waits += 1;
                let id = self.supply.take_number();
                let outcome = self.disk.create(id, self.options.segment_bytes);
                self.spare_made(id, outcome);
            }
        }
        self.supply.ready.pop_front()
    }
}
