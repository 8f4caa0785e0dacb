//! Reads the bytes of one segment: whole batches, and what lies between them that is none.

use std::ops::RangeInclusive;

use crate::SegmentId;
use crate::format::{BATCH_HEAD_BYTES, BatchHead, SEGMENT_HEADER_BYTES, segment_header, segment_of};

/// Bytes that may be checksummed in search of the next batch behind damage, as a multiple of the segment:
/// bytes that look like the heads of long batches must not make a start take minutes.
const SEARCH_EFFORT: usize = 32;

/// What a segment has at a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A whole batch.
    Batch(Batch<'a>),
    /// Bytes that are none.
    Bad(BadBytes),
}

/// A batch whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch<'a> {
    /// Where its head lies.
    pub(crate) place: usize,
    /// Its head.
    pub(crate) head: BatchHead,
    /// Its records.
    pub(crate) body: &'a [u8],
}

impl Batch<'_> {
    /// Where the first record lies.
    pub(crate) fn records_at(&self) -> usize {
        self.place + BATCH_HEAD_BYTES + self.head.prefix_bytes()
    }

    /// All of its bytes.
    pub(crate) fn bytes(&self) -> usize {
        BATCH_HEAD_BYTES + self.head.length
    }
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadKind {
    /// The segment's header.
    Header,
    /// A batch whose head was never written, as a process leaves it that dies in a turn.
    Unsealed,
    /// A batch that was written, or what lies where one should begin.
    Batch,
}

/// Bytes of a segment that are no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadBytes {
    /// Where they begin.
    pub(crate) place: usize,
    /// How many.
    pub(crate) bytes: usize,
    /// What they should have been.
    pub(crate) kind: BadKind,
}

/// A walk over one segment.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    id: SegmentId,
    bytes: &'a [u8],
    place: usize,
    /// Behind the last byte that is not zero.
    end: usize,
    /// Whether there was a batch, so that all that is missing now was in this segment.
    has_begun: bool,
    effort: usize,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(id: SegmentId, bytes: &'a [u8]) -> Self {
        let end = end_of_content(bytes);
        Self { id, bytes, place: 0, end, has_begun: false, effort: bytes.len() * SEARCH_EFFORT }
    }

    /// The same, from behind a batch.
    pub(crate) fn behind(self, batch: &Batch<'_>) -> Self {
        Self { place: batch.place + batch.bytes(), ..self }
    }

    /// What comes next, until only zeroes do. `expected` are the numbers that the next record can have if
    /// nothing is missing, if known.
    pub(crate) fn next(&mut self, expected: Option<RangeInclusive<u64>>) -> Option<Piece<'a>> {
        if self.place == 0 {
            self.place = SEGMENT_HEADER_BYTES.min(self.bytes.len());
            let header = &self.bytes[..self.place];
            if *header != segment_header(self.id) && self.end > 0 {
                if self.is_unbegun() {
                    self.end = 0;
                    return None;
                }
                return Some(Piece::Bad(BadBytes { place: 0, bytes: self.place, kind: BadKind::Header }));
            }
        }
        if self.place >= self.end {
            return None;
        }
        let place = self.place;
        if let Some((head, body)) = BatchHead::decode(self.id, &self.bytes[place..]) {
            self.place += BATCH_HEAD_BYTES + head.length;
            self.has_begun = true;
            return Some(Piece::Batch(Batch { place, head, body }));
        }
        self.place = self.next_batch(expected.as_ref()).unwrap_or(self.end);
        let head = &self.bytes[place..self.bytes.len().min(place + BATCH_HEAD_BYTES)];
        let kind = if head.iter().all(|&byte| byte == 0) { BadKind::Unsealed } else { BadKind::Batch };
        Some(Piece::Bad(BadBytes { place, bytes: self.place - place, kind }))
    }

    /// Whether this was made of another segment and nothing was written to it before the power was lost: its
    /// header and its first batch are the other's.
    fn is_unbegun(&self) -> bool {
        let other = segment_of(&self.bytes[..self.place]).filter(|other| *other != self.id);
        let first = &self.bytes[self.place..];
        other.is_some_and(|other| {
            BatchHead::decode(self.id, first).is_none() && BatchHead::decode(other, first).is_some()
        })
    }

    /// Behind the last batch, or the last bad byte; after the walk.
    pub(crate) fn used(&self) -> usize {
        self.place
    }

    /// The next whole batch behind the bad bytes at `place`.
    fn next_batch(&mut self, expected: Option<&RangeInclusive<u64>>) -> Option<usize> {
        // What the head says is tried first: the records may hold bytes that look like a batch, since a
        // client chooses them.
        let said = BatchHead::peek(&self.bytes[self.place..]).map(|head| BATCH_HEAD_BYTES + head.length);
        let behind = said.map(|bytes| self.place + bytes).filter(|&behind| self.is_batch(behind, expected));
        behind.or_else(|| {
            let places = (self.place + 8..self.end).step_by(8);
            places.into_iter().find(|&at| self.is_batch(at, expected))
        })
    }

    /// Whether there is a batch that can follow the bad bytes at `self.place`: between them and it there is
    /// no room for more records than eight bytes allow each.
    fn is_batch(&mut self, at: usize, expected: Option<&RangeInclusive<u64>>) -> bool {
        let Some(head) = self.bytes.get(at..).and_then(BatchHead::peek) else { return false };
        let skipped = if self.has_begun { (at - self.place) as u64 / 8 } else { u64::MAX };
        let possible = expected.is_none_or(|numbers| {
            (*numbers.start()..=numbers.end().saturating_add(skipped)).contains(&head.first)
        });
        if !possible || self.effort < head.length {
            return false;
        }
        self.effort -= head.length;
        BatchHead::decode(self.id, &self.bytes[at..]).is_some()
    }
}

