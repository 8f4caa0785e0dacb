//! Reads all segments in order: whole units go to a visitor, the rest is told as damage.

use std::ops::{Range, RangeInclusive};

use crate::format::{BATCH_HEAD_BYTES, SEGMENT_HEADER_BYTES, record_bytes};
use crate::reading::{BadBytes, BadKind, Batch, Piece, Scan};
use crate::recover::seems::{Seems, describe};
use crate::recover::views::Views;
use crate::{Damage, LogOffset, Record, SegmentId, SessionRecord, decode};

/// What is done with each record of a whole unit.
pub(crate) trait Visit<'a> {
    /// A segment is about to be read.
    fn segment(&mut self, _index: usize) {}

    /// A batch is whole, and so is its unit as far as it was read.
    fn batch(&mut self, _segment: SegmentId, _batch: &Batch<'a>) {}

    /// A record, where it lies, and its number.
    fn record(&mut self, at: LogOffset, number: u64, record: Record<'a>);
}

/// How far a segment is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes up to the end of the last batch or of damage; what lies behind is to be cut off.
    pub(crate) used: usize,
}

impl Extent {
    /// Whether there is nothing to keep.
    pub(crate) fn is_empty(self) -> bool {
        self.used <= SEGMENT_HEADER_BYTES
    }
}

/// What a walk found, besides what the visitor was given.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// The number of the next record.
    pub(crate) next_record: u64,
    /// For each segment.
    pub(crate) extents: Vec<Extent>,
    /// In the order of the log.
    pub(crate) damage: Vec<Damage>,
    /// Batches that are sound by themselves but left out: what was around them is gone. They must not be
    /// taken for something else when more around them goes.
    pub(crate) void: Vec<(SegmentId, Range<usize>)>,
    /// Sessions that records in damaged places seem to be about; not those in the torn end.
    pub(crate) touched: Vec<SessionRecord>,
}

/// A batch of a unit whose end was not seen yet.
#[derive(Debug)]
struct Member<'a> {
    index: usize,
    batch: Batch<'a>,
}

struct Walk<'w, 'a, V> {
    views: &'w Views<'a>,
    visit: &'w mut V,
    walked: Walked,
    /// The number of the next record, once any was read.
    expected: Option<u64>,
    /// The number behind all that were seen.
    seen: u64,
    /// So many records were synced, as far as batches say that were read.
    synced: Option<u64>,
    /// Records are missing that were not synced, and all behind them is left out.
    cut: bool,
    chain: Vec<Member<'a>>,
    /// Where in `damage` that stands which was found since the last batch that counts.
    unsettled: usize,
    /// Sessions that damage, by its place there, seems to be about.
    touched: Vec<(usize, SessionRecord)>,
}

/// Reads all of a log.
pub(crate) fn walk<'a, V: Visit<'a>>(views: &Views<'a>, visit: &mut V) -> Walked {
    let walked = Walked { extents: vec![Extent::default(); views.all().len()], ..Walked::default() };
    let mut walk = Walk {
        views,
        visit,
        walked,
        expected: None,
        seen: 0,
        synced: None,
        cut: false,
        chain: Vec::new(),
        unsettled: 0,
        touched: Vec::new(),
    };
    for (index, view) in views.all().iter().enumerate() {
        walk.visit.segment(index);
        let mut scan = Scan::new(view.id, view.bytes);
        while let Some(piece) = scan.next(walk.possible()) {
            match piece {
                Piece::Batch(batch) => walk.batch(index, batch),
                Piece::Bad(bad) => walk.bad(index, bad),
            }
        }
        walk.walked.extents[index].used = scan.used();
    }
    walk.finish()
}

impl<'a, V: Visit<'a>> Walk<'_, 'a, V> {
    /// The number of the first record that is not known to count.
    fn low(&self) -> Option<u64> {
        self.chain.first().map(|member| member.batch.head.first).or(self.expected)
    }

    /// The numbers that the next batch can have if nothing was skipped.
    fn possible(&self) -> Option<RangeInclusive<u64>> {
        self.low().map(|low| low..=self.seen.max(low))
    }

    fn bad(&mut self, index: usize, bad: BadBytes) {
        let view = self.views.all()[index];
        let bytes = &view.bytes[bad.place..bad.place + bad.bytes];
        let seems = match bad.kind {
            BadKind::Header => Seems::of("the header of the segment"),
            BadKind::Unsealed if bytes.iter().all(|&byte| byte == 0) => Seems::of("bytes that became zero"),
            BadKind::Unsealed => describe("unfinished", &bytes[BATCH_HEAD_BYTES.min(bytes.len())..]),
            BadKind::Batch => describe("damaged", &bytes[BATCH_HEAD_BYTES.min(bytes.len())..]),
        };
        self.tell(index, bad.place, bad.bytes, seems);
    }

    fn tell(&mut self, index: usize, place: usize, bytes: usize, seems: Seems) {
        let place_told = self.walked.damage.len();
        self.touched.extend(seems.sessions.into_iter().map(|session| (place_told, session)));
        self.walked.damage.push(Damage {
            segment: self.views.all()[index].id,
            place,
            bytes,
            records: None,
            seems: seems.text,
            quarantined: None,
            torn_tail: false,
        });
    }

