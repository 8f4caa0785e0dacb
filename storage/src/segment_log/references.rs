//! Who refers to which message.

use hashbrown::HashMap;

use crate::{Disk, LogOffset, SegmentId};

use super::SegmentLog;

/// References beyond those that a segment counts.
///
/// A message with one reference costs nothing here: that it has one follows from its offset being held.
#[derive(Debug, Default)]
pub(super) struct References {
    /// How many references a message has beside its first.
    more: HashMap<LogOffset, u32>,
    /// The copies of messages that were copied while others still referred to the original. An entry holds
    /// a reference to the copy.
    copies: HashMap<LogOffset, LogOffset>,
    /// Which messages were adopted, by segment and place, while recovery counts them.
    adopted: HashMap<SegmentId, Box<[u64]>>,
}

impl References {
    /// Counts a reference to a message that was found. Answers whether it is the first.
    pub(super) fn adopt(&mut self, at: LogOffset, segment_bytes: usize) -> bool {
        let words = self.adopted.entry(at.segment()).or_default();
        let bit = at.place() / 8;
        let index = bit / 64;
        if words.len() <= index {
            let mut more = std::mem::take(words).into_vec();
            more.resize((segment_bytes / 512).max(index + 1), 0);
            *words = more.into_boxed_slice();
        }
        let first = words[index] & 1 << (bit % 64) == 0;
        words[index] |= 1 << (bit % 64);
        if !first {
            self.add(at);
        }
        first
    }

    /// Recovery has counted all.
    #[inline]
    pub(super) fn adopted(&mut self) {
        if !self.adopted.is_empty() {
            self.adopted = HashMap::new();
        }
    }

    #[inline]
    pub(super) fn add(&mut self, at: LogOffset) {
        *self.more.entry(at).or_insert(0) += 1;
    }

    /// Takes one reference of several away, if there are several.
    #[inline]
    fn subtract(&mut self, at: LogOffset) -> bool {
        if self.more.is_empty() {
            return false;
        }
        let Some(count) = self.more.get_mut(&at) else { return false };
        *count -= 1;
        if *count == 0 {
            self.more.remove(&at);
        }
        true
    }

    fn are_several(&self, at: LogOffset) -> bool {
        self.more.contains_key(&at)
    }

    pub(super) fn held_bytes(&self) -> u64 {
        // A byte of control for each slot of a table.
        let more = self.more.capacity() * (size_of::<(LogOffset, u32)>() + 1);
        let copies = self.copies.capacity() * (size_of::<(LogOffset, LogOffset)>() + 1);
        (more + copies) as u64
    }
}

impl<D: Disk> SegmentLog<D> {
    /// Gives a reference back, and with the last one to a message that to its copy.
    #[inline]
    pub(super) fn give_back(&mut self, mut at: LogOffset) {
        loop {
            if self.references.subtract(at) {
                return self.segments.drop_reference(at);
            }
            let bytes = self.segments.drop_last_reference(at);
            self.compacting.released(bytes);
            if self.references.copies.is_empty() {
                return;
            }
            match self.references.copies.remove(&at) {
                Some(copy) => at = copy,
                None => return,
            }
        }
    }

    /// Copies a message to the end of the log and moves a reference there, or only that if it was copied
    /// before. Without room nothing moves.
    pub(super) fn copy_forward(&mut self, mut at: LogOffset) -> LogOffset {
        let before = self.compacting.before();
        // A copy can be old enough to be copied itself.
        while at.segment() < before {
            let several = self.references.are_several(at);
            if let Some(&copy) = self.references.copies.get(&at) {
                if several {
                    self.segments.refer_again(copy);
                    self.references.add(copy);
                    self.references.subtract(at);
                    self.segments.drop_reference(at);
                } else {
                    // The entry's own reference moves on with the last one.
                    self.references.copies.remove(&at);
                    let bytes = self.segments.drop_last_reference(at);
                    self.compacting.released(bytes);
                }
                at = copy;
                continue;
            }
            let Some(copy) = self.copy(at) else { break };
            if several {
                self.segments.refer_again(copy);
                self.references.add(copy);
                self.references.copies.insert(at, copy);
                self.references.subtract(at);
                self.segments.drop_reference(at);
            } else {
                let bytes = self.segments.drop_last_reference(at);
                self.compacting.released(bytes);
            }
            at = copy;
        }
        at
    }

    fn copy(&mut self, at: LogOffset) -> Option<LogOffset> {
        let bytes = crate::format::record_bytes(self.segments.from(at));
        if self.room_bytes() < (bytes + self.options.segment_bytes / 4) as u64 {
            // What is left is for acknowledgements, and for a smaller compaction.
            return None;
        }
        let place = self.place(bytes)?;
        let to = LogOffset::at(self.segments.head_id(), place);
        let (head, source) = self.segments.head_and(at.segment())?;
        head.segment[place..place + bytes].copy_from_slice(&source.segment[at.place()..at.place() + bytes]);
        self.segments.refer_in_head(bytes);
        self.compacting.copied(bytes);
        Some(to)
    }
}