/// Where only zeroes follow, as a multiple of eight where the bytes allow.
fn end_of_content(bytes: &[u8]) -> usize {
    const STEP: usize = 4096;
    let mut end = bytes.len();
    while end > 0 {
        let start = end.saturating_sub(STEP);
        // Summed up without a branch, which the compiler makes wide steps of.
        if bytes[start..end].iter().fold(0, |sum, &byte| sum | byte) != 0 {
            break;
        }
        end = start;
    }
    let content = bytes[..end].iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    content.next_multiple_of(8).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SegmentId = SegmentId(9);

    fn head(length: usize, first: u64) -> BatchHead {
        BatchHead { length, continues: false, goes_on: false, first, synced: None }
    }

    /// A segment with a batch for each body, numbered from 100 with a record for every 16 bytes.
    fn segment(bodies: &[&[u8]]) -> Vec<u8> {
        let mut bytes = segment_header(ID).to_vec();
        let mut first = 100;
        for body in bodies {
            let head = head(body.len(), first);
            bytes.extend_from_slice(&head.encode(ID, body));
            bytes.extend_from_slice(body);
            first += body.len() as u64 / 16;
        }
        bytes.resize(bytes.len() + 4096, 0);
        bytes
    }

    /// What a scan says: `=place` for a batch, `!place+bytes` for bad bytes.
    fn scan(bytes: &[u8]) -> (String, usize) {
        let (mut scan, mut expected, mut said) = (Scan::new(ID, bytes), None, Vec::new());
        while let Some(piece) = scan.next(expected.clone()) {
            match piece {
                Piece::Batch(batch) => {
                    let next = batch.head.first + batch.body.len() as u64 / 16;
                    expected = Some(next..=next);
                    said.push(format!("={}", batch.place));
                }
                Piece::Bad(bad) => said.push(format!("!{}+{} {:?}", bad.place, bad.bytes, bad.kind)),
            }
        }
        (said.join(" "), scan.used())
    }

    #[test]
    fn batches_are_found_and_so_is_what_is_none() {
        let bodies: [&[u8]; 3] = [&[1; 32], &[2; 64], &[3; 16]];
        let whole = segment(&bodies);
        assert_eq!(scan(&whole), ("=64 =112 =192".to_owned(), 224));
        assert_eq!(scan(&segment(&[])), (String::new(), 64));
        assert_eq!(scan(&[0; 8192]), (String::new(), 64), "a segment that was never begun");
        assert_eq!(scan(&[]), (String::new(), 0));
        let changed = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            scan(&bytes).0
        };
        assert_eq!(changed(3), "!0+64 Header =64 =112 =192");
        assert_eq!(changed(60), "!0+64 Header =64 =112 =192");
        for at in [64, 68, 70, 72, 79, 80, 111] {
            assert_eq!(changed(at), "!64+48 Batch =112 =192", "byte {at}");
        }
        for at in [112, 118, 150] {
            assert_eq!(changed(at), "=64 !112+80 Batch =192", "byte {at}");
        }
        for at in [192, 200, 210] {
            assert_eq!(changed(at), "=64 =112 !192+32 Batch", "byte {at}");
        }
        assert_eq!(changed(3000), "=64 =112 =192 !224+2784 Unsealed");
        let other = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let mut scan = Scan::new(SegmentId(8), &bytes);
            (scan.next(None).is_none(), scan.used())
        };
        assert_eq!(other(4000), (true, 64), "a segment that was made of this one, and never begun");
        assert!(!other(64 + 20).0, "but it takes more than a number to tell");
        let mut zeroed = whole.clone();
        zeroed[112..192].fill(0);
        assert_eq!(scan(&zeroed).0, "=64 !112+80 Unsealed =192");
        zeroed[64..112].fill(0);
        assert_eq!(scan(&zeroed).0, "!64+128 Unsealed =192", "without a number to expect");
    }

    #[test]
    fn a_cut_at_any_byte_leaves_whole_batches_and_the_torn_rest() {
        let whole = segment(&[&[1; 32], &[2; 64], &[3; 16]]);
        for cut in 64..224 {
            let mut bytes = whole[..cut].to_vec();
            for padding in [0, 4096] {
                bytes.resize(cut + padding, 0);
                let mut scan = Scan::new(ID, &bytes);
                let (mut batches, mut bad) = (0, 0);
                while let Some(piece) = scan.next(None) {
                    match piece {
                        Piece::Batch(_) => batches += 1,
                        Piece::Bad(_) => bad += 1,
                    }
                }
                let ends = [64, 112, 192, 224];
                assert_eq!(batches, ends.iter().filter(|&&end| (65..=cut).contains(&end)).count());
                assert_eq!(bad, usize::from(!ends.contains(&cut)), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_batch_inside_a_damaged_one_is_not_taken_for_the_next() {
        let inner = [7; 16];
        let forged = head(16, 102);
        let mut body = vec![1; 16];
        body.extend_from_slice(&forged.encode(ID, &inner));
        body.extend_from_slice(&inner);
        body.resize(96, 1);
        let mut bytes = segment(&[&[0xEE; 32], &body, &[3; 16]]);
        bytes[130] ^= 1;
        assert_eq!(scan(&bytes).0, "=64 !112+112 Batch =224");
        bytes[64 + 48 + 4] = 0xFF;
        let found = scan(&bytes).0;
        assert!(found.starts_with("=64 !112+32 Batch =144"), "only where the length is lost too: {found}");
    }

    #[test]
    fn looking_for_the_next_batch_ends() {
        // Every place looks like the head of a batch that reaches to the end.
        let mut bytes = segment_header(ID).to_vec();
        for at in 0..32 * 1024 {
            let length = 256 * 1024 - at * 8 - 24;
            bytes.extend_from_slice(&(length as u32).to_le_bytes());
            bytes.extend_from_slice(&0u32.to_le_bytes());
        }
        assert!(scan(&bytes).0.starts_with("!64+"));
    }
}
