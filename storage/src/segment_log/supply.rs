//! Where the next segment comes from, and what happens if there is none.

use std::io;

use crate::{Disk, SegmentId};

use super::SegmentLog;

/// After so many turns without room, the disk is asked again.
const RETRY_TURNS: u32 = 64;

#[derive(Debug)]
enum Spare<S> {
    None,
    Making(SegmentId),
    Ready(SegmentId, S),
}

/// The segment that comes after the one that is written to.
#[derive(Debug)]
pub(super) struct Supply<S> {
    spare: Spare<S>,
    next: SegmentId,
    /// The last answer was that there is no room.
    refused: bool,
    /// Turns until the disk is asked again.
    retry_in: u32,
    /// How often a turn had to wait for a segment.
    waits: u64,
}

impl<S> Supply<S> {
    pub(super) fn new(next: SegmentId) -> Self {
        Self { spare: Spare::None, next, refused: false, retry_in: 0, waits: 0 }
    }

    #[inline]
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Something was removed: there may be room.
    pub(super) fn retry_now(&mut self) {
        self.retry_in = 0;
    }

    fn take_number(&mut self) -> SegmentId {
        let id = self.next;
        self.next = SegmentId(id.0 + 1);
        id
    }
}

impl<D: Disk> SegmentLog<D> {
    /// Bytes of all segments, the spare one included.
    pub(super) fn disk_bytes(&self) -> u64 {
        let spare = match &self.supply.spare {
            Spare::None => 0,
            Spare::Making(_) | Spare::Ready(..) => self.options.segment_bytes as u64,
        };
        self.segments.disk_bytes() + spare
    }

    /// Whether publishers have to be held back, so that what is under way has room.
    #[inline]
    pub(super) fn lacks_room(&self) -> bool {
        self.supply.refused && (!self.backlog.is_empty() || self.is_half_used())
    }

    #[inline]
    fn is_half_used(&self) -> bool {
        self.writing.at() > self.segments.head().segment.len() / 2
    }

    /// Whether the next segment is there already.
    pub(super) fn has_spare(&self) -> bool {
        matches!(self.supply.spare, Spare::Ready(..))
    }

    /// How many bytes can still be written for sure.
    pub(super) fn room_bytes(&self) -> usize {
        let spare = if self.has_spare() { self.options.segment_bytes } else { 0 };
        let unused = self.segments.head().segment.len() - self.writing.at();
        if self.backlog.is_empty() { unused + spare } else { 0 }
    }

    /// Takes the segment that was made, and begins to make the next one in time.
    pub(super) fn tend_supply(&mut self) {
        match self.supply.spare {
            Spare::Ready(..) => return,
            Spare::Making(id) => {
                if let Some(outcome) = self.disk.prepared() {
                    self.spare_made(id, outcome);
                }
                return;
            }
            Spare::None => {}
        }
        if self.supply.retry_in > 0 {
            self.supply.retry_in -= 1;
            return;
        }
        // A log of several segments is one that gets used, and the earlier it knows that the disk is full
        // the more room is left to go on with.
        if self.segments.sealed() == 0 && !self.is_half_used() {
            return;
        }
        if self.is_at_limit() {
            return self.refuse(None);
        }
        let id = self.supply.take_number();
        self.disk.prepare(id, self.options.segment_bytes);
        self.supply.spare = Spare::Making(id);
    }

    fn is_at_limit(&self) -> bool {
        self.disk_bytes() + self.options.segment_bytes as u64 > self.options.bytes_max
    }

    fn spare_made(&mut self, id: SegmentId, outcome: io::Result<D::Segment>) {
        match outcome {
            Ok(segment) => {
                if self.supply.refused {
                    tracing::info!("the log has room again");
                }
                self.supply.refused = false;
                self.supply.spare = Spare::Ready(id, segment);
            }
            Err(error) => {
                self.supply.spare = Spare::None;
                self.refuse(Some(error));
            }
        }
    }

    /// There is no room for another segment.
    fn refuse(&mut self, error: Option<io::Error>) {
        if !self.supply.refused {
            match error {
                Some(error) => tracing::warn!("the log gets no more space: {error}"),
                None => tracing::warn!("the log has reached its limit of {} bytes", self.options.bytes_max),
            }
        }
        self.supply.refused = true;
        self.supply.retry_in = RETRY_TURNS;
    }

    /// The next segment to write to: the spare one, waited for if it is not ready; or one that is made now.
    pub(super) fn take_spare(&mut self) -> Option<(SegmentId, D::Segment)> {
        match std::mem::replace(&mut self.supply.spare, Spare::None) {
            Spare::Ready(id, segment) => return Some((id, segment)),
            Spare::Making(id) => {
                self.supply.waits += 1;
                let outcome = self.disk.await_prepared();
                self.spare_made(id, outcome);
            }
            Spare::None if self.supply.refused => return None,
            Spare::None if self.is_at_limit() => self.refuse(None),
            Spare::None => {
                self.supply.waits += 1;
                let id = self.supply.take_number();
                let outcome = self.disk.create(id, self.options.segment_bytes);
                self.spare_made(id, outcome);
            }
        }
        match std::mem::replace(&mut self.supply.spare, Spare::None) {
            Spare::Ready(id, segment) => Some((id, segment)),
            Spare::None | Spare::Making(_) => None,
        }
    }
}
