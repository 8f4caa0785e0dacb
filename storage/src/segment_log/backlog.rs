//! Records that the disk has no room for yet.

use std::collections::VecDeque;

use crate::Record;
use crate::format::{encode, encoded_len, record_bytes};

/// Encoded records in order, and where units end between them.
///
/// Not bounded: what an engine goes on to tell while it refuses publications is bounded by what it holds.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    /// How much of them was taken already.
    taken: usize,
    records: u64,
    /// Places in `bytes`.
    unit_ends: VecDeque<usize>,
}

impl Backlog {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    #[inline]
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn push(&mut self, record: &Record<'_>) {
        let at = self.bytes.len();
        self.bytes.resize(at + encoded_len(record), 0);
        encode(record, &mut self.bytes[at..]);
        self.records += 1;
    }

    pub(super) fn end_unit(&mut self) {
        if self.unit_ends.back() != Some(&self.bytes.len()) {
            self.unit_ends.push_back(self.bytes.len());
        }
    }

    /// The first record.
    pub(super) fn front(&self) -> Option<&[u8]> {
        let rest = &self.bytes[self.taken..];
        (!rest.is_empty()).then(|| &rest[..record_bytes(rest)])
    }

    /// Takes the first record, of so many bytes, away. Answers whether its unit ends with it.
    pub(super) fn pop(&mut self, bytes: usize) -> bool {
        self.taken += bytes;
        self.records -= 1;
        let ends = self.unit_ends.front() == Some(&self.taken);
        if ends {
            self.unit_ends.pop_front();
        }
        if self.records == 0 {
            debug_assert!(self.taken == self.bytes.len() && self.unit_ends.is_empty());
            *self = Self::default();
        }
        ends
    }

    pub(super) fn held_bytes(&self) -> u64 {
        (self.bytes.capacity() + self.unit_ends.capacity() * size_of::<usize>()) as u64
    }
}
