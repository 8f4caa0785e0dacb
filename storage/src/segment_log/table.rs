//! The segments that a log has.

use std::collections::VecDeque;

use crate::format::record_bytes;
use crate::found::FoundSegment;
use crate::{LogOffset, Segment, SegmentId};

/// A segment, and what the log knows of it.
#[derive(Debug)]
pub(super) struct Slot<S> {
    pub(super) segment: S,
    /// Its size on disk.
    pub(super) disk_bytes: u64,
    /// References to messages in it.
    pub(super) references: u64,
    /// Bytes of messages that are referred to.
    pub(super) live_bytes: u64,
    /// Where its last sealed batch ends.
    pub(super) sealed_to: usize,
    /// How many records there are up to the end of the last unit that ends in a sealed batch.
    pub(super) sealed_records: u64,
    /// The same two, as of the last sync.
    pub(super) synced_to: usize,
    pub(super) synced_records: u64,
}

impl<S: Segment> Slot<S> {
    pub(super) fn new(segment: S, used: usize, records: u64) -> Self {
        Self {
            disk_bytes: segment.len() as u64,
            segment,
            references: 0,
            live_bytes: 0,
            sealed_to: used,
            sealed_records: records,
            synced_to: 0,
            synced_records: 0,
        }
    }
}

/// The segments by number, with holes where numbers were not used. The last one is written to.
#[derive(Debug)]
pub(super) struct Table<S> {
    base: u32,
    slots: VecDeque<Option<Slot<S>>>,
    disk_bytes: u64,
    live_bytes: u64,
}

impl<S: Segment> Table<S> {
    pub(super) fn new() -> Self {
        Self { base: 0, slots: VecDeque::new(), disk_bytes: 0, live_bytes: 0 }
    }

    /// Takes over segments that were read.
    pub(super) fn fill(&mut self, found: Vec<FoundSegment<S>>, records: u64) {
        let last = found.len();
        for (index, found) in found.into_iter().enumerate() {
            // Which records end where is not known, nor needed: acks wait for later ones.
            let records = if index + 1 == last { records } else { 0 };
            self.push(found.id, Slot::new(found.segment, found.used, records));
        }
    }

    /// Adds a segment with a higher number than all others, to write to.
    pub(super) fn push(&mut self, id: SegmentId, slot: Slot<S>) {
        if self.slots.is_empty() {
            self.base = id.0;
        }
        let index = id.0.checked_sub(self.base).map(|index| index as usize);
        let index = index.filter(|&index| index >= self.slots.len()).expect("segment numbers only grow");
        self.slots.resize_with(index, || None);
        self.disk_bytes += slot.disk_bytes;
        self.slots.push_back(Some(slot));
    }

    /// The number of the segment that is written to.
    #[inline]
    pub(super) fn head_id(&self) -> SegmentId {
        SegmentId(self.base + self.slots.len() as u32 - 1)
    }

    #[inline]
    pub(super) fn head(&self) -> &Slot<S> {
        self.slots.back().and_then(Option::as_ref).expect("there is always a segment to write to")
    }

    #[inline]
    pub(super) fn head_mut(&mut self) -> &mut Slot<S> {
        self.slots.back_mut().and_then(Option::as_mut).expect("there is always a segment to write to")
    }

    #[inline]
    pub(super) fn get(&self, id: SegmentId) -> Option<&Slot<S>> {
        self.slots.get(id.0.wrapping_sub(self.base) as usize)?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: SegmentId) -> Option<&mut Slot<S>> {
        self.slots.get_mut(id.0.wrapping_sub(self.base) as usize)?.as_mut()
    }

    /// The bytes from a message's place on, to the end of its segment.
    #[inline]
    pub(super) fn from(&self, at: LogOffset) -> &[u8] {
        match self.get(at.segment()) {
            Some(slot) => &slot.segment[at.place()..],
            None => no_such_message(at),
        }
    }