    /// A whole batch, if it fits behind what was read before.
    fn batch(&mut self, index: usize, batch: Batch<'a>) {
        let first = batch.head.first;
        self.seen = self.seen.max(first + count_records(batch.body));
        self.synced = self.synced.max(batch.head.synced);
        if self.cut {
            return self.drop_batch(index, &batch, "behind what was lost with the power");
        }
        if !batch.head.goes_on && !self.chain.is_empty() {
            // The end of the unit was never written, and an earlier start used its numbers again, or it is
            // missing here.
            self.break_chain("of a unit whose end is missing");
        }
        // The beginning of what the oldest segment begins with may have been compacted.
        let lacks_beginning =
            self.chain.is_empty() && (self.expected.is_some() || !self.walked.damage.is_empty());
        let expected = self.expected.unwrap_or(first);
        if first < expected {
            return self.drop_batch(index, &batch, "whose numbers were there before");
        }
        if batch.head.goes_on && (lacks_beginning || first > expected) {
            self.break_chain("of a unit that lost another part");
            return self.drop_batch(index, &batch, "of a unit that lost another part");
        }
        if first > expected && batch.head.synced.is_some() && !self.is_synced(expected, index, &batch) {
            self.cut = true;
            return self.drop_batch(index, &batch, "behind what was lost with the power");
        }
        if first > expected && self.unsettled == self.walked.damage.len() {
            let seems = "nothing: what was written before this is missing";
            self.tell(index, batch.place, 0, Seems::of(seems));
        }
        self.settle(self.expected.map(|expected| first - expected));
        self.expected = Some(first + count_records(batch.body));
        if batch.head.continues {
            self.chain.push(Member { index, batch });
            return;
        }
        for member in std::mem::take(&mut self.chain) {
            self.apply(member.index, &member.batch);
        }
        self.apply(index, &batch);
    }

    /// Whether the record of a number, which is missing before a batch, was synced once.
    fn is_synced(&self, number: u64, index: usize, batch: &Batch<'a>) -> bool {
        let mut synced = self.synced;
        for (after, view) in self.views.all()[index..].iter().enumerate() {
            let scan = Scan::new(view.id, view.bytes);
            let mut scan = if after == 0 { scan.behind(batch) } else { scan };
            while let Some(piece) = scan.next(None) {
                if let Piece::Batch(batch) = piece {
                    synced = synced.max(batch.head.synced);
                }
            }
        }
        synced.is_some_and(|synced| synced > number)
    }

    /// What was found since the last batch that counts cost so many records altogether.
    fn settle(&mut self, records: Option<u64>) {
        let found = &mut self.walked.damage[self.unsettled..];
        self.unsettled += found.len();
        let known: u64 = found.iter().filter_map(|damage| damage.records).sum();
        // Which of several places held how many is not known.
        if let Some(last) = found.iter_mut().rfind(|damage| damage.records.is_none()) {
            last.records = records.and_then(|records| records.checked_sub(known));
        }
    }

    /// The records of the unfinished unit do not count, nor do their numbers.
    fn break_chain(&mut self, why: &str) {
        self.expected = self.low();
        for member in std::mem::take(&mut self.chain) {
            self.drop_batch(member.index, &member.batch, why);
        }
    }

    /// Leaves out a batch that nothing is wrong with by itself.
    fn drop_batch(&mut self, index: usize, batch: &Batch<'a>, why: &str) {
        let range = batch.place..batch.place + batch.bytes();
        self.walked.void.push((self.views.all()[index].id, range));
        let mut seems = describe("sound", batch.body);
        seems.text = format!("{}, {why}", seems.text);
        self.tell(index, batch.place, batch.bytes(), seems);
        if let Some(told) = self.walked.damage.last_mut() {
            told.records = Some(count_records(batch.body));
        }
    }

    fn apply(&mut self, index: usize, batch: &Batch<'a>) {
        let segment = self.views.all()[index].id;
        self.visit.batch(segment, batch);
        let (mut at, mut number) = (0, batch.head.first);
        while at < batch.body.len() {
            let place = batch.records_at() + at;
            let rest = &batch.body[at..];
            match decode(rest) {
                Ok((record, bytes)) => {
                    self.visit.record(LogOffset::at(segment, place), number, record);
                    at += bytes;
                }
                Err(error) => {
                    let bytes = step(rest);
                    let seems = format!("a record that this version cannot read: {error}");
                    self.tell(index, place, bytes, Seems::of(&seems));
                    self.settle(None);
                    at += bytes;
                }
            }
            number += 1;
        }
    }

    /// Nothing follows: what is unfinished was so when the log was last written.
    fn finish(mut self) -> Walked {
        let torn_from = self.unsettled;
        self.break_chain("of a unit that was not finished");
        self.touched.retain(|&(place_told, _)| place_told < torn_from);
        self.walked.touched = self.touched.into_iter().map(|(_, session)| session).collect();
        for damage in &mut self.walked.damage[torn_from..] {
            damage.torn_tail = true;
            if let Some(index) = self.views.index(damage.segment) {
                let extent = &mut self.walked.extents[index];
                extent.used = extent.used.min(damage.place);
            }
        }
        self.walked.damage.sort_by_key(|damage| (damage.segment, damage.place));
        self.walked.next_record = self.expected.unwrap_or(0);
        self.walked
    }
}

/// How many records lie in a batch.
fn count_records(mut body: &[u8]) -> u64 {
    let mut count = 0;
    while !body.is_empty() {
        body = &body[step(body)..];
        count += 1;
    }
    count
}

/// How far it is to the next record of a batch.
pub(crate) fn step(body: &[u8]) -> usize {
    if body.len() < 8 { body.len() } else { record_bytes(body).min(body.len()) }
}