    /// The segment that is written to, and another one to read from.
    pub(super) fn head_and(&mut self, id: SegmentId) -> Option<(&mut Slot<S>, &Slot<S>)> {
        let index = id.0.wrapping_sub(self.base) as usize;
        if index >= self.slots.len() {
            return None;
        }
        let mut range = self.slots.range_mut(index..);
        let other = range.next()?.as_ref()?;
        let head = range.next_back()?.as_mut()?;
        Some((head, other))
    }

    /// A message of so many bytes was written to the last segment, and is referred to.
    #[inline]
    pub(super) fn refer_in_head(&mut self, bytes: usize) {
        let head = self.head_mut();
        head.references += 1;
        head.live_bytes += bytes as u64;
        self.live_bytes += bytes as u64;
    }

    /// A message that nothing referred to is referred to.
    pub(super) fn refer_first(&mut self, at: LogOffset) {
        let slot = self.get_mut(at.segment()).unwrap_or_else(|| no_such_message(at));
        let bytes = record_bytes(&slot.segment[at.place()..]) as u64;
        slot.references += 1;
        slot.live_bytes += bytes;
        self.live_bytes += bytes;
    }

    /// There is one more reference to it.
    #[inline]
    pub(super) fn refer_again(&mut self, at: LogOffset) {
        self.get_mut(at.segment()).unwrap_or_else(|| no_such_message(at)).references += 1;
    }

    /// One of several references to it is gone.
    pub(super) fn drop_reference(&mut self, at: LogOffset) {
        let slot = self.get_mut(at.segment()).unwrap_or_else(|| no_such_message(at));
        slot.references -= 1;
    }

    /// The last reference to it is gone. Answers its size.
    #[inline]
    pub(super) fn drop_last_reference(&mut self, at: LogOffset) -> usize {
        let slot = self.get_mut(at.segment()).unwrap_or_else(|| no_such_message(at));
        let bytes = record_bytes(&slot.segment[at.place()..]);
        assert!(slot.references > 0, "{at:?} is released once too often");
        slot.references -= 1;
        slot.live_bytes -= bytes as u64;
        self.live_bytes -= bytes as u64;
        bytes
    }

    /// All segments, lowest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SegmentId, &Slot<S>)> {
        let numbered = self.slots.iter().zip(self.base..);
        numbered.filter_map(|(slot, id)| slot.as_ref().map(|slot| (SegmentId(id), slot)))
    }

    /// The segments from one on, which may be gone.
    pub(super) fn iter_from(&mut self, id: SegmentId) -> impl Iterator<Item = (SegmentId, &mut Slot<S>)> {
        let skipped = id.0.saturating_sub(self.base);
        let numbered = self.slots.range_mut(skipped as usize..).zip(self.base + skipped..);
        numbered.filter_map(|(slot, id)| slot.as_mut().map(|slot| (SegmentId(id), slot)))
    }

    /// The lowest segment.
    pub(super) fn first(&self) -> Option<(SegmentId, &Slot<S>)> {
        self.slots.front().and_then(Option::as_ref).map(|slot| (SegmentId(self.base), slot))
    }

    /// Takes out the lowest segment, which is not the one that is written to.
    pub(super) fn pop_first(&mut self) -> Option<(SegmentId, S)> {
        assert!(self.slots.len() > 1, "the segment that is written to stays");
        let id = SegmentId(self.base);
        let slot = self.slots.pop_front()??;
        self.base += 1;
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.base += 1;
        }
        self.disk_bytes -= slot.disk_bytes;
        Some((id, slot.segment))
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub(super) fn held_bytes(&self) -> u64 {
        (self.slots.capacity() * size_of::<Option<Slot<S>>>()) as u64
    }

    /// How many segments are not written to any more.
    pub(super) fn sealed(&self) -> usize {
        self.slots.len() - 1
    }
}

#[cold]
fn no_such_message(at: LogOffset) -> ! {
    panic!("{at:?} is in no segment of this log")
}
